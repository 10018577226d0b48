//! Answers in chunks: golden transcripts, waiting, failing, and clients that leave.

use super::{body, transcript, weather};
use crate::testing::{MODEL, Stage, app, post, run, send};
use axum::body::Body;
use axum::http::Request;
use fathom_engine::service::Failed;
use fathom_text::ChatFormat;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

const PATH: &str = "/chat/completions";

fn stream(more: Value) -> Value {
    let mut body = body(more);
    body["stream"] = json!(true);
    body
}

#[test]
fn a_plain_stream_begins_with_the_role_and_ends_with_done() {
    run(async {
        let said = post(&app(&["Hello there"]), PATH, stream(json!({}))).await;
        assert_eq!(said.header("content-type"), Some("text/event-stream"));
        assert_eq!(said.header("cache-control"), Some("no-cache"));
        assert_eq!(transcript(&said), GOLDEN_PLAIN);
        for event in said.events() {
            assert_eq!(event["object"], "chat.completion.chunk");
            assert_eq!(event["model"], MODEL);
            assert_eq!(event["id"], said.events()[0]["id"]);
        }
    });
}

#[test]
fn a_thinking_stream_tells_the_reasoning_first() {
    run(async {
        let app = Stage::new().format(ChatFormat::R1).answers(&["Hm.</think>\n\nHello"]).app();
        let said = post(&app, PATH, stream(json!({}))).await;
        assert_eq!(transcript(&said), GOLDEN_REASONING);
    });
}

#[test]
fn a_call_streams_its_name_and_then_its_arguments() {
    run(async {
        let call = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
        let app = Stage::new().format(ChatFormat::V31).answers(&[call]).app();
        let said = post(&app, PATH, stream(json!({"tools": weather()}))).await;
        assert_eq!(transcript(&said), GOLDEN_CALL);
    });
}

#[test]
fn two_answers_in_one_stream_are_told_apart_by_their_index() {
    run(async {
        let said = post(&app(&["Hello", "there"]), PATH, stream(json!({"n": 2}))).await;
        assert_eq!(transcript(&said), GOLDEN_TWO);
    });
}

#[test]
fn scores_stream_beside_their_text() {
    run(async {
        let more = json!({"logprobs": true, "top_logprobs": 1});
        let said = post(&app(&["Hello"]), PATH, stream(more)).await;
        assert_eq!(transcript(&said), GOLDEN_SCORES);
    });
}

#[test]
fn the_usage_comes_in_a_chunk_of_its_own() {
    run(async {
        let more = json!({"stream_options": {"include_usage": true}});
        let said = post(&app(&["Hello"]), PATH, stream(more)).await;
        assert_eq!(transcript(&said), GOLDEN_USAGE);
    });
}

#[test]
fn explained_tokens_stream_in_their_choice() {
    run(async {
        let app = Stage::new().format(ChatFormat::R1).answers(&["a</think>b"]).app();
        let said = post(&app, PATH, stream(json!({"explain": true}))).await;
        let mut texts = Vec::new();
        for event in said.events() {
            for token in event["choices"][0]["explain"].as_array().into_iter().flatten() {
                texts.push(token["text"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(texts, ["a", "</think>", "b", "<｜end▁of▁sentence｜>"]);
    });
}

#[test]
fn a_failure_after_the_beginning_is_told_and_ends_the_stream() {
    run(async {
        let (app, engine) = Stage::new().answers(&["Hello there"]).both();
        *engine.fail.lock().unwrap() = Some(Failed::Constraint("broken".into()));
        let said = post(&app, PATH, stream(json!({}))).await;
        assert_eq!(said.status, 200);
        let last = said.events().pop().unwrap();
        assert_eq!(last["error"]["message"], "broken");
        assert!(!said.text().contains("[DONE]"));
        // Before the beginning of a body, the status still says it.
        *engine.fail.lock().unwrap() = Some(Failed::Constraint("broken".into()));
        let said = post(&app, PATH, body(json!({}))).await;
        assert_eq!(said.error(), (500, None, "broken".into()));
    });
}

#[test]
fn a_waiting_stream_is_kept_alive_by_comments() {
    run(async {
        let stage = Stage::new().answers(&["Hi"]).held();
        let (app, engine) = stage.settings(|s| s.keep_alive = Duration::from_millis(20)).both();
        let request = Request::post(PATH).body(Body::from(stream(json!({})).to_string())).unwrap();
        let mut body = send(&app, request).await.into_body();
        for _ in 0..2 {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(frame, ": keep-alive\n\n");
        }
        engine.release();
        let rest = body.collect().await.unwrap().to_bytes();
        let rest = std::str::from_utf8(&rest).unwrap();
        assert!(rest.contains("assistant") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
    });
}

#[test]
fn a_waiting_body_is_kept_alive_by_blank_lines() {
    run(async {
        let stage = Stage::new().answers(&["Hi"]).held();
        let (app, engine) = stage.settings(|s| s.keep_alive = Duration::from_millis(20)).both();
        let request = Request::post(PATH).body(Body::from(body(json!({})).to_string())).unwrap();
        let response = send(&app, request).await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, "\n");
        engine.release();
        let rest = body.collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&rest).unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], "Hi");
    });
}

#[test]
fn a_client_that_leaves_takes_its_job_back() {
    run(async {
        let (app, engine) = Stage::new().held().both();
        let request =
            Request::post(PATH).body(Body::from(stream(json!({"n": 2})).to_string())).unwrap();
        let response = send(&app, request).await;
        assert!(!engine.job(0).dropped.load(Ordering::SeqCst));
        drop(response);
        assert!(engine.job(0).dropped.load(Ordering::SeqCst));
        assert!(engine.job(1).dropped.load(Ordering::SeqCst));
    });
}

const GOLDEN_PLAIN: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"content":" there"},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]
"#;
const GOLDEN_REASONING: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"reasoning_content":"H"},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"reasoning_content":"m"},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"reasoning_content":"."},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]
"#;
const GOLDEN_CALL: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"CALL","type":"function","function":{"name":"get_weather","arguments":""}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\""}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"c"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"i"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"t"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"y"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\""}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":" \""}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"Pa"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"ris"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\""}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]}
data: [DONE]
"#;
const GOLDEN_TWO: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
{"choices":[{"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":1,"delta":{"content":"the"},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":1,"delta":{"content":"re"},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":1,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]
"#;
const GOLDEN_SCORES: &str = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
{"choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":{"content":[{"token":"Hello","logprob":-0.5,"bytes":[72,101,108,108,111],"top_logprobs":[{"token":"Hello","logprob":-0.5,"bytes":[72,101,108,108,111]}]}]},"finish_reason":null}]}
{"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
data: [DONE]
"#;
const GOLDEN_USAGE: &str = r#"{"usage":null,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}
{"usage":null,"choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}
{"usage":null,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}
{"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0},"prompt_cache_hit_tokens":0,"prompt_cache_miss_tokens":5},"choices":[]}
data: [DONE]
"#;
