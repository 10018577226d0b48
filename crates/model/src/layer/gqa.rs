//! Grouped-query attention of the Llama and Qwen2 kind; multi-head and multi-query are its ends.

use super::Pass;
use super::attention::attend;
use fathom_kernels::attention::Heads;
use fathom_tensor::{Tensor, op};

/// Places of the weights.
pub struct Gqa {
    pub(crate) q_proj: usize,
    pub(crate) k_proj: usize,
    pub(crate) v_proj: usize,
    pub(crate) o_proj: usize,
    /// q, k and v biases (Qwen2).
    pub(crate) biases: Option<[usize; 3]>,
}

impl Gqa {
    /// x [N, D], normalised; result [N, D].
    pub(crate) fn forward<'w>(&self, pass: &Pass<'_, 'w>, layer_idx: usize, x: &Tensor) -> Tensor {
        let config = pass.config;
        let (n, dim) = (x.n_rows(), config.head_dim);
        let (n_heads, n_kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let project = |weight: usize, bias: Option<usize>, n_heads: usize| {
            let mut y = op::linear(pass.tape, x, &pass.weights[weight]);
            if let Some(bias) = bias {
                y = op::add_bias(pass.tape, y, &pass.weights[bias]);
            }
            y.reshaped(&[n, n_heads, dim])
        };
        let bias = |i: usize| self.biases.map(|biases| biases[i]);
        let q = project(self.q_proj, bias(0), n_heads); // [N, H, Dh]
        let k = project(self.k_proj, bias(1), n_kv_heads); // [N, Hkv, Dh]
        let v = project(self.v_proj, bias(2), n_kv_heads);
        let positions = pass.rows.positions();
        let q = op::rope(pass.tape, q, pass.rope, 0, positions);
        let k = op::rope(pass.tape, k, pass.rope, 0, positions);
        let heads = Heads {
            n_heads,
            n_kv_heads,
            qk_dim: dim,
            v_dim: dim,
            scale: config.softmax_scale() as f32,
        };
        let context = attend(pass, layer_idx, heads, &q, &k, &v);
        op::linear(pass.tape, &context, &pass.weights[self.o_proj])
    }
}
