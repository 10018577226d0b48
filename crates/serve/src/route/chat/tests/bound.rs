//! Answers that are held to a format or to tools, whatever the model would say.

use super::{body, weather};
use crate::testing::{Stage, app, post, run};
use fathom_text::ChatFormat;
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

/// A request that says the word that JSON mode needs.
fn json_body(more: Value) -> Value {
    let mut all = json!({"messages": [{"role": "user", "content": "Give me JSON."}]});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body(all)
}

fn schema() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": {
        "type": "object", "properties": {"b": {"enum": [7]}, "a": {"type": "boolean"}},
        "required": ["b", "a"], "additionalProperties": false}}})
}

#[test]
fn json_mode_gives_an_object_whatever_the_model_says() {
    run(async {
        let app = app(&["Sure! Here it is."]);
        let more = json!({"response_format": {"type": "json_object"}});
        let got = post(&app, PATH, json_body(more)).await.json();
        let text = got["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(text).unwrap().is_object(), "{text}");
    });
}

#[test]
fn a_schema_is_obeyed_in_the_order_of_its_keys() {
    run(async {
        let got = post(&app(&["no"]), PATH, json_body(json!({"response_format": schema()}))).await;
        let got = got.json();
        let text = got["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.trim_start().starts_with("{\"b\""), "{text}");
        assert_eq!(serde_json::from_str::<Value>(text).unwrap()["b"], 7);
        assert_eq!(got["choices"][0]["finish_reason"], "stop");
    });
}

#[test]
fn a_format_binds_the_answer_and_leaves_the_thinking_free() {
    run(async {
        let app = Stage::new().format(ChatFormat::R1).answers(&["Well, {.</think>no"]).app();
        let got = post(&app, PATH, json_body(json!({"response_format": schema()}))).await.json();
        let message = &got["choices"][0]["message"];
        assert_eq!(message["reasoning_content"], "Well, {.");
        let text = message["content"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap()["b"], 7);
    });
}

#[test]
fn a_tool_that_is_demanded_is_called() {
    run(async {
        let named = json!({"type": "function", "function": {"name": "get_weather"}});
        for format in [ChatFormat::V3, ChatFormat::V31] {
            for choice in [json!("required"), named.clone()] {
                let app = Stage::new().format(format).answers(&["I will not."]).app();
                let more = json!({"tools": weather(), "tool_choice": choice});
                let got = post(&app, PATH, body(more)).await.json();
                assert_eq!(got["choices"][0]["finish_reason"], "tool_calls", "{got}");
                let function = &got["choices"][0]["message"]["tool_calls"][0]["function"];
                assert_eq!(function["name"], "get_weather");
                let arguments = function["arguments"].as_str().unwrap();
                assert!(serde_json::from_str::<Value>(arguments).unwrap().is_object());
            }
        }
    });
}

#[test]
fn a_model_without_tool_tokens_calls_in_tags() {
    run(async {
        let call = "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}</tool_call>";
        let (app, engine) = Stage::new().format(ChatFormat::V2).answers(&[call]).both();
        let got = post(&app, PATH, body(json!({"tools": weather()}))).await.json();
        assert_eq!(got["choices"][0]["finish_reason"], "tool_calls", "{got}");
        let function = &got["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(function["arguments"], "{\"city\": \"Paris\"}");
        let prompt = app.served.tokenizer.decode(&engine.job(0).prompt);
        assert!(prompt.contains("get_weather"), "{prompt}");
    });
}

#[test]
fn a_schema_that_cannot_be_enforced_is_refused_by_its_path() {
    run(async {
        let format = json!({"type": "json_schema", "json_schema": {"name": "x",
            "schema": {"type": "object", "properties": {"a": {"type": "strange"}}}}});
        let said = post(&app(&["x"]), PATH, json_body(json!({"response_format": format}))).await;
        let (status, param, _) = said.error();
        assert_eq!(status, 400);
        assert!(
            param.unwrap().starts_with("response_format.json_schema.schema"),
            "{}",
            said.text()
        );
    });
}

#[test]
fn free_answers_have_no_constraint() {
    run(async {
        let (app, engine) = Stage::new().answers(&["x"]).both();
        post(&app, PATH, body(json!({}))).await;
        assert!(!engine.job(0).constrained);
        post(&app, PATH, body(json!({"tool_choice": "none"}))).await;
        assert!(!engine.job(1).constrained);
        post(&app, PATH, json_body(json!({"response_format": {"type": "json_object"}}))).await;
        assert!(engine.job(2).constrained);
    });
}
