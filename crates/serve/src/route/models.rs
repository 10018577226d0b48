//! `GET /models`, `/v1/models` and `/v1/models/{id}`: what the model is called.

use crate::app::Shared;
use crate::protocol::model_name;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

/// All names of the model, its own first.
pub(crate) async fn models(State(app): State<Shared>) -> Json<Value> {
    let names = model_name::names(&app.served);
    let data: Vec<Value> = names.iter().map(|name| model_object(&app, name)).collect();
    Json(json!({"object": "list", "data": data}))
}

/// One of them. A name with slashes is taken whole.
pub(crate) async fn model(
    State(app): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    model_name::thinking_of(&app.served, &name)?;
    Ok(Json(model_object(&app, &name)))
}

fn model_object(app: &Shared, name: &str) -> Value {
    json!({
        "id": name,
        "object": "model",
        "created": app.started_unix,
        "owned_by": "fathom",
        "root": app.served.name,
        "max_model_len": app.served.context_tokens,
    })
}
