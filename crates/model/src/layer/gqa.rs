//! Grouped-query attention of the Llama and Qwen2 kind; multi-head and multi-query are its ends.

use super::attention::attend;
use super::{Asked, Pass};
use fathom_kernels::attention::Heads;
use fathom_tensor::{Tape, Tensor, op};

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
    /// x [N, D], normalised; result [N, D], or the rows of it that are asked for.
    pub(crate) fn forward<'w>(
        &self,
        pass: &Pass<'_, 'w>,
        layer_idx: usize,
        x: &Tensor,
        asked: Option<&Asked>,
    ) -> Tensor {
        let config = pass.config;
        let dim = config.head_dim;
        let (n_heads, n_kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let [q, k, v] = self.project(pass, x, asked);
        let heads_of = |i: usize, y: Tensor, n_heads: usize| {
            let y = match self.biases {
                Some(biases) => op::add_bias(pass.tape, y, &pass.weights[biases[i]]),
                None => y,
            };
            let n = y.n_rows();
            y.reshaped(&[n, n_heads, dim])
        };
        let q = heads_of(0, q, n_heads); // [N, H, Dh]
        let k = heads_of(1, k, n_kv_heads); // [N, Hkv, Dh]
        let v = heads_of(2, v, n_kv_heads);
        let positions = pass.rows.positions();
        let q = match asked {
            None => op::rope(pass.tape, q, pass.rope, 0, positions),
            Some(asked) => op::rope(&Tape::forgetting(), q, pass.rope, 0, &asked.rows.positions),
        };
        let k = op::rope(pass.tape, k, pass.rope, 0, positions);
        let heads = Heads {
            n_heads,
            n_kv_heads,
            qk_dim: dim,
            v_dim: dim,
            scale: config.softmax_scale() as f32,
        };
        let context = attend(pass, layer_idx, heads, (&q, &k, &v), asked);
        op::linear(pass.tape, &context, &pass.weights[self.o_proj])
    }

    /// Queries of the rows that are asked for, keys and values of all.
    fn project<'w>(&self, pass: &Pass<'_, 'w>, x: &Tensor, asked: Option<&Asked>) -> [Tensor; 3] {
        let [q, k, v] = [self.q_proj, self.k_proj, self.v_proj].map(|at| &pass.weights[at]);
        let Some(asked) = asked else { return op::linears(pass.tape, x, [q, k, v]) };
        let q = op::linear(pass.tape, &op::pick_rows(x, asked.wanted), q);
        let [k, v] = op::linears(pass.tape, x, [k, v]);
        [q, k, v]
    }
}
