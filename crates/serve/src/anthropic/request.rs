//! What a messages request asks, in the words of [`crate::ask`].

use super::blocks::{self, Turns};
use super::tools;
use crate::ask::{Ask, ChatAsk, Format, PromptAsk, SamplingAsk};
use crate::grammar;
use crate::protocol::fields::Fields;
use crate::protocol::model_name;
use crate::protocol::tools::to_value;
use crate::protocol::warnings::Warnings;
use crate::refusal::Refusal;
use crate::served::{Served, Thinking};
use fathom_text::chat::Json;
use fathom_text::{Conversation, Message};

/// Stop sequences of a request at most.
const MOST_STOPS: usize = 64;
/// Accepted without effect: they tell a company's service about its customers.
const WITHOUT_EFFECT: &[&str] = &["metadata", "service_tier", "inference_geo"];

/// A messages request, and how its answer is to be written.
#[derive(Clone, Debug)]
pub(super) struct MessagesRequest {
    pub(super) ask: Ask,
    /// The name that the model was called by, whatever it was.
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) warnings: Warnings,
}

/// Reads a request.
///
/// Errors: 400 for wrong types, contradictions and blocks that cannot be read, 422 outside a range.
pub(super) fn read(served: &Served, body: &Json) -> Result<MessagesRequest, Refusal> {
    let fields = Fields::of("", body)?;
    let mut warnings = Vec::new();
    let chat = conversation(served, &fields, &mut warnings)?;
    let Some(max_tokens) = fields.count("max_tokens", 1..=usize::MAX)? else {
        return Err(fields.missing("max_tokens", "a whole number above 0"));
    };
    let model = fields.needed_text("model")?.to_owned();
    let (sampling, stop) = (sampling(&fields)?, stop(&fields)?);
    let stream = fields.flag("stream")?.unwrap_or(false);
    fields.without_effect(WITHOUT_EFFECT);
    let mut all = Warnings::about_unknown(&fields.unknown());
    warnings.into_iter().for_each(|warning| all.add(warning));
    let ask = Ask {
        prompt: PromptAsk::Chat(chat),
        sampling,
        n: 1,
        max_tokens: Some(max_tokens),
        stop,
        n_top_log_probs: None,
        score_prompt: false,
        explain: false,
    };
    Ok(MessagesRequest { ask, model, stream, warnings: all })
}

/// The conversation alone, for those who only count its tokens.
pub(super) fn read_conversation(served: &Served, body: &Json) -> Result<ChatAsk, Refusal> {
    let fields = Fields::of("", body)?;
    fields.needed_text("model")?;
    conversation(served, &fields, &mut Vec::new())
}

fn conversation(
    served: &Served,
    fields: &Fields,
    warnings: &mut Vec<String>,
) -> Result<ChatAsk, Refusal> {
    let Turns { mut messages, prefix, notes } = blocks::turns(fields)?;
    warnings.extend(notes);
    if let Some(system) = blocks::system(fields)? {
        messages.insert(0, Message::system(system));
    }
    let tools = tools::tools(fields, warnings)?;
    let format = format(fields, warnings)?;
    if format != Format::Text && prefix {
        let message = "the answer cannot be held to a schema if `messages` begin it";
        return Err(Refusal::invalid("output_config.format", message));
    }
    Ok(ChatAsk {
        conversation: Conversation { messages, tools: tools.tools },
        thinking: thinking(served, fields)?,
        prefix,
        tool_choice: tools.choice,
        parallel_tool_calls: tools.parallel,
        format,
    })
}

/// What the field says, else the name of the model's mode, else as the model does.
fn thinking(served: &Served, fields: &Fields) -> Result<Option<bool>, Refusal> {
    let by_name = match fields.text("model")? {
        // Other names are accepted too, as DeepSeek does.
        Some(name) => model_name::thinking_of(served, name).unwrap_or(None),
        None => None,
    };
    let wanted = match fields.object("thinking")? {
        None => by_name,
        Some(thinking) => {
            // DeepSeek accepts a budget and ignores it; so do we, and the limit of the answer counts.
            thinking.without_effect(&["budget_tokens", "display"]);
            match thinking.word("type", &["enabled", "disabled", "adaptive"])? {
                None => return Err(thinking.missing("type", "`enabled` or `disabled`")),
                Some("disabled") => Some(false),
                Some("enabled") => Some(true),
                Some(_) => None,
            }
        }
    };
    Ok(wanted.filter(|wanted| *wanted || served.thinking != Thinking::Never))
}

fn sampling(fields: &Fields) -> Result<SamplingAsk, Refusal> {
    let top_p = fields.number("top_p", 0.0..=1.0)?;
    if top_p == Some(0.0) {
        let message = "`top_p` must be above 0 and at most 1, not 0\n\
                       hint: `temperature` 0 takes the likeliest token";
        return Err(Refusal::out_of_range("top_p", message));
    }
    Ok(SamplingAsk {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_p,
        top_k: fields.count("top_k", 0..=1 << 20)?,
        ..SamplingAsk::default()
    })
}

fn stop(fields: &Fields) -> Result<Vec<String>, Refusal> {
    let items = fields.list("stop_sequences")?.unwrap_or_default();
    if items.len() > MOST_STOPS {
        let message =
            format!("`stop_sequences` must have at most {MOST_STOPS}, not {}", items.len());
        return Err(Refusal::out_of_range("stop_sequences", message));
    }
    let text = |(at, item): (usize, &Json)| match item {
        Json::String(text) if text.trim().is_empty() => Err(Refusal::invalid(
            format!("stop_sequences[{at}]"),
            format!("`stop_sequences[{at}]` must have more than white space in it"),
        )),
        Json::String(text) => Ok(text.clone()),
        other => Err(fields.wrong(&format!("stop_sequences[{at}]"), "a string", other)),
    };
    items.iter().enumerate().map(text).collect()
}

/// `output_config.format`, and `output_format` as it was called before: JSON of a schema.
fn format(fields: &Fields, warnings: &mut Vec<String>) -> Result<Format, Refusal> {
    let old = fields.object("output_format")?;
    let config = fields.object("output_config")?;
    let new = config.as_ref().map(|config| config.object("format")).transpose()?.flatten();
    if let Some(config) = &config {
        warnings.extend(config.unknown().iter().map(|path| format!("{path} has no effect")));
    }
    let Some(format) = new.or(old) else { return Ok(Format::Text) };
    if format.word("type", &["json_schema"])?.is_none() {
        return Err(format.missing("type", "`json_schema`"));
    }
    let Some(schema) = format.any("schema") else {
        return Err(format.missing("schema", "a JSON schema"));
    };
    let schema = to_value(schema);
    grammar::check_schema_at(&schema, &format.path("schema"))?;
    Ok(Format::JsonSchema(schema))
}
