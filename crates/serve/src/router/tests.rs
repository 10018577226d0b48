//! Paths, methods, and what all responses carry.

use crate::testing::{Stage, app, get, post, post_text, run};
use fathom_text::ChatFormat;
use serde_json::json;
use std::sync::{Arc, Mutex};

#[test]
fn models_are_listed_under_all_their_names() {
    run(async {
        for path in ["/models", "/v1/models"] {
            let got = get(&app(&[]), path).await.json();
            assert_eq!(got["object"], "list");
            let ids: Vec<_> =
                got["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
            assert_eq!(ids, ["tiny", "deepseek-chat"], "{path}");
            assert_eq!(got["data"][0]["object"], "model");
        }
        let thinking = Stage::new().format(ChatFormat::R1).app();
        let got = get(&thinking, "/models").await.json();
        assert_eq!(got["data"][2]["id"], "deepseek-reasoner");
    });
}

#[test]
fn a_model_is_found_by_its_name_alone() {
    run(async {
        let app = app(&[]);
        assert_eq!(get(&app, "/v1/models/tiny").await.json()["id"], "tiny");
        let said = get(&app, "/v1/models/org/other").await;
        assert_eq!(said.error().0, 404);
        assert_eq!(said.json()["error"]["code"], "model_not_found");
    });
}

#[test]
fn health_tells_how_much_is_to_do() {
    run(async {
        let got = get(&app(&[]), "/health").await.json();
        assert_eq!(got, json!({"status": "ok", "running": 0, "waiting": 0}));
    });
}

#[test]
fn paths_and_methods_that_are_not_there_are_refused_in_the_shape_of_openai() {
    run(async {
        let app = app(&[]);
        let said = get(&app, "/v1/nothing").await;
        assert_eq!(said.error().0, 404);
        assert_eq!(said.json()["error"]["code"], "unknown_url");
        let said = get(&app, "/v1/chat/completions").await;
        assert_eq!(said.error().0, 405, "{}", said.text());
        assert!(said.header("allow").unwrap().contains("POST"));
        assert_eq!(post(&app, "/v1/models", json!({})).await.error().0, 405);
    });
}

#[test]
fn responses_keep_browsers_careful() {
    run(async {
        let said = get(&app(&[]), "/v1/models").await;
        assert_eq!(said.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(said.header("access-control-allow-origin"), None);
        assert!(said.header("x-request-id").unwrap().starts_with("req_"));
    });
}

#[test]
fn the_log_tells_of_requests_and_not_of_prompts_unless_asked() {
    let logged = |log_prompts: bool| {
        let lines = Arc::new(Mutex::new(Vec::<String>::new()));
        let heard = lines.clone();
        let stage = Stage::new().answers(&["x"]).settings(|settings| {
            settings.log = Some(Box::new(move |line| heard.lock().unwrap().push(line.to_owned())));
            settings.log_prompts = log_prompts;
        });
        let app = stage.app();
        run(async {
            let body =
                json!({"model": "tiny", "messages": [{"role": "user", "content": "my secret"}]});
            post(&app, "/v1/chat/completions", body).await;
            post_text(&app, "/v1/chat/completions?a=%0Ab", "my secret").await;
        });
        let lines = lines.lock().unwrap().join("\n");
        assert!(lines.contains("POST /v1/chat/completions 200"), "{lines}");
        lines
    };
    assert!(!logged(false).contains("secret"));
    assert!(logged(true).contains("my secret"));
}
