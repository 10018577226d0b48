//! Claims about keys, money and numbers through the whole server.

use crate::app::Shared;
use crate::auth::{Keys, read_keys};
use crate::store::{Currency, Money, NewKey, PriceRow, Prices, Rate, Store};
use crate::testing::{Said, ScriptedEngine, Stage, ask, get, post, run, send};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use std::sync::Arc;

/// A server that wants keys, with prices of 1 per million of all tokens.
fn guarded(answers: &[&str]) -> Shared {
    guarded_with_engine(answers).0
}

fn guarded_with_engine(answers: &[&str]) -> (Shared, Arc<ScriptedEngine>) {
    let store = Store::in_memory().unwrap();
    let rate = Rate::parse("1").unwrap();
    let prices = Prices { input: rate, cached: rate, output: rate };
    let row = PriceRow { model: None, currency: Currency::default(), prices };
    store.set_prices(&row).unwrap();
    let from_store = |settings: &mut crate::app::Settings| settings.keys.from_store = true;
    Stage::new().answers(answers).settings(from_store).store(store).both()
}

fn add_key(app: &Shared, name: &str, balance: Option<&str>) -> String {
    let balance = balance.map(|sum| Money::parse(sum).unwrap());
    app.store.add_key(&NewKey { name, balance, ..NewKey::default() }).unwrap().1
}

fn request(method: &str, path: &str, secret: &str, body: &Value) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {secret}"));
    request.body(Body::from(body.to_string())).unwrap()
}

async fn chat(app: &Shared, secret: &str) -> Said {
    let messages = json!([{"role": "user", "content": "Hello there"}]);
    let body = json!({"model": "tiny", "messages": messages, "stream": true});
    ask(app, request("POST", "/v1/chat/completions", secret, &body)).await
}

async fn balance(app: &Shared, secret: &str) -> Value {
    ask(app, request("GET", "/user/balance", secret, &Value::Null)).await.json()
}

#[test]
fn an_answer_is_paid_when_it_ends() {
    run(async {
        let app = guarded(&["the answer is here."]);
        let secret = add_key(&app, "ann", Some("5"));
        let before = balance(&app, &secret).await;
        assert_eq!(before["balance_infos"][0]["total_balance"], "5.00");
        assert_eq!(chat(&app, &secret).await.status, 200);
        let rows = app.store.usage(0).unwrap();
        assert_eq!((rows.len(), rows[0].key.as_deref(), rows[0].n_answers), (1, Some("ann"), 1));
        let n_tokens = rows[0].cache_miss_tokens + rows[0].completion_tokens;
        assert!(rows[0].cache_miss_tokens > 0 && rows[0].completion_tokens > 0);
        assert_eq!(rows[0].cost.parts(), n_tokens * 1_000_000);
        assert_eq!(balance(&app, &secret).await["balance_infos"][0]["total_balance"], "4.99");
        let text = get_with(&app, "/metrics", &secret).await;
        let counted = format!("kind=\"prompt_cache_miss\"}} {}\n", rows[0].cache_miss_tokens);
        assert!(text.contains(&counted), "{text}");
        let line = "fathom_requests_total{route=\"/chat/completions\",status=\"200\"} 1\n";
        assert!(text.contains(line) && text.contains("fathom_requests_in_flight 1\n"), "{text}");
    });
}

async fn get_with(app: &Shared, path: &str, secret: &str) -> String {
    ask(app, request("GET", path, secret, &Value::Null)).await.text().to_owned()
}

#[test]
fn a_spent_balance_and_a_missing_key_are_told_in_both_protocols() {
    run(async {
        let app = guarded(&["the answer is here."]);
        let secret = add_key(&app, "ann", Some("0.000001"));
        assert_eq!(chat(&app, &secret).await.status, 200);
        let refused = chat(&app, &secret).await;
        assert_eq!(refused.error().0, 402);
        assert_eq!(refused.json()["error"]["code"], "insufficient_balance");
        let spent = balance(&app, &secret).await;
        assert_eq!(spent["is_available"], false);
        assert_eq!(spent["balance_infos"].as_array().unwrap().len(), 1);
        let refused = get(&app, "/v1/models").await;
        assert_eq!((refused.error().0, refused.header("www-authenticate")), (401, Some("Bearer")));
        let body = json!({"model": "tiny", "max_tokens": 5, "messages": []});
        let refused = post(&app, "/v1/messages", body).await;
        assert_eq!(refused.status, 401);
        let told = refused.json();
        assert_eq!(told["type"], "error");
        assert_eq!(told["error"]["type"], "authentication_error");
    });
}

#[test]
fn without_keys_there_is_no_balance_and_nobody_is_refused() {
    run(async {
        let app = Stage::new().answers(&["the answer"]).app();
        for path in ["/user/balance", "/v1/user/balance"] {
            let expected = json!({"is_available": true, "balance_infos": []});
            assert_eq!(get(&app, path).await.json(), expected);
        }
        let info = get(&app, "/api/info").await.json();
        assert_eq!((&info["needs_key"], &info["model"]), (&json!(false), &json!("tiny")));
        assert_eq!((&info["thinking"], &info["context_tokens"]), (&json!("never"), &json!(2048)));
        assert_eq!(get(&app, "/metrics").await.status, 200);
        assert_eq!(get(&app, "/api/conversations").await.json(), json!([]));
    });
}

#[test]
fn whoever_shows_no_key_learns_that_one_is_needed_and_nothing_else() {
    run(async {
        let statics = read_keys("a-key-of-ours").unwrap();
        let keys = Keys { statics, from_store: false };
        let app = Stage::new().settings(|settings| settings.keys = keys).app();
        let info = get(&app, "/api/info").await.json();
        assert_eq!((&info["needs_key"], &info["key_accepted"]), (&json!(true), &json!(false)));
        assert_eq!(info.get("model"), None);
        let info = request("GET", "/api/info", "a-key-of-ours", &Value::Null);
        assert_eq!(ask(&app, info).await.json()["model"], "tiny");
        for path in ["/metrics", "/user/balance", "/api/conversations"] {
            assert_eq!(get(&app, path).await.status, 401, "{path}");
        }
    });
}

#[test]
fn people_do_not_share_cached_prompts_or_conversations() {
    run(async {
        let (app, engine) = guarded_with_engine(&["the answer is here."]);
        let (ann, bob) = (add_key(&app, "ann", None), add_key(&app, "bob", None));
        let made = request("POST", "/api/conversations", &ann, &json!({"title": "mine"}));
        assert_eq!(ask(&app, made).await.status, 201);
        let list = |secret: &str| request("GET", "/api/conversations", secret, &Value::Null);
        assert_eq!(ask(&app, list(&ann)).await.json()[0]["title"], "mine");
        assert_eq!(ask(&app, list(&bob)).await.json(), json!([]));
        for secret in [&ann, &bob, &ann] {
            assert_eq!(chat(&app, secret).await.status, 200);
        }
        let owners = [0, 1, 2].map(|idx| engine.job(idx).owner);
        assert!(owners[0] == owners[2] && owners[0] != owners[1] && !owners.contains(&0));
    });
}

#[test]
fn an_answer_that_nobody_reads_is_counted_and_paid() {
    run(async {
        let app = guarded(&["the answer is here."]);
        let secret = add_key(&app, "ann", Some("5"));
        let messages = json!([{"role": "user", "content": "Hello there"}]);
        let body = json!({"model": "tiny", "messages": messages, "stream": true});
        let response = send(&app, request("POST", "/chat/completions", &secret, &body)).await;
        drop(response);
        let text = get_with(&app, "/metrics", &secret).await;
        assert!(text.contains("fathom_requests_in_flight 1\n"), "only this one: {text}");
    });
}
