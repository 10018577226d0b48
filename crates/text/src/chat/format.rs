//! The conversation formats of DeepSeek's models, and which one a checkpoint without a template has.
//!
//! Sources: the repositories and chat templates of the releases, named in each row's file. A new
//! format is a file in `formats/`, a variant and a row.

use crate::special::{ASSISTANT, EOT, USER};

/// How a conversation is laid out for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatFormat {
    /// DeepSeek LLM, Math and MoE chat: `User:` and `Assistant:` as words, no system text.
    Llm,
    /// V2, V2-Lite and Coder-V2: as LLM, with an optional system text in front.
    V2,
    /// Coder Instruct: `### Instruction:` and `### Response:`.
    Coder,
    /// V2.5, V3 and V3-0324: control tokens around turns; the model answers at once.
    V3,
    /// R1 and its distilled models: as V3, but the answer begins inside `<think>`, and earlier
    /// thinking is left out.
    R1,
    /// One plain-text page that describes the task and ends with the question.
    R1Zero,
    /// V3.1: as V3, with the thinking opened or closed by the prompt.
    V31,
    /// The text part of VL chat.
    Vl,
}

/// One built-in format.
#[derive(Debug)]
pub struct FormatRow {
    pub format: ChatFormat,
    /// As it is typed.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// The layout as a template.
    pub template: &'static str,
    /// Tokens that the vocabulary must have.
    pub needs: &'static [&'static str],
    /// Text that ends an answer although it is no token.
    pub stop_strings: &'static [&'static str],
}

/// All built-in formats.
pub const FORMATS: &[FormatRow] = &[
    FormatRow {
        format: ChatFormat::Llm,
        name: "llm",
        label: "DeepSeek LLM",
        template: include_str!("formats/llm.jinja"),
        needs: &[],
        stop_strings: &[],
    },
    FormatRow {
        format: ChatFormat::V2,
        name: "v2",
        label: "DeepSeek-V2",
        template: include_str!("formats/v2.jinja"),
        needs: &[],
        stop_strings: &[],
    },
    FormatRow {
        format: ChatFormat::Coder,
        name: "coder",
        label: "DeepSeek Coder",
        template: include_str!("formats/coder.jinja"),
        needs: &[EOT],
        stop_strings: &[],
    },
    FormatRow {
        format: ChatFormat::V3,
        name: "v3",
        label: "DeepSeek-V3",
        template: include_str!("formats/v3.jinja"),
        needs: &[USER, ASSISTANT],
        stop_strings: &[],
    },
    FormatRow {
        format: ChatFormat::R1,
        name: "r1",
        label: "DeepSeek-R1",
        template: include_str!("formats/r1.jinja"),
        needs: &[USER, ASSISTANT],
        stop_strings: &[],
    },
    FormatRow {
        format: ChatFormat::R1Zero,
        name: "r1-zero",
        label: "R1-Zero",
        template: include_str!("formats/r1_zero.jinja"),
        needs: &[],
        stop_strings: &[],
    },
    FormatRow {
        format: ChatFormat::V31,
        name: "v3.1",
        label: "DeepSeek-V3.1",
        template: include_str!("formats/v3_1.jinja"),
        needs: &[USER, ASSISTANT],
        stop_strings: &[],
    },
    FormatRow {
        format: ChatFormat::Vl,
        name: "vl",
        label: "DeepSeek-VL",
        template: include_str!("formats/vl.jinja"),
        needs: &[],
        stop_strings: &["User:"],
    },
];

/// What is known about a checkpoint whose format is asked for.
#[derive(Clone, Copy, Default)]
pub struct Hints<'a> {
    /// Its chat template, if it has one.
    pub template: Option<&'a str>,
    /// Its name: a repository or a directory.
    pub name: &'a str,
    /// `model_type` of its `config.json`.
    pub model_type: Option<&'a str>,
    /// Its tokenizer.
    pub tokenizer: Option<&'a crate::Tokenizer>,
}

impl ChatFormat {
    /// The format's row.
    pub fn row(self) -> &'static FormatRow {
        FORMATS.iter().find(|row| row.format == self).expect("every format has a row")
    }

    /// The name that is typed.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<ChatFormat> {
        FORMATS.iter().find(|row| row.name == name).map(|row| row.format)
    }

    /// Whether the format has a place for a system text and earlier turns.
    pub fn holds_turns(self) -> bool {
        self != ChatFormat::R1Zero
    }

    /// The format that a checkpoint was trained with; none for one that only continues text.
    ///
    /// The first of these that says something decides:
    /// 1. A template: by the strings it writes.
    /// 2. The name: a `base` model has no format; then by release and `chat` or `instruct`.
    /// 3. A name that says nothing: a tokenizer in which `<｜User｜>` and `<think>` are tokens is
    ///    R1's, one with only `<｜User｜>` V3's; `model_type` `multi_modality` is VL.
    ///
    /// A format whose tokens the tokenizer lacks is never chosen by 2 and 3.
    pub fn detect(hints: Hints<'_>) -> Option<ChatFormat> {
        match hints.template {
            Some(template) => of_template(template),
            None => of_name(hints.name, hints.model_type)
                .unwrap_or_else(|| of_vocabulary(hints))
                .filter(|format| has_tokens(hints, *format)),
        }
    }
}

fn of_template(template: &str) -> Option<ChatFormat> {
    let has = |text: &str| template.contains(text);
    let format = match () {
        _ if has("### Instruction:") => ChatFormat::Coder,
        _ if has("<answer>") && has("User:") => ChatFormat::R1Zero,
        _ if has(USER) && has("thinking") && has("</think>") => ChatFormat::V31,
        _ if has(USER) && has("think>") => ChatFormat::R1,
        _ if has(USER) => ChatFormat::V3,
        _ if has("User: ") && has("visual content") => ChatFormat::Vl,
        _ if has("User: ") && has("'system' %}") => ChatFormat::V2,
        _ if has("User: ") => ChatFormat::Llm,
        _ => return None,
    };
    Some(format)
}

/// `None` where the name says nothing, `Some(None)` where it says that there is no format.
fn of_name(name: &str, model_type: Option<&str>) -> Option<Option<ChatFormat>> {
    let last = name.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(name);
    let name = last.to_lowercase().replace('_', "-");
    let words: Vec<&str> = name.split('-').collect();
    let has = |word: &str| words.contains(&word);
    let talks = has("chat") || has("instruct");
    if has("base") {
        return Some(None);
    }
    let format = match () {
        _ if has("r1") && has("zero") => ChatFormat::R1Zero,
        _ if has("r1") => ChatFormat::R1,
        _ if has("v3.1") => ChatFormat::V31,
        _ if has("v3") || has("v2.5") || has("0724") => ChatFormat::V3,
        _ if has("vl") && talks => ChatFormat::Vl,
        _ if has("v2") && talks => ChatFormat::V2,
        _ if has("coder") && talks => ChatFormat::Coder,
        _ if has("math") && (talks || has("rl")) => ChatFormat::Llm,
        _ if (has("moe") || has("llm")) && talks => ChatFormat::Llm,
        // Those that are not for talking have no `base` in their names.
        _ if has("v2") || has("vl") => return Some(None),
        _ if model_type == Some("multi_modality") => ChatFormat::Vl,
        _ => return None,
    };
    Some(Some(format))
}

fn of_vocabulary(hints: Hints<'_>) -> Option<ChatFormat> {
    let tokenizer = hints.tokenizer?;
    let has = |token: &str| tokenizer.token_id(token).is_some();
    match (has(USER), has(crate::special::THINK)) {
        (true, true) => Some(ChatFormat::R1),
        (true, false) => Some(ChatFormat::V3),
        _ => None,
    }
}

fn has_tokens(hints: Hints<'_>, format: ChatFormat) -> bool {
    let has =
        |token: &&str| hints.tokenizer.is_none_or(|tokenizer| tokenizer.token_id(token).is_some());
    format.row().needs.iter().all(has)
}
