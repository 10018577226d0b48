//! What is refused, in Anthropic's shape, with the block named.

use super::{body, weather};
use crate::testing::{Stage, app, get, post, post_text, run};
use fathom_engine::service::Refused;
use serde_json::{Value, json};

fn refused(more: Value) -> (u16, String, String) {
    let said = run(post(&app(&["Hello"]), "/v1/messages", body(more)));
    let error = said.json();
    assert_eq!(error["type"], "error", "{error}");
    let text = |key: &str| error["error"][key].as_str().unwrap().to_owned();
    (said.status.as_u16(), text("type"), text("message"))
}

#[test]
fn every_refusal_names_the_block() {
    let check = |path: &str, more: Value| {
        let (status, kind, message) = refused(more);
        assert_eq!((status, &*kind), (400, "invalid_request_error"), "{message}");
        assert!(message.contains(path), "{path} in {message}");
    };
    let said = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    check("`max_tokens`", json!({"max_tokens": null}));
    check("`model`", json!({"model": 5}));
    check("`messages`", json!({"messages": []}));
    check("`messages[0].role`", json!({"messages": [{"role": "robot", "content": "x"}]}));
    check("`messages[0].content`", said(json!(5)));
    check(
        "`messages[0].content[1].type`",
        said(json!([{"type": "text", "text": "a"}, {"type": "image"}])),
    );
    check("`messages[0].content[0].type`", said(json!([{"type": "document"}])));
    check("`messages[0].content[0].type`", said(json!([{"type": "thinking", "thinking": "x"}])));
    check("`messages[0].content[0].text`", said(json!([{"type": "text"}])));
    check(
        "`messages[0].content[0].tool_use_id`",
        said(json!([{"type": "tool_result", "tool_use_id": "x"}])),
    );
    check("`system[0].type`", json!({"system": [{"type": "image"}]}));
    check(
        "`tools[0].type`",
        json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
    );
    check("`tools[0].input_schema`", json!({"tools": [{"name": "f"}]}));
    check(
        "`tool_choice.name`",
        json!({"tools": weather(), "tool_choice": {"type": "tool", "name": "f"}}),
    );
    check("`tool_choice`", json!({"tool_choice": {"type": "any"}}));
    check("`stop_sequences[0]`", json!({"stop_sequences": [" "]}));
    let strict =
        json!([{"name": "f", "strict": true, "input_schema": {"type": "object", "not": {}}}]);
    check("tools[0].input_schema.not", json!({"tools": strict}));
    let format = json!({"format": {"type": "json_schema", "schema": {"if": {}}}});
    check("output_config.format.schema.if", json!({"output_config": format}));
    check("thinking", json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}));
}

#[test]
fn results_must_answer_all_calls() {
    let call = json!({"role": "assistant", "content": [
        {"type": "tool_use", "id": "a", "name": "get_weather", "input": {}},
        {"type": "tool_use", "id": "b", "name": "get_weather", "input": {}}]});
    let question = json!({"role": "user", "content": "Hi"});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "x"});
    let ask = |last: Value| {
        let messages = json!([question, call, {"role": "user", "content": last}]);
        refused(json!({"tools": weather(), "messages": messages})).2
    };
    assert!(ask(json!([result("a")])).contains("`b`"));
    assert!(ask(json!("no results")).contains("`a`, `b`"));
    assert!(
        ask(json!([result("a"), {"type": "text", "text": "x"}, result("b")]))
            .contains("in front of text")
    );
}

#[test]
fn refusals_from_elsewhere_have_the_shape_too() {
    let shaped = |said: crate::testing::Said, status: u16, kind: &str| {
        assert_eq!(said.status, status);
        let error = said.json();
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!(kind)),
            "{error}"
        );
    };
    let app = app(&["Hello"]);
    shaped(run(post_text(&app, "/v1/messages", "{")), 400, "invalid_request_error");
    shaped(run(get(&app, "/anthropic/v1/messages")), 405, "invalid_request_error");
    shaped(
        run(post(&app, "/v1/messages", body(json!({"temperature": 3})))),
        422,
        "invalid_request_error",
    );
    let (app, engine) = Stage::new().settings(|settings| settings.max_body_bytes = 10).both();
    shaped(run(post(&app, "/v1/messages", body(json!({})))), 413, "request_too_large");
    let _ = engine;
    let (app, engine) = Stage::new().both();
    *engine.refuse.lock().unwrap() = Some(Refused::Full { n_waiting: 3, retry_after_s: 2.0 });
    let said = run(post(&app, "/v1/messages", body(json!({}))));
    assert_eq!(said.header("retry-after"), Some("2"));
    shaped(said, 503, "overloaded_error");
}
