//! The definition of top-k, top-p, min-p and the draw, on a sorted vocabulary.
//!
//! `cut.rs` computes the same token faster; it asks here where its bounds leave a doubt.

use super::settings::Sampling;

/// The token that `uniform` in `[0, 1)` falls on. The largest of `logits` [V] is `max`; all are
/// numbers below +∞.
pub(super) fn choose(logits: &[f32], max: f32, sampling: &Sampling, uniform: f64) -> u32 {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    choose_ranked(&order, logits, max, sampling, uniform)
}

/// As [`choose`], among the tokens of `order`, the most likely first. Top-k is done.
pub(super) fn choose_ranked(
    order: &[u32],
    logits: &[f32],
    max: f32,
    sampling: &Sampling,
    uniform: f64,
) -> u32 {
    let weights = order.iter().map(|id| weight(logits[*id as usize], max));
    let total: f64 = weights.clone().sum();
    let mut kept = Vec::new();
    let mut sum = 0.0;
    for weight in weights {
        if weight < f64::from(sampling.min_p) {
            break;
        }
        sum += weight;
        kept.push(weight);
        if sum >= f64::from(sampling.top_p) * total {
            break;
        }
    }
    fall(order, &kept, sum, uniform)
}

/// Probability relative to the most likely token.
pub(super) fn weight(logit: f32, max: f32) -> f64 {
    f64::from((logit - max).exp())
}

/// The token that `uniform` falls on, where `order` has `weights` that add up to `sum`.
pub(super) fn fall(order: &[u32], weights: &[f64], sum: f64, uniform: f64) -> u32 {
    let mut left = uniform * sum;
    for (id, weight) in order.iter().zip(weights) {
        left -= weight;
        if left < 0.0 {
            return *id;
        }
    }
    order[weights.len() - 1]
}
