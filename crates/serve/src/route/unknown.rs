//! Paths that are not there, and methods that a path does not have.

use crate::refusal::Refusal;
use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode};

/// 404 in OpenAI's shape.
pub(crate) async fn not_found(OriginalUri(uri): OriginalUri) -> Refusal {
    let path = uri.path();
    let message = format!(
        "there is no `{path}` here\n\
         hint: `/v1/chat/completions`, `/v1/completions`, `/v1/models` and `/` are"
    );
    Refusal::not_found(message).code("unknown_url")
}

/// 405 in OpenAI's shape.
pub(crate) async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Refusal {
    let message = format!("`{}` cannot be asked with {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
        .code("method_not_allowed")
}
