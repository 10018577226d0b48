//! The output head: logits, and log-probabilities of given tokens without ever holding [N, V].

use super::linear::add_products;
use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::Weight;
use fathom_kernels::matmul::{Lhs, Write, matmul};
use fathom_kernels::{cross_entropy, elementwise, embedding};

/// Elements of logits held at a time (8 MiB): few enough for the cache that threads share, enough
/// that the passes over the head and its gradient, one per chunk, do not set the pace.
pub(super) const LOGITS_AT_ONCE: usize = 1 << 21;

/// Logits of every row: h [N, D], head [V, D], result [N, V]. Not recorded.
pub fn logits(h: &Tensor, head: &Weight) -> Tensor {
    let (n, vocab) = (h.n_rows(), head.n_out());
    let mut out = Buffer::stale(n * vocab);
    logits_into(h.data(), head, &mut out);
    Tensor::new(out, &[n, vocab])
}

/// [`logits`] into memory of the caller: h [N, D], out [N, V].
///
/// Panics if a length does not fit.
pub fn logits_into(h: &[f32], head: &Weight, out: &mut [f32]) {
    let n = h.len() / head.n_in();
    assert_eq!(h.len(), n * head.n_in(), "rows of `{}` {:?}", head.name, head.shape);
    assert_eq!(out.len(), n * head.n_out(), "logits of {n} rows");
    head.multiply(h, n, out);
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
    let mut gradients = tape
        .is_recording()
        .then(|| (Buffer::zeros(n * width), Buffer::stale(vocab * width), Write::Set));

    let chunk = (LOGITS_AT_ONCE / vocab).clamp(16, 4096);
    for start in (0..n_scored).step_by(chunk) {
        let range = start..(start + chunk).min(n_scored);
        let (rows, targets) = (&scored.rows[range.clone()], &scored.targets[range.clone()]);
        let picked = Picked::of(h, rows);
        let mut logits = Buffer::stale(rows.len() * vocab);
        head.multiply(picked.data(), rows.len(), &mut logits);
        if scored.inverse_temperature != 1.0 {
            elementwise::scale(&mut logits, scored.inverse_temperature);
        }
        let mut lse = Buffer::stale(rows.len());
        cross_entropy::log_probs(&logits, targets, &mut log_probs[range.clone()], &mut lse);
        let Some((dh, dhead, write)) = &mut gradients else { continue };
        let mut dlogp = Buffer::stale(rows.len());
        for (at, i) in range.enumerate() {
            dlogp[at] = dloss(i, log_probs[i]) * scored.inverse_temperature;
        }
        cross_entropy::backward(&mut logits, targets, &lse, &dlogp);
        picked.add_gradient(&logits, head, rows, dh);
        add_products(&[(head, &logits, 0)], picked.data(), rows.len(), dhead, *write);
        *write = Write::Add;
    }
    if let Some((dh, dhead, Write::Add)) = gradients {
        let node_h = h.node;
        let _ = tape.output(Buffer::zeros(0), &[0], |_| {
            move |backward: &mut crate::Backward| {
                backward.gradients.add(head.slot, &dhead);
                backward.give(node_h, dh);
            }
        });
    }
    log_probs
}

/// The scored rows of a chunk: where they lie if they follow each other, else a copy.
pub(super) enum Picked<'h> {
    Neighbours(&'h [f32]),
    Copied(Buffer),
}

impl<'h> Picked<'h> {
    pub(super) fn of(h: &'h Tensor, rows: &[u32]) -> Self {
        let width = h.width();
        let first = rows.first().map_or(0, |row| *row as usize);
        if follow_each_other(rows) {
            return Picked::Neighbours(&h.data()[first * width..(first + rows.len()) * width]);
        }
        let mut out = Buffer::stale(rows.len() * width);
        embedding::gather_f32(h.data(), rows, width, &mut out);
        Picked::Copied(out)
    }

    pub(super) fn data(&self) -> &[f32] {
        match self {
            Picked::Neighbours(rows) => rows,
            Picked::Copied(rows) => rows,
        }
    }

    /// Adds `dlogits · head` to the rows of `dh`.
    pub(super) fn add_gradient(
        &self,
        dlogits: &[f32],
        head: &Weight,
        rows: &[u32],
        dh: &mut [f32],
    ) {
        let (n, width, lhs) = (rows.len(), head.n_in(), Lhs::rows(dlogits, head.n_out()));
        if let Picked::Neighbours(_) = self {
            let first = rows.first().map_or(0, |row| *row as usize);
            let dh = &mut dh[first * width..(first + n) * width];
            return matmul(lhs, n, head.input_gradient(), dh, Write::Add);
        }
        let mut dpicked = Buffer::stale(n * width);
        matmul(lhs, n, head.input_gradient(), &mut dpicked, Write::Set);
        embedding::scatter_add(rows, &dpicked, width, dh);
    }
}

fn follow_each_other(rows: &[u32]) -> bool {
    rows.windows(2).all(|pair| pair[1] == pair[0] + 1)
}
