//! One conversation at a time: the cache stays, each turn feeds only what is new.

use crate::blocks::{BlockPool, BlockTable};
use crate::rollout::Finish;
use crate::sampler::{Sampling, draw};
use fathom_model::cache::{CacheSpec, KvCache};
use fathom_model::{CachedRows, Model};
use fathom_tensor::op;
use std::cell::RefCell;

/// Rows of a prefill pass.
const PREFILL_ROWS: usize = 1024;

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

    /// Continues `prompt`, calling `on_token` for each token drawn until it says stop, a stop token
    /// comes, or the limit is reached. The part of `prompt` that the cache already holds is not
    /// computed again. Returns the number of prompt tokens reused and why it ended; none if
    /// `on_token` returned false.
    ///
    /// Panics if `prompt` is empty.
    pub fn generate(
        &mut self,
        model: &Model,
        prompt: &[u32],
        sampling: &Sampling,
        mut on_token: impl FnMut(u32) -> bool,
    ) -> (usize, Option<Finish>) {
        assert!(!prompt.is_empty(), "a prompt has at least one token");
        let reused = self.rewind(prompt);
        let mut logits = Vec::new();
        let mut at = reused;
        while at < prompt.len() {
            let end = (at + PREFILL_ROWS).min(prompt.len());
            logits = self.feed(model, &prompt[at..end]);
            at = end;
        }
        for n_drawn in 0..sampling.max_new_tokens as u64 {
            let key = [sampling.seed, 0, 0, n_drawn];
            let token = draw(&mut logits, sampling, &key).token;
            if !on_token(token) {
                return (reused, None);
            }
            if sampling.stop_ids.contains(&token) {
                return (reused, Some(Finish::Stop));
            }
            if n_drawn + 1 < sampling.max_new_tokens as u64 {
                logits = self.feed(model, &[token]);
            }
        }
        (reused, Some(Finish::Length))
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
