//! Requests that are refused: status, the field, and what was found.

use super::{body, weather};
use crate::testing::{Stage, app, post, post_text, run};
use fathom_engine::service::Refused;
use fathom_text::ChatFormat;
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";

/// Asks with more fields; status, field and message of the refusal.
fn refused(more: Value) -> (u16, String, String) {
    run(async {
        let said = post(&app(&["x"]), PATH, body(more.clone())).await;
        assert!(said.status.is_client_error(), "{more} is taken: {}", said.text());
        let (status, param, message) = said.error();
        (status, param.unwrap_or_default(), message)
    })
}

#[test]
fn wrong_types_are_400_and_values_outside_their_range_422() {
    let cases = [
        (json!({"temperature": "hot"}), 400, "temperature"),
        (json!({"temperature": 2.5}), 422, "temperature"),
        (json!({"temperature": -0.1}), 422, "temperature"),
        (json!({"top_p": 0}), 422, "top_p"),
        (json!({"top_p": 1.1}), 422, "top_p"),
        (json!({"top_k": -1}), 422, "top_k"),
        (json!({"min_p": 2}), 422, "min_p"),
        (json!({"repetition_penalty": 0}), 422, "repetition_penalty"),
        (json!({"frequency_penalty": 3}), 422, "frequency_penalty"),
        (json!({"presence_penalty": -3}), 422, "presence_penalty"),
        (json!({"logit_bias": {"a": 1}}), 400, "logit_bias"),
        (json!({"logit_bias": {"1": 101}}), 422, "logit_bias.1"),
        (json!({"logit_bias": {"999999": 1}}), 422, "logit_bias"),
        (json!({"logit_bias": [1]}), 400, "logit_bias"),
        (json!({"seed": 1.5}), 400, "seed"),
        (json!({"n": 0}), 422, "n"),
        (json!({"n": 17}), 422, "n"),
        (json!({"n": "2"}), 400, "n"),
        (json!({"max_tokens": 0}), 422, "max_tokens"),
        (json!({"max_tokens": 2, "max_completion_tokens": 3}), 400, "max_tokens"),
        (json!({"stop": 3}), 400, "stop"),
        (json!({"stop": ["a", 3]}), 400, "stop[1]"),
        (json!({"stop": vec!["a"; 17]}), 422, "stop"),
        (json!({"stream": "yes"}), 400, "stream"),
        (json!({"stream_options": {"include_usage": true}}), 400, "stream_options"),
        (json!({"logprobs": 3}), 400, "logprobs"),
        (json!({"top_logprobs": 3}), 400, "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), 422, "top_logprobs"),
        (json!({"thinking": true}), 400, "thinking"),
        (json!({"thinking": {"type": "maybe"}}), 400, "thinking.type"),
        (json!({"reasoning_effort": "much"}), 400, "reasoning_effort"),
        (json!({"explain": 1}), 400, "explain"),
    ];
    for (more, status, param) in cases {
        let got = refused(more.clone());
        assert_eq!((got.0, &*got.1), (status, param), "{more}: {}", got.2);
        let name = param.split('.').next().unwrap();
        assert!(got.2.contains(&format!("`{name}")), "{}", got.2);
    }
}

#[test]
fn messages_are_refused_by_their_place() {
    let user = json!({"role": "user", "content": "Hi"});
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let result = |id: &str| json!({"role": "tool", "content": "1", "tool_call_id": id});
    let cases = [
        (json!(null), "messages"),
        (json!([]), "messages"),
        (json!("Hi"), "messages"),
        (json!([3]), "messages[0]"),
        (json!([{"content": "Hi"}]), "messages[0].role"),
        (json!([{"role": "robot", "content": "Hi"}]), "messages[0].role"),
        (json!([{"role": "function", "name": "f", "content": "Hi"}]), "messages[0].role"),
        (json!([{"role": "user"}]), "messages[0].content"),
        (json!([{"role": "user", "content": 3}]), "messages[0].content"),
        (json!([{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content[0].text"),
        (
            json!([user, {"role": "user", "content": [{"type": "text", "text": "x"},
                {"type": "image_url", "image_url": {"url": "data:"}}]}]),
            "messages[1].content[1].type",
        ),
        (json!([user, call]), "messages"),
        (json!([user, result("c1")]), "messages[1].tool_call_id"),
        (json!([user, call, result("c2")]), "messages[2].tool_call_id"),
        (json!([user, call, result("c1"), result("c1")]), "messages[3].tool_call_id"),
        (json!([user, call, user]), "messages[2]"),
        (json!([user, {"role": "tool", "content": "1"}]), "messages[1].tool_call_id"),
        (
            json!([user, {"role": "assistant", "tool_calls": [{"function": {}}]}]),
            "messages[1].tool_calls[0].id",
        ),
        (
            json!([user, {"role": "assistant", "content": "He", "prefix": true}]),
            "messages[1].prefix",
        ),
    ];
    for (messages, param) in cases {
        let got = refused(json!({"messages": messages}));
        assert_eq!((got.0, &*got.1), (400, param), "{messages}: {}", got.2);
    }
}

#[test]
fn a_message_has_no_more_calls_than_there_can_be_tools() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let message = json!({"role": "assistant", "content": null, "tool_calls": vec![call; 129]});
    let got = refused(json!({"messages": [message]}));
    assert_eq!((got.0, &*got.1), (422, "messages[0].tool_calls"));
}

#[test]
fn a_prefix_is_the_last_message_of_the_assistant_and_beta() {
    run(async {
        let (user, begun) = (
            json!({"role": "user", "content": "Hi"}),
            json!({"role": "assistant", "content": "He", "prefix": true}),
        );
        let said = post(&app(&["x"]), PATH, body(json!({"messages": [user, begun]}))).await;
        assert!(said.error().2.contains("/beta/chat/completions"), "{}", said.text());
        for messages in
            [json!([begun, user]), json!([{"role": "user", "content": "x", "prefix": true}])]
        {
            let said =
                post(&app(&["x"]), "/beta/chat/completions", body(json!({"messages": messages})))
                    .await;
            assert_eq!(said.error().1.unwrap(), "messages[0].prefix");
        }
    });
}

#[test]
fn tools_are_refused_by_their_place() {
    let tool = |function: Value| json!([{"type": "function", "function": function}]);
    let cases = [
        (json!({"tools": [{"function": {"name": "f"}}]}), "tools[0].type"),
        (json!({"tools": [{"type": "custom"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (json!({"tools": tool(json!({}))}), "tools[0].function.name"),
        (json!({"tools": tool(json!({"name": "a b"}))}), "tools[0].function.name"),
        (json!({"tools": tool(json!({"name": "x".repeat(65)}))}), "tools[0].function.name"),
        (
            json!({"tools": tool(json!({"name": "f", "parameters": []}))}),
            "tools[0].function.parameters",
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f"}},
                {"type": "function", "function": {"name": "f"}}]}),
            "tools[1].function.name",
        ),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tools": weather(), "tool_choice": "any"}), "tool_choice"),
        (
            json!({"tools": weather(), "tool_choice": {"type": "function", "function": {"name": "g"}}}),
            "tool_choice.function.name",
        ),
        (json!({"functions": []}), "functions"),
        (json!({"function_call": "auto"}), "function_call"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
            "response_format.json_schema.schema",
        ),
    ];
    for (more, param) in cases {
        let got = refused(more.clone());
        assert_eq!((got.0, &*got.1), (400, param), "{more}: {}", got.2);
    }
    let many: Vec<Value> = (0..129)
        .map(|n| json!({"type": "function", "function": {"name": format!("f{n}")}}))
        .collect();
    assert_eq!(refused(json!({"tools": many})).0, 422);
}

#[test]
fn json_mode_needs_the_word_in_a_message() {
    let got = refused(json!({"response_format": {"type": "json_object"}}));
    assert_eq!((got.0, &*got.1), (400, "response_format"));
}

#[test]
fn another_model_is_404_and_the_refusal_names_what_there_is() {
    run(async {
        let said = post(&app(&["x"]), PATH, body(json!({"model": "gpt-4o"}))).await;
        let (status, param, message) = said.error();
        assert_eq!((status, param.as_deref()), (404, Some("model")));
        assert!(message.contains("`tiny`, `deepseek-chat`"), "{message}");
        assert_eq!(said.json()["error"]["code"], "model_not_found");
        // This model has no thinking mode to be named.
        let said = post(&app(&["x"]), PATH, body(json!({"model": "deepseek-reasoner"}))).await;
        assert_eq!(said.status, 404);
        let said = post(&app(&["x"]), PATH, body(json!({"model": null}))).await;
        assert_eq!((said.error().0, said.error().1.unwrap()), (400, "model".to_owned()));
    });
}

#[test]
fn thinking_cannot_be_asked_of_a_model_that_has_none() {
    let got = refused(json!({"thinking": {"type": "enabled"}}));
    assert_eq!((got.0, &*got.1), (400, "thinking"));
}

#[test]
fn what_is_no_json_is_told_with_its_place() {
    run(async {
        let app = app(&["x"]);
        let said = post_text(&app, PATH, "{\"model\": \"tiny\",\n  oops}").await;
        let (status, _, message) = said.error();
        assert_eq!(status, 400);
        assert!(message.contains("line 2 column 3"), "{message}");
        for (text, expected) in [("", "empty"), ("[]", "must be an object"), ("nul", "not JSON")] {
            let said = post_text(&app, PATH, text).await;
            assert_eq!(said.status, 400);
            assert!(said.error().2.contains(expected), "{}", said.text());
        }
        let deep = "[".repeat(100_000);
        assert_eq!(post_text(&app, PATH, &deep).await.status, 400);
    });
}

#[test]
fn a_body_that_is_too_large_is_413() {
    run(async {
        let app = Stage::new().settings(|s| s.max_body_bytes = 200).app();
        let long = json!({"messages": [{"role": "user", "content": "x".repeat(300)}]});
        let said = post(&app, PATH, body(long)).await;
        assert_eq!(said.error(), (413, None, "the body is larger than 200 bytes".into()));
    });
}

#[test]
fn a_prompt_beyond_the_context_is_refused_with_both_counts() {
    run(async {
        let long = json!({"messages": [{"role": "user", "content": "1 ".repeat(1500)}]});
        let said = post(&app(&["x"]), PATH, body(long)).await;
        let (status, param, message) = said.error();
        assert_eq!((status, param.as_deref()), (400, Some("messages")));
        assert_eq!(said.json()["error"]["code"], "context_length_exceeded");
        assert!(message.contains("tokens") && message.contains("2048"), "{message}");
    });
}

#[test]
fn a_full_queue_is_503_and_says_when_to_come_back() {
    run(async {
        let (app, engine) = Stage::new().both();
        let full = Refused::Full { n_waiting: 64, retry_after_s: 2.2 };
        *engine.refuse.lock().unwrap() = Some(full);
        let said = post(&app, PATH, body(json!({}))).await;
        assert_eq!(said.status, 503);
        assert_eq!(said.header("retry-after"), Some("3"));
        *engine.refuse.lock().unwrap() = Some(Refused::Stopped);
        assert_eq!(post(&app, PATH, body(json!({}))).await.status, 503);
    });
}

#[test]
fn a_model_without_a_template_points_to_completions() {
    run(async {
        let app = Stage::new().format(None).app();
        let said = post(&app, PATH, body(json!({}))).await;
        assert_eq!(said.status, 400);
        assert!(said.error().2.contains("/v1/completions"), "{}", said.text());
    });
}

#[test]
fn a_prefix_cannot_be_bound_to_a_format() {
    run(async {
        let app = Stage::new().format(ChatFormat::V3).app();
        let messages = json!([{"role": "user", "content": "json!"},
            {"role": "assistant", "content": "{", "prefix": true}]);
        let more = json!({"messages": messages, "response_format": {"type": "json_object"}});
        let said = post(&app, "/beta/chat/completions", body(more)).await;
        assert_eq!(said.error().1.unwrap(), "response_format");
    });
}
