//! The step that all kinds of attention share: over the rows of the pass, or over the cache.

use super::Pass;
use crate::rows::Rows;
use fathom_kernels::attention::{Heads, forward_cached};
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
            store(pass, layer_idx, k.data(), k.width(), v.data(), v.width());
            attend_cached(pass, layer_idx, heads, q)
        }
    }
}

/// Stores one key row and one value row per new token.
pub(super) fn store(
    pass: &Pass,
    layer_idx: usize,
    k: &[f32],
    k_width: usize,
    v: &[f32],
    v_width: usize,
) {
    let Rows::Cached(rows, cache) = pass.rows else { return };
    let layer = &mut cache.borrow_mut().layers[layer_idx];
    for segment in &rows.segments {
        for (at, row) in segment.rows.clone().enumerate() {
            let position = segment.past + at;
            let block = segment.blocks[position / fathom_kernels::attention::BLOCK_TOKENS];
            let slot = position % fathom_kernels::attention::BLOCK_TOKENS;
            let k_row = &k[row * k_width..(row + 1) * k_width];
            layer.write(block, slot, k_row, &v[row * v_width..(row + 1) * v_width]);
        }
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
