//! The output head.

use crate::check::{Case, matmul, softmax};
use fathom_tensor::op::{self, LogProbs, Pairs};
use fathom_tensor::random::Random;
use fathom_tensor::{Buffer, Precision, Tensor, Weight};
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

/// `0.7 Σ CE(p, q)`; only h is moved: head and teacher get no gradient.
fn check_distil([n, m, width, vocab]: [usize; 4], rows: &[u32], teacher_rows: &[u32]) {
    let noise = |key: u64, n: usize| Random::from_key(&[6, key]).normals(n, 0.8);
    let mut head = Weight::new("head", &[vocab, width], 0, noise(0, vocab * width));
    head.pack(Precision::F32, true);
    let teacher = Tensor::new(Buffer::copy_of(&noise(1, m * width)), &[m, width]);
    let pairs = Pairs {
        rows: rows.to_vec(),
        teacher_rows: teacher_rows.to_vec(),
        tokens: (0..rows.len() as u32).map(|i| i * 7 % vocab as u32).collect(),
    };
    let in_f64 = |x: &[f32]| -> Vec<f64> { x.iter().map(|v| f64::from(*v)).collect() };
    let log_softmax = |h: &[f64], row: u32| -> Vec<f64> {
        let row = &h[row as usize * width..][..width];
        let logits = matmul(row, &in_f64(head.values()), width);
        softmax(&logits).into_iter().map(f64::ln).collect()
    };
    let p: Vec<Vec<f64>> =
        pairs.teacher_rows.iter().map(|row| log_softmax(&in_f64(teacher.data()), *row)).collect();
    let loss = |v: &[Vec<f64>]| -> f64 {
        let cross = |(row, p): (&u32, &Vec<f64>)| -> f64 {
            let q = log_softmax(&v[0], *row);
            -p.iter().zip(&q).map(|(p, q)| p.exp() * q).sum::<f64>()
        };
        0.7 * pairs.rows.iter().zip(&p).map(cross).sum::<f64>()
    };
    let case = Case::new("linear_distil").leaf(&[n, width]);
    let got = RefCell::new(Vec::new());
    case.check_with_loss(
        |tape, x, _| {
            got.borrow_mut().push(op::linear_distil(tape, &x[0], &teacher, &head, &pairs, 0.7));
            Vec::new()
        },
        |v| (Vec::new(), loss(v)),
    );
    let largest =
        |row: &[f64]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|x| x.0);
    let h = &case.inputs()[0];
    let q: Vec<Vec<f64>> = rows.iter().map(|row| log_softmax(h, *row)).collect();
    let n_agree = q.iter().zip(&p).filter(|(q, p)| largest(q) == largest(p)).count();
    for got in got.into_inner() {
        assert_eq!(got.n_agree, n_agree);
        for ((got, q), token) in got.log_probs.iter().zip(&q).zip(&pairs.tokens) {
            assert!((f64::from(*got) - q[*token as usize]).abs() < 1e-4);
        }
    }
}

#[test]
fn a_distribution_follows_its_teacher_by_definition() {
    check_distil([7, 5, 6, 11], &[1, 4, 6], &[0, 0, 3]);
    check_distil([6, 6, 8, 33], &[2, 3, 4, 5], &[1, 2, 3, 4]);
    check_distil([5, 4, 3, 2], &[4, 0], &[1, 3]);
}
