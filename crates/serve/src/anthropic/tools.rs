//! Tools of a messages request, and whether they must be used.

use crate::ask::ToolChoice;
use crate::grammar;
use crate::protocol::fields::{Fields, quoted};
use crate::refusal::Refusal;
use fathom_text::chat::Json;

/// Tools of a request at most.
const MOST_TOOLS: usize = 128;
/// Letters of a tool's name at most.
const MOST_NAME_CHARS: usize = 128;

/// What a request says about tools.
pub(super) struct Tools {
    /// In the shape of OpenAI's interface, which templates know.
    pub(super) tools: Vec<Json>,
    pub(super) choice: ToolChoice,
    pub(super) parallel: bool,
}

/// Reads `tools` and `tool_choice`. Errors: 400 naming the field.
pub(super) fn tools(fields: &Fields, warnings: &mut Vec<String>) -> Result<Tools, Refusal> {
    let items = fields.list("tools")?.unwrap_or_default();
    if items.len() > MOST_TOOLS {
        let message = format!("`tools` must have at most {MOST_TOOLS}, not {}", items.len());
        return Err(Refusal::out_of_range("tools", message));
    }
    let (mut names, mut tools) = (Vec::new(), Vec::new());
    for (at, item) in items.iter().enumerate() {
        let tool = Fields::of(format!("tools[{at}]"), item)?;
        let (name, function) = function(&tool)?;
        if names.contains(&name) {
            let path = tool.path("name");
            let message = format!("`{path}` must differ from those before, not be `{name}` again");
            return Err(Refusal::invalid(path, message));
        }
        names.push(name);
        let unknown = tool.unknown();
        warnings.extend(unknown.iter().map(|path| format!("unknown field: {path}")));
        let kind = Json::String("function".to_owned());
        tools
            .push(Json::Object(vec![("type".to_owned(), kind), ("function".to_owned(), function)]));
    }
    let (choice, parallel) = choice(fields, &names)?;
    Ok(Tools { tools, choice, parallel })
}

/// The name, and the function as OpenAI's interface writes it.
fn function<'a>(tool: &Fields<'a>) -> Result<(&'a str, Json), Refusal> {
    if let Some(kind) = tool.text("type")?.filter(|kind| *kind != "custom") {
        let path = tool.path("type");
        let message = format!(
            "`{path}` must be `custom`, not `{kind}`: tools of Anthropic's servers are not here"
        );
        return Err(Refusal::invalid(path, message));
    }
    let name = tool.needed_text("name")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > MOST_NAME_CHARS || !name.chars().all(is_plain) {
        let path = tool.path("name");
        let message = format!(
            "`{path}` must have 1 to {MOST_NAME_CHARS} letters, digits, `_` and `-`, not be `{name}`"
        );
        return Err(Refusal::invalid(path, message));
    }
    let mut function = vec![("name".to_owned(), Json::String(name.to_owned()))];
    if let Some(description) = tool.text("description")? {
        function.push(("description".to_owned(), Json::String(description.to_owned())));
    }
    let schema = tool.any("input_schema");
    match schema {
        None => return Err(tool.missing("input_schema", "a JSON schema")),
        Some(schema @ Json::Object(_)) => function.push(("parameters".to_owned(), schema.clone())),
        Some(other) => return Err(tool.wrong("input_schema", "a JSON schema", other)),
    }
    if tool.flag("strict")?.unwrap_or(false) {
        grammar::check_strict_tool(schema, &tool.path("input_schema"))?;
        function.push(("strict".to_owned(), Json::Bool(true)));
    }
    tool.without_effect(&["cache_control"]);
    Ok((name, Json::Object(function)))
}

/// Whether and which tool is used, and whether several may be.
fn choice(fields: &Fields, names: &[&str]) -> Result<(ToolChoice, bool), Refusal> {
    let Some(choice) = fields.object("tool_choice")? else { return Ok((ToolChoice::Auto, true)) };
    let parallel = !choice.flag("disable_parallel_tool_use")?.unwrap_or(false);
    let wanted = match choice.word("type", &["auto", "any", "tool", "none"])? {
        None => return Err(choice.missing("type", "`auto`, `any`, `tool` or `none`")),
        Some("auto") => ToolChoice::Auto,
        Some("none") => ToolChoice::None,
        Some("any") if names.is_empty() => {
            let message = "`tool_choice` `any` is allowed only with `tools`";
            return Err(Refusal::invalid("tool_choice", message));
        }
        Some("any") => ToolChoice::Required,
        Some(_) => {
            let name = choice.needed_text("name")?;
            if !names.contains(&name) {
                let path = choice.path("name");
                let message = format!("`{path}` must be one of {}, not `{name}`", quoted(names));
                return Err(Refusal::invalid(path, message));
            }
            ToolChoice::Named(name.to_owned())
        }
    };
    Ok((wanted, parallel))
}
