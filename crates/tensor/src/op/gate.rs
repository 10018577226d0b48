//! Routing of tokens to experts, with the balance loss on its gradient.

use super::linear;
use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::Weight;
use fathom_kernels::balance;
use fathom_kernels::gate::{self, GateSpec, Routed, Routing};
use std::ops::Range;
use std::sync::Arc;

/// Sequence-wise balance loss (DeepSeek-V3, arXiv:2412.19437, section 2.1.2): the mean over sequences.
#[derive(Clone, Copy)]
pub struct Balance<'w> {
    /// Weight of the loss.
    pub alpha: f32,
    /// Rows of each sequence.
    pub sequences: &'w [Range<usize>],
}

/// Where each token goes.
pub struct Route {
    /// Chosen experts, ascending per token, [N, K].
    pub ids: Arc<Vec<u32>>,
    /// Their weights, [N, K].
    pub weights: Tensor,
}

/// Routes every row: x [N, D], weight [E, D], bias [E] (steers the choice only).
pub fn route<'w>(
    tape: &Tape<'w>,
    x: &Tensor,
    weight: &'w Weight,
    bias: Option<&[f32]>,
    spec: GateSpec,
    balance: Option<Balance<'w>>,
) -> Route {
    let logits = linear(tape, x, weight);
    let (n, k, n_experts) = (x.n_rows(), spec.top_k, spec.n_experts);
    let mut scores = Buffer::stale(n * n_experts);
    let mut weights = Buffer::stale(n * k);
    let mut ids = vec![0u32; n * k];
    gate::route(
        &spec,
        logits.data(),
        bias,
        &mut Routing { scores: &mut scores, ids: &mut ids, weights: &mut weights },
    );
    let ids = Arc::new(ids);
    if !tape.is_recording() {
        return Route { ids, weights: Tensor::new(weights, &[n, k]) };
    }
    let losses = balance.map_or_else(Vec::new, |b| sequence_losses(&b, &scores, &spec));
    tape.add_auxiliary_loss(
        losses.iter().map(|(_, loss)| loss.loss).sum::<f64>() / losses.len().max(1) as f64,
    );
    let (saved_ids, saved_weights) = (ids.clone(), weights.clone());
    let weights = tape.output(weights, &[n, k], |node| {
        move |backward| {
            let dweights = backward.take(node).unwrap_or_else(|| Buffer::zeros(n * k).into());
            let dscores = (!losses.is_empty()).then(|| {
                let mut dscores = Buffer::zeros(n * n_experts);
                for (rows, loss) in &losses {
                    let range = rows.start * n_experts..rows.end * n_experts;
                    let upstream = 1.0 / losses.len() as f32;
                    loss.backward(&scores[range.clone()], upstream, &mut dscores[range]);
                }
                dscores
            });
            let mut dlogits = Buffer::stale(n * n_experts);
            let routed = Routed { scores: &scores, ids: &saved_ids, weights: &saved_weights };
            gate::backward(&spec, routed, &dweights, dscores.as_deref(), &mut dlogits);
            backward.give(logits.node, dlogits);
        }
    });
    Route { ids, weights }
}

fn sequence_losses(
    balance: &Balance,
    scores: &[f32],
    spec: &GateSpec,
) -> Vec<(Range<usize>, balance::Balance)> {
    let n_experts = spec.n_experts;
    balance
        .sequences
        .iter()
        .map(|rows| {
            let scores = &scores[rows.start * n_experts..rows.end * n_experts];
            (rows.clone(), balance::sequence_wise(scores, n_experts, spec.top_k, balance.alpha))
        })
        .collect()
}
