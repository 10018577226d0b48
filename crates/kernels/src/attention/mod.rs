//! Causal softmax attention in f32: whole sequences, forward and backward, and rows over a paged cache.
//!
//! Memory stays linear in the length: keys are handled in blocks with a running softmax
//! (FlashAttention, arXiv:2205.14135), and the backward pass recomputes the weights from the saved
//! log-sum-exp. Multi-head, grouped and multi-query attention differ in `n_kv_heads` only; MLA gives
//! keys and values different lengths, or reads both from one latent row ([`PagedKv::latent`]).
//!
//! **Bits.** Blocks, and the parts of the keys whose states are merged in order, are counted from a
//! sequence's own first key, and every sum of a row runs over the row's keys in order. So a row has the
//! same bits alone or packed, behind a shared prefix or a copied one, from the cache or from the whole
//! sequence, on any number of threads.
//!
//! Letters: N rows, H query heads, K key/value heads, D `qk_dim`, V `v_dim`.

pub mod absorb;
mod backward;
mod cached;
mod chunked;
mod dots;
mod forward;
mod fresh;
mod grad_tile;
mod lanes;
mod lanes_neon;
mod latent;
mod latent_rows;
mod latent_tile;
mod paged;
mod parts;
mod running;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
mod tile;

pub use backward::backward;
pub use cached::{CachedSegment, forward_cached};
pub use chunked::forward_chunked;
pub use forward::forward;
pub use fresh::{NewTokens, forward_new, write_new};
pub use paged::{CacheType, PagedKv};

use std::ops::Range;

/// Keys are handled in blocks of this many, counted from the first key of the sequence.
pub const BLOCK_TOKENS: usize = 64;

/// The heads of one layer. Query head `h` reads key/value head `h / (n_heads / n_kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads, H.
    pub n_heads: usize,
    /// Key/value heads, K; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Length of a query and of a key, D.
    pub qk_dim: usize,
    /// Length of a value, V.
    pub v_dim: usize,
    /// Factor on the scores, usually 1 / sqrt(D).
    pub scale: f32,
}

/// A stretch of rows that attends causally to itself and, before that, to all rows of `prefix`.
///
/// The logical keys of an own row are the rows of `prefix` in order, then the own rows up to and
/// including itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rows that other segments own; may be empty, may be shared by several segments.
    pub prefix: Range<usize>,
    /// The rows whose attention is computed; no two segments own the same row.
    pub own: Range<usize>,
}

impl Segment {
    /// A document that begins with its own first row.
    pub fn document(own: Range<usize>) -> Self {
        Segment { prefix: 0..0, own }
    }

    /// Row of the logical key `at`.
    fn key_row(&self, at: usize) -> usize {
        match at.checked_sub(self.prefix.len()) {
            None => self.prefix.start + at,
            Some(own) => self.own.start + own,
        }
    }
}

impl Heads {
    /// Query heads of one key/value head.
    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    fn dims(&self) -> tile::Dims {
        tile::Dims { qk_dim: self.qk_dim, v_dim: self.v_dim, scale: self.scale }
    }

    fn check(&self) {
        assert!(
            self.n_kv_heads > 0 && self.n_heads.is_multiple_of(self.n_kv_heads),
            "{} query heads over {} key/value heads",
            self.n_heads,
            self.n_kv_heads
        );
        assert!(self.n_heads > 0 && self.qk_dim > 0 && self.v_dim > 0, "{self:?}");
    }

    /// Checks what the unsafe code relies on: lengths of all slices, segments in bounds, own rows disjoint.
    fn check_rows(&self, segments: &[Segment], q: &[f32], k: &[f32], v: &[f32], lse: &[f32]) {
        self.check();
        let n = lse.len() / self.n_heads;
        assert_eq!(lse.len(), n * self.n_heads, "lse [N, H]");
        assert_eq!(q.len(), n * self.n_heads * self.qk_dim, "q [N, H, D], N = {n}");
        assert_eq!(k.len(), n * self.n_kv_heads * self.qk_dim, "k [N, K, D], N = {n}");
        assert_eq!(v.len(), n * self.n_kv_heads * self.v_dim, "v [N, K, V], N = {n}");
        let mut owned = vec![false; n];
        for segment in segments {
            let Segment { prefix, own } = segment;
            assert!(prefix.start <= prefix.end && prefix.end <= n, "{segment:?} of {n} rows");
            assert!(own.start <= own.end && own.end <= n, "{segment:?} of {n} rows");
            for row in own.clone() {
                assert!(!std::mem::replace(&mut owned[row], true), "two segments own row {row}");
            }
        }
    }
}
