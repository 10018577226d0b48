//! Choosing the next token.
//!
//! Order of the steps: temperature, then top-k, then top-p, then the draw. Temperature 0 takes the
//! most likely token (the first of equals). The draw is a function of seed, sequence and position,
//! so it does not depend on what else runs.

use fathom_kernels::cross_entropy;
use fathom_kernels::elementwise;
use fathom_tensor::random::Random;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 is greedy.
    pub temperature: f32,
    /// Only the most likely tokens; 0 is all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability; 1 is all.
    pub top_p: f32,
    /// Seed of all draws.
    pub seed: u64,
    /// Most tokens of an answer, the stop token included.
    pub max_new_tokens: usize,
    /// Tokens that end an answer.
    pub stop_ids: Vec<u32>,
    /// Ids from here on are padding of the vocabulary and never drawn.
    pub vocab_limit: usize,
}

/// A drawn token and its log-probability under the whole distribution at the sampling temperature
/// (at temperature 1 for greedy).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Draw {
    /// The token.
    pub token: u32,
    /// Its log-probability; the trainer recomputes the same bits.
    pub log_prob: f32,
}

/// Draws one token. `logits` [V] is scratch afterwards; `key` names sequence and position.
pub fn draw(logits: &mut [f32], sampling: &Sampling, key: &[u64]) -> Draw {
    if sampling.temperature > 0.0 && sampling.temperature != 1.0 {
        elementwise::scale(logits, 1.0 / sampling.temperature);
    }
    let limit = sampling.vocab_limit.min(logits.len());
    let token = if sampling.temperature == 0.0 {
        cross_entropy::argmax(&logits[..limit])
    } else {
        draw_from(&logits[..limit], sampling, key)
    };
    let (mut log_prob, mut lse) = ([0.0], [0.0]);
    cross_entropy::log_probs(logits, &[token], &mut log_prob, &mut lse);
    Draw { token, log_prob: log_prob[0] }
}

fn draw_from(logits: &[f32], sampling: &Sampling, key: &[u64]) -> u32 {
    let uniform = Random::from_key(key).uniform();
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| f64::from((logit - max).exp());
    if sampling.top_k == 0 && sampling.top_p >= 1.0 {
        let mut weights = vec![0.0; logits.len()];
        let mut sum = 0.0;
        for (slot, logit) in weights.iter_mut().zip(logits) {
            sum += weight(*logit);
            *slot = sum;
        }
        let place = weights.partition_point(|cumulative| *cumulative <= uniform * sum);
        return place.min(logits.len() - 1) as u32;
    }
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let total: f64 = order.iter().map(|id| weight(logits[*id as usize])).sum();
    let mut kept = 0.0;
    let mut n_kept = 0;
    for id in &order {
        kept += weight(logits[*id as usize]);
        n_kept += 1;
        if kept >= f64::from(sampling.top_p) * total {
            break;
        }
    }
    let mut left = uniform * kept;
    for id in &order[..n_kept] {
        left -= weight(logits[*id as usize]);
        if left < 0.0 {
            return *id;
        }
    }
    order[n_kept - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            seed: 1,
            max_new_tokens: 1,
            stop_ids: vec![],
            vocab_limit: usize::MAX,
        }
    }

    fn shares(sampling: &Sampling) -> Vec<f64> {
        let n = 20_000;
        let mut counts = vec![0.0; 4];
        for i in 0..n {
            let mut logits = [0.0, 1.0, 2.0, f32::NEG_INFINITY];
            counts[draw(&mut logits, sampling, &[7, i]).token as usize] += 1.0 / n as f64;
        }
        counts
    }

    #[test]
    fn draws_follow_the_distribution() {
        let z = 1.0 + 1f64.exp() + 2f64.exp();
        let want = [1.0 / z, 1f64.exp() / z, 2f64.exp() / z, 0.0];
        for (got, want) in shares(&sampling()).iter().zip(want) {
            assert!((got - want).abs() < 0.015, "{got} {want}");
        }
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_it() {
        let shares = shares(&Sampling { top_p: 0.9, ..sampling() });
        assert_eq!(shares[0], 0.0); // 0.665 + 0.245 reaches 0.9
        assert!(shares[1] > 0.2);
    }

    #[test]
    fn top_k_and_greedy_take_the_best() {
        assert!(shares(&Sampling { top_k: 1, ..sampling() })[2] > 0.9999);
        assert!(shares(&Sampling { temperature: 0.0, ..sampling() })[2] > 0.9999);
    }

    #[test]
    fn padding_is_never_drawn() {
        assert_eq!(shares(&Sampling { vocab_limit: 2, ..sampling() })[2], 0.0);
    }
}
