//! Web pages of other origins: refused, unless the settings name their origin.
//!
//! A browser sends a page's requests to any server, this one too, and tells the page's origin with
//! them. Whoever is not named in [`Settings::origins`](crate::app::Settings::origins) is refused
//! before anything is done, so no page can make this server work behind its owner's back. Programs
//! that are no browsers send no origin.

use crate::app::Shared;
use crate::protocol::warnings;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What pages of other origins may read of a response's head.
const EXPOSED: &str = "retry-after, x-fathom-warning, x-request-id";
/// How long a browser may remember what is allowed, in seconds.
const MAX_AGE: &str = "600";
const PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// Refuses foreign pages, answers a browser's question of what is allowed, and says so on responses.
pub(crate) async fn check(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return next.run(request).await;
    };
    let is_named = is_allowed(&app.settings.origins, &origin);
    if !is_named && !is_own(request.headers(), &origin) {
        return foreign(&origin).into_response();
    }
    let asks_first = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match asks_first {
        true => preflight(request.headers()),
        false => next.run(request).await,
    };
    if is_named {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    debug_assert!(EXPOSED.contains(warnings::HEADER.as_str()));
    response
}

fn is_allowed(origins: &[String], origin: &HeaderValue) -> bool {
    origins.iter().any(|known| known == "*" || known.as_bytes() == origin.as_bytes())
}

/// Whether a page came from this very server, under the name by which it is asked now.
fn is_own(headers: &HeaderMap, origin: &HeaderValue) -> bool {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let origin = origin.as_bytes();
    let of_origin = origin.strip_prefix(b"http://").or(origin.strip_prefix(b"https://"));
    host.is_some() && host == of_origin
}

fn preflight(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let allowed = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
    allowed.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        allowed.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    if headers.contains_key(PRIVATE_NETWORK) {
        allowed.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    allowed.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    response
}

fn foreign(origin: &HeaderValue) -> Refusal {
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let message = format!(
        "pages of `{origin}` may not ask this server\n\
         hint: whoever runs it can allow them by `--cors {origin}`"
    );
    Refusal::new(StatusCode::FORBIDDEN, "permission_error", message).code("origin_not_allowed")
}

#[cfg(test)]
mod tests;
