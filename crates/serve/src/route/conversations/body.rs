//! Bodies of the page's requests, checked field by field.

use super::{Arrived, MAX_BODY_BYTES};
use crate::refusal::Refusal;
use crate::store::{MAX_MESSAGE_BYTES, MAX_TITLE_CHARS, is_message_id};
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];

type Fields = Map<String, Value>;

/// `{title?}`.
pub(super) struct CreateBody {
    pub(super) title: Option<String>,
}

/// `{title?, head?}`.
pub(super) struct ChangeBody {
    pub(super) title: Option<String>,
    /// The inner none is `null`: no head.
    pub(super) head: Option<Option<String>>,
}

/// `{parent, role, content, reasoning?, meta?}`.
pub(super) struct MessageBody {
    pub(super) parent: Option<String>,
    pub(super) role: String,
    pub(super) content: String,
    pub(super) reasoning: Option<String>,
    pub(super) meta: Option<String>,
}

/// The object that a request holds; an empty body is an empty object.
pub(super) fn json(headers: &HeaderMap, arrived: Arrived) -> Result<Fields, Refusal> {
    let bytes = arrived.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Refusal::invalid("body", "the body did not arrive"),
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let message = format!("expected `Content-Type: application/json`, found {kind:?}");
        return Err(Refusal::new(status, "invalid_request_error", message));
    }
    if bytes.is_empty() {
        return Ok(Fields::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(wrong("body", "an object", &other)),
        Err(error) => Err(Refusal::invalid("body", format!("the body is not JSON: {error}"))),
    }
}

impl CreateBody {
    pub(super) fn read(fields: &Fields) -> Result<CreateBody, Refusal> {
        only(fields, &["title"])?;
        Ok(CreateBody { title: title(fields)? })
    }
}

impl ChangeBody {
    pub(super) fn read(fields: &Fields) -> Result<ChangeBody, Refusal> {
        only(fields, &["title", "head"])?;
        let head = match fields.get("head") {
            None => None,
            Some(Value::Null) => Some(None),
            Some(_) => Some(message_id(fields, "head")?),
        };
        let title = title(fields)?;
        if title.is_none() && head.is_none() {
            return Err(Refusal::invalid("body", "nothing to change: expected `title` or `head`"));
        }
        Ok(ChangeBody { title, head })
    }
}

impl MessageBody {
    pub(super) fn read(id: &str, fields: &Fields) -> Result<MessageBody, Refusal> {
        if !is_message_id(id) {
            return Err(no_id("id", id));
        }
        only(fields, &["parent", "role", "content", "reasoning", "meta"])?;
        if !fields.contains_key("parent") {
            let message = "`parent` is missing, expected the id of a message, or null";
            return Err(Refusal::invalid("parent", message));
        }
        let role = text(fields, "role")?.ok_or_else(|| missing("role"))?;
        if !ROLES.contains(&role) {
            let message = format!("`role` must be one of `{}`, found {role:?}", ROLES.join("`, `"));
            return Err(Refusal::invalid("role", message));
        }
        let content = text(fields, "content")?.ok_or_else(|| missing("content"))?;
        check_size("content", content)?;
        let reasoning = text(fields, "reasoning")?;
        check_size("reasoning", reasoning.unwrap_or_default())?;
        let meta = fields.get("meta").filter(|meta| !meta.is_null()).map(Value::to_string);
        check_size("meta", meta.as_deref().unwrap_or_default())?;
        Ok(MessageBody {
            parent: message_id(fields, "parent")?,
            role: role.to_owned(),
            content: content.to_owned(),
            reasoning: reasoning.map(str::to_owned),
            meta,
        })
    }
}

/// Refuses fields that would be ignored.
fn only(fields: &Fields, known: &[&str]) -> Result<(), Refusal> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(100).collect();
            let message =
                format!("unknown field {name:?}\nhint: expected `{}`", known.join("`, `"));
            Err(Refusal::invalid(name, message))
        }
    }
}

fn title(fields: &Fields) -> Result<Option<String>, Refusal> {
    let title = text(fields, "title")?;
    let n_chars = title.map_or(0, |title| title.chars().count());
    if n_chars > MAX_TITLE_CHARS {
        let message = format!("`title` may have {MAX_TITLE_CHARS} characters, found {n_chars}");
        return Err(Refusal::out_of_range("title", message));
    }
    Ok(title.map(str::to_owned))
}

fn message_id(fields: &Fields, name: &'static str) -> Result<Option<String>, Refusal> {
    match text(fields, name)? {
        Some(id) if !is_message_id(id) => Err(no_id(name, id)),
        id => Ok(id.map(str::to_owned)),
    }
}

/// A text; none where it is missing or `null`.
fn text<'a>(fields: &'a Fields, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(name, "a string", other)),
    }
}

fn check_size(name: &'static str, text: &str) -> Result<(), Refusal> {
    if text.len() <= MAX_MESSAGE_BYTES {
        return Ok(());
    }
    let n_bytes = text.len();
    let message = format!("`{name}` may have {MAX_MESSAGE_BYTES} bytes, found {n_bytes}");
    Err(Refusal::out_of_range(name, message))
}

fn missing(name: &'static str) -> Refusal {
    Refusal::invalid(name, format!("`{name}` is missing, expected a string"))
}

fn wrong(name: &'static str, expected: &str, found: &Value) -> Refusal {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Refusal::invalid(name, format!("`{name}` must be {expected}, found {found}"))
}

fn no_id(name: &'static str, found: &str) -> Refusal {
    let found: String = found.chars().take(100).collect();
    let message = format!("`{name}` must be 1 to 64 letters, digits, `-` and `_`, found {found:?}");
    Refusal::invalid(name, message)
}

fn too_large() -> Refusal {
    let message = format!("the body is larger than {MAX_BODY_BYTES} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
}
