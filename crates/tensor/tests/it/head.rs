//! The output head.

use crate::check::{Case, matmul, softmax};
use fathom_tensor::op::{self, LogProbs};
use std::cell::RefCell;

/// Weight of the i-th scored token in the loss below.
fn weight_of(i: usize) -> f64 {
    0.5 - 0.3 * (i % 4) as f64
}

/// `Σ_i c_i (logp_i + 0.2 logp_i²)`: its derivative depends on the log-probability.
fn check_log_probs(shape: [usize; 3], rows: &[u32], targets: &[u32], inverse_temperature: f32) {
    let [n, width, vocab] = shape;
    let case = Case::new("linear_log_probs").leaf(&[n, width]).weight(&[vocab, width]);
    let log_probs = |v: &[Vec<f64>]| -> Vec<f64> {
        let logits = matmul(&v[0], &v[1], width);
        let factor = f64::from(inverse_temperature);
        let of_row = |row: usize| -> Vec<f64> {
            let logits: Vec<f64> =
                logits[row * vocab..][..vocab].iter().map(|x| x * factor).collect();
            softmax(&logits).into_iter().map(f64::ln).collect()
        };
        let all: Vec<Vec<f64>> = (0..n).map(of_row).collect();
        rows.iter().zip(targets).map(|(row, id)| all[*row as usize][*id as usize]).collect()
    };
    let loss = |log_probs: &[f64]| -> f64 {
        let term = |(i, p): (usize, &f64)| weight_of(i) * (p + 0.2 * p * p);
        log_probs.iter().enumerate().map(term).sum()
    };
    let got = RefCell::new(Vec::new());
    case.check_with_loss(
        |tape, x, w| {
            let scored = LogProbs { rows, targets, inverse_temperature };
            let log_probs = op::linear_log_probs(tape, &x[0], &w[0], &scored, |i, p| {
                (weight_of(i) * (1.0 + 0.4 * f64::from(p))) as f32
            });
            got.borrow_mut().push(log_probs);
            Vec::new()
        },
        |v| (Vec::new(), loss(&log_probs(v))),
    );
    let [recorded, forgotten] = &got.into_inner()[..] else { panic!("one run per tape") };
    assert_eq!(recorded, forgotten, "bits without recording");
    let want = log_probs(&case.inputs());
    for (i, (got, want)) in recorded.iter().zip(&want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= 1e-5 * want.abs().max(1.0), "log-probability {i}: {got}, defined {want}");
    }
}

#[test]
fn log_probs_of_some_rows_are_their_definition() {
    // Row 1 is scored twice, as the last row of a prefix that two answers share.
    check_log_probs([7, 5, 11], &[1, 1, 3, 6], &[4, 0, 10, 4], 1.0);
    check_log_probs([7, 5, 11], &[1, 1, 3, 6], &[4, 0, 10, 4], 0.7);
}

#[test]
fn log_probs_of_neighbouring_rows_are_their_definition() {
    check_log_probs([7, 5, 11], &[2, 3, 4], &[4, 0, 10], 0.7);
    check_log_probs([3, 8, 33], &[0, 1, 2], &[32, 0, 16], 1.0);
}

#[test]
fn log_probs_over_several_chunks_are_their_definition() {
    // A chunk holds at most 4096 rows.
    let rows: Vec<u32> = (0..4099).map(|i| i / 1400).collect();
    let targets: Vec<u32> = (0..4099).map(|i| i * 7 % 5).collect();
    check_log_probs([4, 3, 5], &rows, &targets, 0.7);
}
