//! Answers in one body.

use super::{body, weather, without_ids};
use crate::testing::{MODEL, Stage, app, post, run};
use fathom_text::ChatFormat;
use serde_json::{Value, json};

const PATH: &str = "/v1/chat/completions";
const V3_CALL: &str = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";

#[test]
fn an_answer_has_the_shape_of_openai() {
    run(async {
        let said = post(&app(&["Hello there."]), PATH, body(json!({}))).await;
        assert_eq!(said.status, 200, "{}", said.text());
        assert_eq!(said.header("content-type"), Some("application/json"));
        let got = said.json();
        assert!(got["id"].as_str().unwrap().starts_with("chatcmpl-"));
        assert!(got["created"].as_u64().unwrap() > 1_600_000_000);
        assert_eq!(got["object"], "chat.completion");
        assert_eq!(got["model"], MODEL);
        assert_eq!(
            got["choices"],
            json!([{"index": 0, "message": {"role": "assistant", "content": "Hello there."},
                "logprobs": null, "finish_reason": "stop"}])
        );
        let usage = &got["usage"];
        let count = |name: &str| usage[name].as_u64().unwrap();
        assert_eq!(count("prompt_tokens") + count("completion_tokens"), count("total_tokens"));
        assert_eq!(got.get("warnings"), None);
    });
}

#[test]
fn all_paths_give_the_same_answer() {
    run(async {
        for base in ["", "/v1", "/beta", "/beta/v1"] {
            let path = format!("{base}/chat/completions");
            let said = post(&app(&["Yes"]), &path, body(json!({}))).await;
            assert_eq!(said.json()["choices"][0]["message"]["content"], "Yes", "{path}");
        }
    });
}

#[test]
fn thinking_is_told_apart_and_counted() {
    run(async {
        let app = Stage::new().format(ChatFormat::R1).answers(&["Hm.\n</think>\n\nYes."]).app();
        let got = post(&app, PATH, body(json!({}))).await.json();
        let message = &got["choices"][0]["message"];
        assert_eq!(message["reasoning_content"], "Hm.");
        assert_eq!(message["content"], "Yes.");
        let thought = &got["usage"]["completion_tokens_details"]["reasoning_tokens"];
        let n_thought = app.served.tokenizer.encode("Hm.\n</think>").len();
        assert_eq!(thought.as_u64(), Some(n_thought as u64));
    });
}

#[test]
fn a_call_of_a_tool_becomes_structured() {
    run(async {
        let app = app(&[V3_CALL]);
        let got = post(&app, PATH, body(json!({"tools": weather()}))).await;
        let choice = &got.json()["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert_eq!(
            without_ids(&choice["message"].to_string()),
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"CALL","type":"function","function":{"name":"get_weather","arguments":"{\"city\": \"Paris\"}"}}]}"#
        );
    });
}

#[test]
fn without_tools_nothing_is_a_call() {
    run(async {
        let got = post(&app(&[V3_CALL]), PATH, body(json!({}))).await.json();
        assert_eq!(got["choices"][0]["finish_reason"], "stop");
        assert_eq!(got["choices"][0]["message"]["content"], V3_CALL);
    });
}

#[test]
fn several_answers_share_one_prompt_and_have_their_own_places() {
    run(async {
        let (app, engine) = Stage::new().answers(&["One", "Two", "Three"]).both();
        let got = post(&app, PATH, body(json!({"n": 3, "seed": 7}))).await.json();
        let text = |idx: usize| got["choices"][idx]["message"]["content"].clone();
        assert_eq!([text(0), text(1), text(2)], ["One", "Two", "Three"]);
        let n_prompt = engine.job(0).prompt.len() as u64;
        assert_eq!(got["usage"]["prompt_tokens"].as_u64(), Some(n_prompt));
        for idx in 0..3 {
            let job = engine.job(idx);
            assert_eq!((job.sampling.seed, job.sample_idx), (7, idx as u64));
        }
    });
}

#[test]
fn a_stop_string_ends_the_answer_before_it_and_takes_the_job_back() {
    run(async {
        let (app, engine) = Stage::new().answers(&["one, two, three"]).both();
        let got = post(&app, PATH, body(json!({"stop": ", t"}))).await.json();
        assert_eq!(got["choices"][0]["message"]["content"], "one");
        assert_eq!(got["choices"][0]["finish_reason"], "stop");
        assert!(engine.job(0).dropped.load(std::sync::atomic::Ordering::SeqCst));
    });
}

#[test]
fn the_limit_of_tokens_ends_the_answer_by_length() {
    run(async {
        for name in ["max_tokens", "max_completion_tokens"] {
            let mut more = json!({});
            more[name] = json!(3);
            let got = post(&app(&["abcdefgh"]), PATH, body(more)).await.json();
            assert_eq!(got["choices"][0]["finish_reason"], "length");
            assert_eq!(got["usage"]["completion_tokens"], 3);
        }
    });
}

#[test]
fn cached_tokens_are_told_in_the_words_of_both() {
    run(async {
        let (app, engine) = Stage::new().answers(&["x"]).both();
        *engine.n_cached.lock().unwrap() = 64;
        let long = json!({"messages": [{"role": "user", "content": "a b ".repeat(60)}]});
        let usage = &post(&app, PATH, body(long)).await.json()["usage"];
        assert_eq!(usage["prompt_cache_hit_tokens"], 64);
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 64);
        let sum = usage["prompt_cache_hit_tokens"].as_u64().unwrap()
            + usage["prompt_cache_miss_tokens"].as_u64().unwrap();
        assert_eq!(usage["prompt_tokens"].as_u64(), Some(sum));
    });
}

#[test]
fn scores_have_bytes_and_alternatives_and_leave_the_stop_token_out() {
    run(async {
        let more = json!({"logprobs": true, "top_logprobs": 2});
        let got = post(&app(&["é"]), PATH, body(more)).await.json();
        let content = got["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
        let bytes: Vec<u64> = content
            .iter()
            .flat_map(|token| token["bytes"].as_array().unwrap().clone())
            .map(|byte| byte.as_u64().unwrap())
            .collect();
        assert_eq!(bytes, [0xc3, 0xa9]);
        assert_eq!(content[0]["logprob"], -0.5);
        assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
        let got = post(&app(&["é"]), PATH, body(json!({}))).await.json();
        assert_eq!(got["choices"][0]["logprobs"], Value::Null);
    });
}

#[test]
fn the_explain_view_gets_tokens_alternatives_and_experts() {
    run(async {
        let got = post(&app(&["ab"]), PATH, body(json!({"explain": true}))).await.json();
        let choice = &got["choices"][0];
        assert_eq!(choice["logprobs"], Value::Null);
        let first = &choice["explain"][0];
        assert_eq!(first["top"].as_array().unwrap().len(), 5);
        assert_eq!(first["experts"], json!([0, 1, 2, 3]));
        // The token that ends the answer is shown too.
        let last = choice["explain"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["text"], "<｜end▁of▁sentence｜>");
    });
}

#[test]
fn a_prefix_is_gone_on_with_and_not_repeated() {
    run(async {
        let (app, engine) = Stage::new().answers(&[" world"]).both();
        let messages = json!([{"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello", "prefix": true}]);
        let got = post(&app, "/beta/chat/completions", body(json!({"messages": messages}))).await;
        assert_eq!(got.json()["choices"][0]["message"]["content"], " world");
        let prompt = app.served.tokenizer.decode(&engine.job(0).prompt);
        assert!(prompt.ends_with("<｜User｜>Hi<｜Assistant｜>Hello"), "{prompt}");
    });
}

#[test]
fn a_begun_reasoning_is_gone_on_with() {
    run(async {
        let (app, engine) =
            Stage::new().format(ChatFormat::R1).answers(&[" so yes.</think>Yes"]).both();
        let messages = json!([{"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "reasoning_content": "Well,", "prefix": true}]);
        let got = post(&app, "/beta/chat/completions", body(json!({"messages": messages}))).await;
        let message = &got.json()["choices"][0]["message"];
        assert_eq!(message["reasoning_content"], " so yes.");
        assert_eq!(message["content"], "Yes");
        let prompt = app.served.tokenizer.decode(&engine.job(0).prompt);
        assert!(prompt.ends_with("<think>\nWell,"), "{prompt}");
    });
}
