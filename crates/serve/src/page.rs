//! The chat page: files that are part of the program, served as they are.
//!
//! The page may load nothing from anywhere else, and run no script that is not one of these files.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::OnceLock;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// What the browser lets the page do. A model's answer is never markup here, and if it were, it could load
/// and run nothing. Styles that scripts set on elements are not inline styles in this sense.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const INDEX: Asset = asset("index.html", HTML, include_str!("../web/index.html"));

const ASSETS: &[Asset] = &[
    asset("icon.svg", PICTURE, include_str!("../web/icon.svg")),
    asset("explain.css", STYLE, include_str!("../web/explain.css")),
    asset("frame.css", STYLE, include_str!("../web/frame.css")),
    asset("markdown.css", STYLE, include_str!("../web/markdown.css")),
    asset("message.css", STYLE, include_str!("../web/message.css")),
    asset("panel.css", STYLE, include_str!("../web/panel.css")),
    asset("theme.css", STYLE, include_str!("../web/theme.css")),
    asset("answering.js", SCRIPT, include_str!("../web/answering.js")),
    asset("api.js", SCRIPT, include_str!("../web/api.js")),
    asset("app.js", SCRIPT, include_str!("../web/app.js")),
    asset("attach.js", SCRIPT, include_str!("../web/attach.js")),
    asset("chat.js", SCRIPT, include_str!("../web/chat.js")),
    asset("composer.js", SCRIPT, include_str!("../web/composer.js")),
    asset("connection.js", SCRIPT, include_str!("../web/connection.js")),
    asset("dom.js", SCRIPT, include_str!("../web/dom.js")),
    asset("draft.js", SCRIPT, include_str!("../web/draft.js")),
    asset("early.js", SCRIPT, include_str!("../web/early.js")),
    asset("experts.js", SCRIPT, include_str!("../web/experts.js")),
    asset("explain.js", SCRIPT, include_str!("../web/explain.js")),
    asset("highlight.js", SCRIPT, include_str!("../web/highlight.js")),
    asset("inline.js", SCRIPT, include_str!("../web/inline.js")),
    asset("languages.js", SCRIPT, include_str!("../web/languages.js")),
    asset("markdown.js", SCRIPT, include_str!("../web/markdown.js")),
    asset("math.js", SCRIPT, include_str!("../web/math.js")),
    asset("math_nodes.js", SCRIPT, include_str!("../web/math_nodes.js")),
    asset("math_table.js", SCRIPT, include_str!("../web/math_table.js")),
    asset("message.js", SCRIPT, include_str!("../web/message.js")),
    asset("notices.js", SCRIPT, include_str!("../web/notices.js")),
    asset("render.js", SCRIPT, include_str!("../web/render.js")),
    asset("scroll.js", SCRIPT, include_str!("../web/scroll.js")),
    asset("settings.js", SCRIPT, include_str!("../web/settings.js")),
    asset("shelf.js", SCRIPT, include_str!("../web/shelf.js")),
    asset("sidebar.js", SCRIPT, include_str!("../web/sidebar.js")),
    asset("sse.js", SCRIPT, include_str!("../web/sse.js")),
    asset("strings.js", SCRIPT, include_str!("../web/strings.js")),
    asset("symbols.js", SCRIPT, include_str!("../web/symbols.js")),
    asset("theme.js", SCRIPT, include_str!("../web/theme.js")),
    asset("thread.js", SCRIPT, include_str!("../web/thread.js")),
    asset("tree.js", SCRIPT, include_str!("../web/tree.js")),
];

/// `GET /` and `GET /assets/{name}`, for any state: the page asks the API for everything it knows.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/assets/{name}", get(file))
}

/// One file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const fn asset(name: &'static str, kind: &'static str, text: &'static str) -> Asset {
    Asset { name, kind, text }
}

async fn index(headers: HeaderMap) -> Response {
    answer(&INDEX, &headers)
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => answer(asset, &headers),
        None => (StatusCode::NOT_FOUND, "the page has no such file\n").into_response(),
    }
}

fn answer(asset: &Asset, request: &HeaderMap) -> Response {
    let tag = tag();
    let known = request.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known.filter_map(|value| value.to_str().ok()).any(|value| names(value, tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    for (name, value) in [
        // Asked for each time, so that all files are of one version; answered with 304, which is quick.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a list of entity tags holds ours.
fn names(list: &str, tag: &str) -> bool {
    list.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

/// One tag for the whole page: files of two versions do not fit together.
fn tag() -> &'static str {
    static TAG: OnceLock<String> = OnceLock::new();
    TAG.get_or_init(|| {
        let mut hash = Sha256::new();
        for asset in ASSETS.iter().chain([&INDEX]) {
            hash.update(asset.name);
            hash.update(asset.text);
        }
        let mut tag = String::from("\"");
        for byte in &hash.finalize()[..12] {
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        tag
    })
}

#[cfg(test)]
mod tests;
