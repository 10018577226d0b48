//! The step that all kinds of attention share: over the rows of the pass, or over the cache.

use super::Pass;
use crate::rows::Rows;
use fathom_kernels::attention::{BLOCK_TOKENS, Heads, NewTokens, forward_new};
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
            attend_cached(pass, layer_idx, heads, q, NewTokens { k: k.data(), v: v.data() })
        }
    }
}

/// Stores one latent row per new token, in the order of the rows of the pass.
pub(super) fn store_latents(pass: &Pass, layer_idx: usize, latents: &[f32]) {
    let Rows::Cached(rows, cache) = pass.rows else { return };
    let layer = &mut cache.borrow_mut().layers[layer_idx];
    let width = latents.len() / rows.tokens.len().max(1);
    for segment in &rows.segments {
        let places: Vec<(u32, u32)> = (segment.past..segment.past + segment.rows.len())
            .map(|at| (segment.blocks[at / BLOCK_TOKENS], (at % BLOCK_TOKENS) as u32))
            .collect();
        let own = segment.rows.start * width..segment.rows.end * width;
        layer.write_rows(&places, &latents[own], &[]);
    }
}

/// Attention of the new rows over the cache and their own keys, which go there too.
fn attend_cached(
    pass: &Pass,
    layer_idx: usize,
    heads: Heads,
    q: &Tensor,
    new: NewTokens,
) -> Tensor {
    let Rows::Cached(rows, cache) = pass.rows else {
        unreachable!("called for cached rows only");
    };
    let width = heads.n_heads * heads.v_dim;
    let mut out = Buffer::stale(q.n_rows() * width);
    let layer = &mut cache.borrow_mut().layers[layer_idx];
    forward_new(&heads, layer, &rows.segments, new, q.data(), &mut out);
    Tensor::new(out, &[q.n_rows(), width])
}
