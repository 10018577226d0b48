//! `POST /chat/completions`, `/v1/chat/completions`, and both under `/beta`.

use crate::answer;
use crate::app::Shared;
use crate::aside::aside;
use crate::caller::Caller;
use crate::protocol::body::JsonBody;
use crate::protocol::chat_reply::{Chunks, Whole};
use crate::protocol::chat_request;
use crate::refusal::Refusal;
use crate::sse;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use fathom_text::chat::Json;

/// Answers a conversation.
pub(crate) async fn chat(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    respond(app, caller, body, false).await
}

/// The same with beta features: the last message may be the beginning of the answer.
pub(crate) async fn chat_beta(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    respond(app, caller, body, true).await
}

async fn respond(app: Shared, caller: Caller, body: Json, beta: bool) -> Result<Response, Refusal> {
    let keep_alive = app.settings.keep_alive;
    let asked = aside(move || {
        let request = chat_request::read(&app.served, &body, beta)?;
        let answers = answer::ask(&app, caller, request.ask.clone())?;
        Ok((request, answers))
    });
    let (request, answers) = asked.await?;
    let response = match request.stream {
        true => {
            let chunks = Chunks::new(&request, &answers);
            sse::stream(answers, keep_alive, chunks)
        }
        false => {
            let whole = Whole::new(&request, &answers);
            sse::whole(answers, keep_alive, whole).await
        }
    };
    Ok(request.warnings.mark(response))
}

#[cfg(test)]
mod tests;
