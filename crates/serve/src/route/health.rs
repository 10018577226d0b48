//! `GET /health`: the server is there, for those who watch over it. Needs no key.

use crate::app::Shared;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

/// Says that all is well, and how much is to do.
pub(crate) async fn health(State(app): State<Shared>) -> Json<Value> {
    let stats = app.engine.stats();
    Json(json!({"status": "ok", "running": stats.n_running, "waiting": stats.n_waiting}))
}
