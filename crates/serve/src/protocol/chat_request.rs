//! `POST /chat/completions`: what is asked.

use super::fields::{Fields, quoted};
use super::messages::messages;
use super::model_name;
use super::sampling::{self, MOST_ANSWERS, MOST_TOP, WITHOUT_EFFECT};
use super::tools;
use super::warnings::Warnings;
use crate::ask::{Ask, ChatAsk, Format, PromptAsk, ToolChoice};
use crate::refusal::Refusal;
use crate::served::{Served, Thinking};
use fathom_text::chat::Json;
use fathom_text::{Conversation, Message};

/// A chat request, and how its answer is to be written.
#[derive(Clone, Debug)]
pub(crate) struct ChatRequest {
    pub(crate) ask: Ask,
    /// The name that the model was called by.
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Whether the usage comes in a chunk of its own.
    pub(crate) include_usage: bool,
    pub(crate) logprobs: bool,
    pub(crate) warnings: Warnings,
}

/// Reads a request. `beta`: whether its path allows beta features.
///
/// Errors: 400 for wrong types and contradictions, 404 for another model, 422 outside a range.
pub(crate) fn read(served: &Served, body: &Json, beta: bool) -> Result<ChatRequest, Refusal> {
    let fields = Fields::of("", body)?;
    let model = fields.needed_text("model")?.to_owned();
    let by_name = model_name::thinking_of(served, &model)?;
    let messages = messages(&fields, beta)?;
    let mut unknown = messages.unknown;
    let tools = tools::tools(&fields)?;
    unknown.extend(tools.unknown);
    let format = tools::format(&fields, &mut unknown)?;
    check_format(&format, &messages.messages)?;
    if messages.prefix {
        check_prefix(&format, &tools.choice)?;
    }
    let mut warnings = Vec::new();
    let thinking = thinking(served, &fields, by_name, &mut unknown, &mut warnings)?;
    let (logprobs, n_top) = log_probs(&fields)?;
    let (stream, include_usage, unknown_options) = sampling::streaming(&fields)?;
    unknown.extend(unknown_options);
    let explain = fields.flag("explain")?.unwrap_or(false);
    let ask = Ask {
        prompt: PromptAsk::Chat(ChatAsk {
            conversation: Conversation { messages: messages.messages, tools: tools.tools },
            thinking,
            prefix: messages.prefix,
            tool_choice: tools.choice,
            parallel_tool_calls: tools.parallel,
            format,
        }),
        sampling: sampling::sampling(&fields)?,
        n: fields.count("n", 1..=MOST_ANSWERS)?.unwrap_or(1),
        max_tokens: max_tokens(&fields)?,
        stop: sampling::stop(&fields)?,
        n_top_log_probs: n_top,
        score_prompt: false,
        explain,
    };
    fields.without_effect(WITHOUT_EFFECT);
    unknown.extend(fields.unknown());
    let mut all = Warnings::about_unknown(&unknown);
    warnings.into_iter().for_each(|warning| all.add(warning));
    Ok(ChatRequest { ask, model, stream, include_usage, logprobs, warnings: all })
}

/// The conversation alone, for those who only count its tokens. `messages`, `tools`, `tool_choice`
/// and `thinking` are read.
pub(crate) fn read_conversation(served: &Served, fields: &Fields) -> Result<ChatAsk, Refusal> {
    let messages = messages(fields, true)?;
    let tools = tools::tools(fields)?;
    Ok(ChatAsk {
        conversation: Conversation { messages: messages.messages, tools: tools.tools },
        thinking: thinking(served, fields, None, &mut Vec::new(), &mut Vec::new())?,
        prefix: messages.prefix,
        tool_choice: tools.choice,
        parallel_tool_calls: tools.parallel,
        format: Format::Text,
    })
}

fn max_tokens(fields: &Fields) -> Result<Option<usize>, Refusal> {
    let old = fields.count("max_tokens", 1..=usize::MAX)?;
    let new = fields.count("max_completion_tokens", 1..=usize::MAX)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => Err(Refusal::invalid(
            "max_tokens",
            format!("`max_tokens` is {old}, but `max_completion_tokens` is {new}"),
        )),
        _ => Ok(new.or(old)),
    }
}

/// Whether scores are written, and how many likeliest tokens are wanted.
fn log_probs(fields: &Fields) -> Result<(bool, Option<usize>), Refusal> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let n_top = fields.count("top_logprobs", 0..=MOST_TOP)?;
    if n_top.is_some_and(|n_top| n_top > 0) && !wanted && fields.flag("explain")? != Some(true) {
        let message = "`top_logprobs` is allowed only with `logprobs` true";
        return Err(Refusal::invalid("top_logprobs", message));
    }
    Ok((wanted, n_top.filter(|n_top| wanted || *n_top > 0).or(wanted.then_some(0))))
}

/// Thinking as the fields say, or the name of the model.
fn thinking(
    served: &Served,
    fields: &Fields,
    by_name: Option<bool>,
    unknown: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<bool>, Refusal> {
    const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let mut wanted = None;
    if let Some(thinking) = fields.object("thinking")? {
        wanted = match thinking.word("type", &["enabled", "disabled"])? {
            None => return Err(thinking.missing("type", "`enabled` or `disabled`")),
            Some(kind) => Some(kind == "enabled"),
        };
        unknown.extend(thinking.unknown());
    }
    if let Some(effort) = fields.word("reasoning_effort", EFFORTS)? {
        let thinks = effort != "none";
        match (wanted, served.thinking) {
            (Some(wanted), _) if wanted != thinks => {
                let message =
                    format!("`reasoning_effort` is `{effort}`, which contradicts `thinking`");
                return Err(Refusal::invalid("reasoning_effort", message));
            }
            (_, Thinking::Never) if thinks => {
                let name = &served.name;
                warnings
                    .push(format!("reasoning_effort has no effect: {name} does not think first"));
            }
            _ => {
                if thinks {
                    warnings.push(format!("reasoning_effort {effort} only turns thinking on"));
                }
                wanted = Some(thinks);
            }
        }
    }
    let wanted = wanted.or(by_name);
    // A model that never thinks need not be told so.
    Ok(wanted.filter(|wanted| *wanted || served.thinking != Thinking::Never))
}

/// An answer that has begun cannot be bound: nobody checked its beginning.
fn check_prefix(format: &Format, choice: &ToolChoice) -> Result<(), Refusal> {
    let bound = match (format, choice) {
        (Format::JsonObject | Format::JsonSchema(_), _) => "response_format",
        (_, ToolChoice::Required | ToolChoice::Named(_)) => "tool_choice",
        _ => return Ok(()),
    };
    let message = format!("`{bound}` cannot be enforced on an answer that begins with a prefix");
    Err(Refusal::invalid(bound, message))
}

fn check_format(format: &Format, messages: &[Message]) -> Result<(), Refusal> {
    let says_json = |message: &Message| message.content.to_lowercase().contains("json");
    if *format == Format::JsonObject && !messages.iter().any(says_json) {
        let message = format!(
            "`response_format` of type `json_object` needs the word {} in a message\n\
             hint: say in a message which JSON is wanted, best with an example",
            quoted(&["json"])
        );
        return Err(Refusal::invalid("response_format", message));
    }
    Ok(())
}
