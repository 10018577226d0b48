//! Completions over HTTP, against an engine that says what it is told to.

use crate::testing::{MODEL, Stage, app, post, run};
use serde_json::{Value, json};

const PATH: &str = "/v1/completions";

fn body(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "prompt": "Hello"});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[test]
fn text_goes_on_in_the_shape_of_openai() {
    run(async {
        let (app, engine) = Stage::new().answers(&[" there"]).both();
        let got = post(&app, PATH, body(json!({}))).await.json();
        assert!(got["id"].as_str().unwrap().starts_with("cmpl-"));
        assert_eq!(got["object"], "text_completion");
        assert_eq!(
            got["choices"],
            json!([{"index": 0, "text": " there", "logprobs": null, "finish_reason": "stop"}])
        );
        // BOS stands in front, once.
        let ids = app.served.tokenizer.encode("<｜begin▁of▁sentence｜>Hello");
        assert_eq!(engine.job(0).prompt, ids);
        post(&app, PATH, body(json!({"prompt": "<｜begin▁of▁sentence｜>Hello"}))).await;
        assert_eq!(engine.job(1).prompt, ids);
    });
}

#[test]
fn a_model_without_a_template_goes_on_with_text() {
    run(async {
        let app = Stage::new().format(None).answers(&["x"]).app();
        for path in ["/completions", "/v1/completions", "/beta/completions", "/beta/v1/completions"]
        {
            let said = post(&app, path, body(json!({}))).await;
            assert_eq!(said.json()["choices"][0]["text"], "x", "{path}");
        }
    });
}

#[test]
fn prompts_may_be_texts_or_ids_one_or_several() {
    run(async {
        let (app, engine) = Stage::new().answers(&["a", "b", "c", "d"]).both();
        let got = post(&app, PATH, body(json!({"prompt": ["x", "y"], "n": 2}))).await.json();
        let texts: Vec<&Value> =
            got["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
        assert_eq!(texts, ["a", "b", "c", "d"]);
        assert_eq!(got["choices"][3]["index"], 3);
        let n_prompt = engine.job(0).prompt.len() + engine.job(2).prompt.len();
        assert_eq!(got["usage"]["prompt_tokens"].as_u64(), Some(n_prompt as u64));

        post(&app, PATH, body(json!({"prompt": [5, 6, 7]}))).await;
        assert_eq!(engine.job(4).prompt, [5, 6, 7]);
        post(&app, PATH, body(json!({"prompt": [[5], [6, 7]]}))).await;
        assert_eq!((engine.job(5).prompt, engine.job(6).prompt), (vec![5], vec![6, 7]));
    });
}

#[test]
fn a_hole_is_filled() {
    run(async {
        let (app, engine) = Stage::new().answers(&["mid"]).both();
        let more = json!({"prompt": "def f(", "suffix": "):\n"});
        let got = post(&app, "/beta/completions", body(more)).await.json();
        assert_eq!(got["choices"][0]["text"], "mid");
        assert_eq!(
            app.served.tokenizer.decode(&engine.job(0).prompt),
            "<｜begin▁of▁sentence｜><｜fim▁begin｜>def f(<｜fim▁hole｜>):\n<｜fim▁end｜>"
        );
    });
}

#[test]
fn scores_of_a_completion_have_the_old_shape() {
    run(async {
        let got = post(&app(&["é!"]), PATH, body(json!({"logprobs": 2}))).await.json();
        let logprobs = &got["choices"][0]["logprobs"];
        let tokens = logprobs["tokens"].as_array().unwrap();
        assert_eq!(tokens[0], "bytes:\\xc3");
        assert_eq!(tokens[2], "!");
        // The token that ended the text is scored too, as its place was.
        assert_eq!(tokens.last().unwrap(), "<｜end▁of▁sentence｜>");
        assert_eq!(logprobs["token_logprobs"][0], -0.5);
        assert_eq!(logprobs["top_logprobs"][2].as_object().unwrap()["!"], -0.5);
        assert_eq!(logprobs["text_offset"].as_array().unwrap().len(), tokens.len());
    });
}

#[test]
fn a_prompt_is_scored_as_the_evaluation_harness_asks() {
    run(async {
        // Ids, one more token, echo and scores: what counts stands between the context and the last.
        let (app, engine) = Stage::new().answers(&[""]).both();
        let more = json!({"prompt": [40, 41, 42, 43], "max_tokens": 1, "logprobs": 1, "echo": true,
            "temperature": 0, "seed": 1234});
        let got = post(&app, PATH, body(more)).await.json();
        let logprobs = &got["choices"][0]["logprobs"];
        let scores = logprobs["token_logprobs"].as_array().unwrap();
        assert_eq!(scores.len(), 5);
        assert_eq!(scores[0], Value::Null);
        assert!(scores[1..].iter().all(|score| score.is_number()));
        assert_eq!(logprobs["top_logprobs"][0], Value::Null);
        assert!(engine.job(0).score_prompt);
        let text = got["choices"][0]["text"].as_str().unwrap();
        assert_eq!(text, app.served.tokenizer.decode(&[40, 41, 42, 43]));
        // Nothing at all may be asked for besides.
        let more = json!({"prompt": [40, 41], "max_tokens": 0, "logprobs": 0, "echo": true});
        let got = post(&app, PATH, body(more)).await.json();
        assert_eq!(got["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 2);
        assert_eq!(got["choices"][0]["finish_reason"], "length");
        assert_eq!(got["usage"]["completion_tokens"], 0);
    });
}

#[test]
fn an_echo_stands_in_front() {
    run(async {
        let got = post(&app(&[" there"]), PATH, body(json!({"echo": true}))).await.json();
        assert_eq!(got["choices"][0]["text"], "Hello there");
        let more = json!({"echo": true, "stream": true});
        let said = post(&app(&[" there"]), PATH, body(more)).await;
        let text: String = said
            .events()
            .iter()
            .map(|event| event["choices"][0]["text"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(text, "Hello there");
    });
}

#[test]
fn a_stream_ends_with_its_reason_its_usage_and_done() {
    run(async {
        let more = json!({"stream": true, "stream_options": {"include_usage": true}, "stop": "r"});
        let said = post(&app(&[" there"]), PATH, body(more)).await;
        let events = said.events();
        let text: String =
            events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
        assert_eq!(text, " the");
        let n = events.len();
        assert_eq!(events[n - 2]["choices"][0]["finish_reason"], "stop");
        assert_eq!(events[n - 1]["choices"], json!([]));
        assert!(events[n - 1]["usage"]["total_tokens"].as_u64().unwrap() > 0);
        assert!(said.text().ends_with("data: [DONE]\n\n"));
    });
}

#[test]
fn refusals_name_the_field() {
    let cases = [
        (json!({"prompt": null}), 400, "prompt"),
        (json!({"prompt": 3}), 400, "prompt"),
        (json!({"prompt": []}), 400, "prompt"),
        (json!({"prompt": ["a", 3]}), 400, "prompt[1]"),
        (json!({"prompt": [3, "a"]}), 400, "prompt[1]"),
        (json!({"prompt": [-1]}), 400, "prompt[0]"),
        (json!({"prompt": [[]]}), 400, "prompt"),
        (json!({"prompt": [9999999]}), 400, "prompt"),
        (json!({"prompt": [1, 2], "suffix": "x"}), 400, "suffix"),
        (json!({"prompt": vec!["x"; 129]}), 422, "prompt"),
        (json!({"echo": true, "suffix": "x"}), 400, "echo"),
        (json!({"best_of": 3}), 400, "best_of"),
        (json!({"logprobs": 21}), 422, "logprobs"),
        (json!({"logprobs": true}), 400, "logprobs"),
        (json!({"max_tokens": 0}), 400, "max_tokens"),
        (json!({"max_tokens": "many"}), 400, "max_tokens"),
        (json!({"model": "davinci"}), 404, "model"),
        (json!({"prompt": "1 ".repeat(1500)}), 400, "prompt"),
    ];
    for (more, status, param) in cases {
        run(async {
            let said = post(&app(&["x"]), PATH, body(more.clone())).await;
            assert!(said.status.is_client_error(), "{more}: {}", said.text());
            let (got, field, message) = said.error();
            assert_eq!((got, field.as_deref()), (status, Some(param)), "{more}: {message}");
        });
    }
}

#[test]
fn unknown_fields_are_warned_about() {
    run(async {
        let said = post(&app(&["x"]), PATH, body(json!({"messages": [], "user": "me"}))).await;
        assert_eq!(said.header("x-fathom-warning"), Some("unknown fields: messages"));
        assert_eq!(said.json()["warnings"][0], "unknown fields: messages");
    });
}
