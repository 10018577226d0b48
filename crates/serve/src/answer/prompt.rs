//! From what is asked to token ids, and to what is known of how the answer must be read.

use crate::ask::{ChatAsk, PromptAsk, ToolChoice};
use crate::grammar::{self, CallStyle};
use crate::refusal::Refusal;
use crate::served::{Served, Thinking};
use fathom_text::chat::Options;
use fathom_text::special::{END_THINK, THINK};
use fathom_text::{Conversation, Error, Tokenizer, fim};

/// What the model reads, and how to read what it writes.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Token ids, with BOS once.
    pub ids: Vec<u32>,
    /// Whether the answer begins inside `<think>`.
    pub opened_thinking: bool,
    /// Whether the answer may have a thinking.
    pub may_think: bool,
    /// Tokens that end the answer, in ascending order.
    pub stop_ids: Vec<u32>,
    /// Texts of the format that end the answer.
    pub stop_strings: Vec<String>,
    /// How calls of tools are written; none if there are no tools.
    pub call_style: Option<CallStyle>,
}

/// The prompt of a request.
///
/// Errors: 400 for a conversation that the model's template cannot lay out, for chat with a model
/// that has no template, for a hole to fill with a model that has no tokens for it, for ids outside
/// the vocabulary.
pub fn prompt(served: &Served, ask: &PromptAsk) -> Result<Prompt, Refusal> {
    match ask {
        PromptAsk::Chat(chat) => chat_prompt(served, chat),
        PromptAsk::Text(text) => Ok(Prompt::raw(served, with_bos(served, text))),
        PromptAsk::Ids(ids) => {
            let limit = served.vocab_limit;
            match ids.iter().position(|id| *id as usize >= limit) {
                None => Ok(Prompt::raw(served, ids.clone())),
                Some(at) => Err(Refusal::invalid(
                    "prompt",
                    format!("`prompt[{at}]` must be a token below {limit}, not {}", ids[at]),
                )),
            }
        }
        PromptAsk::Fill { prefix, suffix } => {
            let ids = fim::prompt(&served.tokenizer, prefix, suffix, served.bos);
            let ids = ids.map_err(|error| refusal(&error, "suffix"))?;
            Ok(Prompt::raw(served, ids))
        }
    }
}

/// The ids of a text whose control tokens count, with BOS in front unless it is there.
pub fn with_bos(served: &Served, text: &str) -> Vec<u32> {
    let ids = served.tokenizer.encode(text);
    match served.bos.filter(|bos| ids.first() != Some(bos)) {
        Some(bos) => std::iter::once(bos).chain(ids).collect(),
        None => ids,
    }
}

impl Prompt {
    fn raw(served: &Served, ids: Vec<u32>) -> Prompt {
        Prompt {
            ids,
            opened_thinking: false,
            may_think: false,
            stop_ids: served.stop_ids.clone(),
            stop_strings: Vec::new(),
            call_style: None,
        }
    }
}

fn chat_prompt(served: &Served, chat: &ChatAsk) -> Result<Prompt, Refusal> {
    let Some(renderer) = &served.renderer else {
        return Err(Refusal::invalid(
            "messages",
            format!(
                "`{}` has no chat template, it only continues text\n\
                 hint: ask for `/v1/completions`",
                served.name
            ),
        ));
    };
    let conversation = with_tools_allowed(chat);
    let style = CallStyle::of(renderer, &served.tokenizer);
    let thinking = wanted_thinking(served, chat)?;
    let options = Options {
        add_generation_prompt: true,
        thinking: thinking.filter(|_| served.thinking == Thinking::Switch),
        continue_last: chat.prefix,
        ..Options::default()
    };
    let told = grammar::told(&conversation, renderer, style);
    let rendered = renderer.prompt(&served.tokenizer, &told, &options);
    let rendered = rendered.map_err(|error| refusal(&error, "messages"))?;
    let mut prompt = Prompt {
        ids: rendered.ids,
        opened_thinking: rendered.opened_thinking,
        may_think: rendered.opened_thinking
            || (served.thinking == Thinking::Always && !chat.prefix && thinking != Some(false)),
        stop_ids: rendered.stop_ids,
        stop_strings: rendered.stop_strings,
        call_style: (!conversation.tools.is_empty()).then_some(style),
    };
    prompt.stop_ids.extend(&served.stop_ids);
    prompt.stop_ids.sort_unstable();
    prompt.stop_ids.dedup();
    if served.thinking == Thinking::Always && thinking == Some(false) && !chat.prefix {
        prompt.close_thinking(&served.tokenizer)?;
    }
    Ok(prompt)
}

impl Prompt {
    /// Makes the thinking empty, as R1 itself sometimes writes it. Its templates have no such switch.
    fn close_thinking(&mut self, tokenizer: &Tokenizer) -> Result<(), Refusal> {
        let id = |token| tokenizer.special_id(token).map_err(|error| refusal(&error, "thinking"));
        let (open, close) = (id(THINK)?, id(END_THINK)?);
        if let Some(at) =
            self.ids.iter().rposition(|id| *id == open).filter(|_| self.opened_thinking)
        {
            self.ids.truncate(at);
        }
        let breaks = tokenizer.encode_plain("\n\n");
        self.ids.push(open);
        self.ids.extend(&breaks);
        self.ids.push(close);
        self.ids.extend(&breaks);
        self.opened_thinking = false;
        self.may_think = false;
        Ok(())
    }
}

fn with_tools_allowed(chat: &ChatAsk) -> Conversation {
    let mut conversation = chat.conversation.clone();
    if chat.tool_choice == ToolChoice::None {
        conversation.tools.clear();
    }
    conversation
}

fn wanted_thinking(served: &Served, chat: &ChatAsk) -> Result<Option<bool>, Refusal> {
    let last = chat.conversation.messages.last().filter(|_| chat.prefix);
    let begun = last.is_some_and(|last| last.reasoning_content.is_some());
    match (served.thinking, chat.thinking) {
        (Thinking::Never, Some(true)) => Err(Refusal::invalid(
            "thinking",
            format!("`{}` does not think before it answers", served.name),
        )),
        (_, Some(false)) if begun => Err(Refusal::invalid(
            "thinking",
            "the last message begins a reasoning, so `thinking` cannot be disabled",
        )),
        (_, wanted) => Ok(wanted.or(begun.then_some(true))),
    }
}

fn refusal(error: &Error, param: &'static str) -> Refusal {
    match error {
        Error::Conversation { index, .. } => {
            Refusal::invalid(format!("messages[{index}]"), error.to_string())
        }
        Error::Template { .. }
        | Error::Refused { .. }
        | Error::MarksTaken
        | Error::NoFim { .. } => Refusal::invalid(param, error.to_string()),
        Error::MissingToken { .. } => Refusal::invalid(param, error.to_string()),
        _ => Refusal::internal(error.to_string()),
    }
}
