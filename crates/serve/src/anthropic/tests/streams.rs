//! Answers as events.

use super::{CALL, body, events, weather};
use crate::testing::{Stage, app, post, run};
use fathom_engine::service::Failed;
use fathom_text::ChatFormat;
use serde_json::{Value, json};

/// Names of events, and what their deltas join to by block.
fn told(events: &[(String, Value)]) -> (Vec<String>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut texts = Vec::new();
    for (name, data) in events {
        if names.last() != Some(name) || name != "content_block_delta" {
            names.push(name.clone());
        }
        if name == "content_block_start" {
            assert_eq!(data["index"], texts.len());
            texts.push(String::new());
        }
        if name == "content_block_delta" {
            assert_eq!(data["index"], texts.len() - 1);
            let delta = &data["delta"];
            for key in ["text", "thinking", "partial_json"] {
                *texts.last_mut().unwrap() += delta[key].as_str().unwrap_or_default();
            }
        }
    }
    (names, texts)
}

#[test]
fn thinking_and_text_come_block_after_block() {
    let app =
        Stage::new().format(ChatFormat::R1).answers(&["the answer</think>\n\nHello there"]).app();
    let said = run(post(&app, "/v1/messages", body(json!({"stream": true}))));
    assert!(said.header("content-type").unwrap().starts_with("text/event-stream"));
    let events = events(&said);
    let (names, texts) = told(&events);
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(texts, ["the answer", "Hello there"]);
    let start = &events[0].1["message"];
    assert_eq!((&start["content"], &start["stop_reason"]), (&json!([]), &Value::Null));
    assert!(start["usage"]["input_tokens"].as_u64().unwrap() > 0);
    let signed = |(_, data): &&(String, Value)| data["delta"]["type"] == "signature_delta";
    assert_eq!(events.iter().filter(signed).count(), 1);
    let delta = &events[events.len() - 2].1;
    assert_eq!(delta["delta"], json!({"stop_reason": "end_turn", "stop_sequence": null}));
    assert!(delta["usage"]["output_tokens"].as_u64().unwrap() > 4);
}

#[test]
fn a_call_streams_its_input() {
    let app = app(&[CALL]);
    let said = run(post(&app, "/v1/messages", body(json!({"stream": true, "tools": weather()}))));
    let events = events(&said);
    let (_, texts) = told(&events);
    assert_eq!(texts, ["Let me see.", "{\"city\": \"Paris\"}"]);
    let starts: Vec<&Value> = events
        .iter()
        .filter(|(name, _)| name == "content_block_start")
        .map(|(_, data)| data)
        .collect();
    assert_eq!(starts[1]["content_block"]["name"], "get_weather");
    assert_eq!(starts[1]["content_block"]["input"], json!({}));
    assert_eq!(events[events.len() - 2].1["delta"]["stop_reason"], "tool_use");
}

#[test]
fn a_failure_is_an_event() {
    let (app, engine) = Stage::new().answers(&["Hello there"]).both();
    *engine.fail.lock().unwrap() = Some(Failed::Stopped);
    let said = run(post(&app, "/v1/messages", body(json!({"stream": true}))));
    let (name, data) = events(&said).pop().unwrap();
    assert_eq!((&*name, &data["error"]["type"]), ("error", &json!("overloaded_error")));
}
