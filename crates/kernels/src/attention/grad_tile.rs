//! The inner loops of the backward pass: a list of query rows and one block of keys.
//!
//! With weights P and scores S: dV = Pᵀ dO, dS = P (dO Vᵀ - delta), dQ = dS K, dK = dSᵀ Q
//! (FlashAttention, arXiv:2205.14135, appendix B).

use super::BLOCK_TOKENS;
use super::dots::{Source, Terms, dot_tile, sum_tile};
use super::lanes::Lanes;
use super::tile::{Dims, exp_lanes, per_isa};
use crate::cpu::Isa;

/// Rows of a tile: with four columns of lanes, sixteen independent chains, enough to hide the
/// latency of a multiply-add.
const TILE_ROWS: usize = 4;

/// One block of keys and values, packed for the backward pass, and its gradients.
#[derive(Clone, Copy)]
pub(super) struct GradBlock {
    /// [qk_dim, BLOCK_TOKENS]
    pub(super) keys_t: *const f32,
    /// [v_dim, BLOCK_TOKENS]
    pub(super) values_t: *const f32,
    /// [BLOCK_TOKENS, qk_pad]
    pub(super) keys: *const f32,
    /// Added to, [BLOCK_TOKENS, qk_pad]
    pub(super) dk: *mut f32,
    /// Added to, [BLOCK_TOKENS, v_pad]
    pub(super) dv: *mut f32,
    /// Logical position of the block's first key.
    pub(super) first_key: usize,
}

/// Saved facts of one query row.
#[derive(Clone, Copy)]
pub(super) struct QueryFacts {
    /// It sees the logical keys `0..n_keys`.
    pub(super) n_keys: usize,
    /// Log of the sum of exponentials.
    pub(super) lse: f32,
    /// Output times its gradient, summed.
    pub(super) delta: f32,
}

/// Buffers of a list of queries in the backward pass.
#[derive(Clone, Copy)]
pub(super) struct GradRows {
    /// [n, qk_pad]
    pub(super) q: *const f32,
    /// Gradient of the output, [n, v_pad]
    pub(super) dout: *const f32,
    /// Added to, [n, qk_pad]
    pub(super) dq: *mut f32,
    /// Room for the weights, [n, BLOCK_TOKENS]
    pub(super) weights: *mut f32,
    /// Room for the gradients of the scores, [n, BLOCK_TOKENS]
    pub(super) dscores: *mut f32,
}

impl GradRows {
    /// The buffers of the queries from number `at` on.
    ///
    /// # Safety
    /// There must be that many.
    pub(super) unsafe fn from(self, at: usize, dims: &Dims) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            GradRows {
                q: self.q.add(at * dims.qk_pad()),
                dout: self.dout.add(at * dims.v_pad()),
                dq: self.dq.add(at * dims.qk_pad()),
                weights: self.weights.add(at * BLOCK_TOKENS),
                dscores: self.dscores.add(at * BLOCK_TOKENS),
            }
        }
    }
}

per_isa! {
    /// Adds what one block of keys and a list of queries give to each other's gradients. The
    /// queries are ordered by `n_keys`, and each sees at least the block's first key.
    ///
    /// # Safety
    /// All pointers must reach as far as their documented shapes; `isa` must be available.
    fn grad_block = grad_block_on(
        dims: &Dims, block: &GradBlock, queries: &[QueryFacts], rows: GradRows
    )
}

#[inline(always)]
unsafe fn grad_block_on<V: Lanes>(
    dims: &Dims,
    block: &GradBlock,
    queries: &[QueryFacts],
    rows: GradRows,
) {
    let mut at = 0;
    // SAFETY: the caller's promise; tiles partition the queries, then the keys.
    unsafe {
        while at < queries.len() {
            let (tile, rows) = (&queries[at..], rows.from(at, dims));
            at += match tile.len() {
                1 => grad_tile::<V, 1>(dims, block, tile, rows),
                2 => grad_tile::<V, 2>(dims, block, tile, rows),
                3 => grad_tile::<V, 3>(dims, block, tile, rows),
                _ => grad_tile::<V, TILE_ROWS>(dims, block, tile, rows),
            };
        }
        let n_keys = (queries[queries.len() - 1].n_keys - block.first_key).min(BLOCK_TOKENS);
        let mut key = 0;
        while key < n_keys {
            // Earlier queries do not see this key: their weights are zero.
            let first = queries.partition_point(|query| query.n_keys <= block.first_key + key);
            let (n, rows) = (queries.len() - first, rows.from(first, dims));
            key += match n_keys - key {
                1 => grad_keys::<V, 1>(dims, block, key, n, rows),
                2 => grad_keys::<V, 2>(dims, block, key, n, rows),
                3 => grad_keys::<V, 3>(dims, block, key, n, rows),
                _ => grad_keys::<V, TILE_ROWS>(dims, block, key, n, rows),
            };
        }
    }
}

/// Weights and gradients of the scores of `R` queries, and what the block adds to their `dq`.
/// Returns `R`.
#[inline(always)]
unsafe fn grad_tile<V: Lanes, const R: usize>(
    dims: &Dims,
    block: &GradBlock,
    queries: &[QueryFacts],
    rows: GradRows,
) -> usize {
    let (mut q, mut dout) = ([std::ptr::null(); R], [std::ptr::null(); R]);
    let mut counts = [0; R];
    let mut n_groups = 0;
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..R {
            q[r] = rows.q.add(r * dims.qk_pad());
            dout[r] = rows.dout.add(r * dims.v_pad());
            counts[r] = (queries[r].n_keys - block.first_key).min(BLOCK_TOKENS);
            n_groups = n_groups.max(counts[r].div_ceil(16));
        }
        dot_tile::<V, f32, R>(q, dims.qk_dim, Source::alone(block.keys_t), n_groups, rows.weights);
        dot_tile::<V, f32, R>(
            dout,
            dims.v_dim,
            Source::alone(block.values_t),
            n_groups,
            rows.dscores,
        );
        for r in 0..R {
            let (row, query) = (r * BLOCK_TOKENS, &queries[r]);
            for g in 0..BLOCK_TOKENS / 16 {
                let (weights, dscores) =
                    (rows.weights.add(row + g * 16), rows.dscores.add(row + g * 16));
                let n = counts[r].saturating_sub(g * 16).min(16);
                let (mut w, mut ds) = (V::splat(0.0), V::splat(0.0));
                if n > 0 {
                    let score = V::load(weights).mul(V::splat(dims.scale));
                    w = exp_lanes(score.add(V::splat(-query.lse))).first_or(n, w);
                    let change = V::load(dscores).add(V::splat(-query.delta));
                    ds = w.mul(change).mul(V::splat(dims.scale)).first_or(n, ds);
                }
                w.store(weights);
                ds.store(dscores);
            }
        }
        sum_tile::<V, f32, R>(
            &Terms { weights: rows.dscores, row_stride: BLOCK_TOKENS, stride: 1 },
            counts,
            (Source::alone(block.keys), dims.qk_pad()),
            (rows.dq, dims.qk_pad()),
            [1.0; R],
        );
    }
    R
}

/// What `n` queries add to the gradients of the `R` keys and values from `key` on. Returns `R`.
#[inline(always)]
unsafe fn grad_keys<V: Lanes, const R: usize>(
    dims: &Dims,
    block: &GradBlock,
    key: usize,
    n: usize,
    rows: GradRows,
) -> usize {
    let (qk_pad, v_pad) = (dims.qk_pad(), dims.v_pad());
    // SAFETY: the caller's promise.
    unsafe {
        let terms = |weights: *mut f32| Terms {
            weights: weights.add(key),
            row_stride: 1,
            stride: BLOCK_TOKENS,
        };
        let (dk, dv) = (block.dk.add(key * qk_pad), block.dv.add(key * v_pad));
        let (weights, dscores) = (terms(rows.weights), terms(rows.dscores));
        sum_tile::<V, f32, R>(
            &weights,
            [n; R],
            (Source::alone(rows.dout), v_pad),
            (dv, v_pad),
            [1.0; R],
        );
        sum_tile::<V, f32, R>(
            &dscores,
            [n; R],
            (Source::alone(rows.q), qk_pad),
            (dk, qk_pad),
            [1.0; R],
        );
    }
    R
}
