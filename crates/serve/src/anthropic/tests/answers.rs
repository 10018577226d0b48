//! Whole answers, and what the model was asked for them.

use super::{CALL, body, weather};
use crate::testing::{Stage, app, post, run};
use fathom_text::ChatFormat;
use serde_json::{Value, json};

#[test]
fn a_message_is_answered_with_text_and_usage() {
    let (app, engine) = Stage::new().answers(&["Hello there."]).both();
    *engine.n_cached.lock().unwrap() = 1;
    let said = run(post(&app, "/v1/messages", body(json!({}))));
    assert_eq!(said.status, 200, "{}", said.text());
    let message = said.json();
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(message["type"], "message");
    assert_eq!(message["role"], "assistant");
    assert_eq!(message["model"], "claude-like");
    assert_eq!(message["content"], json!([{"type": "text", "text": "Hello there."}]));
    assert_eq!(
        (&message["stop_reason"], &message["stop_sequence"]),
        (&json!("end_turn"), &Value::Null)
    );
    let n_prompt = engine.job(0).prompt.len();
    assert_eq!(message["usage"]["input_tokens"], n_prompt - 1);
    assert_eq!(message["usage"]["cache_read_input_tokens"], 1);
    assert!(message["usage"]["output_tokens"].as_u64().unwrap() > 2);
    assert!(said.header("request-id").unwrap().starts_with("req_"));
}

#[test]
fn thinking_comes_in_a_block_of_its_own() {
    let app = Stage::new().format(ChatFormat::R1).answers(&["the answer</think>\n\nHello"]).app();
    let message = run(post(&app, "/anthropic/v1/messages", body(json!({})))).json();
    let blocks = message["content"].as_array().unwrap();
    assert_eq!(
        (&blocks[0]["type"], &blocks[0]["thinking"]),
        (&json!("thinking"), &json!("the answer"))
    );
    assert_eq!(blocks[0]["signature"].as_str().unwrap().len(), 64);
    assert_eq!(blocks[1], json!({"type": "text", "text": "Hello"}));
    assert_eq!(blocks.len(), 2);
}

#[test]
fn a_call_is_a_block_with_input() {
    let app = app(&[CALL]);
    let message = run(post(&app, "/v1/messages", body(json!({"tools": weather()})))).json();
    assert_eq!(message["stop_reason"], "tool_use", "{message}");
    let blocks = message["content"].as_array().unwrap();
    assert_eq!(blocks[0], json!({"type": "text", "text": "Let me see."}));
    assert_eq!(blocks[1]["name"], "get_weather");
    assert_eq!(blocks[1]["input"], json!({"city": "Paris"}));
    assert!(blocks[1]["id"].as_str().unwrap().starts_with("toolu_"));
}

#[test]
fn the_model_reads_what_the_blocks_say() {
    let (app, engine) = Stage::new().answers(&["Fine"]).both();
    let request = body(json!({
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": weather(), "temperature": 0.5, "top_p": 0.9, "top_k": 7,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "How is"}, {"type": "text", "text": "Paris?"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "I must look", "signature": "x"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "rain"}]}]},
        ],
    }));
    let said = run(post(&app, "/v1/messages", request));
    assert_eq!(said.status, 200, "{}", said.text());
    let job = engine.job(0);
    let prompt = app.served.tokenizer.decode(&job.prompt);
    for part in [
        "Be brief.\n\n## Tools",
        "`get_weather`",
        "<｜User｜>How is\n\nParis?<｜Assistant｜>Let me see.",
        "get_weather\n```json\n{\"city\":\"Paris\"}\n```",
        "<｜tool▁output▁begin｜>rain<｜tool▁output▁end｜>",
    ] {
        assert!(prompt.contains(part), "{part} in {prompt}");
    }
    assert_eq!((job.sampling.temperature, job.sampling.top_p, job.sampling.top_k), (0.5, 0.9, 7));
    assert_eq!(job.sampling.max_new_tokens, 100);
}

#[test]
fn a_last_message_of_the_assistant_is_gone_on_with() {
    let (app, engine) = Stage::new().answers(&[" there"]).both();
    let messages =
        json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]);
    let message = run(post(&app, "/v1/messages", body(json!({"messages": messages})))).json();
    assert_eq!(message["content"][0]["text"], " there", "{message}");
    let prompt = app.served.tokenizer.decode(&engine.job(0).prompt);
    assert!(prompt.ends_with("<｜Assistant｜>Hello"), "{prompt}");
}

#[test]
fn reasons_to_stop_are_told() {
    let app = app(&["Hello there, the answer"]);
    let ask = |more| run(post(&app, "/v1/messages", body(more))).json();
    let stopped = ask(json!({"stop_sequences": ["answer", "there"]}));
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!("there"))
    );
    assert_eq!(stopped["content"], json!([{"type": "text", "text": "Hello "}]));
    assert_eq!(ask(json!({"max_tokens": 2}))["stop_reason"], "max_tokens");
}

#[test]
fn a_tool_can_be_demanded_and_a_schema() {
    let app = app(&["Hello"]);
    let ask = |more| run(post(&app, "/v1/messages", body(more))).json();
    let message =
        ask(json!({"tools": weather(), "tool_choice": {"type": "tool", "name": "get_weather"}}));
    assert_eq!(message["stop_reason"], "tool_use", "{message}");
    assert!(message["content"][0]["input"].is_object(), "{message}");
    let schema = json!({"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"],
                        "additionalProperties": false});
    let format = json!({"format": {"type": "json_schema", "schema": schema}});
    let message = ask(json!({"output_config": format}));
    let text = message["content"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), json!({"n": 7}));
}

#[test]
fn models_without_tool_tokens_use_tools_too() {
    let answer = "Hello\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>";
    let (app, engine) = Stage::new().format(ChatFormat::V2).answers(&[answer]).both();
    let request = body(json!({"tools": weather()}));
    let message = run(post(&app, "/v1/messages", request)).json();
    assert_eq!(message["stop_reason"], "tool_use", "{message}");
    assert_eq!(message["content"][0], json!({"type": "text", "text": "Hello\n"}));
    assert_eq!(message["content"][1]["input"], json!({"city": "Bern"}));
    let prompt = app.served.tokenizer.decode(&engine.job(0).prompt);
    assert!(
        prompt.contains("<tools>\n{\"type\":\"function\",\"function\":{\"name\":\"get_weather\""),
        "{prompt}"
    );
}

#[test]
fn tokens_are_counted_as_they_would_be_read() {
    let (app, engine) = Stage::new().answers(&["Fine"]).both();
    let request = body(json!({"system": "Be brief.", "tools": weather()}));
    let mut counted = request.clone();
    counted.as_object_mut().unwrap().remove("max_tokens");
    let said = run(post(&app, "/v1/messages/count_tokens", counted));
    run(post(&app, "/v1/messages", request));
    assert_eq!(said.json(), json!({"input_tokens": engine.job(0).prompt.len()}));
}

#[test]
fn what_has_no_effect_is_told() {
    let app = app(&["Hello"]);
    let more = json!({"metadata": {"user_id": "u"}, "container": "c", "mcp_servers": []});
    let said = run(post(&app, "/v1/messages", body(more)));
    assert_eq!(said.header("x-fathom-warning").unwrap(), "unknown fields: container, mcp_servers");
    assert!(run(post(&app, "/v1/messages", body(json!({})))).header("x-fathom-warning").is_none());
}
