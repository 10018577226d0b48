//! How a model is told of its tools, where its template does not.
//!
//! DeepSeek's own templates of V3 and R1 write calls and results but declare no tools; those of LLM,
//! V2 and Coder know no tools at all, and neither do most of the distilled models'.

use super::style::{CallStyle, JSON_CALL_BEGIN, JSON_CALL_END};
use fathom_text::chat::Json;
use fathom_text::{ChatFormat, ChatRenderer, Conversation, Message, Role};
use std::borrow::Cow;
use std::fmt::Write;

/// The conversation as the model's template can lay it out, with its tools declared.
///
/// Where the template does all that, or there are no tools, this is the conversation itself. A
/// style of control tokens gets a declaration in the system text, in the words of V2.5's model card.
/// In [`CallStyle::Json`] calls, results and tools become text of the messages.
pub fn told<'c>(
    conversation: &'c Conversation,
    renderer: &ChatRenderer,
    style: CallStyle,
) -> Cow<'c, Conversation> {
    let template = &renderer.file().text;
    let has_system = renderer.format() != Some(ChatFormat::Llm) && template.contains("system");
    let is_tool = |message: &Message| message.role == Role::Tool || !message.tool_calls.is_empty();
    let has_turns = conversation.messages.iter().any(is_tool);
    let tools = &conversation.tools;
    let declares = names_tools(template) && !refuses_tools(template);
    let mut told = match style {
        _ if tools.is_empty() && !has_turns => return Cow::Borrowed(conversation),
        CallStyle::V3 | CallStyle::V31 if declares || tools.is_empty() => {
            return Cow::Borrowed(conversation);
        }
        CallStyle::Json if declares && template.contains(JSON_CALL_BEGIN) => {
            return Cow::Borrowed(conversation);
        }
        CallStyle::V3 | CallStyle::V31 => conversation.clone(),
        CallStyle::Json => Conversation::from(written_out(&conversation.messages)),
    };
    if !tools.is_empty() {
        let text = match style {
            CallStyle::Json => json_declaration(tools),
            CallStyle::V3 | CallStyle::V31 => declaration(tools),
        };
        let role = if has_system { Role::System } else { Role::User };
        say(&mut told.messages, role, &text);
    }
    Cow::Owned(told)
}

/// Whether a template reads the variable `tools`, which `tool_calls` is not.
fn names_tools(template: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    template.match_indices("tools").any(|(at, word)| {
        let (before, after) = (&template[..at], &template[at + word.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

/// Whether it only reads it to refuse them, as the built-in templates of old models do.
fn refuses_tools(template: &str) -> bool {
    template.contains("trained with tools") || template.contains("or tools")
}

/// Adds `text` to the first message of this role, as the template would, or puts it in front.
fn say(messages: &mut Vec<Message>, role: Role, text: &str) {
    match messages.iter_mut().find(|message| message.role == role) {
        Some(message) if role == Role::System => {
            message.content = format!("{}\n\n{text}", message.content);
        }
        Some(message) => message.content = format!("{text}\n\n{}", message.content),
        None => messages.insert(0, Message::new(role, text)),
    }
}

/// As the model card of V2.5 shows it.
fn declaration(tools: &[Json]) -> String {
    let mut text =
        "## Tools\n\n### Function\n\nYou have the following functions available:".to_owned();
    for tool in tools {
        let function = tool.get("function").unwrap_or(tool);
        let name = function.get("name").and_then(Json::as_str).unwrap_or_default();
        let shown = serde_json::to_string_pretty(function).unwrap_or_default();
        let _ = write!(text, "\n\n- `{name}`:\n```json\n{shown}\n```"); // cannot fail on a string
    }
    text
}

fn json_declaration(tools: &[Json]) -> String {
    let list: String = tools.iter().map(|tool| format!("{tool}\n")).collect();
    format!(
        "# Tools\n\nYou may call functions to help with what the user asks. These are available:\n\
         <tools>\n{list}</tools>\n\n\
         To call one, write its name and its arguments as a JSON object between these tags, one \
         pair of tags for each call, and wait for the result:\n\
         {JSON_CALL_BEGIN}\n{{\"name\": \"the name\", \"arguments\": {{\"key\": \"value\"}}}}\n{JSON_CALL_END}"
    )
}

/// Messages in which calls and results are text.
fn written_out(messages: &[Message]) -> Vec<Message> {
    let mut written: Vec<Message> = Vec::new();
    let mut after_result = false;
    for message in messages {
        let is_result = message.role == Role::Tool;
        if is_result {
            let text = format!("<tool_response>\n{}\n</tool_response>", message.content);
            match written.last_mut().filter(|_| after_result) {
                Some(last) => last.content = format!("{}\n{text}", last.content),
                None => written.push(Message::user(text)),
            }
        } else {
            let mut message = message.clone();
            for call in std::mem::take(&mut message.tool_calls) {
                let name = Json::String(call.name);
                let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
                let gap = if message.content.is_empty() { "" } else { "\n" };
                message.content += &format!(
                    "{gap}{JSON_CALL_BEGIN}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{JSON_CALL_END}"
                );
            }
            written.push(message);
        }
        after_result = is_result;
    }
    written
}
