//! Log-probabilities of targets, and the gradient that turns logits in place.
//!
//! `logp = logit[target] − lse`, `lse = max + ln Σ exp(logit − max)`: safe for logits of any size.
//! Letters: N rows, V vocabulary.

use crate::lanes::{self, LANES, for_rows, per_isa, span};
use crate::math::exp_f32;
use crate::threads::Shards;

/// Elements whose exponentials are summed in f32 before the sum moves to f64.
const SUM_BLOCK: usize = 4096;
/// An element costs about as much as this many plain ones.
const COST: usize = 4;

/// Log-probability of the target of every row.
///
/// Shapes: `logits` [N, V]; `targets`, `logp`, `lse` [N]. [`backward`] needs `lse`.
///
/// Panics if the shapes disagree or a target is not below V.
pub fn log_probs(logits: &[f32], targets: &[u32], logp: &mut [f32], lse: &mut [f32]) {
    let (n, vocab) = check(logits.len(), targets);
    assert!(logp.len() == n && lse.len() == n, "{n} rows: {}, {}", logp.len(), lse.len());
    let (logp, lse) = (Shards::new(logp), Shards::new(lse));
    for_rows(n, COST * vocab, |rows| {
        for i in rows {
            let row = &logits[i * vocab..(i + 1) * vocab];
            let row_lse = log_sum_exp_f64(row);
            // SAFETY: row ranges of one loop do not overlap.
            unsafe {
                lse.slice(i..i + 1)[0] = row_lse as f32;
                // In f64: the difference of two large numbers may be small.
                logp.slice(i..i + 1)[0] = (row[targets[i] as usize] as f64 - row_lse) as f32;
            }
        }
    });
}

/// The gradient, in place of the logits: `dlogits = dlogp · (onehot(target) − softmax(logits))`.
///
/// Shapes: `logits` [N, V]; `targets`, `lse`, `dlogp` [N], `lse` as [`log_probs`] left it. A row
/// with `dlogp` 0 (a masked token) becomes 0.
///
/// Panics if the shapes disagree or a target is not below V.
pub fn backward(logits: &mut [f32], targets: &[u32], lse: &[f32], dlogp: &[f32]) {
    let (n, vocab) = check(logits.len(), targets);
    assert!(lse.len() == n && dlogp.len() == n, "{n} rows: {}, {}", lse.len(), dlogp.len());
    let logits = Shards::new(logits);
    for_rows(n, COST * vocab, |rows| {
        for i in rows {
            // SAFETY: row ranges of one loop do not overlap.
            let row = unsafe { logits.slice(i * vocab..(i + 1) * vocab) };
            if dlogp[i] == 0.0 {
                row.fill(0.0);
                continue;
            }
            scaled_exp(row, lse[i], -dlogp[i]);
            row[targets[i] as usize] += dlogp[i];
        }
    });
}

/// Turns every row of `vocab` logits into log-probabilities, in place.
///
/// Panics if `logits` is not made of whole rows.
pub fn log_softmax(logits: &mut [f32], vocab: usize) {
    let n = whole_rows(logits.len(), vocab);
    let logits = Shards::new(logits);
    for_rows(n, COST * vocab, |rows| {
        // SAFETY: row ranges of one loop do not overlap.
        for row in unsafe { logits.slice(span(&rows, vocab)) }.chunks_exact_mut(vocab) {
            let lse = log_sum_exp(row);
            shift(row, -lse);
        }
    });
}

/// Turns every row of `width` logits into probabilities, in place.
///
/// Panics if `logits` is not made of whole rows.
pub fn softmax(logits: &mut [f32], width: usize) {
    let n = whole_rows(logits.len(), width);
    let logits = Shards::new(logits);
    for_rows(n, COST * width, |rows| {
        // SAFETY: row ranges of one loop do not overlap.
        for row in unsafe { logits.slice(span(&rows, width)) }.chunks_exact_mut(width) {
            softmax_row(row);
        }
    });
}

/// Index of the largest element, the first of equals. NaN is passed over; 0 if there is nothing
/// else.
pub fn argmax(row: &[f32]) -> u32 {
    let best = largest(row);
    row.iter().position(|&v| v == best).unwrap_or(0) as u32
}

/// `ln Σ exp(x)` of one row.
pub fn log_sum_exp(row: &[f32]) -> f32 {
    log_sum_exp_f64(row) as f32
}

/// As [`log_sum_exp`], before it is rounded to f32.
pub fn log_sum_exp_f64(row: &[f32]) -> f64 {
    let top = largest(row);
    if top == f32::NEG_INFINITY {
        return f64::NEG_INFINITY; // nothing but masked logits; a difference would be NaN
    }
    top as f64 + sum_exp(row, top).ln()
}

/// `exp(x − top)` in place of every x.
pub fn exp_below(row: &mut [f32], top: f32) {
    scaled_exp(row, top, 1.0);
}

/// `Σ exp(x − top)`
pub fn sum_exp_below(row: &[f32], top: f32) -> f64 {
    sum_exp(row, top)
}

/// Returns N and V.
fn check(len: usize, targets: &[u32]) -> (usize, usize) {
    let n = targets.len();
    if n == 0 {
        assert_eq!(len, 0, "logits without targets");
        return (0, 0);
    }
    assert!(len.is_multiple_of(n), "{len} logits for {n} targets");
    let vocab = len / n;
    let outside = targets.iter().find(|&&t| t as usize >= vocab);
    assert!(outside.is_none(), "target {outside:?} in a vocabulary of {vocab}");
    (n, vocab)
}

fn whole_rows(len: usize, width: usize) -> usize {
    assert!(width > 0 && len.is_multiple_of(width), "{len} elements in rows of {width}");
    len / width
}

per_isa! {
    fn largest(row: &[f32]) -> f32 {
        lanes::max(row)
    }
}

per_isa! {
    /// Σ exp(x − top)
    fn sum_exp(row: &[f32], top: f32) -> f64 {
        let mut sum = 0.0f64;
        for block in row.chunks(SUM_BLOCK) {
            let mut acc = [0.0f32; LANES];
            let (whole, tail) = block.as_chunks::<LANES>();
            for x in whole {
                for lane in 0..LANES {
                    acc[lane] += exp_f32::<false>(x[lane] - top);
                }
            }
            for (acc, &x) in acc.iter_mut().zip(tail) {
                *acc += exp_f32::<false>(x - top);
            }
            sum += lanes::fold(acc) as f64;
        }
        sum
    }
}

per_isa! {
    /// `x = factor · exp(x − shift)`
    fn scaled_exp(row: &mut [f32], shift: f32, factor: f32) {
        for x in row {
            *x = factor * exp_f32::<false>(*x - shift);
        }
    }
}

per_isa! {
    fn shift(row: &mut [f32], by: f32) {
        for x in row {
            *x += by;
        }
    }
}

/// Softmax of one row in place, divided by its own sum, so that it adds up to 1.
pub(crate) fn softmax_row(row: &mut [f32]) {
    let top = largest(row);
    let sum = sum_exp(row, top);
    scaled_exp(row, top, (1.0 / sum) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        assert_close, dot64, golden, gradient, noise, numbers, numbers_f32, same_bits_everywhere,
        widen,
    };

    fn plain(logits: &[f64], targets: &[u32]) -> Vec<f64> {
        let vocab = logits.len() / targets.len();
        let row = |(row, &target): (&[f64], &u32)| {
            let top = row.iter().copied().fold(f64::MIN, f64::max);
            row[target as usize] - top - row.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
        };
        logits.chunks_exact(vocab).zip(targets).map(row).collect()
    }

    fn case(n: usize, vocab: usize) -> (Vec<f32>, Vec<u32>, Vec<f32>) {
        let logits = noise(1, n * vocab).iter().map(|v| v * 8.0).collect();
        let targets = (0..n).map(|i| (i * 31 % vocab) as u32).collect();
        (logits, targets, noise(2, n))
    }

    #[test]
    fn log_probs_and_gradient_equal_the_definition() {
        for (n, vocab) in [(1, 1), (3, 7), (5, 33), (2, 130)] {
            let (mut logits, targets, dlogp) = case(n, vocab);
            let (mut logp, mut lse) = (vec![0.0; n], vec![0.0; n]);
            log_probs(&logits, &targets, &mut logp, &mut lse);
            assert_close(&logp, &plain(&widen(&logits), &targets), 1e-6, "logp");
            let want = gradient(&logits, |x| dot64(&plain(x, &targets), &dlogp));
            backward(&mut logits, &targets, &lse, &dlogp);
            assert_close(&logits, &want, 1e-6, "dlogits");
        }
    }

    #[test]
    fn golden_losses_are_met() {
        let Some(golden) = golden("cross_entropy") else { return };
        for (i, case) in golden.as_array().unwrap().iter().enumerate() {
            let logits = numbers_f32(&case["logits"]);
            let targets: Vec<u32> =
                numbers(&case["targets"]).into_iter().map(|t| t as u32).collect();
            let (mut logp, mut lse) = (vec![0.0; targets.len()], vec![0.0; targets.len()]);
            log_probs(&logits, &targets, &mut logp, &mut lse);
            let tolerance = if i == 1 { 1e-5 } else { 1e-6 }; // case 1 has logits of hundreds
            assert_close(&logp, &numbers(&case["target_logprobs"]), tolerance, "logp");
            let mask = numbers(&case["mask"]);
            let n_seen: f64 = mask.iter().sum();
            let dlogp: Vec<f32> = mask.iter().map(|m| (-m / n_seen) as f32).collect();
            let loss: f64 = logp.iter().zip(&dlogp).map(|(&l, &d)| l as f64 * d as f64).sum();
            assert_close(&[loss as f32], &numbers(&case["loss_mean"]), tolerance, "loss");
            let mut grads = logits;
            backward(&mut grads, &targets, &lse, &dlogp);
            assert_close(&grads, &numbers(&case["grad_logits_of_mean"]), tolerance, "dlogits");
        }
    }

    #[test]
    fn masked_rows_get_a_zero_gradient() {
        let mut logits = [f32::NAN, f32::INFINITY, 1.0, 1.0, 2.0, 3.0];
        backward(&mut logits, &[0, 0], &[0.0, 3.4], &[0.0, 1.0]);
        assert_eq!(logits[..3], [0.0; 3]);
        assert!(logits[3..].iter().all(|v| *v != 0.0));
    }

    #[test]
    fn extreme_logits_stay_finite() {
        let logits = [3e38, -3e38, 0.0, -800.0, 800.0, f32::NEG_INFINITY];
        let (mut logp, mut lse) = ([0.0; 2], [0.0; 2]);
        log_probs(&logits, &[0, 1], &mut logp, &mut lse);
        assert_eq!(logp, [0.0, 0.0]);
        let mut rows = logits;
        softmax(&mut rows, 3);
        assert_eq!(rows, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(log_sum_exp(&[f32::NEG_INFINITY; 3]), f32::NEG_INFINITY);
    }

    #[test]
    fn log_softmax_is_the_logarithm_of_softmax() {
        let (logits, ..) = case(3, 130);
        let (mut log, mut prob) = (logits.clone(), logits);
        log_softmax(&mut log, 130);
        softmax(&mut prob, 130);
        assert!(log.iter().zip(&prob).all(|(l, p)| (l.exp() - p).abs() < 1e-6));
        for row in prob.chunks_exact(130) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn argmax_is_the_first_of_equals() {
        for (row, want) in [
            (vec![1.0, 3.0, 3.0], 1),
            (vec![f32::NAN, 2.0, 5.0], 2),
            (vec![f32::NEG_INFINITY; 4], 0),
            (vec![f32::NAN], 0),
        ] {
            assert_eq!(argmax(&row), want, "{row:?}");
        }
        let mut long = noise(1, 10_000);
        (long[7777], long[9999]) = (2.0, 2.0);
        assert_eq!(argmax(&long), 7777);
    }

    #[test]
    fn bits_are_the_same_on_every_level_and_thread_count() {
        for (n, vocab) in [(3, 7), (4, 33), (5, 9001)] {
            let (logits, targets, dlogp) = case(n, vocab);
            same_bits_everywhere(|| {
                let (mut grads, mut logp, mut lse) = (logits.clone(), vec![0.0; n], vec![0.0; n]);
                log_probs(&logits, &targets, &mut logp, &mut lse);
                backward(&mut grads, &targets, &lse, &dlogp);
                [grads, logp, lse].concat()
            });
        }
    }
}
