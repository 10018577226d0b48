//! Tools of a chat request, and whether they must be called.

use super::fields::{Fields, quoted};
use crate::ask::{Format, ToolChoice};
use crate::grammar;
use crate::refusal::Refusal;
use fathom_text::chat::Json;
use serde_json::Value;

/// Tools of a request at most.
const MOST_TOOLS: usize = 128;
/// Letters of a tool's name at most.
const MOST_NAME_CHARS: usize = 64;

/// What a request says about tools.
pub(crate) struct Tools {
    pub(crate) tools: Vec<Json>,
    pub(crate) choice: ToolChoice,
    pub(crate) parallel: bool,
    /// Paths of fields that nobody knows.
    pub(crate) unknown: Vec<String>,
}

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`.
///
/// Errors: 400 naming the field.
pub(crate) fn tools(fields: &Fields) -> Result<Tools, Refusal> {
    for old in ["functions", "function_call"] {
        if fields.any(old).is_some() {
            let message = format!("`{old}` is not supported\nhint: use `tools` and `tool_choice`");
            return Err(Refusal::invalid(old, message));
        }
    }
    let items = fields.list("tools")?.unwrap_or_default();
    if items.len() > MOST_TOOLS {
        let message = format!("`tools` must have at most {MOST_TOOLS}, not {}", items.len());
        return Err(Refusal::out_of_range("tools", message));
    }
    let (mut names, mut unknown) = (Vec::new(), Vec::new());
    for (at, item) in items.iter().enumerate() {
        let tool = Fields::of(format!("tools[{at}]"), item)?;
        let name = check_tool(&tool, &mut unknown)?;
        if names.contains(&name) {
            let path = format!("tools[{at}].function.name");
            let message = format!("`{path}` must differ from those before, not be `{name}` again");
            return Err(Refusal::invalid(path, message));
        }
        names.push(name);
    }
    Ok(Tools {
        tools: items.to_vec(),
        choice: choice(fields, &names)?,
        parallel: fields.flag("parallel_tool_calls")?.unwrap_or(true),
        unknown,
    })
}

/// Reads `response_format`. Errors: 400, also for a schema that cannot be enforced.
pub(crate) fn format(fields: &Fields, unknown: &mut Vec<String>) -> Result<Format, Refusal> {
    let Some(format) = fields.object("response_format")? else { return Ok(Format::Text) };
    let kind = format.word("type", &["text", "json_object", "json_schema"])?;
    let read = match kind {
        None => return Err(format.missing("type", "`text`, `json_object` or `json_schema`")),
        Some("text") => Format::Text,
        Some("json_object") => Format::JsonObject,
        Some(_) => {
            let Some(schema) = format.object("json_schema")? else {
                return Err(format.missing("json_schema", "an object with `name` and `schema`"));
            };
            schema.text("name")?;
            schema.text("description")?;
            // Schemas are enforced always, so this says nothing new.
            schema.flag("strict")?;
            let Some(wanted) = schema.any("schema") else {
                return Err(schema.missing("schema", "a JSON schema"));
            };
            unknown.extend(schema.unknown());
            let wanted = to_value(wanted);
            grammar::check_schema(&wanted)?;
            Format::JsonSchema(wanted)
        }
    };
    unknown.extend(format.unknown());
    Ok(read)
}

fn check_tool<'a>(tool: &Fields<'a>, unknown: &mut Vec<String>) -> Result<&'a str, Refusal> {
    match tool.text("type")? {
        Some("function") => {}
        None => return Err(tool.missing("type", "`function`")),
        Some(other) => {
            let path = tool.path("type");
            let message = format!("`{path}` must be `function`, not `{other}`");
            return Err(Refusal::invalid(path, message));
        }
    }
    let Some(function) = tool.object("function")? else {
        return Err(tool.missing("function", "an object with `name`"));
    };
    let name = function.needed_text("name")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > MOST_NAME_CHARS || !name.chars().all(is_plain) {
        let path = function.path("name");
        let message = format!(
            "`{path}` must have 1 to {MOST_NAME_CHARS} letters, digits, `_` and `-`, not be `{name}`"
        );
        return Err(Refusal::invalid(path, message));
    }
    function.text("description")?;
    function.object("parameters")?;
    if function.flag("strict")?.unwrap_or(false) {
        grammar::check_strict_tool(function.any("parameters"), &function.path("parameters"))?;
    }
    unknown.extend(function.unknown());
    unknown.extend(tool.unknown());
    Ok(name)
}

fn choice(fields: &Fields, names: &[&str]) -> Result<ToolChoice, Refusal> {
    const WORDS: &[&str] = &["none", "auto", "required"];
    let choice = match fields.any("tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(Json::Object(_)) => named(fields, names)?,
        Some(_) => match fields.word("tool_choice", WORDS)? {
            Some("none") => ToolChoice::None,
            Some("required") => ToolChoice::Required,
            _ => ToolChoice::Auto,
        },
    };
    if names.is_empty() && choice == ToolChoice::Required {
        let message = "`tool_choice` `required` is allowed only with `tools`";
        return Err(Refusal::invalid("tool_choice", message));
    }
    Ok(choice)
}

fn named(fields: &Fields, names: &[&str]) -> Result<ToolChoice, Refusal> {
    let Some(choice) = fields.object("tool_choice")? else { return Ok(ToolChoice::Auto) };
    choice.word("type", &["function"])?;
    let Some(function) = choice.object("function")? else {
        return Err(choice.missing("function", "an object with `name`"));
    };
    let name = function.needed_text("name")?;
    if !names.contains(&name) {
        let path = function.path("name");
        let message = match names.is_empty() {
            true => format!("`{path}` is `{name}`, and the request has no tools"),
            false => format!("`{path}` must be one of {}, not `{name}`", quoted(names)),
        };
        return Err(Refusal::invalid(path, message));
    }
    Ok(ToolChoice::Named(name.to_owned()))
}

/// The same value for programs that know no order of their own; keys stay in order.
pub(crate) fn to_value(json: &Json) -> Value {
    serde_json::to_value(json).unwrap_or(Value::Null)
}
