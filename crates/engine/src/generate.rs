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

#[cfg(test)]
mod tests {
    use super::*;
    use fathom_model::cache::CacheForm;
    use fathom_model::{Config, Precision};

    fn model() -> (Model, CacheSpec) {
        let words = r#"{
            "model_type": "qwen2", "vocab_size": 37, "hidden_size": 24, "intermediate_size": 36,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "max_position_embeddings": 64,
            "initializer_range": 0.2, "tie_word_embeddings": true
        }"#;
        let mut model = Model::random(Config::from_text(words).unwrap(), 3).unwrap();
        let spec = model.pack_for_cache(Precision::F32, CacheForm::Expanded);
        (model, spec)
    }

    /// A token, its log-probability, and the likeliest ones.
    type Heard = (u32, f32, Vec<(u32, f32)>);

    fn answer(
        model: &Model,
        session: &mut Session,
        sampling: &Sampling,
        n_top: usize,
    ) -> Vec<Heard> {
        let request = GenerateRequest { prompt: &[5, 17, 3], sampling, n_top_log_probs: n_top };
        let mut heard = Vec::new();
        let generated = session.generate(model, &request, |drawn| {
            heard.push((drawn.token, drawn.log_prob, drawn.top.to_vec()));
            true
        });
        assert_eq!(generated.unwrap().finish, Some(Finish::Length));
        heard
    }

    #[test]
    fn an_answer_repeats_whatever_the_cache_held() {
        let (model, spec) = model();
        let sampling = Sampling { frequency_penalty: 0.5, seed: 4, ..Sampling::plain(12) };
        let mut session = Session::new(spec);
        let first = answer(&model, &mut session, &sampling, 2);
        assert_eq!(answer(&model, &mut session, &sampling, 2), first);
        assert_ne!(answer(&model, &mut session, &Sampling { seed: 5, ..sampling }, 2), first);
    }

    #[test]
    fn log_probabilities_do_not_depend_on_how_tokens_are_drawn() {
        let (model, spec) = model();
        let greedy = answer(&model, &mut Session::new(spec), &Sampling::greedy(6), 1);
        for (token, log_prob, top) in &greedy {
            assert_eq!(*top, [(*token, *log_prob)]);
        }
        let cut = Sampling { temperature: 0.1, top_k: 1, ..Sampling::plain(6) };
        assert_eq!(answer(&model, &mut Session::new(spec), &cut, 1), greedy);
    }

    #[test]
    fn a_heavy_penalty_keeps_an_answer_from_repeating_itself() {
        let (model, spec) = model();
        let sampling = Sampling {
            repetition_penalty: 2.0,
            frequency_penalty: 2.0,
            presence_penalty: 2.0,
            ..Sampling::greedy(10)
        };
        let heard = answer(&model, &mut Session::new(spec), &sampling, 0);
        let mut tokens: Vec<u32> = heard.iter().map(|(token, ..)| *token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 10, "{heard:?}");
    }

    #[test]
    fn what_cannot_work_is_refused_and_the_session_goes_on() {
        let (model, spec) = model();
        let mut session = Session::new(spec);
        let plain = Sampling::plain(3);
        let empty = GenerateRequest { prompt: &[], sampling: &plain, n_top_log_probs: 0 };
        assert_eq!(session.generate(&model, &empty, |_| true), Err(Error::EmptyPrompt));
        let wrong = Sampling { top_p: 2.0, ..Sampling::plain(3) };
        let request = GenerateRequest { prompt: &[5], sampling: &wrong, n_top_log_probs: 0 };
        assert!(matches!(
            session.generate(&model, &request, |_| true),
            Err(Error::Setting { name: "top_p", .. })
        ));
        assert_eq!(answer(&model, &mut session, &plain, 0).len(), 3);
    }
}
