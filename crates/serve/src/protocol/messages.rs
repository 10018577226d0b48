//! The messages of a chat request, checked one by one and as a conversation.

use super::fields::{Fields, quoted};
use crate::refusal::Refusal;
use fathom_text::chat::Json;
use fathom_text::{Message, Role, ToolCall};

/// Messages that may be laid out.
pub(crate) struct Messages {
    pub(crate) messages: Vec<Message>,
    /// Whether the last is the beginning of the answer.
    pub(crate) prefix: bool,
    /// Paths of fields that nobody knows.
    pub(crate) unknown: Vec<String>,
}

const ROLES: &[&str] = &["system", "user", "assistant", "tool", "developer"];
/// Calls in a message at most; their results are looked for one by one.
const MOST_CALLS: usize = 128;
/// What clients send back of an answer that they were given.
const ECHOED: &[&str] = &["refusal", "annotations", "audio"];

/// Reads `messages`. `beta`: whether the path allows the last message to be a prefix.
///
/// Errors: 400 naming the message and the field.
pub(crate) fn messages(fields: &Fields, beta: bool) -> Result<Messages, Refusal> {
    let Some(items) = fields.list("messages")? else {
        return Err(fields.missing("messages", "a list of messages"));
    };
    if items.is_empty() {
        let message = "`messages` must have at least one message, not 0";
        return Err(Refusal::invalid("messages", message));
    }
    let mut read = Messages { messages: Vec::new(), prefix: false, unknown: Vec::new() };
    for (at, item) in items.iter().enumerate() {
        let fields = Fields::of(format!("messages[{at}]"), item)?;
        let message = message(&fields)?;
        if fields.flag("prefix")?.unwrap_or(false) {
            check_prefix(&fields, &message, at + 1 == items.len(), beta)?;
            read.prefix = true;
        }
        read.unknown.extend(fields.unknown());
        read.messages.push(message);
    }
    check_calls(&read.messages)?;
    forget_earlier_thinking(&mut read.messages, read.prefix);
    Ok(read)
}

fn message(fields: &Fields) -> Result<Message, Refusal> {
    if let Some("function") = fields.any("role").and_then(Json::as_str) {
        return Err(Refusal::invalid(
            fields.path("role"),
            "messages of role `function` are not supported\nhint: use role `tool` with `tool_call_id`",
        ));
    }
    let role = match fields.word("role", ROLES)? {
        None => return Err(fields.missing("role", &format!("one of {}", quoted(ROLES)))),
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        Some(_) => Role::System,
    };
    let mut message = Message::new(role, "");
    message.name = fields.text("name")?.map(str::to_owned);
    let by_assistant = role == Role::Assistant;
    if by_assistant {
        message.reasoning_content = fields.text("reasoning_content")?.map(str::to_owned);
        message.tool_calls = tool_calls(fields)?;
        fields.without_effect(ECHOED);
        refuse_function_call(fields)?;
    }
    message.content = match content(fields)? {
        Some(content) => content,
        None if by_assistant => String::new(),
        None => return Err(fields.missing("content", "a string or a list of parts")),
    };
    if role == Role::Tool {
        message.tool_call_id = Some(fields.needed_text("tool_call_id")?.to_owned());
    }
    Ok(message)
}

fn content(fields: &Fields) -> Result<Option<String>, Refusal> {
    let parts = match fields.any("content") {
        None => return Ok(None),
        Some(Json::String(text)) => return Ok(Some(text.clone())),
        Some(Json::Array(parts)) => parts,
        Some(other) => return Err(fields.wrong("content", "a string or a list of parts", other)),
    };
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        let part = Fields::of(fields.path(format!("content[{at}]")), part)?;
        match part.needed_text("type")? {
            "text" => text.push_str(part.needed_text("text")?),
            "image_url" | "input_image" | "image" => {
                let path = part.path("type");
                let message = format!(
                    "`{path}` is an image, and this model reads text only\n\
                     hint: describe the image in words"
                );
                return Err(Refusal::invalid(path, message).code("unsupported_content"));
            }
            other => {
                let path = part.path("type");
                let message = format!("`{path}` must be `text`, not `{other}`");
                return Err(Refusal::invalid(path, message).code("unsupported_content"));
            }
        }
    }
    Ok(Some(text))
}

fn tool_calls(fields: &Fields) -> Result<Vec<ToolCall>, Refusal> {
    let items = fields.list("tool_calls")?.unwrap_or_default();
    if items.len() > MOST_CALLS {
        let path = fields.path("tool_calls");
        let message = format!("`{path}` must have at most {MOST_CALLS}, not {}", items.len());
        return Err(Refusal::out_of_range(path, message));
    }
    let mut calls = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let call = Fields::of(fields.path(format!("tool_calls[{at}]")), item)?;
        if let Some(kind) = call.text("type")?.filter(|kind| *kind != "function") {
            let path = call.path("type");
            let message = format!("`{path}` must be `function`, not `{kind}`");
            return Err(Refusal::invalid(path, message));
        }
        let id = call.needed_text("id")?.to_owned();
        let Some(function) = call.object("function")? else {
            return Err(call.missing("function", "an object"));
        };
        let name = function.needed_text("name")?.to_owned();
        // Some programs write an object where text belongs.
        let arguments = match function.any("arguments") {
            None => "{}".to_owned(),
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        calls.push(ToolCall { id, name, arguments });
    }
    Ok(calls)
}

fn refuse_function_call(fields: &Fields) -> Result<(), Refusal> {
    match fields.any("function_call") {
        None => Ok(()),
        Some(_) => Err(Refusal::invalid(
            fields.path("function_call"),
            "`function_call` is not supported\nhint: use `tool_calls`",
        )),
    }
}

fn check_prefix(
    fields: &Fields,
    message: &Message,
    is_last: bool,
    beta: bool,
) -> Result<(), Refusal> {
    let path = fields.path("prefix");
    if !is_last || message.role != Role::Assistant {
        let text = format!("`{path}` is allowed only in the last message, of role `assistant`");
        return Err(Refusal::invalid(path, text));
    }
    if !beta {
        let text = format!(
            "`{path}` is a beta feature\nhint: ask under `/beta`, such as `/beta/chat/completions`"
        );
        return Err(Refusal::invalid(path, text));
    }
    Ok(())
}

/// Every result of a tool belongs to a call of the assistant's message before it, and every call has
/// its result before the conversation goes on.
fn check_calls(messages: &[Message]) -> Result<(), Refusal> {
    let mut open: Vec<&str> = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        if message.role == Role::Tool {
            let id = message.tool_call_id.as_deref().unwrap_or_default();
            let Some(place) = open.iter().position(|known| *known == id) else {
                let path = format!("messages[{at}].tool_call_id");
                let text = format!(
                    "`{path}` must name a call of the assistant's message before it, not `{id}`"
                );
                return Err(Refusal::invalid(path, text));
            };
            open.remove(place);
        } else if open.is_empty() {
            open = message.tool_calls.iter().map(|call| call.id.as_str()).collect();
        } else {
            let text = format!(
                "the calls {} have no message of role `tool` before `messages[{at}]`",
                quoted(&open)
            );
            return Err(Refusal::invalid(format!("messages[{at}]"), text));
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the calls {} at the end of `messages` have no message of role `tool`",
        quoted(&open)
    );
    Err(Refusal::invalid("messages", text))
}

/// What was thought before the last question is not put into the prompt; what was thought for the
/// calls that are being answered now may be, if the template has a place for it.
pub(crate) fn forget_earlier_thinking(messages: &mut [Message], prefix: bool) {
    let last_question = messages.iter().rposition(|message| message.role == Role::User);
    let n_messages = messages.len();
    for (at, message) in messages.iter_mut().enumerate() {
        let begins_answer = prefix && at + 1 == n_messages;
        let in_this_turn = last_question.is_some_and(|question| at > question);
        let is_needed = begins_answer || (in_this_turn && !message.tool_calls.is_empty());
        if !is_needed {
            message.reasoning_content = None;
        }
    }
}
