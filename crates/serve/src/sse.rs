//! Answers on the wire: as server-sent events, or as one JSON body that may take its time.
//!
//! A client that waits is told so, as DeepSeek's service does: comments in a stream, blank lines in
//! front of a body. Dropping the response drops the answers, which takes their jobs from the engine.

use crate::answer::{Answers, Piece};
use crate::refusal::Refusal;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::stream::unfold;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::timeout;

/// More than this is not gathered into one write.
const MOST_GATHERED_BYTES: usize = 16 << 10;

/// Tells pieces as events.
pub(crate) trait Narrator: Send + 'static {
    /// Writes the events of a piece. Whether the stream goes on.
    fn piece(&mut self, index: usize, piece: Piece, out: &mut String) -> bool;

    /// Writes the events that end the stream of answers that came to their end.
    fn end(&mut self, out: &mut String);

    /// Writes what tells a client that it is not forgotten.
    fn waiting(&mut self, out: &mut String) {
        out.push_str(": keep-alive\n\n");
    }
}

/// Gathers pieces into one body.
pub(crate) trait Collector: Send + 'static {
    /// Takes a piece in. Errors: the answer failed.
    fn piece(&mut self, index: usize, piece: Piece) -> Result<(), Refusal>;

    /// The body of complete answers.
    fn body(self) -> Value;

    /// The body of a failure whose head, of status 200, is sent already.
    fn refused(refusal: &Refusal) -> Value {
        refusal.body()
    }
}

/// Writes an event of JSON.
pub(crate) fn data(value: &Value, out: &mut String) {
    out.push_str("data: ");
    out.push_str(&value.to_string());
    out.push_str("\n\n");
}

/// A response of events.
pub(crate) fn stream(answers: Answers, keep_alive: Duration, narrator: impl Narrator) -> Response {
    let telling = Telling { answers, narrator, keep_alive, ended: false };
    let body = unfold(telling, |mut telling| async move {
        let text = telling.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), telling))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Some proxies hold events back unless they are told not to.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(body)).into_response()
}

struct Telling<N> {
    answers: Answers,
    narrator: N,
    keep_alive: Duration,
    ended: bool,
}

impl<N: Narrator> Telling<N> {
    /// The next events, at least one; none after the end.
    async fn next(&mut self) -> Option<String> {
        let mut out = String::new();
        while out.is_empty() {
            if self.ended {
                return None;
            }
            match timeout(self.keep_alive, self.answers.next()).await {
                Err(_) => self.narrator.waiting(&mut out),
                Ok(heard) => self.tell(heard, &mut out),
            }
        }
        // What is there already goes into the same write.
        while !self.ended && out.len() < MOST_GATHERED_BYTES {
            let Some(heard) = self.answers.next().now_or_never() else { break };
            self.tell(heard, &mut out);
        }
        Some(out)
    }

    fn tell(&mut self, heard: Option<(usize, Piece)>, out: &mut String) {
        match heard {
            Some((index, piece)) => self.ended = !self.narrator.piece(index, piece, out),
            None => {
                self.narrator.end(out);
                self.ended = true;
            }
        }
    }
}

/// A response of one JSON body. If it takes longer than `keep_alive`, its head is sent, and blank
/// lines until the body is ready; a failure then comes as an error body under status 200.
pub(crate) async fn whole<C: Collector>(
    answers: Answers,
    keep_alive: Duration,
    collector: C,
) -> Response {
    let mut gathering = Box::pin(gather(answers, collector));
    match timeout(keep_alive, &mut gathering).await {
        Ok(Ok(body)) => axum::Json(body).into_response(),
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => {
            let body = unfold(Some(gathering), move |gathering| async move {
                let mut gathering = gathering?;
                let (text, rest) = match timeout(keep_alive, &mut gathering).await {
                    Err(_) => ("\n".to_owned(), Some(gathering)),
                    Ok(Ok(body)) => (body.to_string(), None),
                    Ok(Err(refusal)) => (C::refused(&refusal).to_string(), None),
                };
                Some((Ok::<_, Infallible>(Bytes::from(text)), rest))
            });
            let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (headers, Body::from_stream(body)).into_response()
        }
    }
}

async fn gather<C: Collector>(mut answers: Answers, mut collector: C) -> Result<Value, Refusal> {
    while let Some((index, piece)) = answers.next().await {
        collector.piece(index, piece)?;
    }
    Ok(collector.body())
}
