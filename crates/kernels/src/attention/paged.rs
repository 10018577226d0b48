//! The paged key/value cache of one layer: blocks of tokens that sequences list in their block tables.
//!
//! Keys lie transposed, as the inner loop reads them. A latent cache (absorbed MLA) stores each
//! token once, as a row: its value is the beginning of its key.
//!
//! Numbers are held in f32 or in half precision. Half precision is rounded once, to nearest, when a
//! token is written; whoever reads it widens it, which is exact.

use super::lanes::{Lines, Number};
use super::{BLOCK_TOKENS, Heads};
use crate::convert::{f16_to_f32_slice, f32_to_f16};
use crate::threads::{self, Shards};
use std::ops::Range;

/// How a cache holds its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// 32-bit floats: attention over the cache has the bits of attention over the whole sequence.
    #[default]
    F32,
    /// IEEE half precision: half the memory and half the reading.
    F16,
}

impl CacheType {
    /// Bytes of a number.
    pub fn n_bytes(self) -> usize {
        match self {
            CacheType::F32 => 4,
            CacheType::F16 => 2,
        }
    }
}

/// Cached keys and values of one layer, in blocks of [`BLOCK_TOKENS`] tokens.
#[derive(Clone)]
pub struct PagedKv {
    n_blocks: usize,
    n_kv_heads: usize,
    qk_dim: usize,
    v_dim: usize,
    latent: bool,
    cache_type: CacheType,
    /// [n_blocks, K, D, BLOCK_TOKENS]; if latent [n_blocks, BLOCK_TOKENS, D in whole lanes].
    keys: Lines,
    /// [n_blocks, K, BLOCK_TOKENS, V in whole lanes]; empty if latent.
    values: Lines,
}

impl PagedKv {
    /// An empty cache of separate keys and values.
    pub fn new(n_kv_heads: usize, qk_dim: usize, v_dim: usize) -> Self {
        let (keys, values) = (Lines::default(), Lines::default());
        let (latent, cache_type) = (false, CacheType::F32);
        PagedKv { n_blocks: 0, n_kv_heads, qk_dim, v_dim, latent, cache_type, keys, values }
    }

    /// An empty cache with one head whose values are the first `v_dim` entries of its keys:
    /// `qk_dim` numbers per token.
    ///
    /// Panics if `v_dim > qk_dim`.
    pub fn latent(qk_dim: usize, v_dim: usize) -> Self {
        assert!(v_dim <= qk_dim, "values of {v_dim} inside keys of {qk_dim}");
        PagedKv { latent: true, ..PagedKv::new(1, qk_dim, v_dim) }
    }

    /// The same cache with numbers of another type.
    ///
    /// Panics if it is not empty.
    pub fn with_type(self, cache_type: CacheType) -> Self {
        assert_eq!(self.n_blocks, 0, "the cache holds blocks");
        PagedKv { cache_type, ..self }
    }

    /// How numbers are held.
    pub fn cache_type(&self) -> CacheType {
        self.cache_type
    }

    /// Blocks there are.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Memory held by the blocks.
    pub fn n_bytes(&self) -> usize {
        self.n_blocks * self.block_bytes()
    }

    /// Prepares to grow up to `n_blocks` blocks without copying those there are. Takes no memory yet.
    pub fn expect(&mut self, n_blocks: usize) {
        let [key_bytes, value_bytes] = self.parts_bytes().map(|n| n.saturating_mul(n_blocks));
        self.keys.expect_bytes(key_bytes);
        self.values.expect_bytes(value_bytes);
    }

    /// Makes room for `n_blocks` blocks in all; never shrinks.
    pub fn grow(&mut self, n_blocks: usize) {
        if n_blocks > self.n_blocks {
            self.n_blocks = n_blocks;
            let bytes = n_blocks * self.cache_type.n_bytes();
            self.keys.room_bytes(bytes * self.key_block());
            self.values.room_bytes(bytes * self.value_block());
        }
    }

    /// Copies all tokens of block `from` to block `to`.
    ///
    /// Panics if a block does not exist.
    pub fn copy_block(&mut self, from: u32, to: u32) {
        let (from, to) = (self.existing(from), self.existing(to));
        let [key_bytes, value_bytes] = self.parts_bytes();
        for (lines, len) in [(&mut self.keys, key_bytes), (&mut self.values, value_bytes)] {
            lines.as_mut_slice::<u8>().copy_within(from * len..(from + 1) * len, to * len);
        }
    }

    /// Bytes of a block as it lies in memory, padding included.
    pub fn block_bytes(&self) -> usize {
        self.cache_type.n_bytes() * (self.key_block() + self.value_block())
    }

    /// Appends the bytes of a block, as they lie in memory: this machine's order of bytes.
    ///
    /// Panics if the block does not exist.
    pub fn export_block(&self, block: u32, out: &mut Vec<u8>) {
        let block = self.existing(block);
        let [key_bytes, value_bytes] = self.parts_bytes();
        out.extend_from_slice(&self.keys.as_slice()[block * key_bytes..][..key_bytes]);
        out.extend_from_slice(&self.values.as_slice()[block * value_bytes..][..value_bytes]);
    }

    /// Overwrites a block with what [`PagedKv::export_block`] gave for a cache of the same shape.
    ///
    /// Panics if the block does not exist, or there are not [`PagedKv::block_bytes`] bytes.
    pub fn import_block(&mut self, block: u32, bytes: &[u8]) {
        let block = self.existing(block);
        assert_eq!(bytes.len(), self.block_bytes(), "bytes of a block");
        let [key_bytes, value_bytes] = self.parts_bytes();
        let (keys, values) = bytes.split_at(key_bytes);
        self.keys.as_mut_slice()[block * key_bytes..][..key_bytes].copy_from_slice(keys);
        self.values.as_mut_slice()[block * value_bytes..][..value_bytes].copy_from_slice(values);
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
        match self.cache_type {
            CacheType::F32 => self.write_as(places, k, v, |x| x),
            CacheType::F16 => self.write_as(places, k, v, f32_to_f16),
        }
    }

    /// Latent rows `keys` of the sequence that lists `blocks`, in f32: out [n, D].
    ///
    /// Panics if the cache is not latent, a block does not exist, or a length does not fit.
    pub fn read_latents(&self, blocks: &[u32], keys: Range<usize>, out: &mut [f32]) {
        assert!(self.latent, "only latent caches have rows");
        assert_eq!(out.len(), keys.len() * self.qk_dim, "out [{}, D]", keys.len());
        let stride = pad(self.qk_dim);
        threads::run_chunks(out, self.qk_dim * BLOCK_TOKENS, |at, out| {
            for (i, out) in out.chunks_exact_mut(self.qk_dim).enumerate() {
                let key = keys.start + at * BLOCK_TOKENS + i;
                let block = self.existing(blocks[key / BLOCK_TOKENS]) as u32;
                let start = key % BLOCK_TOKENS * stride;
                match self.cache_type {
                    CacheType::F32 => {
                        out.copy_from_slice(&self.keys(block, 0)[start..start + self.qk_dim]);
                    }
                    CacheType::F16 => {
                        let row = &self.keys(block, 0)[start..start + self.qk_dim];
                        f16_to_f32_slice(row, out);
                    }
                }
            }
        });
    }

    /// Whether this is a cache in f32 for such heads.
    pub(super) fn holds(&self, heads: &Heads) -> bool {
        let dims = (self.n_kv_heads, self.qk_dim, self.v_dim);
        let same = dims == (heads.n_kv_heads, heads.qk_dim, heads.v_dim);
        same && !self.latent && self.cache_type == CacheType::F32
    }

    fn write_as<T: Number + Send>(
        &mut self,
        places: &[(u32, u32)],
        k: &[f32],
        v: &[f32],
        rounded: impl Fn(f32) -> T + Sync,
    ) {
        let (n_kv, qk_dim, v_dim) = (self.n_kv_heads, self.qk_dim, self.v_dim);
        let (latent, qk_pad, v_pad) = (self.latent, pad(qk_dim), pad(v_dim));
        let keys = Shards::new(self.keys.as_mut_slice::<T>());
        let values = Shards::new(self.values.as_mut_slice::<T>());
        let copy = |dst: &mut [T], src: &[f32]| {
            for (dst, &x) in dst.iter_mut().zip(src) {
                *dst = rounded(x);
            }
        };
        // Few rows are not worth waking the other threads. A task owns one strip of dimensions of
        // one head, so the rows of a place are written in order.
        let strip = if places.len() < 16 { qk_dim } else { qk_dim.div_ceil(2) };
        let n_strips = qk_dim.div_ceil(strip);
        let body = |task: usize| {
            let (head, first) = (task / n_strips, task % n_strips * strip);
            let dims = first..(first + strip).min(qk_dim);
            for (i, &(block, slot)) in places.iter().enumerate() {
                let lane = block as usize * n_kv + head;
                let key = &k[(i * n_kv + head) * qk_dim..][dims.clone()];
                if latent {
                    let start = (lane * BLOCK_TOKENS + slot as usize) * qk_pad + dims.start;
                    // SAFETY: strips of different tasks do not overlap.
                    copy(unsafe { keys.slice(start..start + dims.len()) }, key);
                    continue;
                }
                let start = (lane * qk_dim + dims.start) * BLOCK_TOKENS;
                // SAFETY: strips of different tasks do not overlap.
                let dst = unsafe { keys.slice(start..start + dims.len() * BLOCK_TOKENS) };
                for (column, &x) in dst.chunks_exact_mut(BLOCK_TOKENS).zip(key) {
                    column[slot as usize] = rounded(x);
                }
                if first == 0 {
                    let start = (lane * BLOCK_TOKENS + slot as usize) * v_pad;
                    // SAFETY: one task per head has `first == 0`.
                    let dst = unsafe { values.slice(start..start + v_dim) };
                    copy(dst, &v[(i * n_kv + head) * v_dim..][..v_dim]);
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

    /// Keys of one head in a block, [D, BLOCK_TOKENS]; of a latent block its rows, [BLOCK_TOKENS, D in
    /// whole lanes]. `T` is the number of the cache's type.
    pub(super) fn keys<T: Number>(&self, block: u32, head: usize) -> &[T] {
        debug_assert_eq!(size_of::<T>(), self.cache_type.n_bytes());
        let len = self.key_block() / self.n_kv_heads;
        &self.keys.as_slice()[(block as usize * self.n_kv_heads + head) * len..][..len]
    }

    /// As [`PagedKv::keys`], start and length: other blocks may be written meanwhile ([`TokenWriter`]).
    pub(super) fn keys_at<T: Number>(&self, block: u32, head: usize) -> (*const T, usize) {
        self.part_at(&self.keys, self.key_block() / self.n_kv_heads, block, head)
    }

    /// Start and length of the values of one head in a block, [BLOCK_TOKENS, V in whole lanes].
    pub(super) fn values_at<T: Number>(&self, block: u32, head: usize) -> (*const T, usize) {
        self.part_at(&self.values, pad(self.v_dim) * BLOCK_TOKENS, block, head)
    }

    fn part_at<T: Number>(
        &self,
        lines: &Lines,
        len: usize,
        block: u32,
        head: usize,
    ) -> (*const T, usize) {
        debug_assert_eq!(size_of::<T>(), self.cache_type.n_bytes());
        assert!(head < self.n_kv_heads, "head {head} of {}", self.n_kv_heads);
        let at = (self.existing(block) * self.n_kv_heads + head) * len;
        // SAFETY: the block exists and has the head.
        (unsafe { lines.start::<T>().add(at) }, len)
    }

    /// Lets several threads write tokens.
    ///
    /// Panics if the cache is latent.
    pub(super) fn writer(&mut self) -> TokenWriter {
        assert!(!self.latent, "latent rows are written as they are");
        TokenWriter {
            keys: self.keys.start_mut(),
            values: self.values.start_mut(),
            n_blocks: self.n_blocks,
            n_kv_heads: self.n_kv_heads,
            qk_dim: self.qk_dim,
            v_dim: self.v_dim,
            cache_type: self.cache_type,
        }
    }

    fn existing(&self, block: u32) -> usize {
        assert!((block as usize) < self.n_blocks, "block {block} of {}", self.n_blocks);
        block as usize
    }

    /// Bytes of the keys and of the values of one block.
    fn parts_bytes(&self) -> [usize; 2] {
        [self.key_block(), self.value_block()].map(|n| n * self.cache_type.n_bytes())
    }

    /// Numbers in the keys of one block.
    fn key_block(&self) -> usize {
        if self.latent {
            BLOCK_TOKENS * pad(self.qk_dim)
        } else {
            self.n_kv_heads * self.qk_dim * BLOCK_TOKENS
        }
    }

    /// Numbers in the values of one block.
    fn value_block(&self) -> usize {
        if self.latent { 0 } else { self.n_kv_heads * pad(self.v_dim) * BLOCK_TOKENS }
    }
}

/// Writes tokens of a cache that lives on meanwhile, each head on its own.
pub(super) struct TokenWriter {
    keys: *mut u8,
    values: *mut u8,
    n_blocks: usize,
    n_kv_heads: usize,
    qk_dim: usize,
    v_dim: usize,
    cache_type: CacheType,
}

// SAFETY: who writes promises that nobody else has to do with the place.
unsafe impl Send for TokenWriter {}
// SAFETY: as above.
unsafe impl Sync for TokenWriter {}

impl TokenWriter {
    /// K, D and V.
    pub(super) fn dims(&self) -> (usize, usize, usize) {
        (self.n_kv_heads, self.qk_dim, self.v_dim)
    }

    /// Writes one head of a token: `k` [D], `v` [V].
    ///
    /// # Safety
    /// The cache is alive, and nobody else has to do with this token of the head.
    pub(super) unsafe fn write(&self, block: u32, slot: usize, head: usize, k: &[f32], v: &[f32]) {
        assert_eq!(k.len(), self.qk_dim, "a key");
        let at = self.lane(block, slot, head) * self.qk_dim * BLOCK_TOKENS + slot;
        // SAFETY: inside the block; the rest is the caller's promise.
        unsafe {
            match self.cache_type {
                CacheType::F32 => {
                    let to = self.keys.cast::<f32>().add(at);
                    for (i, x) in k.iter().enumerate() {
                        *to.add(i * BLOCK_TOKENS) = *x;
                    }
                }
                CacheType::F16 => {
                    let to = self.keys.cast::<u16>().add(at);
                    for (i, x) in k.iter().enumerate() {
                        *to.add(i * BLOCK_TOKENS) = f32_to_f16(*x);
                    }
                }
            }
            self.write_value(block, slot, head, v);
        }
    }

    /// Writes the value only.
    ///
    /// # Safety
    /// As [`TokenWriter::write`].
    pub(super) unsafe fn write_value(&self, block: u32, slot: usize, head: usize, v: &[f32]) {
        assert_eq!(v.len(), self.v_dim, "a value");
        let at = (self.lane(block, slot, head) * BLOCK_TOKENS + slot) * pad(self.v_dim);
        // SAFETY: inside the block; the rest is the caller's promise.
        unsafe {
            match self.cache_type {
                CacheType::F32 => {
                    self.values.cast::<f32>().add(at).copy_from_nonoverlapping(v.as_ptr(), v.len());
                }
                CacheType::F16 => {
                    let to = self.values.cast::<u16>().add(at);
                    for (i, x) in v.iter().enumerate() {
                        *to.add(i) = f32_to_f16(*x);
                    }
                }
            }
        }
    }

    /// Keys of one head of a block of an f32 cache, [D, BLOCK_TOKENS].
    pub(super) fn keys_f32(&self, block: u32, head: usize) -> *mut f32 {
        assert_eq!(self.cache_type, CacheType::F32);
        // SAFETY: inside the keys.
        unsafe {
            self.keys.cast::<f32>().add(self.lane(block, 0, head) * self.qk_dim * BLOCK_TOKENS)
        }
    }

    /// Number of a head of a block among all.
    fn lane(&self, block: u32, slot: usize, head: usize) -> usize {
        assert!((block as usize) < self.n_blocks, "block {block} of {}", self.n_blocks);
        assert!(slot < BLOCK_TOKENS && head < self.n_kv_heads, "slot {slot}, head {head}");
        block as usize * self.n_kv_heads + head
    }
}

pub(super) fn pad(dim: usize) -> usize {
    dim.next_multiple_of(16)
}
