//! Refusals in Anthropic's shape, wherever on the way they were made.

use crate::refusal::Refusal;
use crate::unique;
use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// By which clients name a request when they ask for help.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The body of a refusal. The shape has no place for the field, so the message names it.
pub(super) fn body(refusal: &Refusal) -> Value {
    let kind = match refusal.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::PAYMENT_REQUIRED => "billing_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    };
    let message = match refusal.param.as_deref().map(in_their_words) {
        Some(param) if !param.is_empty() && !refusal.message.contains(&param) => {
            format!("{param}: {}", refusal.message)
        }
        _ => refusal.message.clone(),
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

/// Paths as this interface calls them.
fn in_their_words(param: &str) -> String {
    let param = param.replace(".function.parameters", ".input_schema");
    match param.strip_prefix("response_format.json_schema.") {
        Some(rest) => format!("output_config.format.{rest}"),
        None => param,
    }
}

/// Gives responses of these routes Anthropic's shape, also those that say no before a route is reached.
pub async fn in_shape(request: Request, next: Next) -> Response {
    let is_ours = is_ours(request.uri().path());
    let mut response = next.run(request).await;
    if !is_ours {
        return response;
    }
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let mut shaped = (response.status(), Json(body(&refusal))).into_response();
        for (name, value) in response.headers() {
            if !shaped.headers().contains_key(name) && name != "content-length" {
                shaped.headers_mut().insert(name, value.clone());
            }
        }
        response = shaped;
    }
    let id = HeaderValue::from_str(&unique::name("req_"));
    response.headers_mut().extend(id.ok().map(|id| (REQUEST_ID, id)));
    response
}

fn is_ours(path: &str) -> bool {
    let bare = path.strip_prefix("/anthropic").unwrap_or(path);
    bare == "/v1/messages" || bare.starts_with("/v1/messages/")
}
