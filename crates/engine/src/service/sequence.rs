//! One job in the engine: its tokens, its blocks, its listener, and its part of the coming pass.

use super::guesses::Guesser;
use super::job::{Ended, Event, Failed, Job, Listener, Token};
use crate::blocks::BlockTable;
use crate::sampler::History;
use fathom_model::RowKind;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A job, from the queue to its end.
pub(super) struct Sequence {
    /// Number of its arrival.
    pub(super) id: u64,
    /// What is wanted; its prompt is in `tokens`.
    pub(super) job: Job,
    /// Prompt and answer. All but those at the end are in the cache.
    pub(super) tokens: Vec<u32>,
    pub(super) n_prompt: usize,
    /// Where it is cached.
    pub(super) table: BlockTable,
    /// Blocks at the beginning of the table that later jobs can find.
    pub(super) n_published: usize,
    pub(super) history: History,
    /// Of a scored prompt: its tokens as far as they are scored.
    pub(super) scores: Vec<Token>,
    pub(super) turn: Turn,
    /// A sequence that is reading so many blocks which this one needs too.
    pub(super) waits_for: Option<(u64, usize)>,
    /// Whether its listener heard that it began.
    pub(super) has_begun: bool,
    /// None: its next tokens are not guessed.
    pub(super) guesser: Option<Guesser>,
    listener: Listener,
    /// Set once nobody wants to hear more.
    dropped: Arc<AtomicBool>,
}

/// The part of a sequence in one pass.
#[derive(Default)]
pub(super) struct Turn {
    /// Tokens that are fed: the next ones that are not in the cache. None: the sequence sits it out.
    pub(super) n_fed: usize,
    /// Whether that is the token drawn last, and nothing else.
    pub(super) writes: bool,
    /// Guesses that are fed behind it.
    pub(super) guesses: Vec<u32>,
    /// Whether a token follows: all tokens are fed, and one more is wanted.
    pub(super) draws: bool,
    /// Its rows in the pass.
    pub(super) rows: Range<usize>,
    /// What came of it.
    pub(super) drawn: Vec<Token>,
    /// Set if nothing comes after that.
    pub(super) end: Option<End>,
}

/// How a job ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    Ended(Ended),
    Failed(Failed),
}

impl Sequence {
    /// A job that has not begun. Its number is still to be set.
    pub(super) fn new(mut job: Job, listener: Listener, dropped: Arc<AtomicBool>) -> Sequence {
        let tokens = std::mem::take(&mut job.prompt);
        let scores = match job.score_prompt {
            true => vec![Token { id: tokens[0], ..Token::default() }],
            false => Vec::new(),
        };
        Sequence {
            id: 0,
            n_prompt: tokens.len(),
            history: History::for_sampling(&job.sampling, &tokens),
            job,
            tokens,
            table: BlockTable::default(),
            n_published: 0,
            scores,
            turn: Turn::default(),
            waits_for: None,
            has_begun: false,
            guesser: None,
            listener,
            dropped,
        }
    }

    /// Tokens that are not in the cache.
    pub(super) fn n_unread(&self) -> usize {
        self.tokens.len() - self.table.n_tokens
    }

    /// Whether its next row is that of the token drawn last; else there is something to read before.
    pub(super) fn is_writing(&self) -> bool {
        self.n_unread() == 1 && self.table.n_tokens >= self.n_prompt
    }

    /// What its next rows are to a pass.
    pub(super) fn kind(&self) -> RowKind {
        match self.table.n_tokens < self.n_prompt {
            true => RowKind::Prompt,
            false => RowKind::Answer,
        }
    }

    /// Tokens of one kind that can be fed next.
    pub(super) fn n_feedable(&self) -> usize {
        let end = if self.kind() == RowKind::Prompt { self.n_prompt } else { self.tokens.len() };
        end - self.table.n_tokens
    }

    /// Tokens at the beginning whose rows may come from the cache: all but the last, which the next
    /// token is drawn from, and those that are still to be scored.
    pub(super) fn n_reusable(&self) -> usize {
        let n_known = self.tokens.len() - 1;
        match self.job.score_prompt && self.scores.len() < self.n_prompt {
            true => n_known.min(self.scores.len() - 1),
            false => n_known,
        }
    }

    /// Tokens of the answer.
    pub(super) fn n_drawn(&self) -> usize {
        self.tokens.len() - self.n_prompt
    }

    /// Why the sequence should not go on, apart from what it says.
    pub(super) fn is_over(&self, now: Instant) -> Option<Ended> {
        if self.dropped.load(Ordering::Acquire) {
            return Some(Ended::Cancelled);
        }
        self.job.deadline.is_some_and(|deadline| deadline <= now).then_some(Ended::Deadline)
    }

    /// Tells the listener, and says whether it wants more. One that panics wants no more.
    pub(super) fn tell(&mut self, event: Event) -> bool {
        let wants_more = catch_unwind(AssertUnwindSafe(|| (self.listener)(event))).unwrap_or(false);
        if !wants_more {
            self.dropped.store(true, Ordering::Release);
        }
        wants_more
    }

    /// Tells the listener the last that it hears.
    pub(super) fn finish(mut self, end: End) {
        self.tell(match end {
            End::Ended(ended) => Event::Ended(ended),
            End::Failed(failed) => Event::Failed(failed),
        });
    }
}
