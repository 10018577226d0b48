//! Multi-token prediction: one more layer that scores the token after the next
//! (DeepSeek-V3, arXiv:2412.19437, section 2.2).
//!
//! The released weights put the embedding before the hidden state in `eh_proj`, unlike the paper's
//! equation 21, and the hidden state is the one after the main model's final norm.

use super::{Block, Pass};
use fathom_tensor::{Tensor, op};

/// Places of the weights. Embedding and head are those of the main model.
pub struct Mtp {
    pub(crate) enorm: usize,
    pub(crate) hnorm: usize,
    pub(crate) eh_proj: usize,
    pub(crate) block: Block,
    pub(crate) norm: usize,
}

impl Mtp {
    /// hidden [N, D] after the final norm; embedded [N, D] is the token that follows each row. Result
    /// [N, D], ready for the head; of `wanted` rows only, if it says which ([`Block::forward`]).
    pub(crate) fn forward(
        &self,
        pass: &Pass<'_, '_>,
        layer_idx: usize,
        embedded: &Tensor,
        hidden: &Tensor,
        wanted: Option<&[usize]>,
    ) -> Tensor {
        let (tape, weights, eps) = (pass.tape, pass.weights, pass.config.rms_norm_eps as f32);
        let embedded = op::rms_norm(tape, embedded, &weights[self.enorm], eps);
        let hidden = op::rms_norm(tape, hidden, &weights[self.hnorm], eps);
        let both = op::concat_columns(tape, &embedded, &hidden); // [N, 2D]
        let x = op::linear(tape, &both, &weights[self.eh_proj]);
        let x = self.block.forward(pass, layer_idx, x, wanted);
        op::rms_norm(tape, &x, &weights[self.norm], eps)
    }
}
