//! Top-k, top-p, min-p and the draw, fast: the tokens of `by_sorting.rs` without its sort.
//!
//! Few tokens of a large vocabulary matter. Top-k selects them. For top-p the whole mass is needed
//! only to know where the cut lies: a quick sum with a known error bounds it, and as the sums of
//! the likeliest tokens are those of the definition, bit for bit, the cut is the same too. Where
//! the error of the quick sum leaves a doubt, the definition itself decides.

use super::by_sorting::{self, fall, weight};
use super::ranked::{self, Ranked};
use super::settings::Sampling;
use fathom_kernels::cross_entropy;

/// Relative error of the quick sum: [`cross_entropy::log_sum_exp_f64`] adds at most 256 numbers in
/// f32 before it goes on in f64, and its exponential is good to a few units in the last place.
const SLACK: f64 = 2e-5;

/// The token that `uniform` in `[0, 1)` falls on. The largest of `logits` [V] is `max`; all are
/// numbers below +∞.
pub(super) fn choose(logits: &[f32], max: f32, sampling: &Sampling, uniform: f64) -> u32 {
    if sampling.top_k > 0 {
        let order = ranked::top_k(logits, sampling.top_k);
        by_sorting::choose_ranked(&order, logits, max, sampling, uniform)
    } else if sampling.top_p < 1.0 || sampling.min_p > 0.0 {
        from_likeliest(logits, max, sampling, uniform)
            .unwrap_or_else(|| by_sorting::choose(logits, max, sampling, uniform))
    } else {
        from_all(logits, max, uniform)
    }
}

/// The draw without a cut, in the order of ids.
fn from_all(logits: &[f32], max: f32, uniform: f64) -> u32 {
    let mut sum = 0.0;
    let mut sums = Vec::with_capacity(logits.len());
    for logit in logits {
        sum += weight(*logit, max);
        sums.push(sum);
    }
    let mut place = sums.partition_point(|so_far| *so_far <= uniform * sum);
    if place == sums.len() {
        // The product was rounded up to the sum: the last token with a probability.
        place = sums.partition_point(|so_far| *so_far < sum);
    }
    place as u32
}

/// The draw where top-p or min-p cuts; none if the quick sum cannot tell where.
fn from_likeliest(logits: &[f32], max: f32, sampling: &Sampling, uniform: f64) -> Option<u32> {
    let (top_p, min_p) = (f64::from(sampling.top_p), f64::from(sampling.min_p));
    let (surely_not, surely) = if top_p < 1.0 {
        let total = (cross_entropy::log_sum_exp_f64(logits) - f64::from(max)).exp();
        (top_p * total * (1.0 - SLACK), top_p * total * (1.0 + SLACK))
    } else {
        (f64::INFINITY, f64::INFINITY)
    };
    // How far below the largest logit kept tokens can lie, with room to spare. What lies `c` lower
    // weighs at most `n · e^−c` together, where the whole weighs at least 1.
    let by_min_p = -min_p.ln(); // +∞ for 0
    let by_top_p = (logits.len() as f64 / (1.0 - top_p)).ln(); // +∞ for 1
    let threshold = max - (by_min_p.min(by_top_p) + 1.0) as f32;
    let (mut order, mut weights, mut sum) = (Vec::new(), Vec::new(), 0.0);
    for id in Ranked::from(logits, threshold) {
        let weight = weight(logits[id as usize], max);
        if weight < min_p {
            return Some(fall(&order, &weights, sum, uniform));
        }
        sum += weight;
        order.push(id);
        weights.push(weight);
        if sum >= surely {
            return Some(fall(&order, &weights, sum, uniform));
        }
        if sum >= surely_not {
            return None;
        }
    }
    // Nothing is missing if it was min-p that set the threshold.
    (by_min_p <= by_top_p).then(|| fall(&order, &weights, sum, uniform))
}
