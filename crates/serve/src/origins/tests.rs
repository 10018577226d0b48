//! Pages of other origins.

use crate::testing::{Said, Stage, ask, run};
use axum::body::Body;
use axum::http::{Method, Request};

async fn from_page(allowed: &[&str], method: Method, headers: &[(&str, &str)]) -> Said {
    let origins = allowed.iter().map(|origin| origin.to_string()).collect();
    let app = Stage::new().answers(&["x"]).settings(|settings| settings.origins = origins).app();
    let mut request = Request::builder().method(method).uri("/v1/models");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(&app, request.body(Body::empty()).unwrap()).await
}

#[test]
fn foreign_pages_are_refused_unless_they_are_named() {
    run(async {
        let page = [("origin", "https://evil.example"), ("host", "localhost:8000")];
        let said = from_page(&[], Method::GET, &page).await;
        assert_eq!(said.error().0, 403);
        assert_eq!(said.header("access-control-allow-origin"), None);
        let said = from_page(&["https://good.example"], Method::GET, &page).await;
        assert_eq!(said.error().0, 403);
        for allowed in ["https://evil.example", "*"] {
            let said = from_page(&[allowed], Method::GET, &page).await;
            assert_eq!(said.status, 200);
            assert_eq!(said.header("access-control-allow-origin"), Some("https://evil.example"));
            assert_eq!(said.header("vary"), Some("origin"));
        }
        let nobody = [("origin", "null"), ("host", "localhost:8000")];
        assert_eq!(from_page(&[], Method::GET, &nobody).await.status, 403);
    });
}

#[test]
fn the_servers_own_page_needs_no_permission() {
    run(async {
        let page = [("origin", "http://localhost:8000"), ("host", "localhost:8000")];
        assert_eq!(from_page(&[], Method::GET, &page).await.status, 200);
        let other_port = [("origin", "http://localhost:3000"), ("host", "localhost:8000")];
        assert_eq!(from_page(&[], Method::GET, &other_port).await.status, 403);
    });
}

#[test]
fn a_browser_that_asks_first_is_told_what_is_allowed() {
    run(async {
        let page = [
            ("origin", "https://good.example"),
            ("host", "localhost:8000"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization, content-type"),
        ];
        let said = from_page(&["https://good.example"], Method::OPTIONS, &page).await;
        assert_eq!(said.status, 204);
        assert_eq!(said.header("access-control-allow-origin"), Some("https://good.example"));
        assert!(said.header("access-control-allow-methods").unwrap().contains("POST"));
        let allowed = said.header("access-control-allow-headers");
        assert_eq!(allowed, Some("authorization, content-type"));
        assert_eq!(from_page(&[], Method::OPTIONS, &page).await.status, 403);
    });
}

#[test]
fn programs_that_are_no_browsers_send_no_origin_and_are_served() {
    run(async {
        assert_eq!(from_page(&[], Method::GET, &[("host", "localhost:8000")]).await.status, 200);
    });
}
