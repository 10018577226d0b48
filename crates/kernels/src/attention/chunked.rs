//! Attention of new rows over keys and values that exist only a chunk at a time: whoever can make
//! them (from the latents of MLA, say) fills scratch, chunk after chunk, and running states wait in between.
//!
//! Chunks are whole parts of the keys, so the bits are those of a cache that holds everything.

use super::cached::{CachedSegment, Call, HeadRows};
use super::lanes::Lines;
use super::parts::{PART_BLOCKS, walk_chunk};
use super::{BLOCK_TOKENS, Heads, PagedKv};
use crate::cpu;
use crate::threads::Shards;
use std::cell::RefCell;
use std::ops::Range;

/// Blocks of a chunk: 1024 keys.
const CHUNK_BLOCKS: usize = 4 * PART_BLOCKS;

#[derive(Default)]
struct Scratch {
    /// Keys and values of a chunk.
    cache: Option<PagedKv>,
    states: Lines,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Causal attention of rows `past..` of one sequence. For each chunk of keys `fill` writes the tokens
/// `keys` at `places` of a scratch cache in f32, which holds nothing else of use.
///
/// Shapes: `q` [n, H, D], `out` [n, H, V]. A row has the same bits as over a whole cache in f32.
///
/// Panics if a length does not fit.
pub fn forward_chunked(
    heads: &Heads,
    past: usize,
    q: &[f32],
    out: &mut [f32],
    mut fill: impl FnMut(Range<usize>, &[(u32, u32)], &mut PagedKv),
) {
    heads.check();
    let n = q.len() / (heads.n_heads * heads.qk_dim);
    assert_eq!(q.len(), n * heads.n_heads * heads.qk_dim, "q [n, H, D]");
    assert_eq!(out.len(), n * heads.n_heads * heads.v_dim, "out [n, H, V], n = {n}");
    let n_blocks = (past + n).div_ceil(BLOCK_TOKENS);
    let table: Vec<u32> = (0..n_blocks).map(|b| (b % CHUNK_BLOCKS) as u32).collect();
    let mut scratch = SCRATCH.take();
    let mut cache = scratch.cache.take().filter(|cache| cache.holds(heads)).unwrap_or_else(|| {
        let mut cache = PagedKv::new(heads.n_kv_heads, heads.qk_dim, heads.v_dim);
        cache.grow(CHUNK_BLOCKS);
        cache
    });
    for first in (0..n_blocks).step_by(CHUNK_BLOCKS) {
        let blocks = first..(first + CHUNK_BLOCKS).min(n_blocks);
        let keys = blocks.start * BLOCK_TOKENS..(blocks.end * BLOCK_TOKENS).min(past + n);
        let place = |key: usize| (table[key / BLOCK_TOKENS], (key % BLOCK_TOKENS) as u32);
        let places: Vec<(u32, u32)> = keys.clone().map(place).collect();
        fill(keys, &places, &mut cache);
        let out = Shards::new(&mut *out);
        let call = Call { isa: cpu::isa(), heads, cache: &cache, q, out };
        let rows = HeadRows::new(&call, &[CachedSegment { blocks: &table, past, rows: 0..n }]);
        walk_chunk(&rows, heads.dims().v_pad(), blocks, &mut scratch.states);
    }
    scratch.cache = Some(cache);
    SCRATCH.set(scratch);
}
