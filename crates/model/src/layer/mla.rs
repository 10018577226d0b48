//! Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1 and appendix C), in both forms:
//! expanded (training, scoring, rollout: ordinary attention over per-head keys and values) and
//! absorbed (over the latent cache: one key head of `kv_lora_rank + qk_rope_head_dim`).
//!
//! Letters: H heads, r `kv_lora_rank`, Dn `qk_nope_head_dim`, Dr `qk_rope_head_dim`, Dv `v_head_dim`.

use super::Pass;
use super::attention::{attend, attend_cached, store};
use crate::cache::CacheForm;
use crate::rows::Rows;
use fathom_kernels::attention::Heads;
use fathom_kernels::matmul::{Format, Lhs, Packed, Precision, Product, Write, matmul_batch};
use fathom_tensor::{Buffer, Tensor, Weight, op};

/// `q_a_layernorm` and `kv_a_layernorm` do not read `rms_norm_eps` in any reference code.
const LATENT_NORM_EPS: f32 = 1e-6;

/// Places of the weights.
pub struct Mla {
    pub(crate) query: Query,
    pub(crate) kv_a_proj: usize,
    pub(crate) kv_a_layernorm: usize,
    pub(crate) kv_b_proj: usize,
    pub(crate) o_proj: usize,
    /// Per-head parts of `kv_b_proj`, made when the model is prepared for a latent cache.
    pub(crate) absorbed: Option<Absorbed>,
}

/// Queries with and without compression.
pub enum Query {
    /// `q_proj`
    Full(usize),
    /// `q_b_proj(norm(q_a_proj))`
    LowRank { q_a_proj: usize, q_a_layernorm: usize, q_b_proj: usize },
}

/// Right operands of the absorbed form, one pair per head.
pub(crate) struct Absorbed {
    /// W_UK: [Dn, r]
    key: Vec<Packed>,
    /// W_UV transposed: [r, Dv]
    value: Vec<Packed>,
}

impl Absorbed {
    /// Cuts `kv_b_proj` [H · (Dn + Dv), r] into heads.
    pub(crate) fn new(
        kv_b: &Weight,
        n_heads: usize,
        d_nope: usize,
        d_v: usize,
        precision: Precision,
    ) -> Self {
        let (rank, format) = (kv_b.n_in(), Format::fastest(precision));
        let values = kv_b.widened();
        let rows = |from: usize, n: usize| &values[from * rank..(from + n) * rank];
        let head = |h: usize| h * (d_nope + d_v);
        Absorbed {
            key: (0..n_heads)
                .map(|h| {
                    let mut packed = Packed::new();
                    packed.pack_rows(rows(head(h), d_nope), d_nope, rank, format);
                    packed
                })
                .collect(),
            value: (0..n_heads)
                .map(|h| {
                    let mut packed = Packed::new();
                    packed.pack_transposed(rows(head(h) + d_nope, d_v), rank, d_v, format);
                    packed
                })
                .collect(),
        }
    }
}

impl Mla {
    /// x [N, D], normalised; result [N, D].
    pub(crate) fn forward<'w>(&self, pass: &Pass<'_, 'w>, layer_idx: usize, x: &Tensor) -> Tensor {
        let (tape, weights, config) = (pass.tape, pass.weights, pass.config);
        let (n, n_heads) = (x.n_rows(), config.num_attention_heads);
        let positions = pass.rows.positions();

        let [q, kv_a] = self.project(pass, x);
        let q = q.reshaped(&[n, n_heads, config.qk_head_dim()]);
        let q = op::rope(tape, q, pass.rope, config.qk_nope_head_dim, positions); // [N, H, Dn + Dr]
        let rank = weights[self.kv_a_layernorm].n_elements();
        let [latent, k_rope] = op::split_columns(tape, &kv_a, rank);
        let latent = op::rms_norm(tape, &latent, &weights[self.kv_a_layernorm], LATENT_NORM_EPS); // [N, r]
        let k_rope = k_rope.reshaped(&[n, 1, config.qk_rope_head_dim]);
        let k_rope =
            op::rope(tape, k_rope, pass.rope, 0, positions).reshaped(&[n, config.qk_rope_head_dim]);

        let context = match pass.rows {
            Rows::Cached(_, cache) if cache.borrow().spec().form == CacheForm::Latent => {
                self.attend_absorbed(pass, layer_idx, &q, &latent, &k_rope)
            }
            _ => self.attend_expanded(pass, layer_idx, &q, &latent, &k_rope),
        };
        op::linear(tape, &context, &weights[self.o_proj])
    }

    /// Queries [N, H · (Dn + Dr)], and the compressed keys and values with the shared rotary key
    /// [N, r + Dr]. What reads x is one operation.
    fn project<'w>(&self, pass: &Pass<'_, 'w>, x: &Tensor) -> [Tensor; 2] {
        let (tape, weights) = (pass.tape, pass.weights);
        let kv_a_proj = &weights[self.kv_a_proj];
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
        latent: &Tensor,
        k_rope: &Tensor,
    ) -> Tensor {
        let config = pass.config;
        let n_heads = config.num_attention_heads;
        let kv = op::linear(pass.tape, latent, &pass.weights[self.kv_b_proj]);
        let dims = (config.qk_nope_head_dim, config.v_head_dim);
        let (k, v) = op::mla_keys_values(pass.tape, &kv, k_rope, n_heads, dims);
        let heads = Heads {
            n_heads,
            n_kv_heads: n_heads,
            qk_dim: config.qk_head_dim(),
            v_dim: config.v_head_dim,
            scale: config.softmax_scale() as f32,
        };
        attend(pass, layer_idx, heads, q, &k, &v)
    }

    /// Queries move into the latent space, and the context back out of it.
    fn attend_absorbed<'w>(
        &self,
        pass: &Pass<'_, 'w>,
        layer_idx: usize,
        q: &Tensor,
        latent: &Tensor,
        k_rope: &Tensor,
    ) -> Tensor {
        let config = pass.config;
        let (n, n_heads, rank) = (q.n_rows(), config.num_attention_heads, latent.width());
        let (d_nope, d_rope, d_v) =
            (config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim);
        let absorbed = self
            .absorbed
            .as_ref()
            .expect("`Model::prepare_latent` ran before a latent cache is used");

        let key = op::concat_columns(pass.tape, latent, k_rope); // [N, r + Dr]
        store(pass, layer_idx, key.data(), &[]);

        let d_qk = d_nope + d_rope;
        let moved = per_head(q.data(), n, n_heads, d_qk, &absorbed.key); // [H, N, r]
        let mut query = Buffer::stale(n * n_heads * (rank + d_rope));
        for (at, out) in query.chunks_exact_mut(rank + d_rope).enumerate() {
            let (i, h) = (at / n_heads, at % n_heads);
            out[..rank].copy_from_slice(&moved[(h * n + i) * rank..(h * n + i + 1) * rank]);
            out[rank..].copy_from_slice(&q.data()[at * d_qk + d_nope..(at + 1) * d_qk]);
        }
        let query = Tensor::new(query, &[n, n_heads, rank + d_rope]);
        let heads = Heads {
            n_heads,
            n_kv_heads: 1,
            qk_dim: rank + d_rope,
            v_dim: rank,
            scale: config.softmax_scale() as f32,
        };
        let context = attend_cached(pass, layer_idx, heads, &query); // [N, H · r]
        let values = per_head(context.data(), n, n_heads, rank, &absorbed.value); // [H, N, Dv]
        let mut out = Buffer::stale(n * n_heads * d_v);
        for (at, out) in out.chunks_exact_mut(d_v).enumerate() {
            let (i, h) = (at / n_heads, at % n_heads);
            out.copy_from_slice(&values[(h * n + i) * d_v..(h * n + i + 1) * d_v]);
        }
        Tensor::new(out, &[n, n_heads * d_v])
    }
}

/// Head h of every row times `rhs[h]`: x [N, H, width], rhs [k ≤ width, m]; result [H, N, m].
fn per_head(x: &[f32], n: usize, n_heads: usize, width: usize, rhs: &[Packed]) -> Buffer {
    let m = rhs[0].n;
    let mut out = Buffer::stale(n_heads * n * m);
    let products: Vec<Product> = rhs
        .iter()
        .enumerate()
        .map(|(h, rhs)| Product {
            lhs: Lhs { data: &x[h * width..], row_stride: n_heads * width, col_stride: 1 },
            m: n,
            rhs,
            k_range: 0..rhs.k,
            out_start: h * n * m,
        })
        .collect();
    matmul_batch(&products, &mut out, Write::Set);
    out
}
