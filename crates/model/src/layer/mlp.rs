//! The gated feed-forward block: `down(silu(gate(x)) · up(x))`.

use super::Pass;
use fathom_tensor::{Tensor, Weight, op};

/// Places of the weights.
pub struct Mlp {
    pub(crate) gate_proj: usize,
    pub(crate) up_proj: usize,
    pub(crate) down_proj: usize,
}

impl Mlp {
    /// x [N, D]; result [N, D].
    pub(crate) fn forward<'w>(&self, pass: &Pass<'_, 'w>, x: &Tensor) -> Tensor {
        op::feed_forward(pass.tape, x, self.block(pass.weights))
    }

    /// Its weights.
    pub(super) fn block<'w>(&self, weights: &'w [Weight]) -> op::Expert<'w> {
        op::Expert {
            gate_proj: &weights[self.gate_proj],
            up_proj: &weights[self.up_proj],
            down_proj: &weights[self.down_proj],
        }
    }
}
