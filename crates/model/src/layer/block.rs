//! One decoder layer: attention and feed-forward, each behind a norm and a residual connection.

use super::{Asked, Gqa, Mla, Mlp, Moe, Pass};
use fathom_tensor::{Precision, Tensor, op};

/// Attention of either kind.
pub enum AttentionKind {
    /// Llama, Qwen2, DeepSeekMoE.
    Gqa(Gqa),
    /// DeepSeek-V2 and V3.
    Mla(Mla),
}

/// Feed-forward of either kind.
pub enum FeedForward {
    /// One block for all tokens.
    Dense(Mlp),
    /// Routed experts.
    Moe(Moe),
}

/// Places of the weights of one layer.
pub struct Block {
    pub(crate) input_layernorm: usize,
    pub(crate) attention: AttentionKind,
    pub(crate) post_attention_layernorm: usize,
    pub(crate) feed_forward: FeedForward,
}

impl Block {
    /// Prepares MLA for its absorbed form in the given precision.
    pub(crate) fn absorb(&mut self, precision: Precision) {
        if let AttentionKind::Mla(mla) = &mut self.attention {
            mla.absorbed = Some(precision);
        }
    }

    /// h [N, D]; result [N, D], or `wanted` rows of it: the others leave their keys and values only, and nothing
    /// else is computed of them.
    ///
    /// Panics if some rows of a pass without a cache are wanted.
    pub(crate) fn forward<'w>(
        &self,
        pass: &Pass<'_, 'w>,
        layer_idx: usize,
        h: Tensor,
        wanted: Option<&[usize]>,
    ) -> Tensor {
        let (tape, eps) = (pass.tape, pass.config.rms_norm_eps as f32);
        if let Some(residency) = pass.residency {
            residency.enter_layer(layer_idx);
        }
        let asked = wanted.map(|wanted| Asked::of(pass.rows, wanted));
        let x = op::rms_norm(tape, &h, &pass.weights[self.input_layernorm], eps);
        let attended = match &self.attention {
            AttentionKind::Gqa(gqa) => gqa.forward(pass, layer_idx, &x, asked.as_ref()),
            AttentionKind::Mla(mla) => mla.forward(pass, layer_idx, &x, asked.as_ref()),
        };
        let h = match wanted {
            Some(wanted) => op::pick_rows(&h, wanted),
            None => h,
        };
        let h = op::add(tape, h, attended);
        let x = op::rms_norm(tape, &h, &pass.weights[self.post_attention_layernorm], eps);
        let fed = match &self.feed_forward {
            FeedForward::Dense(mlp) => mlp.forward(pass, &x),
            FeedForward::Moe(moe) => moe.forward(pass, layer_idx, &x),
        };
        if let Some(residency) = pass.residency {
            residency.leave_layer(layer_idx);
        }
        op::add(tape, h, fed)
    }
}
