//! Guesses of the model's own MTP module (DeepSeek-V3, arXiv:2412.19437, sections 2.2 and 5.4.3).
//!
//! Row p of the module reads the hidden state h_p of the main model and the token at p + 1, and scores
//! the token at p + 2. Its keys and values lie in the cache's layer behind those of the main model, at
//! the slot of position p. The first guess costs one row; each further one feeds the module its own
//! output in place of a hidden state that does not exist yet. Those rows are overwritten when the
//! true hidden states are known.
//!
//! A guess is drawn from the module's scores by the settings of the answer and with the random number
//! of its place, the one the model's own draw will use: where both distributions agree, so do the draws.

use crate::sampler::{self, History, Sampling};
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::cache::KvCache;
use fathom_model::{CachedRows, Model};
use fathom_tensor::{Buffer, Tensor, op};
use std::cell::RefCell;

/// Rows that wait for the module are run at the latest when there are so many.
const MOST_WAITING: usize = 2 * BLOCK_TOKENS;

/// What the module knows of a sequence.
#[derive(Default)]
pub(crate) struct MtpRows {
    /// Rows in the cache.
    n_cached: usize,
    /// Hidden states of the rows after those, [m, D].
    hidden: Vec<f32>,
    logits: Vec<f32>,
}

/// A sequence, and where it is cached.
pub(crate) struct Sequence<'a> {
    pub(crate) model: &'a Model,
    pub(crate) cache: &'a RefCell<KvCache>,
    /// With room for the guesses.
    pub(crate) blocks: &'a [u32],
    /// All of its tokens.
    pub(crate) tokens: &'a [u32],
}

/// What guesses need to know of the answer so far.
pub(crate) struct Ahead<'a> {
    pub(crate) sampling: &'a Sampling,
    /// The tokens before the first guess.
    pub(crate) history: &'a History,
    /// Which of several answers to one prompt and seed.
    pub(crate) sample_idx: u64,
    /// Place of the first guess in the answer.
    pub(crate) n_drawn: u64,
}

impl MtpRows {
    /// Forgets what lies behind the first `n_tokens` tokens. Returns how many of these have a row or
    /// a hidden state: where the main model must go on so that the module can.
    pub(crate) fn rewind(&mut self, n_tokens: usize, width: usize) -> usize {
        if self.n_cached >= n_tokens {
            // The last row kept has read the token that is gone.
            self.n_cached = n_tokens.saturating_sub(1);
            self.hidden.clear();
        } else {
            self.hidden.truncate((n_tokens - self.n_cached) * width);
        }
        self.n_cached + self.hidden.len() / width
    }

    /// Goes on behind `n_tokens` tokens whose rows are in the cache, or as good as that.
    pub(crate) fn skip_to(&mut self, n_tokens: usize) {
        self.n_cached = n_tokens;
        self.hidden.clear();
    }

    /// Hidden states of the next tokens, [n, D].
    pub(crate) fn push(&mut self, hidden: &[f32]) {
        self.hidden.extend_from_slice(hidden);
    }

    /// Runs the waiting rows whose next token is known. Returns the module's last row, if one ran.
    pub(crate) fn catch_up(&mut self, of: &Sequence<'_>) -> Option<Tensor> {
        let (tokens, width) = (of.tokens, of.model.config.hidden_size);
        let n = (self.hidden.len() / width).min(tokens.len().saturating_sub(self.n_cached + 1));
        if n == 0 {
            return None;
        }
        let next = &tokens[self.n_cached + 1..self.n_cached + 1 + n];
        let hidden = Tensor::new(Buffer::copy_of(&self.hidden[..n * width]), &[n, width]);
        let out = of.run(self.n_cached, &hidden, next);
        self.n_cached += n;
        self.hidden.drain(..n * width);
        Some(out)
    }

    /// [`MtpRows::catch_up`], if many rows wait.
    pub(crate) fn catch_up_late(&mut self, of: &Sequence<'_>) {
        if self.hidden.len() >= MOST_WAITING * of.model.config.hidden_size {
            self.catch_up(of);
        }
    }

    /// Guesses up to `n` tokens that follow the sequence, into `drafts`.
    ///
    /// Guesses end early where the module's scores leave nothing to draw.
    pub(crate) fn draft(
        &mut self,
        of: &Sequence<'_>,
        n: usize,
        ahead: &Ahead<'_>,
        drafts: &mut Vec<u32>,
    ) {
        let Some(mut hidden) = self.catch_up(of) else { return };
        let head = of.model.head();
        self.logits.resize(head.n_out(), 0.0);
        // Penalties see guesses as tokens.
        let mut imagined: Option<History> = None;
        for i in 0..n {
            op::logits_into(hidden.data(), head, &mut self.logits);
            let history = imagined.as_ref().unwrap_or(ahead.history);
            let place = ahead.n_drawn + i as u64;
            let key = [ahead.sampling.seed, 0, ahead.sample_idx, place];
            let Ok(token) = sampler::choose(&mut self.logits, ahead.sampling, history, &key) else {
                return;
            };
            drafts.push(token);
            if i + 1 == n || ahead.sampling.stop_ids.contains(&token) {
                return;
            }
            if ahead.sampling.has_penalties() {
                imagined.get_or_insert_with(|| ahead.history.clone()).push(token);
            }
            hidden = of.run(self.n_cached + i, &hidden, &[token]);
        }
    }
}

impl Sequence<'_> {
    /// The module over the rows from `past` on: hidden [n, D], next_tokens [n]; the last row of the result, [1, D].
    fn run(&self, past: usize, hidden: &Tensor, next_tokens: &[u32]) -> Tensor {
        let mut rows = CachedRows::default();
        // The module reads the tokens after these rows; only places and positions count here.
        rows.push(self.blocks, past, next_tokens);
        let last = next_tokens.len() - 1;
        self.model
            .mtp_cached(&rows, self.cache, hidden, next_tokens, (last > 0).then_some(&[last]))
            .expect("drafting with the module was checked against the model")
    }
}
