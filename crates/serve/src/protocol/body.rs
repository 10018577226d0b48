//! The body of a request: within its limits of size and time, and JSON.

use crate::app::Shared;
use crate::refusal::Refusal;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use fathom_text::chat::Json;
use futures_util::StreamExt;

/// The JSON of a body, keys in their order.
pub(crate) struct JsonBody(pub(crate) Json);

impl FromRequest<Shared> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Shared) -> Result<JsonBody, Refusal> {
        let (parts, body) = request.into_parts();
        let limit = app.settings.max_body_bytes;
        check_announced(&parts.headers, limit)?;
        let read = read(body, limit);
        let Ok(bytes) = tokio::time::timeout(app.settings.body_limit, read).await else {
            let seconds = app.settings.body_limit.as_secs();
            let message = format!("the body did not arrive within {seconds} seconds");
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "invalid_request_error",
                message,
            ));
        };
        Ok(JsonBody(parse(&bytes?)?))
    }
}

fn parse(bytes: &[u8]) -> Result<Json, Refusal> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "the body is empty, expected a JSON object",
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("the body is not JSON: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    })
}

fn check_announced(headers: &HeaderMap, limit: usize) -> Result<(), Refusal> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > limit as u64 => Err(too_large(limit)),
        _ => Ok(()),
    }
}

async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            let message = format!("the body cannot be read: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
        })?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large(limit: usize) -> Refusal {
    let message = format!("the body is larger than {limit} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
}
