//! The paged key/value cache of one layer: blocks of tokens that sequences list in their block tables.
//!
//! Keys lie transposed, as the inner loop reads them. A latent cache (absorbed MLA) stores each
//! token once: its value is the beginning of its key.

use super::BLOCK_TOKENS;
use super::lanes::Lines;
use crate::threads::{self, Shards};

/// Cached keys and values of one layer, in blocks of [`BLOCK_TOKENS`] tokens.
#[derive(Clone)]
pub struct PagedKv {
    n_blocks: usize,
    n_kv_heads: usize,
    qk_dim: usize,
    v_dim: usize,
    latent: bool,
    /// [n_blocks, K, D, BLOCK_TOKENS]
    keys_t: Lines,
    /// [n_blocks, K, BLOCK_TOKENS, V in whole lanes]; empty if latent.
    values: Lines,
}

impl PagedKv {
    /// An empty cache of separate keys and values.
    pub fn new(n_kv_heads: usize, qk_dim: usize, v_dim: usize) -> Self {
        let (keys_t, values) = (Lines::default(), Lines::default());
        PagedKv { n_blocks: 0, n_kv_heads, qk_dim, v_dim, latent: false, keys_t, values }
    }

    /// An empty cache with one head whose values are the first `v_dim` entries of its keys:
    /// `qk_dim` numbers per token.
    ///
    /// Panics if `v_dim > qk_dim`.
    pub fn latent(qk_dim: usize, v_dim: usize) -> Self {
        assert!(v_dim <= qk_dim, "values of {v_dim} inside keys of {qk_dim}");
        PagedKv { latent: true, ..PagedKv::new(1, qk_dim, v_dim) }
    }

    /// Blocks there are.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Memory held by the blocks.
    pub fn n_bytes(&self) -> usize {
        4 * self.n_blocks * (self.key_block() + self.value_block())
    }

    /// Makes room for `n_blocks` blocks in all; never shrinks.
    pub fn grow(&mut self, n_blocks: usize) {
        if n_blocks > self.n_blocks {
            self.n_blocks = n_blocks;
            self.keys_t.room(n_blocks * self.key_block());
            self.values.room(n_blocks * self.value_block());
        }
    }

    /// Copies all tokens of block `from` to block `to`.
    ///
    /// Panics if a block does not exist.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let (from, to) = (self.existing(from), self.existing(to));
        let (key_block, value_block) = (self.key_block(), self.value_block());
        for (lines, len) in [(&mut self.keys_t, key_block), (&mut self.values, value_block)] {
            lines.as_mut_slice().copy_within(from * len..(from + 1) * len, to * len);
        }
    }

    /// Writes one token. Shapes: `k` [K, D], `v` [K, V] (empty if latent).
    ///
    /// Panics if the block or the slot does not exist, or a length does not fit.
    pub fn write(&mut self, block: u32, slot: usize, k: &[f32], v: &[f32]) {
        self.write_rows(&[(block, slot as u32)], k, v);
    }

    /// Writes one token per pair of block and slot; of equal pairs the last remains.
    /// Shapes: `k` [n, K, D], `v` [n, K, V] (empty if latent).
    ///
    /// Panics if a block or a slot does not exist, or a length does not fit.
    pub fn write_rows(&mut self, places: &[(u32, u32)], k: &[f32], v: &[f32]) {
        let (n_kv, qk_dim, v_dim) = (self.n_kv_heads, self.qk_dim, self.v_dim);
        assert_eq!(k.len(), places.len() * n_kv * qk_dim, "k [n, K, D]");
        let n_values = if self.latent { 0 } else { places.len() * n_kv * v_dim };
        assert_eq!(v.len(), n_values, "v [n, K, V], latent: {}", self.latent);
        for &(block, slot) in places {
            assert!((block as usize) < self.n_blocks, "block {block} of {}", self.n_blocks);
            assert!((slot as usize) < BLOCK_TOKENS, "slot {slot}");
        }
        let (latent, v_pad) = (self.latent, pad(v_dim));
        let keys_t = Shards::new(self.keys_t.as_mut_slice());
        let values = Shards::new(self.values.as_mut_slice());
        // Few rows are not worth waking the other threads. A task owns one strip of dimensions of
        // one head, so the rows of a place are written in order.
        let strip = if places.len() < 16 { qk_dim } else { qk_dim.div_ceil(2) };
        let n_strips = qk_dim.div_ceil(strip);
        let body = |task: usize| {
            let (head, first) = (task / n_strips, task % n_strips * strip);
            let dims = first..(first + strip).min(qk_dim);
            for (i, &(block, slot)) in places.iter().enumerate() {
                let lane = block as usize * n_kv + head;
                let key = &k[(i * n_kv + head) * qk_dim..][..qk_dim];
                let start = (lane * qk_dim + dims.start) * BLOCK_TOKENS;
                // SAFETY: strips of different tasks do not overlap.
                let dst = unsafe { keys_t.slice(start..start + dims.len() * BLOCK_TOKENS) };
                for (column, &x) in dst.chunks_exact_mut(BLOCK_TOKENS).zip(&key[dims.clone()]) {
                    column[slot as usize] = x;
                }
                if !latent && first == 0 {
                    let start = (lane * BLOCK_TOKENS + slot as usize) * v_pad;
                    // SAFETY: one task per head has `first == 0`.
                    let dst = unsafe { values.slice(start..start + v_dim) };
                    dst.copy_from_slice(&v[(i * n_kv + head) * v_dim..][..v_dim]);
                }
            }
        };
        if places.len() < 16 {
            (0..n_kv * n_strips).for_each(body);
        } else {
            threads::run(n_kv * n_strips, body);
        }
    }

    pub(super) fn n_kv_heads(&self) -> usize {
        self.n_kv_heads
    }

    pub(super) fn qk_dim(&self) -> usize {
        self.qk_dim
    }

    pub(super) fn v_dim(&self) -> usize {
        self.v_dim
    }

    pub(super) fn is_latent(&self) -> bool {
        self.latent
    }

    /// Keys of one head in a block, [D, BLOCK_TOKENS].
    pub(super) fn keys_t(&self, block: u32, head: usize) -> &[f32] {
        let len = self.qk_dim * BLOCK_TOKENS;
        &self.keys_t.as_slice()[(block as usize * self.n_kv_heads + head) * len..][..len]
    }

    /// Values of one head in a block, [BLOCK_TOKENS, V in whole lanes].
    pub(super) fn values(&self, block: u32, head: usize) -> &[f32] {
        let len = pad(self.v_dim) * BLOCK_TOKENS;
        &self.values.as_slice()[(block as usize * self.n_kv_heads + head) * len..][..len]
    }

    fn existing(&self, block: u32) -> usize {
        assert!((block as usize) < self.n_blocks, "block {block} of {}", self.n_blocks);
        block as usize
    }

    /// Numbers in the keys of one block.
    fn key_block(&self) -> usize {
        self.n_kv_heads * self.qk_dim * BLOCK_TOKENS
    }

    /// Numbers in the values of one block.
    fn value_block(&self) -> usize {
        if self.latent { 0 } else { self.n_kv_heads * pad(self.v_dim) * BLOCK_TOKENS }
    }
}

fn pad(dim: usize) -> usize {
    dim.next_multiple_of(16)
}
