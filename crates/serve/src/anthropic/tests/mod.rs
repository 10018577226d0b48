//! Messages over HTTP, against an engine that says what it is told to.

mod answers;
mod refusals;
mod streams;

use crate::testing::Said;
use serde_json::{Value, json};

/// A request with one question and more fields.
fn body(more: Value) -> Value {
    let mut body = json!({
        "model": "claude-like", "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn weather() -> Value {
    json!([{"name": "get_weather", "description": "How it is", "input_schema":
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}])
}

const CALL: &str = "Let me see.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n\
                    ```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";

/// Events by name, without what differs every time.
fn events(said: &Said) -> Vec<(String, Value)> {
    let event = |text: &str| {
        let (name, data) = text.split_once("\ndata: ").unwrap_or_else(|| panic!("{text:?}"));
        let name = name.strip_prefix("event: ").unwrap().to_owned();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], json!(name));
        (name, data)
    };
    said.text().split_terminator("\n\n").map(event).collect()
}
