//! Conversations for training: the formats of DeepSeek-V3, R1 and R1-Zero, straight to token ids.
//!
//! Sources: the chat templates of the V3 and R1 releases; DeepSeek-R1, arXiv:2501.12948, table 1.
//! What a user or system wrote is encoded plain; only the format itself gives control tokens. Tool
//! calls and the other formats go through [`ChatRenderer`](super::ChatRenderer).

use serde_json::json;

use super::format::ChatFormat;
use super::message::{Message, Role};
use super::renderer::{ChatRenderer, Options};
use crate::special::{ASSISTANT, BOS, END_THINK, EOS, PAD, THINK, USER};
use crate::{Error, Result, Tokenizer};

/// Table 1 of the R1 paper, up to `User:`.
pub const R1_ZERO_PREAMBLE: &str = "A conversation between User and Assistant. The user asks a question, \
    and the Assistant solves it. The assistant first thinks about the reasoning process in the mind \
    and then provides the user with the answer. The reasoning process and answer are enclosed \
    within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning \
    process here </think> <answer> answer here </answer>.";
/// Table 1 of the R1 paper, after the question.
const R1_ZERO_AFTER: &str = ". Assistant:";
const R1_ZERO_USER: &str = " User:";

/// Token ids of a conversation, from BOS on. If its last message is not the assistant's, the ids
/// end with what makes the model answer: for R1, an opened `<think>` and a line break.
///
/// Errors: `Conversation` for an empty one, and for R1-Zero unless it is one question;
/// `MissingToken`.
pub fn render(tokenizer: &Tokenizer, messages: &[Message], format: ChatFormat) -> Result<Vec<u32>> {
    let Some(last) = messages.last() else {
        return Err(Error::Conversation { index: 0, found: "missing", expected: "a message" });
    };
    let is_plain = |message: &Message| message.role != Role::Tool && message.tool_calls.is_empty();
    match format {
        ChatFormat::R1Zero => return render_r1_zero(tokenizer, messages),
        ChatFormat::V3 | ChatFormat::R1 if messages.iter().all(is_plain) => {}
        _ => {
            let add_generation_prompt = last.role != Role::Assistant;
            let options = Options { add_generation_prompt, ..Options::default() };
            let renderer = ChatRenderer::built_in(format, tokenizer)?;
            return Ok(renderer.prompt(tokenizer, &messages.to_vec().into(), &options)?.ids);
        }
    }
    let mut ids = vec![tokenizer.special_id(BOS)?];
    ids.extend(tokenizer.encode_plain(&system_text(messages)));
    for message in messages {
        match message.role {
            Role::System | Role::Tool => {}
            Role::User => {
                ids.push(tokenizer.special_id(USER)?);
                ids.extend(tokenizer.encode_plain(&message.content));
            }
            Role::Assistant => {
                ids.push(tokenizer.special_id(ASSISTANT)?);
                ids.extend(render_reply(tokenizer, kept_of_reply(&message.content, format))?);
            }
        }
    }
    if last.role != Role::Assistant {
        ids.push(tokenizer.special_id(ASSISTANT)?);
        if format == ChatFormat::R1 {
            ids.push(tokenizer.special_id(THINK)?);
            ids.extend(tokenizer.encode_plain("\n"));
        }
    }
    Ok(ids)
}

/// Token ids of what a model says after [`render`], with EOS: the target of fine-tuning.
///
/// `<think>` and `</think>` become their tokens, if the tokenizer has them; all else is plain.
/// Errors: `MissingToken`.
pub fn render_reply(tokenizer: &Tokenizer, reply: &str) -> Result<Vec<u32>> {
    let mut ids = encode_reply(tokenizer, reply);
    ids.push(tokenizer.special_id(EOS)?);
    Ok(ids)
}

/// [`render_reply`] without EOS, such as for a reply that was cut off.
pub fn encode_reply(tokenizer: &Tokenizer, reply: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut rest = reply;
    while let Some((at, marker, id)) = next_marker(tokenizer, rest) {
        ids.extend(tokenizer.encode_plain(&rest[..at]));
        ids.push(id);
        rest = &rest[at + marker.len()..];
    }
    ids.extend(tokenizer.encode_plain(rest));
    ids
}

/// Divides a reply into its reasoning and its answer, both without the line breaks around them.
///
/// The reasoning ends at the first `</think>`. Without one, a reply that begins with `<think>` is
/// all reasoning (it was cut off) and any other is all answer; after a prompt that already opened
/// the thinking, put `<think>` in front.
pub fn split_thinking(reply: &str) -> (&str, &str) {
    let opened = reply.trim_start().strip_prefix(THINK);
    let (reasoning, answer) = match reply.split_once(END_THINK) {
        Some((_, answer)) => {
            let body = opened.unwrap_or(reply);
            (body.split_once(END_THINK).map_or(body, |(reasoning, _)| reasoning), answer)
        }
        None => opened.map_or(("", reply), |reasoning| (reasoning, "")),
    };
    let is_break = ['\n', '\r'];
    (reasoning.trim_matches(is_break), answer.trim_matches(is_break))
}

impl ChatFormat {
    /// The format as a Jinja template, for `tokenizer_config.json` of a trained model; without
    /// tool calls for the formats that are trained here.
    ///
    /// Gives the text whose ids [`render`] gives, as long as no message spells a control token.
    pub fn jinja(self) -> String {
        let (content, opening) = match self {
            ChatFormat::R1Zero => {
                return format!(
                    "{{{{ bos_token + '{R1_ZERO_PREAMBLE}{R1_ZERO_USER} ' + messages[-1]['content'] + \
                     '{R1_ZERO_AFTER}' }}}}"
                );
            }
            ChatFormat::V3 => ("message['content']".to_owned(), ASSISTANT.to_owned()),
            other if other != ChatFormat::R1 => return other.row().template.to_owned(),
            _ => {
                let kept = format!("message['content'].split('{END_THINK}')[-1]");
                (kept, format!("{ASSISTANT}{THINK}\\n"))
            }
        };
        [
            "{% if not add_generation_prompt is defined %}",
            "{% set add_generation_prompt = false %}{% endif %}",
            "{% set ns = namespace(system='') %}{% for message in messages %}",
            "{% if message['role'] == 'system' %}",
            "{% set ns.system = ns.system + ('\\n\\n' if ns.system else '') + message['content'] %}",
            "{% endif %}{% endfor %}{{ bos_token + ns.system }}{% for message in messages %}",
            &format!("{{% if message['role'] == 'user' %}}{{{{ '{USER}' + message['content'] }}}}"),
            "{% elif message['role'] == 'assistant' %}",
            &format!("{{{{ '{ASSISTANT}' + {content} + eos_token }}}}"),
            "{% endif %}{% endfor %}{% if add_generation_prompt %}",
            &format!("{{{{ '{opening}' }}}}{{% endif %}}"),
        ]
        .concat()
    }
}

/// The `tokenizer_config.json` that makes other programs use a trained tokenizer as we do.
///
/// `model_max_length` is in tokens. No BOS is added to text, because the template writes it.
pub fn tokenizer_config_json(format: ChatFormat, model_max_length: usize) -> String {
    let config = json!({
        "add_bos_token": false,
        "add_eos_token": false,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "unk_token": null,
        "clean_up_tokenization_spaces": false,
        "model_max_length": model_max_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": format.jinja(),
    });
    serde_json::to_string_pretty(&config).expect("strings and numbers always serialise") + "\n"
}

fn render_r1_zero(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
    let wrong = messages.iter().position(|message| message.role != Role::User);
    if let Some(index) = wrong {
        let found = messages[index].role.name();
        return Err(Error::Conversation {
            index,
            found,
            expected: "a single question by the user",
        });
    }
    if messages.len() > 1 {
        let expected = "nothing: the format holds one question";
        return Err(Error::Conversation { index: 1, found: "user", expected });
    }
    let mut ids = vec![tokenizer.special_id(BOS)?];
    // The markers in the description are those the model shall write, so they become tokens too.
    ids.extend(tokenizer.encode(R1_ZERO_PREAMBLE));
    // The space goes with the question: that is how words look inside running text.
    ids.extend(
        tokenizer.encode_plain(&format!("{R1_ZERO_USER} {}{R1_ZERO_AFTER}", messages[0].content)),
    );
    Ok(ids)
}

fn system_text(messages: &[Message]) -> String {
    let mut text = String::new();
    for message in messages.iter().filter(|message| message.role == Role::System) {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&message.content);
    }
    text
}

fn kept_of_reply(content: &str, format: ChatFormat) -> &str {
    match (format, content.rsplit_once(END_THINK)) {
        (ChatFormat::R1, Some((_, answer))) => answer,
        _ => content,
    }
}

fn next_marker(tokenizer: &Tokenizer, text: &str) -> Option<(usize, &'static str, u32)> {
    let place =
        |marker: &'static str| Some((text.find(marker)?, marker, tokenizer.token_id(marker)?));
    [THINK, END_THINK].into_iter().filter_map(place).min()
}
