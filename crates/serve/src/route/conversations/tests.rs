//! Claims about the page's routes: strict bodies, clear refusals, nothing of other people's.

use super::*;
use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt;
use tower::ServiceExt;

struct Page {
    router: Router,
    owner: u64,
}

impl Page {
    fn new() -> Page {
        let store = Arc::new(Store::in_memory().unwrap());
        Page { router: routes().with_state(store), owner: 1 }
    }

    fn of(&self, owner: u64) -> Page {
        Page { router: self.router.clone(), owner }
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: String) -> Response {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(Caller { key_id: None, owner: self.owner });
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let response = self.send(method, path, "application/json", body.to_string()).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, Value::Null).await
    }

    /// A conversation with a question and two answers; returns its path.
    async fn filled(&self) -> String {
        let (status, made) = self.ask("POST", "/api/conversations", json!({"title": "Sums"})).await;
        assert_eq!(status, 201, "{made}");
        let path = format!("/api/conversations/{}", made["id"].as_str().unwrap());
        for (id, parent, role, content) in [
            ("q", None, "user", "1 + 1?"),
            ("a1", Some("q"), "assistant", "Two."),
            ("a2", Some("q"), "assistant", "<script>alert(1)</script>"),
        ] {
            let body = json!({"parent": parent, "role": role, "content": content});
            let (status, put) = self.ask("PUT", &format!("{path}/messages/{id}"), body).await;
            assert_eq!(status, 200, "{put}");
        }
        path
    }
}

#[tokio::test]
async fn a_conversation_goes_through_its_whole_life() {
    let page = Page::new();
    let path = page.filled().await;
    let body = json!({"parent": "a1", "role": "user", "content": "Sure?", "reasoning": null,
        "meta": {"files": [1, 2.5, "x"]}});
    let (_, put) = page.ask("PUT", &format!("{path}/messages/q2"), body).await;
    assert_eq!(put["meta"]["files"], json!([1, 2.5, "x"]));
    let (status, changed) = page.ask("PATCH", &path, json!({"head": "q2"})).await;
    assert_eq!((status, &changed["title"]), (200, &json!("Sums")));
    let (_, thread) = page.get(&path).await;
    assert_eq!(thread["head"], "q2");
    let ids: Vec<_> = thread["messages"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, ["q", "a1", "a2", "q2"]);
    assert_eq!(thread["messages"][0]["parent"], Value::Null);
    assert!(thread["messages"][0]["created_at"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(page.ask("PATCH", &path, json!({"title": "更多", "head": null})).await.0, 200);
    let (_, list) = page.get("/api/conversations?q=%E6%9B%B4").await;
    assert_eq!((list.as_array().unwrap().len(), &list[0]["title"]), (1, &json!("更多")));
    assert_eq!(page.get("/api/conversations?q=nothing").await.1, json!([]));
    assert_eq!(page.ask("DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(page.get(&path).await.0, 404);
    assert_eq!(page.get("/api/conversations").await.1, json!([]));
}

#[tokio::test]
async fn other_people_find_nothing() {
    let page = Page::new();
    let path = page.filled().await;
    let other = page.of(2);
    assert_eq!(other.get("/api/conversations").await.1, json!([]));
    let put = json!({"parent": null, "role": "user", "content": "x"});
    for (method, path, body) in [
        ("GET", path.clone(), Value::Null),
        ("PATCH", path.clone(), json!({"title": "x"})),
        ("DELETE", path.clone(), Value::Null),
        ("PUT", format!("{path}/messages/x"), put),
        ("GET", format!("{path}/export?format=markdown"), Value::Null),
    ] {
        let (status, told) = other.ask(method, &path, body).await;
        assert_eq!((status, &told["error"]["type"]), (404, &json!("not_found_error")), "{method}");
    }
    assert_eq!(page.get(&path).await.1["messages"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_wrong_body_names_the_field() {
    let page = Page::new();
    let path = page.filled().await;
    let message = format!("{path}/messages/new");
    let long = "x".repeat(301);
    let text = |content: Value| json!({"parent": null, "role": "user", "content": content});
    for (method, path, body, status, param, words) in [
        ("POST", "/api/conversations", json!({"titel": "x"}), 400, "titel", "expected `title`"),
        ("POST", "/api/conversations", json!({"title": 5}), 400, "title", "found a number"),
        ("POST", "/api/conversations", json!({"title": long}), 422, "title", "found 301"),
        ("POST", "/api/conversations", json!([]), 400, "body", "must be an object, found a list"),
        ("PATCH", &path, json!({}), 400, "body", "nothing to change"),
        ("PATCH", &path, json!({"head": "zz"}), 400, "head", "no message `zz`"),
        ("PATCH", &path, json!({"head": "../x"}), 400, "head", "letters, digits"),
        ("PUT", &message, text(json!(null)), 400, "content", "is missing"),
        ("PUT", &message, text(json!({"a": 1})), 400, "content", "found an object"),
        ("PUT", &message, json!({"role": "user", "content": ""}), 400, "parent", "is missing"),
        (
            "PUT",
            &message,
            json!({"parent": "nope", "role": "user", "content": ""}),
            400,
            "parent",
            "no message `nope`",
        ),
        (
            "PUT",
            &message,
            json!({"parent": null, "role": "root", "content": ""}),
            400,
            "role",
            "one of `user`",
        ),
        ("PUT", &format!("{path}/messages/a%20b"), text(json!("x")), 400, "id", "found \"a b\""),
        ("GET", "/api/conversations?q=a&q=b", Value::Null, 400, "q", "twice"),
        ("GET", "/api/conversations?limit=1", Value::Null, 400, "limit", "unknown field"),
        ("GET", &format!("{path}/export?format=pdf"), Value::Null, 400, "format", "`markdown`"),
    ] {
        let (found, told) = page.ask(method, path, body).await;
        let error = &told["error"];
        assert_eq!((found, &error["param"]), (status, &json!(param)), "{method} {path}: {told}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn a_body_must_be_json_of_a_sound_size() {
    let page = Page::new();
    let path = page.filled().await;
    let status = |method: &'static str, path: String, kind: &'static str, body: String| {
        let page = page.of(1);
        async move { page.send(method, &path, kind, body).await.status().as_u16() }
    };
    let all = || "/api/conversations".to_owned();
    assert_eq!(status("POST", all(), "text/plain", "{}".into()).await, 415);
    assert_eq!(status("POST", all(), "application/json; charset=utf-8", "{}".into()).await, 201);
    assert_eq!(status("POST", all(), "application/json", String::new()).await, 201);
    assert_eq!(status("POST", all(), "application/json", "{\"title\":".into()).await, 400);
    let deep = "[".repeat(100_000);
    assert_eq!(status("POST", all(), "application/json", deep).await, 400);
    let message =
        |n: usize| json!({"parent": null, "role": "user", "content": "x".repeat(n)}).to_string();
    let put = || format!("{path}/messages/large");
    let json = "application/json";
    assert_eq!(status("PUT", put(), json, message(MAX_MESSAGE_BYTES)).await, 200);
    assert_eq!(status("PUT", put(), json, message(MAX_MESSAGE_BYTES + 1)).await, 422);
    assert_eq!(status("PUT", put(), json, message(MAX_BODY_BYTES)).await, 413);
}

#[tokio::test]
async fn ids_from_nowhere_are_404() {
    let page = Page::new();
    page.filled().await;
    for id in ["x", "%27%20OR%201=1", "%25", "..%2f..", "%00", "%ff", &"f".repeat(5000)] {
        let (status, told) = page.get(&format!("/api/conversations/{id}")).await;
        assert_eq!((status, &told["error"]["type"]), (404, &json!("not_found_error")), "{id:.20}");
    }
}

#[tokio::test]
async fn an_export_is_a_file_with_a_safe_name() {
    let page = Page::new();
    let path = page.filled().await;
    page.ask("PATCH", &path, json!({"head": "a1", "title": "A \"b\"/../c\r\n"})).await;
    let markdown = format!("{path}/export?format=markdown");
    let response = page.send("GET", &markdown, "text/plain", String::new()).await;
    let place = response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().to_owned();
    assert_eq!(place, "attachment; filename=\"A-b-c.md\"");
    assert!(
        response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/markdown")
    );
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let expected = "# A \"b\"/../c\n\n## User\n\n1 + 1?\n\n## Assistant\n\nTwo.\n";
    assert_eq!(String::from_utf8(text.to_vec()).unwrap(), expected);
    let (status, exported) = page.get(&format!("{path}/export?format=json")).await;
    assert_eq!((status, exported["messages"].as_array().unwrap().len()), (200, 3));
    assert_eq!(exported, page.get(&path).await.1);
}
