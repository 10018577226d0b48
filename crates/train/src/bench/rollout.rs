//! How fast answers are sampled for reinforcement learning: many random prompts at once, by the engine
//! and the cache that a training run samples with.

use super::BenchShape;
use fathom_engine::rollout::{Request, rollout};
use fathom_engine::sampler::Sampling;
use fathom_model::cache::CacheForm;
use fathom_model::{Error, Model};
use fathom_tensor::Precision;
use fathom_tensor::random::Random;
use std::time::Instant;

/// What is sampled.
#[derive(Clone, Copy, Debug)]
pub struct RolloutWork {
    /// Sequences, which advance together.
    pub n_sequences: usize,
    /// Tokens of each prompt; no two prompts are alike.
    pub n_prompt: usize,
    /// Tokens of each answer; none ends earlier.
    pub n_new: usize,
    /// The likeliest token each time, instead of a draw at temperature 1.
    pub greedy: bool,
}

/// New tokens per second over whole rollouts, prompts included: median, least and most of `n_rounds`.
///
/// Errors: a configuration that cannot be built.
pub fn rollout_rate(
    shape: &BenchShape,
    precision: Precision,
    work: RolloutWork,
    n_rounds: usize,
) -> Result<[f64; 3], Error> {
    let mut model = Model::random(shape.config.clone(), 1)?;
    let spec = model.pack_for_cache(precision, CacheForm::Expanded);
    let mut random = Random::from_key(&[11]);
    let vocab = shape.config.vocab_size as u64;
    let mut draw = || (random.next_u64() % vocab) as u32;
    let requests: Vec<Request> = (0..work.n_sequences as u64)
        .map(|key| {
            let prompt = (0..work.n_prompt).map(|_| draw()).collect();
            Request { prompt, n_samples: 1, key }
        })
        .collect();
    let sampling = match work.greedy {
        true => Sampling::greedy(work.n_new),
        false => Sampling::plain(work.n_new),
    };
    let once = |sampling: &Sampling| {
        rollout(&model, spec, &requests, sampling, work.n_sequences, &|| false)
            .expect("nobody asks it to stop")
    };
    once(&Sampling { max_new_tokens: work.n_new.min(4), ..sampling.clone() }); // memory is taken
    let mut rates = Vec::with_capacity(n_rounds);
    for _ in 0..n_rounds.max(1) {
        let start = Instant::now();
        let answers = once(&sampling);
        let n_tokens: usize = answers.iter().flatten().map(|answer| answer.tokens.len()).sum();
        rates.push(n_tokens as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    Ok([rates[rates.len() / 2], rates[0], rates[rates.len() - 1]])
}
