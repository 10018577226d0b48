//! One conversation at a time: the cache stays, each turn feeds only what is new.

use crate::blocks::{BlockPool, BlockTable};
use crate::error::Error;
use crate::rollout::Finish;
use crate::sampler::{self, History, LogProbs, Sampling};
use fathom_model::cache::{CacheSpec, KvCache};
use fathom_model::{CachedRows, Model};
use fathom_tensor::op;
use std::cell::RefCell;

/// Rows of a prefill pass.
const PREFILL_ROWS: usize = 1024;

/// What is continued, and how.
#[derive(Clone, Copy, Debug)]
pub struct GenerateRequest<'a> {
    /// Token ids, at least one.
    pub prompt: &'a [u32],
    /// How tokens are chosen, and where the answer ends.
    pub sampling: &'a Sampling,
    /// How many likeliest tokens are reported beside each token drawn.
    pub n_top_log_probs: usize,
}

/// A token of an answer. Log-probabilities are the model's own, whatever the sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn<'a> {
    /// The token.
    pub token: u32,
    /// Its log-probability.
    pub log_prob: f32,
    /// The likeliest tokens here and their log-probabilities, in order.
    pub top: &'a [(u32, f32)],
}

/// How an answer went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Tokens of the prompt that the cache already held.
    pub n_reused: usize,
    /// Why the answer ended; none if the listener wanted no more.
    pub finish: Option<Finish>,
}

/// A sequence in progress, with its cache.
pub struct Session {
    cache: RefCell<KvCache>,
    pool: BlockPool,
    table: BlockTable,
    tokens: Vec<u32>,
}

impl Session {
    /// An empty session over a cache of `spec`.
    pub fn new(spec: CacheSpec) -> Self {
        Session {
            cache: RefCell::new(KvCache::new(spec)),
            pool: BlockPool::new(),
            table: BlockTable::default(),
            tokens: Vec::new(),
        }
    }

    /// Tokens whose keys and values are cached.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Continues a prompt, calling `on_token` for each token drawn until it says stop, a stop token
    /// comes, or the limit is reached. The part of the prompt that the cache already holds is not
    /// computed again.
    ///
    /// The token at a place of the answer depends on the prompt, the settings and the seed only.
    ///
    /// Errors: an empty prompt, settings outside their ranges, logits that nothing can be drawn
    /// from. The session stays usable.
    pub fn generate(
        &mut self,
        model: &Model,
        request: &GenerateRequest<'_>,
        mut on_token: impl FnMut(&Drawn<'_>) -> bool,
    ) -> Result<Generated, Error> {
        let GenerateRequest { prompt, sampling, n_top_log_probs } = *request;
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        sampling.check()?;
        let n_reused = self.rewind(prompt);
        let mut logits = Vec::new();
        for piece in prompt[n_reused..].chunks(PREFILL_ROWS) {
            logits = self.feed(model, piece);
        }
        let mut history = History::for_sampling(sampling, prompt);
        for n_drawn in 0..sampling.max_new_tokens as u64 {
            let key = [sampling.seed, 0, 0, n_drawn];
            let token = sampler::choose(&mut logits.clone(), sampling, &history, &key)?;
            let log_probs = LogProbs::of(&logits[..sampling.vocab_limit.min(logits.len())]);
            let top = log_probs.top(n_top_log_probs);
            if !on_token(&Drawn { token, log_prob: log_probs.token(token), top: &top }) {
                return Ok(Generated { n_reused, finish: None });
            }
            if sampling.stop_ids.contains(&token) {
                return Ok(Generated { n_reused, finish: Some(Finish::Stop) });
            }
            if sampling.has_penalties() {
                history.push(token);
            }
            if n_drawn + 1 < sampling.max_new_tokens as u64 {
                logits = self.feed(model, &[token]);
            }
        }
        Ok(Generated { n_reused, finish: Some(Finish::Length) })
    }

    /// Keeps the common start with `prompt`, leaving at least its last token to compute.
    fn rewind(&mut self, prompt: &[u32]) -> usize {
        let common = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let common = common.min(prompt.len() - 1);
        self.tokens.truncate(common);
        self.table.n_tokens = common;
        common
    }

    /// Appends `tokens`; logits after the last.
    fn feed(&mut self, model: &Model, tokens: &[u32]) -> Vec<f32> {
        self.pool.reserve(&self.cache, &mut self.table, tokens.len());
        let mut rows = CachedRows::default();
        rows.push(&self.table.blocks, self.table.n_tokens, tokens);
        let hidden = model.hidden_cached(&rows, &self.cache);
        self.table.n_tokens += tokens.len();
        self.tokens.extend_from_slice(tokens);
        let width = hidden.width();
        let last = &hidden.data()[(tokens.len() - 1) * width..];
        let last = fathom_tensor::Tensor::new(fathom_tensor::Buffer::copy_of(last), &[1, width]);
        op::logits(&last, model.head()).data().to_vec()
    }
}
