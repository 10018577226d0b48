//! What one answer costs and how long it took, told to the store and the metrics once.

use super::Usage;
use crate::app::Shared;
use crate::caller::Caller;
use std::time::Instant;

/// Counts one answer. Whoever drops it before its end is charged for what came until then.
pub(super) struct Meter {
    app: Shared,
    caller: Caller,
    usage: Usage,
    /// Tokens of the prompt that this answer pays for: with several answers to one prompt, the first
    /// pays for it.
    n_prompt: usize,
    asked: Instant,
    last_token: Option<Instant>,
    began: bool,
    closed: bool,
}

impl Meter {
    pub(super) fn new(app: Shared, caller: Caller, n_prompt: usize, asked: Instant) -> Meter {
        Meter {
            app,
            caller,
            usage: Usage::default(),
            n_prompt,
            asked,
            last_token: None,
            began: false,
            closed: false,
        }
    }

    pub(super) fn app(&self) -> &Shared {
        &self.app
    }

    pub(super) fn began(&mut self, at: Instant, n_cached: usize) {
        self.began = true;
        self.usage.prompt_tokens = self.n_prompt;
        self.usage.prompt_cache_hit_tokens = n_cached.min(self.n_prompt);
        self.app.metrics.queue_wait(seconds(self.asked, at));
    }

    pub(super) fn token(&mut self, at: Instant) {
        self.usage.completion_tokens += 1;
        match self.last_token.replace(at) {
            None => self.app.metrics.first_token(seconds(self.asked, at)),
            Some(before) => self.app.metrics.between_tokens(seconds(before, at)),
        }
    }

    pub(super) fn thinking_token(&mut self) {
        self.usage.reasoning_tokens += 1;
    }

    /// The bill.
    pub(super) fn close(&mut self) -> Usage {
        if self.began && !self.closed {
            let charged = self.app.store.charge(self.caller, &self.usage, &self.app.served.name);
            if let Err(error) = charged {
                // The answer is given; that it was free is the server's loss.
                self.app.log(|| format!("an answer could not be charged: {error}"));
            }
            self.app.metrics.usage(&self.usage);
        }
        self.closed = true;
        self.usage
    }

    /// Nobody pays for a fault of the server.
    pub(super) fn forget(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.close();
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}
