//! Attention of new rows over a paged cache: decode, chunked prefill, and both at once.
//!
//! The same inner loop as for whole sequences, over the same logical blocks, hence the same bits.
//! A task takes rows of several sequences through the blocks side by side: where neighbours list the
//! same block (a shared prompt), it is read once and their rows fill the tiles together.

use super::forward::Softmax;
use super::lanes::Lines;
use super::tile::{self, Block, Query};
use super::{BLOCK_TOKENS, Heads, PagedKv};
use crate::cpu::{self, Isa};
use crate::threads::{self, Shards};
use std::cell::RefCell;
use std::ops::Range;

/// Query rows times heads that walk the blocks side by side.
const CHUNK_QUERIES: usize = 64;

/// New rows of one sequence over its cached keys.
///
/// Row `rows.start + i` stands at logical position `past + i` and sees the keys `0..=past + i`, its
/// own included, all of which have been written to the cache.
#[derive(Clone, Debug)]
pub struct CachedSegment<'a> {
    /// The sequence's block table: key `p` is in slot `p % BLOCK_TOKENS` of `blocks[p / BLOCK_TOKENS]`.
    pub blocks: &'a [u32],
    /// Logical position of the first row.
    pub past: usize,
    /// Rows of `q` and `out`; no two segments have the same row.
    pub rows: Range<usize>,
}

/// Causal attention of the rows of all segments over their cached keys.
///
/// Shapes: `q` [N, H, D], `out` [N, H, V]. Rows of no segment are left as they are.
/// A row has the same bits as in [`forward`](super::forward) over the whole sequence.
///
/// Panics if a length does not fit, a block is missing, or two segments have one row.
pub fn forward_cached(
    heads: &Heads,
    cache: &PagedKv,
    segments: &[CachedSegment],
    q: &[f32],
    out: &mut [f32],
) {
    forward_cached_on(cpu::isa(), heads, cache, segments, q, out);
}

/// [`forward_cached`] on a given level.
pub(super) fn forward_cached_on(
    isa: Isa,
    heads: &Heads,
    cache: &PagedKv,
    segments: &[CachedSegment],
    q: &[f32],
    out: &mut [f32],
) {
    check(heads, cache, segments, q, out);
    let rows: Vec<CachedRow> = segments
        .iter()
        .flat_map(|segment| {
            segment.rows.clone().enumerate().map(|(i, row)| CachedRow {
                blocks: segment.blocks,
                row,
                n_keys: segment.past + i + 1,
            })
        })
        .collect();
    let plan = Plan::new(heads, rows.len());
    let out = Shards::new(out);
    let n_chunks = rows.len().div_ceil(plan.rows);
    let n_splits = heads.group().div_ceil(plan.heads);
    threads::run(heads.n_kv_heads * n_splits * n_chunks, |task| {
        let (chunk, split) = (task % n_chunks, task / n_chunks);
        let (kv_head, first) = (split / n_splits, split % n_splits * plan.heads);
        let rows = &rows[chunk * plan.rows..((chunk + 1) * plan.rows).min(rows.len())];
        let group = kv_head * heads.group();
        let some = group + first..group + (first + plan.heads).min(heads.group());
        SCRATCH.with_borrow_mut(|scratch| {
            Walk { isa, heads, cache, kv_head, q, out: &out }.rows(rows, some, scratch)
        });
    });
}

/// One row of `q`.
struct CachedRow<'a> {
    blocks: &'a [u32],
    row: usize,
    n_keys: usize,
}

/// What one task takes on.
struct Plan {
    /// Rows at a time.
    rows: usize,
    /// Query heads at a time, of one key/value head.
    heads: usize,
}

impl Plan {
    /// Enough tasks for all threads, by fewer rows first, then by fewer heads.
    fn new(heads: &Heads, n_rows: usize) -> Self {
        let n_tasks = 4 * threads::n_threads();
        let group = heads.group();
        let rows = (CHUNK_QUERIES / group).max(1);
        let rows = rows.min((n_rows * heads.n_kv_heads / n_tasks).max(4)).min(n_rows.max(1));
        let n_chunks = n_rows.div_ceil(rows).max(1) * heads.n_kv_heads;
        let heads = if n_chunks >= n_tasks { group } else { (group * n_chunks / n_tasks).max(4) };
        Plan { rows, heads: heads.next_multiple_of(4).min(group) }
    }
}

#[derive(Default)]
struct Scratch {
    queries: Vec<Query>,
    softmax: Softmax,
    /// Values of one latent block, [BLOCK_TOKENS, v_pad].
    values: Lines,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One task: some query heads of one key/value head.
struct Walk<'a> {
    isa: Isa,
    heads: &'a Heads,
    cache: &'a PagedKv,
    kv_head: usize,
    q: &'a [f32],
    out: &'a Shards<'a, f32>,
}

impl Walk<'_> {
    fn rows(&self, rows: &[CachedRow], heads: Range<usize>, scratch: &mut Scratch) {
        let (dims, n_heads) = (self.heads.dims(), heads.len());
        let place = |query: usize| {
            rows[query / n_heads].row * self.heads.n_heads + heads.start + query % n_heads
        };
        let n_queries = rows.len() * n_heads;
        let queries = &mut scratch.queries;
        queries.clear();
        queries.extend((0..n_queries).map(|query| Query {
            q: self.q[place(query) * dims.qk_dim..][..dims.qk_dim].as_ptr(),
            n_keys: rows[query / n_heads].n_keys,
        }));
        let state = scratch.softmax.begin(n_queries, dims.v_pad());
        let longest = rows.iter().map(|row| row.n_keys).max().unwrap_or(0);
        for b in 0..longest.div_ceil(BLOCK_TOKENS) {
            let first_key = b * BLOCK_TOKENS;
            let block_of = |row: &CachedRow| (row.n_keys > first_key).then(|| row.blocks[b]);
            let mut start = 0;
            // Runs of neighbours that read the same block.
            for run in rows.chunk_by(|x, y| block_of(x) == block_of(y)) {
                let (at, n) = (start * n_heads, run.len() * n_heads);
                start += run.len();
                let Some(id) = block_of(&run[0]) else { continue };
                let values = if self.cache.is_latent() {
                    let most = run.iter().map(|row| row.n_keys - first_key).max().unwrap_or(0);
                    self.latent_values(id, most.min(BLOCK_TOKENS), &mut scratch.values)
                } else {
                    self.cache.values(id, self.kv_head)
                };
                let keys_t = self.cache.keys_t(id, self.kv_head).as_ptr();
                let block = Block { keys_t, values: values.as_ptr(), first_key };
                // SAFETY: cache blocks have the documented shapes; the run's queries lie in the chunk.
                unsafe {
                    let state = state.from(at, dims.v_pad());
                    tile::attend_block(self.isa, &dims, &block, &queries[at..at + n], state);
                }
            }
        }
        for query in 0..n_queries {
            // SAFETY: rows and heads of different tasks differ; `query` is in the chunk.
            unsafe {
                let out =
                    self.out.slice(place(query) * dims.v_dim..(place(query) + 1) * dims.v_dim);
                let state = state.from(query, dims.v_pad());
                tile::finish_row(self.isa, &dims, state, out, &mut 0.0);
            }
        }
    }

    /// The first `n` values of a latent block: its keys cut to `v_dim`, turned into rows.
    fn latent_values<'s>(&self, block: u32, n: usize, scratch: &'s mut Lines) -> &'s [f32] {
        let (v_dim, v_pad) = (self.cache.v_dim(), self.heads.dims().v_pad());
        let rows: Vec<*const f32> = self
            .cache
            .keys_t(block, 0)
            .chunks_exact(BLOCK_TOKENS)
            .take(v_dim)
            .map(|column| column.as_ptr())
            .collect();
        let values = scratch.room(BLOCK_TOKENS * v_pad);
        // SAFETY: each row has BLOCK_TOKENS columns, at least `n` in whole lanes; `values` has room.
        unsafe {
            let n_cols = n.next_multiple_of(16);
            tile::transpose_rows(self.isa, &rows, n_cols, values.as_mut_ptr(), v_pad);
        }
        values
    }
}

fn check(heads: &Heads, cache: &PagedKv, segments: &[CachedSegment], q: &[f32], out: &[f32]) {
    heads.check();
    assert_eq!(
        (heads.n_kv_heads, heads.qk_dim, heads.v_dim),
        (cache.n_kv_heads(), cache.qk_dim(), cache.v_dim()),
        "heads (K, D, V) differ from the cache's"
    );
    let n = q.len() / (heads.n_heads * heads.qk_dim);
    assert_eq!(q.len(), n * heads.n_heads * heads.qk_dim, "q [N, H, D]");
    assert_eq!(out.len(), n * heads.n_heads * heads.v_dim, "out [N, H, V], N = {n}");
    let mut taken = vec![false; n];
    for segment in segments {
        let CachedSegment { blocks, past, rows } = segment;
        assert!(rows.start <= rows.end && rows.end <= n, "{segment:?} of {n} rows");
        let n_used = (past + rows.len()).div_ceil(BLOCK_TOKENS);
        assert!(blocks.len() >= n_used, "{segment:?} needs {n_used} blocks");
        for &block in &blocks[..n_used] {
            assert!((block as usize) < cache.n_blocks(), "{segment:?}: block {block} is missing");
        }
        for row in rows.clone() {
            assert!(!std::mem::replace(&mut taken[row], true), "two segments have row {row}");
        }
    }
}
