//! Conversations over HTTP, against an engine that says what it is told to.

mod bound;
mod fields;
mod plain;
mod refusals;
mod streams;

use crate::testing::{MODEL, Said};
use serde_json::{Value, json};

/// A request with one question and more fields.
fn body(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn weather() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "description": "How it is",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])
}

/// Events as lines, without what is the same in all of them.
fn transcript(said: &Said) -> String {
    let mut lines = String::new();
    for event in said.text().split_inclusive("\n\n") {
        let line = event.trim_end();
        let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else {
            lines += &format!("{line}\n");
            continue;
        };
        let mut chunk: Value = serde_json::from_str(data).unwrap();
        let head = chunk.as_object_mut().unwrap();
        for same in ["id", "object", "created", "model", "system_fingerprint"] {
            head.remove(same);
        }
        lines += &format!("{}\n", without_ids(&chunk.to_string()));
    }
    lines
}

/// Ids of calls differ every time.
fn without_ids(text: &str) -> String {
    let mut parts = text.split("\"call_");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += "\"CALL";
        out += &part[24..];
    }
    out
}
