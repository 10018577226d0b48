//! The page is whole, is served as what it is, and holds nothing that could run a model's words.

use super::*;
use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use std::collections::BTreeSet;
use std::{fs, path};
use tower::ServiceExt;

async fn get(path: &str, known: Option<&str>) -> Response {
    let mut request = Request::builder().method(Method::GET).uri(path);
    if let Some(tag) = known {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    let request = request.body(Body::empty()).unwrap();
    routes::<()>().with_state(()).oneshot(request).await.unwrap()
}

fn text(response: &Response, name: header::HeaderName) -> &str {
    response.headers().get(name).unwrap().to_str().unwrap()
}

/// Names of files that a text of the page asks for: `"assets/x"`, `'./x'`.
fn wanted(asset: &Asset) -> BTreeSet<&'static str> {
    let starts = ["\"assets/", "from './"];
    let mut found = BTreeSet::new();
    for start in starts {
        for rest in asset.text.split(start).skip(1) {
            found.insert(rest.split(['"', '\'']).next().unwrap());
        }
    }
    found
}

#[tokio::test]
async fn every_file_is_served_as_what_it_is() {
    for asset in ASSETS {
        let response = get(&format!("/assets/{}", asset.name), None).await;
        assert_eq!(response.status(), StatusCode::OK, "{}", asset.name);
        let kind = match asset.name.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            other => panic!("{other} has no type"),
        };
        assert_eq!(text(&response, header::CONTENT_TYPE), kind, "{}", asset.name);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, asset.text.as_bytes(), "{}", asset.name);
    }
    let response = get("/", None).await;
    assert_eq!(text(&response, header::CONTENT_TYPE), "text/html; charset=utf-8");
    assert_eq!(get("/assets/none.js", None).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(get("/assets/..%2fsrc%2fpage.rs", None).await.status(), StatusCode::NOT_FOUND);
}

#[test]
fn what_the_files_ask_for_is_there() {
    let names: BTreeSet<&str> = ASSETS.iter().map(|asset| asset.name).collect();
    assert_eq!(names.len(), ASSETS.len(), "a file stands twice");
    let mut reached = BTreeSet::new();
    for asset in ASSETS.iter().chain([&INDEX]) {
        for name in wanted(asset) {
            assert!(names.contains(name), "{} asks for {name}", asset.name);
            reached.insert(name);
        }
    }
    assert_eq!(reached, names, "files that nothing asks for");
}

#[test]
fn every_file_of_the_folder_is_served() {
    let folder = path::Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            found.insert(entry.file_name().into_string().unwrap());
        }
    }
    let served = ASSETS.iter().chain([&INDEX]).map(|asset| asset.name.to_owned()).collect();
    assert_eq!(found, served);
}

#[test]
fn nothing_can_make_markup_or_code_of_text() {
    let banned = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
        "DOMParser",
        "setHTML",
        "createContextualFragment",
        "importScripts",
        "@import",
        "url(",
    ];
    for asset in ASSETS.iter().chain([&INDEX]) {
        for word in banned {
            assert!(!asset.text.contains(word), "{} holds `{word}`", asset.name);
        }
    }
    let page = INDEX.text;
    assert!(!page.contains("<style") && !page.contains(" style="), "styles stand in files");
    for handler in [" onclick", " onload", " onerror", " onsubmit", "javascript:"] {
        assert!(!page.contains(handler), "{handler}");
    }
    let scripts = page.matches("<script").count();
    assert_eq!(scripts, page.matches("></script>").count(), "scripts stand in files");
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    for asset in ASSETS.iter().chain([&INDEX]) {
        // Names of XML vocabularies look like addresses; nobody fetches them.
        let text = asset.text.replace("http://www.w3.org/", "");
        for scheme in ["http://", "https://", "ws://", "wss://", "\"//", "'//'+"] {
            assert!(!text.contains(scheme), "{} holds `{scheme}`", asset.name);
        }
    }
}

#[tokio::test]
async fn the_browser_is_told_to_be_strict() {
    for path in ["/", "/assets/app.js", "/assets/icon.svg"] {
        let response = get(path, None).await;
        let policy = text(&response, header::CONTENT_SECURITY_POLICY);
        for rule in [
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{path}: {rule}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(text(&response, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(text(&response, header::CACHE_CONTROL), "no-cache");
    }
}

#[tokio::test]
async fn what_the_browser_has_is_not_sent_again() {
    let first = get("/assets/app.js", None).await;
    let tag = text(&first, header::ETAG).to_owned();
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
        let again = get("/assets/app.js", Some(&known)).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert!(again.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert_eq!(get("/", Some("\"other\"")).await.status(), StatusCode::OK);
}
