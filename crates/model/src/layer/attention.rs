//! The step that all kinds of attention share: over the rows of the pass, or over the cache.

use super::Pass;
use crate::rows::Rows;
use fathom_kernels::attention::{BLOCK_TOKENS, Heads, forward_cached};
use fathom_tensor::{Buffer, Tensor, op};

/// Attention of layer `layer_idx`: q [N, H, Dqk], k [N, Hkv, Dqk], v [N, Hkv, Dv]; result [N, H · Dv].
/// With a cache, the new keys and values are stored first.
pub(super) fn attend<'w>(
    pass: &Pass<'_, 'w>,
    layer_idx: usize,
    heads: Heads,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
) -> Tensor {
    match pass.rows {
        Rows::Packed(rows) => op::attention(pass.tape, heads, &rows.segments, (q, k, v)),
        Rows::Cached(..) => {
            store(pass, layer_idx, k.data(), v.data());
            attend_cached(pass, layer_idx, heads, q)
        }
    }
}

/// Stores one key row and one value row per new token; both in the order of the rows of the pass.
pub(super) fn store(pass: &Pass, layer_idx: usize, k: &[f32], v: &[f32]) {
    let Rows::Cached(rows, cache) = pass.rows else { return };
    let layer = &mut cache.borrow_mut().layers[layer_idx];
    let n = rows.tokens.len();
    let (k_width, v_width) = (k.len() / n.max(1), v.len() / n.max(1));
    for segment in &rows.segments {
        let places: Vec<(u32, u32)> = (segment.past..segment.past + segment.rows.len())
            .map(|at| (segment.blocks[at / BLOCK_TOKENS], (at % BLOCK_TOKENS) as u32))
            .collect();
        let of = |width: usize| segment.rows.start * width..segment.rows.end * width;
        layer.write_rows(&places, &k[of(k_width)], &v[of(v_width)]);
    }
}

/// Attention of the new rows over the cache, which already holds their own keys.
pub(super) fn attend_cached(pass: &Pass, layer_idx: usize, heads: Heads, q: &Tensor) -> Tensor {
    let Rows::Cached(rows, cache) = pass.rows else {
        unreachable!("called for cached rows only");
    };
    let width = heads.n_heads * heads.v_dim;
    let mut out = Buffer::stale(q.n_rows() * width);
    forward_cached(&heads, &cache.borrow().layers[layer_idx], &rows.segments, q.data(), &mut out);
    Tensor::new(out, &[q.n_rows(), width])
}
