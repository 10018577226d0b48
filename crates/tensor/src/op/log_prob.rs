//! The output head: logits, and log-probabilities of given tokens without ever holding [N, V].

use super::linear::add_product;
use crate::buffer::Buffer;
use crate::gradients::Gradients;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::Weight;
use fathom_kernels::matmul::{Lhs, Write, matmul};
use fathom_kernels::{cross_entropy, elementwise};

/// Elements of logits held at a time: 2 MiB, so that a chunk stays in the second-level cache.
const LOGITS_AT_ONCE: usize = 1 << 19;

/// Logits of every row: h [N, D], head [V, D], result [N, V]. Not recorded.
pub fn logits(h: &Tensor, head: &Weight) -> Tensor {
    let (n, vocab) = (h.n_rows(), head.n_out());
    let mut out = Buffer::stale(n * vocab);
    matmul(Lhs::rows(h.data(), h.width()), n, head.forward(), &mut out, Write::Set);
    Tensor::new(out, &[n, vocab])
}

/// What to score: `targets[i]` after row `rows[i]`.
pub struct LogProbs<'a> {
    /// Rows of the hidden states, ascending.
    pub rows: &'a [u32],
    /// The token scored at each.
    pub targets: &'a [u32],
    /// Logits are multiplied by this first: one over the sampling temperature.
    pub inverse_temperature: f32,
}

/// Log-probabilities of the targets, and on a recording tape the loss that depends on them.
///
/// `dloss(i, logp)` gives the derivative of the loss by log-probability i. It is asked at once, so
/// that each chunk of logits is turned into its gradient while it is in cache: one pass over the
/// vocabulary instead of two.
///
/// Shapes: h [N, D], head [V, D]; result one value per scored row.
pub fn linear_log_probs<'w>(
    tape: &Tape<'w>,
    h: &Tensor,
    head: &'w Weight,
    scored: &LogProbs,
    mut dloss: impl FnMut(usize, f32) -> f32,
) -> Vec<f32> {
    let (n, width, vocab) = (h.n_rows(), h.width(), head.n_out());
    let n_scored = scored.rows.len();
    assert_eq!(n_scored, scored.targets.len(), "rows and targets");
    let mut log_probs = vec![0.0; n_scored];
    let mut dh = tape.is_recording().then(|| Buffer::zeros(n * width));
    let mut dhead = tape.is_recording().then(|| Gradients::new(&[vocab * width]));

    let chunk = (LOGITS_AT_ONCE / vocab).clamp(16, 4096);
    for start in (0..n_scored).step_by(chunk) {
        let range = start..(start + chunk).min(n_scored);
        let rows = &scored.rows[range.clone()];
        let targets = &scored.targets[range.clone()];
        let picked = pick_rows(h, rows);
        let mut logits = Buffer::stale(rows.len() * vocab);
        matmul(Lhs::rows(&picked, width), rows.len(), head.forward(), &mut logits, Write::Set);
        if scored.inverse_temperature != 1.0 {
            elementwise::scale(&mut logits, scored.inverse_temperature);
        }
        let mut lse = Buffer::stale(rows.len());
        cross_entropy::log_probs(&logits, targets, &mut log_probs[range.clone()], &mut lse);
        let (Some(dh), Some(dhead)) = (&mut dh, &mut dhead) else { continue };
        let mut dlogp = Buffer::stale(rows.len());
        for (at, i) in range.enumerate() {
            dlogp[at] = dloss(i, log_probs[i]) * scored.inverse_temperature;
        }
        cross_entropy::backward(&mut logits, targets, &lse, &dlogp);
        let mut dpicked = Buffer::stale(rows.len() * width);
        matmul(
            Lhs::rows(&logits, vocab),
            rows.len(),
            head.input_gradient(),
            &mut dpicked,
            Write::Set,
        );
        for (at, &row) in rows.iter().enumerate() {
            let row = row as usize * width;
            elementwise::add_assign(
                &mut dh[row..row + width],
                &dpicked[at * width..(at + 1) * width],
            );
        }
        add_product(head, 0, &logits, &picked, rows.len(), dhead);
    }
    if let (Some(dh), Some(mut dhead)) = (dh, dhead) {
        let node_h = h.node;
        let _ = tape.output(Buffer::zeros(0), &[0], |_| {
            move |backward: &mut crate::Backward| {
                elementwise::add_assign(backward.gradients.to_add(head.slot), dhead.slot(0));
                backward.give(node_h, dh);
            }
        });
    }
    log_probs
}

fn pick_rows(h: &Tensor, rows: &[u32]) -> Buffer {
    let width = h.width();
    let mut out = Buffer::stale(rows.len() * width);
    for (at, &row) in rows.iter().enumerate() {
        let row = row as usize * width;
        out[at * width..(at + 1) * width].copy_from_slice(&h.data()[row..row + width]);
    }
    out
}
