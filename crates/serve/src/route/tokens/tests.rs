//! Text to ids and back over HTTP.

use crate::testing::{CONTEXT, app, post, run};
use serde_json::json;

#[test]
fn text_becomes_ids_and_ids_become_text() {
    run(async {
        let app = app(&[]);
        let text = "Hello, 苹果!";
        for name in ["content", "prompt", "text"] {
            let got = post(&app, "/tokenize", json!({name: text})).await.json();
            assert_eq!(got["tokens"], json!(app.served.tokenizer.encode(text)), "{name}");
            assert_eq!(got["count"].as_u64(), Some(got["tokens"].as_array().unwrap().len() as u64));
            assert_eq!(got["max_model_len"], CONTEXT);
            let back = post(&app, "/detokenize", json!({"tokens": got["tokens"]})).await.json();
            assert_eq!((&back["content"], &back["prompt"]), (&json!(text), &json!(text)));
        }
    });
}

#[test]
fn control_tokens_and_bos_are_a_matter_of_choice() {
    run(async {
        let app = app(&[]);
        let bos = app.served.bos.unwrap();
        let ids = async |more: serde_json::Value| {
            let mut body = json!({"content": "<think>"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            post(&app, "/tokenize", body).await.json()["tokens"].clone()
        };
        let think = app.served.tokenizer.token_id("<think>").unwrap();
        assert_eq!(ids(json!({})).await, json!([think]));
        assert_eq!(ids(json!({"add_special": true})).await, json!([bos, think]));
        assert_eq!(ids(json!({"add_special_tokens": true})).await, json!([bos, think]));
        let plain = app.served.tokenizer.encode_plain("<think>");
        assert_eq!(ids(json!({"parse_special": false})).await, json!(plain));
    });
}

#[test]
fn a_conversation_is_counted_as_it_would_be_read() {
    run(async {
        let app = app(&["x"]);
        let messages = json!([{"role": "user", "content": "Hi"}]);
        let body = json!({"messages": messages, "return_token_strs": true});
        let counted = post(&app, "/tokenize", body).await.json();
        assert_eq!(counted["token_strs"][0], "<｜begin▁of▁sentence｜>");
        let asked = json!({"model": "tiny", "messages": messages});
        let answered = post(&app, "/v1/chat/completions", asked).await.json();
        assert_eq!(counted["count"], answered["usage"]["prompt_tokens"]);
    });
}

#[test]
fn refusals_name_the_field() {
    run(async {
        let app = app(&[]);
        let cases = [
            ("/tokenize", json!({}), "content"),
            ("/tokenize", json!({"content": "a", "prompt": "b"}), "content"),
            ("/tokenize", json!({"content": 3}), "content"),
            ("/tokenize", json!({"content": "a", "model": "x"}), "model"),
            ("/detokenize", json!({}), "tokens"),
            ("/detokenize", json!({"tokens": ["a"]}), "tokens[0]"),
            ("/detokenize", json!({"tokens": [1, 9_999_999]}), "tokens[1]"),
        ];
        for (path, body, param) in cases {
            let said = post(&app, path, body.clone()).await;
            assert_eq!(said.error().1.as_deref(), Some(param), "{path} {body}: {}", said.text());
        }
        let said = post(&app, "/tokenize", json!({"content": "a", "what": 1})).await;
        assert_eq!(said.header("x-fathom-warning"), Some("unknown fields: what"));
    });
}
