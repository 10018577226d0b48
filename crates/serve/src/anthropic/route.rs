//! `POST /v1/messages` and `POST /v1/messages/count_tokens`, both also under `/anthropic`.

use super::reply::{Events, Whole};
use super::request;
use crate::answer;
use crate::app::Shared;
use crate::aside::aside;
use crate::ask::PromptAsk;
use crate::caller::Caller;
use crate::protocol::body::JsonBody;
use crate::refusal::Refusal;
use crate::sse;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

/// The routes. Refusals get their shape from [`super::in_shape`], which stands in front of the keys.
pub fn routes() -> Router<Shared> {
    let mut routes = Router::new();
    for base in ["/v1", "/anthropic/v1"] {
        routes = routes
            .route(&format!("{base}/messages"), post(messages))
            .route(&format!("{base}/messages/count_tokens"), post(count_tokens));
    }
    routes
}

async fn messages(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    let keep_alive = app.settings.keep_alive;
    let asked = aside(move || {
        let request = request::read(&app.served, &body)?;
        let answers = answer::ask(&app, caller, request.ask.clone())?;
        Ok((request, answers))
    });
    let (request, answers) = asked.await?;
    let response = match request.stream {
        true => {
            let events = Events::new(&request, &answers);
            sse::stream(answers, keep_alive, events)
        }
        false => sse::whole(answers, keep_alive, Whole::new(&request)).await,
    };
    Ok(request.warnings.mark(response))
}

async fn count_tokens(
    State(app): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, Refusal> {
    let counted = aside(move || {
        let chat = request::read_conversation(&app.served, &body)?;
        answer::prompt(&app.served, &PromptAsk::Chat(chat))
    });
    let prompt = counted.await?;
    Ok(Json(json!({"input_tokens": prompt.ids.len()})))
}
