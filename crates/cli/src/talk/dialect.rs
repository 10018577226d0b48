//! How one model reads and writes text: its tokenizer, its layout of conversations, its ends.

use crate::failure::Failure;
use crate::opened::Opened;
use fathom_checkpoint::gguf::Gguf;
use fathom_text::chat::{Hints, Options, Prompt, TemplateFile};
use fathom_text::{ChatFormat, ChatRenderer, Message, Tokenizer, special};
use std::path::Path;

/// How a question becomes a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// By a format of this program.
    Chat(ChatFormat),
    /// By the checkpoint's own template.
    Own(TemplateFile),
    /// Not at all: the text is continued.
    Plain,
}

impl Layout {
    /// The layout of a model: its own template; else the format that its name tells; else none.
    pub(crate) fn of(opened: &Opened, tokenizer: &Tokenizer) -> Result<Layout, Failure> {
        let model_type = Some(opened.files.config().model_type.model_type());
        let (file, format) = match opened.files.gguf() {
            Some(gguf) => {
                let name =
                    gguf.text("general.name")?.map_or_else(|| name_of(gguf.path()), String::from);
                let hints =
                    Hints { name: &name, model_type, tokenizer: Some(tokenizer), template: None };
                (template_in(gguf, tokenizer)?, ChatFormat::detect(hints))
            }
            // The vocabulary tells nothing here: base models trained by recipes have that of a chat.
            None => {
                let name = name_of(opened.path());
                let hints = Hints { name: &name, model_type, ..Hints::default() };
                (TemplateFile::open(opened.path())?, ChatFormat::detect(hints))
            }
        };
        let Some(file) = file else {
            return Ok(format.map_or(Layout::Plain, Layout::Chat));
        };
        // Those that this program wrote when it trained the model.
        let ours = [ChatFormat::V3, ChatFormat::R1, ChatFormat::R1Zero];
        let known = ours.into_iter().find(|format| format.jinja() == file.text);
        Ok(known.map_or(Layout::Own(file), Layout::Chat))
    }

    /// Whether a prompt can hold earlier turns and a system text.
    pub(crate) fn holds_turns(&self) -> bool {
        match self {
            Layout::Chat(format) => format.holds_turns(),
            Layout::Own(_) => true,
            Layout::Plain => false,
        }
    }

    /// A sentence for people where the layout is not an ordinary chat.
    pub(crate) fn note(&self) -> Option<&'static str> {
        match self {
            Layout::Chat(ChatFormat::R1Zero) => {
                Some("a base model: questions are put into the R1-Zero template, each stands alone")
            }
            Layout::Plain => Some("no chat template: the text is continued as it is"),
            Layout::Chat(_) | Layout::Own(_) => None,
        }
    }

    fn renderer(&self, tokenizer: &Tokenizer) -> Result<Option<ChatRenderer>, Failure> {
        Ok(match self {
            Layout::Chat(format) => Some(ChatRenderer::built_in(*format, tokenizer)?),
            Layout::Own(file) => Some(ChatRenderer::new(file.clone(), tokenizer)?),
            Layout::Plain => None,
        })
    }
}

/// The template inside a GGUF, with the tokens that templates name.
fn template_in(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<TemplateFile>, Failure> {
    let Some(text) = gguf.text("tokenizer.chat_template")? else { return Ok(None) };
    let named = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    Ok(Some(TemplateFile {
        path: gguf.path().display().to_string(),
        text: text.to_owned(),
        bos_token: named(tokenizer.bos_id()),
        eos_token: named(tokenizer.eos_id()),
        pad_token: named(tokenizer.pad_id()),
        unk_token: None,
    }))
}

/// What a checkpoint is called: its directory, or the repository of a download.
fn name_of(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let snapshots = dir.parent().filter(|parent| parent.ends_with("snapshots"));
    let named = snapshots.and_then(Path::parent).unwrap_or(&dir);
    named.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Chat templates by name.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub(crate) enum Template {
    /// DeepSeek LLM, Math and MoE chat
    Llm,
    /// V2, V2-Lite and Coder-V2 chat
    V2,
    /// Coder Instruct
    Coder,
    /// DeepSeek-V2.5 and V3: answers at once
    V3,
    /// DeepSeek-R1: thinks first
    R1,
    /// R1-Zero: one page of plain text, for base models
    R1Zero,
    /// DeepSeek-V3.1, without thinking
    #[value(name = "v3.1")]
    V31,
    /// The text part of VL chat
    Vl,
}

impl From<Template> for ChatFormat {
    fn from(template: Template) -> ChatFormat {
        match template {
            Template::Llm => ChatFormat::Llm,
            Template::V2 => ChatFormat::V2,
            Template::Coder => ChatFormat::Coder,
            Template::V3 => ChatFormat::V3,
            Template::R1 => ChatFormat::R1,
            Template::R1Zero => ChatFormat::R1Zero,
            Template::V31 => ChatFormat::V31,
            Template::Vl => ChatFormat::Vl,
        }
    }
}

/// What turns conversations into token ids for one model.
pub(crate) struct Dialect {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) layout: Layout,
    /// None for a model that only continues text.
    pub(crate) renderer: Option<ChatRenderer>,
    /// Whether its prompts open the thinking.
    pub(crate) opens_thinking: bool,
    /// Tokens that end every answer, in ascending order.
    pub(crate) stop_ids: Vec<u32>,
    /// The token that every document begins with.
    pub(crate) bos: Option<u32>,
}

impl Dialect {
    /// `stop_ids` come from the model's `generation_config.json`; its other files name more.
    ///
    /// Errors: a tokenizer with more tokens than the model; a layout whose tokens it lacks.
    pub(crate) fn of(
        opened: &Opened,
        tokenizer: Tokenizer,
        layout: Layout,
        mut stop_ids: Vec<u32>,
    ) -> Result<Dialect, Failure> {
        let config = opened.files.config();
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Failure::Failed(format!(
                "`{}`: the tokenizer has {} tokens, the model knows {}",
                opened.label(),
                tokenizer.vocab_size(),
                config.vocab_size
            )));
        }
        stop_ids.extend(&config.eos_token_id);
        stop_ids.extend(tokenizer.eos_id());
        stop_ids.extend(tokenizer.token_id(special::EOS));
        let renderer = layout.renderer(&tokenizer)?;
        if let Some(renderer) = &renderer {
            stop_ids.extend(renderer.stop_ids(&tokenizer));
        }
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let named = tokenizer.bos_id().or_else(|| tokenizer.token_id(special::BOS));
        let bos = named.or(config.bos_token_id);
        let mut dialect =
            Dialect { tokenizer, layout, renderer, opens_thinking: false, stop_ids, bos };
        // What a prompt does to one question it does to all; a template that refuses says so later.
        let probe = dialect.rendered(&[Message::user("?")]);
        dialect.opens_thinking = matches!(probe, Ok(Some(prompt)) if prompt.opened_thinking);
        Ok(dialect)
    }

    /// Ids of a prompt that asks for the next turn of a conversation.
    pub(crate) fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Failure> {
        match self.rendered(messages)? {
            Some(prompt) => Ok(prompt.ids),
            None => Ok(self.plain_prompt(messages.last().map_or("", |last| &last.content))),
        }
    }

    fn rendered(&self, messages: &[Message]) -> Result<Option<Prompt>, Failure> {
        let Some(renderer) = &self.renderer else { return Ok(None) };
        let options = Options { add_generation_prompt: true, ..Options::default() };
        let conversation = messages.to_vec().into();
        Ok(Some(renderer.prompt(&self.tokenizer, &conversation, &options)?))
    }

    /// Ids of text that shall be continued. Control tokens in it count: who continues text by hand
    /// may write them.
    fn plain_prompt(&self, text: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        ids.extend(self.tokenizer.encode(text));
        ids
    }
}

/// The tokenizer of a checkpoint directory.
pub(crate) fn open_tokenizer(dir: &Path) -> Result<Tokenizer, Failure> {
    let path = dir.join("tokenizer.json");
    if !path.is_file() {
        return Err(Failure::hinted(
            format!("`{}` has no `tokenizer.json`", dir.display()),
            "without it text cannot be turned into tokens; `fathom logits` takes ids",
        ));
    }
    Ok(Tokenizer::open(path)?)
}
