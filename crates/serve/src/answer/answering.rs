//! One answer as its reader hears it: events of the engine in, pieces out.

use super::meter::Meter;
use super::reply::Reply;
use super::{FinishReason, Piece, Scored};
use crate::refusal::Refusal;
use axum::http::StatusCode;
use fathom_engine::service::{Ended, Event, Failed, Ticket, Token};
use fathom_text::Tokenizer;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::sync::mpsc::UnboundedReceiver;

/// One answer on its way. Dropping it takes the job from the engine.
///
/// What a slow reader has not taken waits here: at most the answer itself.
pub struct Answering {
    pub(super) events: UnboundedReceiver<(Instant, Event)>,
    /// None once the engine need not go on.
    pub(super) ticket: Option<Ticket>,
    pub(super) reply: Reply,
    pub(super) meter: Meter,
    pub(super) reading: Reading,
    pub(super) ready: VecDeque<Piece>,
    pub(super) ended: bool,
}

/// What is known beforehand of how to read an answer.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Tokens that end the answer and are no part of its text, in ascending order.
    pub(super) stop_ids: Vec<u32>,
    /// Stop strings of the request, which stand first in the list that is looked for.
    pub(super) stop: Vec<String>,
    /// Whether tokens are reported with their scores.
    pub(super) scored: bool,
}

impl Answering {
    /// What comes next; none after the end. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Piece> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Answering::next`] for those who wait for several.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(piece));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.events.poll_recv(context)) {
                Some((at, event)) => self.hear(at, event),
                None => self.fail(&Failed::Stopped),
            }
        }
    }

    fn hear(&mut self, at: Instant, event: Event) {
        match event {
            Event::Began { n_cached } => {
                self.meter.began(at, n_cached);
                self.ready.push_back(Piece::Began { n_cached });
            }
            Event::Prompt(tokens) => {
                let tokenizer = &self.meter.app().served.tokenizer;
                let tokens = tokens.into_iter().map(|token| scored(tokenizer, token)).collect();
                self.ready.push_back(Piece::Prompt(tokens));
            }
            Event::Token(token) => self.token(at, token),
            Event::Ended(ended) => self.end(ended),
            Event::Failed(failed) => self.fail(&failed),
        }
    }

    fn token(&mut self, at: Instant, token: Token) {
        self.meter.token(at);
        let tokenizer = &self.meter.app().served.tokenizer;
        let id = token.id;
        let scored = self.reading.scored.then(|| scored(tokenizer, token));
        if self.reading.stop_ids.binary_search(&id).is_ok() {
            self.ready.extend(self.reply.finish(scored));
            return;
        }
        let was_thinking = self.reply.is_thinking();
        self.ready.extend(self.reply.push(tokenizer.id_to_bytes(id).unwrap_or(&[]), scored));
        if was_thinking || self.reply.is_thinking() {
            self.meter.thinking_token();
        }
        if let Some(idx) = self.reply.stop() {
            self.done(FinishReason::Stop, self.reading.stop.get(idx).cloned());
        }
    }

    fn end(&mut self, ended: Ended) {
        let pieces = self.reply.finish(None);
        self.ready.extend(pieces);
        let finish = match ended {
            Ended::Stop if self.reply.n_calls() > 0 => FinishReason::ToolCalls,
            Ended::Stop => FinishReason::Stop,
            Ended::Length => FinishReason::Length,
            Ended::Deadline | Ended::Cancelled | Ended::Shutdown => {
                FinishReason::InsufficientResource
            }
        };
        // A stop string may be completed by what was held.
        let stop = self.reply.stop().and_then(|idx| self.reading.stop.get(idx).cloned());
        self.done(finish, stop);
    }

    fn done(&mut self, finish: FinishReason, stop: Option<String>) {
        let usage = self.meter.close();
        self.ready.push_back(Piece::Done { finish, stop, usage });
        self.close();
    }

    fn fail(&mut self, failed: &Failed) {
        self.meter.forget();
        self.ready.push_back(Piece::Failed(refusal(failed)));
        self.close();
    }

    fn close(&mut self) {
        self.ended = true;
        self.ticket = None;
        self.events.close();
    }
}

/// Tokens that nobody read were drawn all the same.
impl Drop for Answering {
    fn drop(&mut self) {
        self.ticket = None;
        while let Ok((at, event)) = self.events.try_recv() {
            match event {
                _ if self.meter.is_closed() => break,
                Event::Began { n_cached } => self.meter.began(at, n_cached),
                Event::Token(_) => self.meter.token(at),
                _ => {}
            }
        }
    }
}

fn scored(tokenizer: &Tokenizer, token: Token) -> Scored {
    let bytes = |id: u32| tokenizer.id_to_bytes(id).unwrap_or(&[]).to_vec();
    Scored {
        id: token.id,
        bytes: bytes(token.id),
        log_prob: token.log_prob,
        top: token.top.into_iter().map(|(id, log_prob)| (id, bytes(id), log_prob)).collect(),
        experts: token.experts,
    }
}

fn refusal(failed: &Failed) -> Refusal {
    match failed {
        Failed::Engine(_) | Failed::Constraint(_) => Refusal::internal(failed.to_string()),
        Failed::TooLarge { .. } => {
            Refusal::invalid("messages", failed.to_string()).code("context_length_exceeded")
        }
        Failed::Stopped => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", failed.to_string())
        }
    }
}
