//! Claims about the door: who passes, as whom, how often, and what the others are told.

use super::*;
use crate::answer::Usage;
use crate::store::{KeyLimits, ManualClock, Money, NewKey, PriceRow, Prices, Rate};
use axum::Router;
use axum::body::Body;
use axum::http::Request as HttpRequest;
use axum::routing::any;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// A door before a route that tells who passed, or streams without end.
struct Door {
    store: Arc<Store>,
    router: Router,
}

impl Door {
    fn new(store: Store, keys: Keys) -> Door {
        let store = Arc::new(store);
        let held = store.clone();
        let layer = axum::middleware::from_fn(move |request: Request, next: Next| {
            let (keys, store) = (keys.clone(), held.clone());
            async move { pass(&keys, &store, request, next).await }
        });
        async fn who(caller: Option<axum::Extension<Caller>>) -> String {
            caller.map_or("nobody".into(), |caller| format!("{:?} {}", caller.key_id, caller.owner))
        }
        async fn endless() -> Body {
            let word = || Ok::<_, std::convert::Infallible>("word");
            Body::from_stream(futures_util::stream::repeat_with(word))
        }
        let router = Router::new().route("/endless", any(endless)).fallback(who).layer(layer);
        Door { store, router }
    }

    async fn ask(&self, method: &str, path: &str, header: Option<(&str, &str)>) -> Response {
        let mut request = HttpRequest::builder().method(method).uri(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn post(&self, secret: &str) -> Response {
        let bearer = format!("Bearer {secret}");
        self.ask("POST", "/chat/completions", Some(("authorization", &bearer))).await
    }
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, serde_json::from_str(&text(response).await).unwrap())
}

fn from_store() -> Keys {
    Keys { statics: Vec::new(), from_store: true }
}

fn memory() -> Store {
    Store::in_memory().unwrap()
}

#[tokio::test]
async fn where_no_key_is_asked_for_everybody_is_the_same() {
    for keys in [Keys::default(), from_store()] {
        let door = Door::new(memory(), keys);
        for header in [None, Some(("authorization", "Bearer anything")), Some(("x-api-key", "x"))] {
            let response = door.ask("POST", "/chat/completions", header).await;
            assert_eq!(text(response).await, "None 0");
        }
    }
}

#[tokio::test]
async fn the_first_key_closes_the_door_and_a_revoked_one_is_refused_at_once() {
    let door = Door::new(memory(), from_store());
    assert_eq!(door.post("x").await.status(), 200);
    let (key, secret) = door.store.add_key(&NewKey { name: "ann", ..NewKey::default() }).unwrap();
    let expected = format!("Some({}) {}", key.id, key.owner);
    assert_eq!(text(door.post(&secret).await).await, expected);
    let lower = format!("bearer  {secret} ");
    for header in [("authorization", lower.as_str()), ("x-api-key", secret.as_str())] {
        assert_eq!(text(door.ask("GET", "/models", Some(header)).await).await, expected);
    }
    let (status, body) = told(door.ask("GET", "/models", None).await).await;
    assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")));
    assert!(body["error"]["message"].as_str().unwrap().contains("\nhint: send `Authorization"));
    door.store.revoke_key("ann").unwrap();
    let response = door.post(&secret).await;
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    let (status, body) = told(response).await;
    assert_eq!((status, &body["error"]["type"]), (401, &json!("authentication_error")));
    assert!(!body.to_string().contains(&secret), "keys are not repeated");
}

#[tokio::test]
async fn hostile_headers_are_just_wrong_keys() {
    let door = Door::new(memory(), from_store());
    let (_, secret) = door.store.add_key(&NewKey { name: "ann", ..NewKey::default() }).unwrap();
    let long = format!("Bearer {}", "x".repeat(100_000));
    let basic = format!("Basic {secret}");
    let twice = format!("Bearer {secret} {secret}");
    let cut = format!("Bearer {}", &secret[..secret.len() - 1]);
    let prefix = format!("Bearer {}", &secret[..16]);
    for value in
        ["", "Bearer", "Bearer ", "Bearer ' OR 1=1 --", &long, &basic, &twice, &cut, &prefix]
    {
        let response = door.ask("POST", "/completions", Some(("authorization", value))).await;
        assert_eq!(response.status(), 401, "{value:.40}");
    }
    let mut request = HttpRequest::builder().uri("/models").body(Body::empty()).unwrap();
    let bytes = HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap();
    request.headers_mut().insert("authorization", bytes);
    assert_eq!(door.router.clone().oneshot(request).await.unwrap().status(), 401);
}

#[tokio::test]
async fn keys_of_a_file_pass_without_limits() {
    let keys = Keys { statics: read_keys("first-key\nsecond-key").unwrap(), from_store: false };
    let owners = [keys.statics[0].owner(), keys.statics[1].owner()];
    let door = Door::new(memory(), keys);
    assert_eq!(text(door.post("first-key").await).await, format!("None {}", owners[0]));
    assert_eq!(text(door.post("second-key").await).await, format!("None {}", owners[1]));
    assert_eq!(door.post("third-key").await.status(), 401);
    let (_, secret) = door.store.add_key(&NewKey { name: "ann", ..NewKey::default() }).unwrap();
    assert_eq!(door.post(&secret).await.status(), 401, "the store was not asked for");
}

#[tokio::test]
async fn the_page_learns_that_it_needs_a_key() {
    let door = Door::new(memory(), from_store());
    let (key, secret) = door.store.add_key(&NewKey { name: "ann", ..NewKey::default() }).unwrap();
    assert_eq!(text(door.ask("GET", "/api/info", None).await).await, "nobody");
    let shown = Some(("x-api-key", secret.as_str()));
    let expected = format!("Some({}) {}", key.id, key.owner);
    assert_eq!(text(door.ask("GET", "/api/info", shown).await).await, expected);
    assert_eq!(door.ask("GET", "/api/information", None).await.status(), 401);
}

#[tokio::test]
async fn a_spent_balance_is_402_for_answers_only() {
    let door = Door::new(memory(), from_store());
    let one = Money::parse("0.000001").unwrap();
    let new = NewKey { name: "ann", balance: Some(one), ..NewKey::default() };
    let (key, secret) = door.store.add_key(&new).unwrap();
    let rate = Rate::parse("1").unwrap();
    let prices = Prices { input: rate, cached: rate, output: rate };
    let row = PriceRow { model: None, currency: key.currency, prices };
    door.store.set_prices(&row).unwrap();
    assert_eq!(door.post(&secret).await.status(), 200);
    let caller = Caller { key_id: Some(key.id), owner: key.owner };
    let usage = Usage { completion_tokens: 1, ..Usage::default() };
    door.store.charge(caller, &usage, "m").unwrap();
    let (status, body) = told(door.post(&secret).await).await;
    assert_eq!((status, &body["error"]["code"]), (402, &json!("insufficient_balance")));
    let header = Some(("x-api-key", secret.as_str()));
    for (method, path, status) in [
        ("GET", "/user/balance", 200),
        ("POST", "/tokenize", 200),
        ("POST", "/v1/messages/count_tokens", 200),
        ("POST", "/api/conversations", 200),
        ("POST", "/anthropic/v1/messages", 402),
        ("POST", "/beta/completions", 402),
    ] {
        assert_eq!(door.ask(method, path, header).await.status(), status, "{path}");
    }
    door.store.top_up("ann", one, None).unwrap();
    assert_eq!(door.post(&secret).await.status(), 200);
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let clock = Arc::new(ManualClock::default());
    let door = Door::new(memory().with_clock(clock.clone()), from_store());
    let limits = KeyLimits { requests_per_minute: Some(3), ..KeyLimits::default() };
    let (_, secret) =
        door.store.add_key(&NewKey { name: "ann", limits, ..NewKey::default() }).unwrap();
    for _ in 0..3 {
        assert_eq!(door.post(&secret).await.status(), 200);
    }
    let response = door.post(&secret).await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "20");
    let (status, body) = told(response).await;
    assert_eq!((status, &body["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    let header = Some(("x-api-key", secret.as_str()));
    assert_eq!(door.ask("GET", "/models", header).await.status(), 200, "looking is free");
    clock.advance(Duration::from_millis(19_999));
    assert_eq!(door.post(&secret).await.status(), 429);
    clock.advance(Duration::from_millis(1));
    assert_eq!(door.post(&secret).await.status(), 200);
}

#[tokio::test]
async fn a_place_is_free_again_when_the_answer_ends_or_its_reader_leaves() {
    let door = Door::new(memory(), from_store());
    let limits = KeyLimits { concurrent: Some(2), ..KeyLimits::default() };
    let (_, secret) =
        door.store.add_key(&NewKey { name: "ann", limits, ..NewKey::default() }).unwrap();
    let header = Some(("x-api-key", secret.as_str()));
    let first = door.ask("POST", "/endless", header).await;
    let second = door.post(&secret).await;
    assert_eq!(door.post(&secret).await.status(), 429);
    let read = text(second).await;
    assert!(read.starts_with("Some("), "{read}");
    // A place is free now: taken, and given back by the end of a body that is still held.
    let mut third = door.post(&secret).await.into_body();
    while third.frame().await.is_some() {}
    assert_eq!(door.post(&secret).await.status(), 200);
    // A reader that leaves in the middle.
    let mut stream = first.into_body().into_data_stream();
    assert!(stream.next().await.is_some());
    let other = door.ask("POST", "/endless", header).await;
    assert_eq!(door.post(&secret).await.status(), 429);
    drop(stream);
    let last = door.post(&secret).await;
    assert_eq!(last.status(), 200);
    drop((other, last, third));
}

#[tokio::test]
async fn a_request_that_is_dropped_before_its_answer_frees_its_place() {
    let door = Door::new(memory(), from_store());
    let limits = KeyLimits { concurrent: Some(1), ..KeyLimits::default() };
    let (key, secret) =
        door.store.add_key(&NewKey { name: "ann", limits, ..NewKey::default() }).unwrap();
    let permit = door.store.admit(&key).unwrap();
    assert_eq!(door.post(&secret).await.status(), 429);
    drop(permit);
    assert_eq!(door.post(&secret).await.status(), 200);
}
