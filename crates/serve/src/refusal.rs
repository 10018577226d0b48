//! Every way to say no: a status, a text, and the field that is to blame, in the shape of the protocol.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// For programs, such as `invalid_request_error`.
    pub kind: &'static str,
    /// For programs, more exact, such as `context_length_exceeded`.
    pub code: Option<&'static str>,
    /// The field to blame, such as `messages[2].content`.
    pub param: Option<String>,
    /// For people: what was found, what was expected, a hint.
    pub message: String,
    /// Seconds after which another try may succeed.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    /// With a status and its usual words.
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Refusal {
        let message = message.into();
        Refusal { status, kind, code: None, param: None, message, retry_after_s: None }
    }

    /// 400: the request cannot be understood, or asks for what this model cannot do.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Refusal {
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        Refusal { param: Some(param.into()), ..refusal }
    }

    /// 422: understood, but a value is outside its range.
    pub fn out_of_range(param: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::UNPROCESSABLE_ENTITY, ..Refusal::invalid(param, message) }
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    /// 500.
    pub fn internal(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The same with a word for programs.
    pub fn code(self, code: &'static str) -> Refusal {
        Refusal { code: Some(code), ..self }
    }

    /// The body in OpenAI's shape.
    pub fn body(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

/// OpenAI's shape. The refusal itself goes along with the response, for those who want another shape.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}
