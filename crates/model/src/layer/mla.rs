//! Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1 and appendix C), in both forms:
//! expanded (training, scoring, rollout: ordinary attention over per-head keys and values) and
//! absorbed (over the latent cache: one key head of `kv_lora_rank + qk_rope_head_dim`).
//!
//! Letters: H heads, r `kv_lora_rank`, Dn `qk_nope_head_dim`, Dr `qk_rope_head_dim`, Dv `v_head_dim`.

use super::attention::{attend, store_latents};
use super::{Asked, Pass};
use crate::cache::{CacheForm, Prefill};
use crate::config::Config;
use crate::rows::{RowKind, Rows};
use fathom_kernels::attention::absorb::{HeadWeights, Weights, absorb_queries, context_values};
use fathom_kernels::attention::{CachedSegment, Heads, forward_cached, forward_chunked};
use fathom_tensor::{Buffer, Precision, Tape, Tensor, op};

/// `q_a_layernorm` and `kv_a_layernorm` do not read `rms_norm_eps` in any reference code.
const LATENT_NORM_EPS: f32 = 1e-6;

/// Places of the weights.
pub struct Mla {
    pub(crate) query: Query,
    pub(crate) kv_a_proj: usize,
    pub(crate) kv_a_layernorm: usize,
    pub(crate) kv_b_proj: usize,
    pub(crate) o_proj: usize,
    /// Precision of the absorbed form, set when the model is prepared for a latent cache.
    pub(crate) absorbed: Option<Precision>,
}

/// Queries with and without compression.
pub enum Query {
    /// `q_proj`
    Full(usize),
    /// `q_b_proj(norm(q_a_proj))`
    LowRank { q_a_proj: usize, q_a_layernorm: usize, q_b_proj: usize },
}

impl Mla {
    /// x [N, D], normalised; result [N, D], or the rows of it that are asked for.
    pub(crate) fn forward<'w>(
        &self,
        pass: &Pass<'_, 'w>,
        layer_idx: usize,
        x: &Tensor,
        asked: Option<&Asked>,
    ) -> Tensor {
        let (tape, weights, config) = (pass.tape, pass.weights, pass.config);
        let (n, n_heads, d_nope) =
            (x.n_rows(), config.num_attention_heads, config.qk_nope_head_dim);
        let positions = pass.rows.positions();

        let [q, kv_a] = self.project(pass, x, asked);
        let q_shape = [q.n_rows(), n_heads, config.qk_head_dim()];
        let q = q.reshaped(&q_shape);
        let q = match asked {
            None => op::rope(tape, q, pass.rope, d_nope, positions), // [N, H, Dn + Dr]
            Some(asked) => {
                op::rope(&Tape::forgetting(), q, pass.rope, d_nope, &asked.rows.positions)
            }
        };
        let rank = weights[self.kv_a_layernorm].n_elements();
        let [latent, k_rope] = op::split_columns(tape, &kv_a, rank);
        let latent = op::rms_norm(tape, &latent, &weights[self.kv_a_layernorm], LATENT_NORM_EPS); // [N, r]
        let k_rope = k_rope.reshaped(&[n, 1, config.qk_rope_head_dim]);
        let k_rope =
            op::rope(tape, k_rope, pass.rope, 0, positions).reshaped(&[n, config.qk_rope_head_dim]);

        let context = match pass.rows {
            Rows::Cached(_, cache) if cache.borrow().spec().form == CacheForm::Latent => {
                self.attend_latent(pass, layer_idx, &q, [&latent, &k_rope], asked)
            }
            _ => self.attend_expanded(pass, layer_idx, &q, [&latent, &k_rope], asked),
        };
        op::linear(tape, &context, &weights[self.o_proj])
    }

    /// Queries [N, H · (Dn + Dr)] of the rows that are asked for, and the compressed keys and values with the
    /// shared rotary key of all rows, [N, r + Dr]. What reads x is one operation, unless few rows are asked for.
    fn project<'w>(&self, pass: &Pass<'_, 'w>, x: &Tensor, asked: Option<&Asked>) -> [Tensor; 2] {
        let (tape, weights) = (pass.tape, pass.weights);
        let kv_a_proj = &weights[self.kv_a_proj];
        if let Some(asked) = asked {
            let [q, _] = self.project(pass, &op::pick_rows(x, asked.wanted), None);
            return [q, op::linear(tape, x, kv_a_proj)];
        }
        match self.query {
            Query::Full(q_proj) => op::linears(tape, x, [&weights[q_proj], kv_a_proj]),
            Query::LowRank { q_a_proj, q_a_layernorm, q_b_proj } => {
                let [q_a, kv_a] = op::linears(tape, x, [&weights[q_a_proj], kv_a_proj]);
                let q_a = op::rms_norm(tape, &q_a, &weights[q_a_layernorm], LATENT_NORM_EPS);
                [op::linear(tape, &q_a, &weights[q_b_proj]), kv_a]
            }
        }
    }

    /// Keys and values of every head are spelled out: q [N, H, Dn + Dr], result [N, H · Dv].
    fn attend_expanded<'w>(
        &self,
        pass: &Pass<'_, 'w>,
        layer_idx: usize,
        q: &Tensor,
        [latent, k_rope]: [&Tensor; 2],
        asked: Option<&Asked>,
    ) -> Tensor {
        let config = pass.config;
        let n_heads = config.num_attention_heads;
        let kv = op::linear(pass.tape, latent, &pass.weights[self.kv_b_proj]);
        let dims = (config.qk_nope_head_dim, config.v_head_dim);
        let (k, v) = op::mla_keys_values(pass.tape, &kv, k_rope, n_heads, dims);
        let heads = self.expanded_heads(config);
        attend(pass, layer_idx, heads, (q, &k, &v), asked)
    }

    /// Over the latent cache: rows of prompts as the cache's [`Prefill`] says, all others absorbed.
    /// q [N, H, Dn + Dr], result [N, H · Dv].
    fn attend_latent<'w>(
        &self,
        pass: &Pass<'_, 'w>,
        layer_idx: usize,
        q: &Tensor,
        [latent, k_rope]: [&Tensor; 2],
        asked: Option<&Asked>,
    ) -> Tensor {
        let Rows::Cached(rows, cache) = pass.rows else {
            unreachable!("called for cached rows only");
        };
        let key = op::concat_columns(pass.tape, latent, k_rope); // [N, r + Dr]
        store_latents(pass, layer_idx, key.data());
        let rows = asked.map_or(rows, |asked| &asked.rows);
        let expands = cache.borrow().spec().prefill == Prefill::Expanded;
        let is_prompt = |kind: RowKind| expands && kind == RowKind::Prompt;
        let segments = rows.segments.iter().zip(&rows.kinds);
        let (prompts, others): (Vec<_>, Vec<_>) = segments.partition(|(_, kind)| is_prompt(**kind));

        let width = pass.config.num_attention_heads * pass.config.v_head_dim;
        let mut out = Buffer::stale(q.n_rows() * width);
        if !others.is_empty() {
            let others: Vec<CachedSegment> = others.iter().map(|(s, _)| (*s).clone()).collect();
            self.attend_absorbed(pass, layer_idx, &others, q, &mut out);
        }
        for (segment, _) in prompts {
            let of = |width: usize| segment.rows.start * width..segment.rows.end * width;
            let (q, out) = (&q.data()[of(q.width())], &mut out[of(width)]);
            self.attend_anew(pass, layer_idx, segment, q, out);
        }
        Tensor::new(out, &[q.n_rows(), width])
    }

    /// Queries move into the latent space, and the context back out of it. Rows of other segments come
    /// out as garbage.
    fn attend_absorbed(
        &self,
        pass: &Pass<'_, '_>,
        layer_idx: usize,
        segments: &[CachedSegment],
        q: &Tensor,
        out: &mut [f32],
    ) {
        let Rows::Cached(_, cache) = pass.rows else {
            unreachable!("called for cached rows only");
        };
        let config = pass.config;
        let precision =
            self.absorbed.expect("`Model::pack_for_cache` ran before a latent cache is used");
        let kv_b = &pass.weights[self.kv_b_proj];
        let (n, n_heads, rank) = (q.n_rows(), config.num_attention_heads, kv_b.n_in());
        let weights = HeadWeights {
            weights: match kv_b.as_stored() {
                Some(matrix) => Weights::Stored(matrix),
                None => Weights::Dense(kv_b.values()),
            },
            n_heads,
            d_nope: config.qk_nope_head_dim,
            d_v: config.v_head_dim,
            rank,
            bf16: precision == Precision::Bf16,
        };
        let d_rope = config.qk_rope_head_dim;
        let mut query = Buffer::stale(n * n_heads * (rank + d_rope)); // [N, H, r + Dr]
        absorb_queries(&weights, d_rope, q.data(), &mut query);
        let heads = Heads {
            n_heads,
            n_kv_heads: 1,
            qk_dim: rank + d_rope,
            v_dim: rank,
            scale: config.softmax_scale() as f32,
        };
        let mut context = Buffer::stale(n * n_heads * rank); // [N, H, r]
        let cache = cache.borrow();
        forward_cached(&heads, &cache.layers[layer_idx], segments, &query, &mut context);
        context_values(&weights, &context, out);
    }

    /// Keys and values of every head are made anew from the cached latents of one sequence:
    /// q [n, H, Dn + Dr], out [n, H · Dv].
    fn attend_anew(
        &self,
        pass: &Pass<'_, '_>,
        layer_idx: usize,
        segment: &CachedSegment,
        q: &[f32],
        out: &mut [f32],
    ) {
        let Rows::Cached(_, cache) = pass.rows else {
            unreachable!("called for cached rows only");
        };
        let (config, kv_b) = (pass.config, &pass.weights[self.kv_b_proj]);
        let (rank, width) = (kv_b.n_in(), kv_b.n_in() + config.qk_rope_head_dim);
        let heads = self.expanded_heads(config);
        let dims = (config.qk_nope_head_dim, config.v_head_dim);
        forward_chunked(&heads, segment.past, q, out, |keys, places, expanded| {
            let n = keys.len();
            let mut rows = Buffer::stale(n * width);
            cache.borrow().layers[layer_idx].read_latents(segment.blocks, keys, &mut rows);
            let tape = Tape::forgetting();
            let [latent, k_rope] = op::split_columns(&tape, &Tensor::new(rows, &[n, width]), rank);
            let kv = op::linear(&tape, &latent, kv_b);
            let (k, v) = op::mla_keys_values(&tape, &kv, &k_rope, heads.n_heads, dims);
            expanded.write_rows(places, k.data(), v.data());
        });
    }

    fn expanded_heads(&self, config: &Config) -> Heads {
        Heads {
            n_heads: config.num_attention_heads,
            n_kv_heads: config.num_attention_heads,
            qk_dim: config.qk_head_dim(),
            v_dim: config.v_head_dim,
            scale: config.softmax_scale() as f32,
        }
    }
}
