//! Top-k, top-p, min-p and the draw, fast: the tokens of `by_sorting.rs` without its sort.
//!
//! Few tokens of a large vocabulary matter. Top-k selects them. For top-p the whole mass is needed
//! only to know where the cut lies: a quick sum with a known error bounds it, and as the sums of
//! the likeliest tokens are those of the definition, bit for bit, the cut is the same too. Near the
//! cut a slow sum with a smaller error takes over; where that too leaves a doubt, the definition
//! itself decides.

use super::by_sorting::{self, fall, weight};
use super::ranked::{self, Ranked};
use super::settings::Sampling;
use fathom_kernels::cross_entropy;

/// Logits at most this much below the largest are looked at first.
const NEAR: f32 = 6.0;
/// Logits whose exponentials are added in f32, before sums go on in f64.
const QUICK: usize = 512;
/// Relative error of the quick sum: 32 additions in a lane and 16 lanes, each half a unit in the
/// last place, an exponential good to a few, and the rounding of differences of logits, make less
/// than 4e-6.
pub(super) const SLACK: f64 = 5e-6;

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
    quickly_from_all(logits, max, uniform).unwrap_or_else(|| one_by_one(logits, max, uniform))
}

/// [`one_by_one`] from quick exponentials, whose sums have a known error; none where that leaves a doubt.
pub(super) fn quickly_from_all(logits: &[f32], max: f32, uniform: f64) -> Option<u32> {
    let mut total = 0.0;
    let add = |part: &[f32]| {
        total += cross_entropy::sum_exp_below(part, max);
        total
    };
    let sums: Vec<f64> = logits.chunks(QUICK).map(add).collect();
    // Both the place and the sum before a token may be off by that.
    let (place, doubt) = (uniform * total, 2.0 * SLACK * total);
    let part = sums.partition_point(|so_far| *so_far <= place);
    let mut sum = part.checked_sub(1).map_or(0.0, |before| sums[before]);
    let mut weights = [0.0; QUICK];
    let logits = logits.chunks(QUICK).nth(part)?;
    let weights = &mut weights[..logits.len()];
    weights.copy_from_slice(logits);
    cross_entropy::exp_below(weights, max);
    for (at, weight) in weights.iter().enumerate() {
        let before = sum;
        sum += f64::from(*weight);
        if sum > place {
            let sure = before + doubt <= place && place + doubt < sum;
            return sure.then_some((part * QUICK + at) as u32);
        }
    }
    None
}

/// The definition of the draw without a cut.
pub(super) fn one_by_one(logits: &[f32], max: f32, uniform: f64) -> u32 {
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

/// The draw where top-p or min-p cuts; none if no sum can tell where.
fn from_likeliest(logits: &[f32], max: f32, sampling: &Sampling, uniform: f64) -> Option<u32> {
    let (top_p, min_p) = (f64::from(sampling.top_p), f64::from(sampling.min_p));
    let n = logits.len() as f64;
    // Sums below and above which the share of top-p is surely not reached, and surely is.
    let bounds = |total: f64, slack: f64| [1.0 - slack, 1.0 + slack].map(|by| top_p * total * by);
    let mut quick = top_p < 1.0;
    let [mut surely_not, mut surely] = match quick {
        true => bounds(quick_sum(logits, max), SLACK),
        false => [f64::INFINITY; 2],
    };
    // How far below the largest logit kept tokens can lie, with room to spare. What lies `c` lower
    // weighs at most `n · e^−c` together, where the whole weighs at least 1.
    let by_min_p = -min_p.ln(); // +∞ for 0
    let by_top_p = (n / (1.0 - top_p)).ln(); // +∞ for 1
    let last = max - (by_min_p.min(by_top_p) + 1.0) as f32;
    // Most cuts come early, so what lies lower is not even collected before it is needed.
    let edges = [f32::INFINITY, (max - NEAR).max(last), last];
    let ranked = edges.windows(2).flat_map(|edge| Ranked::within(logits, edge[1], edge[0]));
    let (mut order, mut weights, mut sum) = (Vec::new(), Vec::new(), 0.0);
    for id in ranked {
        let weight = weight(logits[id as usize], max);
        if weight < min_p {
            return Some(fall(&order, &weights, sum, uniform));
        }
        sum += weight;
        order.push(id);
        weights.push(weight);
        if quick && (surely_not..surely).contains(&sum) {
            // The definition's numbers, added in another order: in f64 that is nearly the same.
            let total = logits.iter().map(|logit| self::weight(*logit, max)).sum();
            [surely_not, surely] = bounds(total, n * f64::EPSILON);
            quick = false;
        }
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

/// Σ exp(logit − max), nearly.
pub(super) fn quick_sum(logits: &[f32], max: f32) -> f64 {
    let parts = logits.chunks(QUICK).map(cross_entropy::log_sum_exp_f64);
    parts.map(|lse| (lse - f64::from(max)).exp()).sum()
}
