//! The step that all kinds of attention share: over the rows of the pass, or over the cache.

use super::{Asked, Pass};
use crate::rows::Rows;
use fathom_kernels::attention::{
    BLOCK_TOKENS, Heads, NewTokens, forward_cached, forward_new, write_new,
};
use fathom_tensor::{Buffer, Tensor, op};

/// Attention of layer `layer_idx`: q [N, H, Dqk], k [N, Hkv, Dqk], v [N, Hkv, Dv]; result [N, H · Dv]. With a
/// cache, the new keys and values are stored first. If some rows are asked for, q and the result are theirs.
pub(super) fn attend<'w>(
    pass: &Pass<'_, 'w>,
    layer_idx: usize,
    heads: Heads,
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    asked: Option<&Asked>,
) -> Tensor {
    match pass.rows {
        Rows::Packed(rows) => op::attention(pass.tape, heads, &rows.segments, (q, k, v)),
        Rows::Cached(..) => {
            let new = NewTokens { k: k.data(), v: v.data() };
            attend_cached(pass, layer_idx, heads, q, new, asked)
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
    asked: Option<&Asked>,
) -> Tensor {
    let Rows::Cached(rows, cache) = pass.rows else {
        unreachable!("called for cached rows only");
    };
    let width = heads.n_heads * heads.v_dim;
    let mut out = Buffer::stale(q.n_rows() * width);
    let layer = &mut cache.borrow_mut().layers[layer_idx];
    match asked {
        None => forward_new(&heads, layer, &rows.segments, new, q.data(), &mut out),
        Some(asked) => {
            write_new(layer, &rows.segments, new);
            forward_cached(&heads, layer, &asked.rows.segments, q.data(), &mut out);
        }
    }
    Tensor::new(out, &[q.n_rows(), width])
}
