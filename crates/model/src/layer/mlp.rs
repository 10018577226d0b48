//! The gated feed-forward block: `down(silu(gate(x)) · up(x))`.

use super::Pass;
use fathom_tensor::{Tensor, op};

/// Places of the weights.
pub struct Mlp {
    pub(crate) gate_proj: usize,
    pub(crate) up_proj: usize,
    pub(crate) down_proj: usize,
}

impl Mlp {
    /// x [N, D]; result [N, D].
    pub(crate) fn forward<'w>(&self, pass: &Pass<'_, 'w>, x: &Tensor) -> Tensor {
        let projections = [&pass.weights[self.gate_proj], &pass.weights[self.up_proj]];
        let [gate, up] = op::linears(pass.tape, x, projections);
        let active = op::swiglu(pass.tape, &gate, &up);
        op::linear(pass.tape, &active, &pass.weights[self.down_proj])
    }
}
