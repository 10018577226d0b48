//! `GET /metrics`: numbers for Prometheus.

use crate::app::Shared;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// Answers with the page of numbers.
pub(crate) async fn metrics(State(app): State<Shared>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, app.metrics.render(&app.engine.stats())).into_response()
}
