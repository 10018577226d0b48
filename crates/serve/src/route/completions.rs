//! `POST /completions`, `/v1/completions`, and both under `/beta`: text goes on, or a hole is filled.

use crate::answer::{self, Answers};
use crate::app::Shared;
use crate::aside::aside;
use crate::caller::Caller;
use crate::protocol::body::JsonBody;
use crate::protocol::completion_reply::{Chunks, Whole};
use crate::protocol::completion_request;
use crate::refusal::Refusal;
use crate::sse;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;

/// Goes on with text.
pub(crate) async fn completions(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    let keep_alive = app.settings.keep_alive;
    let asked = aside(move || {
        let request = completion_request::read(&app.served, &body)?;
        // A prompt that is refused takes back those before it: they are dropped here.
        let asked = request.asks.iter().map(|ask| answer::ask(&app, caller, ask.clone()));
        let answers = Answers::join(asked.collect::<Result<_, _>>()?);
        Ok((request, answers))
    });
    let (request, answers) = asked.await?;
    let response = match request.stream {
        true => sse::stream(answers, keep_alive, Chunks::new(&request)),
        false => sse::whole(answers, keep_alive, Whole::new(&request)).await,
    };
    Ok(request.warnings.mark(response))
}

#[cfg(test)]
mod tests;
