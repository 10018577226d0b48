//! Attention of new rows over a paged cache: decode, chunked prefill, and both at once.
//!
//! The same arithmetic as for whole sequences, over the same logical blocks and parts, hence the same
//! bits (a cache in half precision: those of its rounded keys and values). A task takes rows of several
//! sequences through the blocks side by side: where neighbours list the same block (a shared prompt),
//! it is read once and their rows fill the tiles together. Latent caches are in [`super::latent`].

use super::dots::{Source, widen};
use super::fresh::{Fresh, NewTokens};
use super::lanes::{Lines, Number};
use super::latent::LatentRows;
use super::parts::{Walk, walk};
use super::running::{Running, finish_row, merge_row};
use super::tile::{self, Block, Dims, Query, Stored};
use super::{BLOCK_TOKENS, CacheType, Heads, PagedKv};
use crate::cpu::{self, Isa};
use crate::threads::{self, Shards};
use std::cell::RefCell;
use std::ops::Range;

/// Query rows times heads that walk the blocks side by side.
const LIST_QUERIES: usize = 120;
/// From this many queries on, a half-precision block is widened once for all of them.
const WIDEN_FROM: usize = 12;

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

impl CachedSegment<'_> {
    /// Blocks that hold its keys.
    pub(super) fn n_blocks_used(&self) -> usize {
        (self.past + self.rows.len()).div_ceil(BLOCK_TOKENS)
    }
}

/// Causal attention of the rows of all segments over their cached keys.
///
/// Shapes: `q` [N, H, D], `out` [N, H, V]. Rows of no segment are left as they are.
/// Over a cache in f32 a row has the same bits as in [`forward`](super::forward) over the whole
/// sequence.
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
    let v_pad = heads.dims().v_pad();
    let call = Call { isa, heads, cache, q, out: Shards::new(out) };
    if cache.is_latent() {
        walk(&LatentRows::new(&call, segments), v_pad);
    } else {
        walk(&HeadRows::new(&call, segments), v_pad);
    }
}

/// [`forward_cached`] for segments of one row, whose last token is written on the way. Nobody else reads
/// or writes the blocks that those go to.
pub(super) fn attend_fresh(
    heads: &Heads,
    cache: &mut PagedKv,
    segments: &[CachedSegment],
    new: NewTokens,
    q: &[f32],
    out: &mut [f32],
) {
    check(heads, cache, segments, q, out);
    let n = q.len() / (heads.n_heads * heads.qk_dim);
    assert_eq!(new.k.len(), n * heads.n_kv_heads * heads.qk_dim, "k [N, K, D], N = {n}");
    assert_eq!(new.v.len(), n * heads.n_kv_heads * heads.v_dim, "v [N, K, V], N = {n}");
    let fresh = Fresh { new, writer: cache.writer() };
    let call = Call { isa: cpu::isa(), heads, cache, q, out: Shards::new(out) };
    let rows = HeadRows { fresh: Some(fresh), ..HeadRows::new(&call, segments) };
    walk(&rows, heads.dims().v_pad());
}

/// What one call reads and writes.
pub(super) struct Call<'a> {
    pub(super) isa: Isa,
    pub(super) heads: &'a Heads,
    pub(super) cache: &'a PagedKv,
    pub(super) q: &'a [f32],
    pub(super) out: Shards<'a, f32>,
}

impl Call<'_> {
    /// Query of one head of a row.
    pub(super) fn query(&self, row: usize, head: usize) -> &[f32] {
        let at = row * self.heads.n_heads + head;
        &self.q[at * self.heads.qk_dim..][..self.heads.qk_dim]
    }

    /// Where its result goes, as far as it is among `values`, which may end in padding.
    ///
    /// # Safety
    /// No one else may hold it.
    #[allow(clippy::mut_from_ref)] // as `Shards::slice`
    pub(super) unsafe fn result(
        &self,
        row: usize,
        head: usize,
        values: &Range<usize>,
    ) -> &mut [f32] {
        let (at, v_dim) = (row * self.heads.n_heads + head, self.heads.v_dim);
        // SAFETY: the caller's promise.
        unsafe { self.out.slice(at * v_dim + values.start..at * v_dim + values.end.min(v_dim)) }
    }
}

/// One row of `q`.
struct CachedRow<'a> {
    blocks: &'a [u32],
    row: usize,
    n_keys: usize,
}

/// Rows over keys and values of several heads. A list is some rows and the query heads of one
/// key/value head.
pub(super) struct HeadRows<'a> {
    call: &'a Call<'a>,
    rows: Vec<CachedRow<'a>>,
    /// Rows of a list.
    step: usize,
    /// The last token of every row, if it is not in the cache yet.
    fresh: Option<Fresh<'a>>,
}

#[derive(Default)]
struct Scratch {
    queries: Vec<Query>,
    /// Number of the block, block of the cache, first query, end.
    steps: Vec<(usize, u32, usize, usize)>,
    /// A widened block.
    keys_t: Lines,
    values: Lines,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<'a> HeadRows<'a> {
    pub(super) fn new(call: &'a Call, segments: &[CachedSegment<'a>]) -> Self {
        let mut rows: Vec<CachedRow> = Vec::new();
        for segment in segments {
            rows.extend(segment.rows.clone().enumerate().map(|(i, row)| CachedRow {
                blocks: segment.blocks,
                row,
                n_keys: segment.past + i + 1,
            }));
        }
        // Enough lists for all threads; no fewer rows than fill a tile.
        let heads = call.heads;
        let even = rows.len() * heads.n_kv_heads / (4 * threads::n_threads());
        let most = (LIST_QUERIES / heads.group()).max(1);
        let fewest = 12usize.div_ceil(heads.group());
        let step = even.max(fewest).min(most);
        HeadRows { call, rows, step, fresh: None }
    }

    /// Rows and key/value head of a list.
    fn list(&self, list: usize) -> (&[CachedRow<'a>], usize) {
        let n_chunks = self.rows.len().div_ceil(self.step);
        // Heads of some rows follow each other: their queries share cache lines with no one else.
        let (kv_head, chunk) = (list / n_chunks, list % n_chunks);
        let end = ((chunk + 1) * self.step).min(self.rows.len());
        (&self.rows[chunk * self.step..end], kv_head)
    }

    /// The block as the inner loop takes it; `after` is the block that is read next.
    fn block(&self, step: Step, kv_head: usize, scratch: &mut Blocks) -> Block {
        let cache = self.call.cache;
        let stored = match cache.cache_type() {
            CacheType::F32 => {
                let (keys_t, values) = sources(cache, step.block, step.after, kv_head);
                Stored::Full { keys_t, values }
            }
            CacheType::F16 if step.n_queries < WIDEN_FROM => {
                let (keys_t, values) = sources(cache, step.block, step.after, kv_head);
                Stored::Half { keys_t, values }
            }
            CacheType::F16 => {
                let wide = |(src, len): (*const u16, usize), dst: &mut Lines| {
                    let dst = dst.room(len);
                    // SAFETY: both have room; blocks are whole lanes.
                    unsafe { widen(self.call.isa, src, len, dst.as_mut_ptr()) };
                    Source::alone(dst.as_ptr())
                };
                Stored::Full {
                    keys_t: wide(cache.keys_at(step.block, kv_head), scratch.keys_t),
                    values: wide(cache.values_at(step.block, kv_head), scratch.values),
                }
            }
        };
        Block { stored, first_key: step.first_key }
    }
}

/// One block that some queries meet.
#[derive(Clone, Copy)]
struct Step {
    block: u32,
    /// The block that is read next; the same where there is none.
    after: u32,
    first_key: usize,
    n_queries: usize,
}

/// Room for a widened block.
struct Blocks<'s> {
    keys_t: &'s mut Lines,
    values: &'s mut Lines,
}

/// Keys and values of a block, and how far on those of the next one lie.
fn sources<T: Number>(
    cache: &PagedKv,
    block: u32,
    after: u32,
    kv_head: usize,
) -> (Source<T>, Source<T>) {
    let source = |(at, _): (*const T, usize), (next, _): (*const T, usize)| Source {
        at,
        next: next as isize - at as isize,
    };
    (
        source(cache.keys_at(block, kv_head), cache.keys_at(after, kv_head)),
        source(cache.values_at(block, kv_head), cache.values_at(after, kv_head)),
    )
}

impl Walk for HeadRows<'_> {
    fn n_lists(&self) -> usize {
        self.rows.len().div_ceil(self.step) * self.call.heads.n_kv_heads
    }

    fn size(&self, list: usize) -> (usize, usize) {
        let (rows, _) = self.list(list);
        let longest = rows.iter().map(|row| row.n_keys).max().unwrap_or(0);
        (rows.len() * self.call.heads.group(), longest)
    }

    unsafe fn attend(&self, list: usize, blocks: Range<usize>, _: usize, state: Running) {
        let ((rows, kv_head), dims) = (self.list(list), self.call.heads.dims());
        let group = self.call.heads.group();
        SCRATCH.with_borrow_mut(|Scratch { queries, steps, keys_t, values }| {
            queries.clear();
            queries.extend((0..rows.len() * group).map(|query| {
                let CachedRow { row, n_keys, .. } = rows[query / group];
                let q = self.call.query(row, kv_head * group + query % group).as_ptr();
                Query { q, n_keys }
            }));
            steps.clear();
            for b in blocks {
                let first_key = b * BLOCK_TOKENS;
                let block_of = |row: &CachedRow| (row.n_keys > first_key).then(|| row.blocks[b]);
                let mut start = 0;
                // Runs of neighbours that read the same block.
                for run in rows.chunk_by(|x, y| block_of(x) == block_of(y)) {
                    let (at, end) = (start * group, (start + run.len()) * group);
                    start += run.len();
                    steps.extend(block_of(&run[0]).map(|block| (b, block, at, end)));
                }
            }
            for i in 0..steps.len() {
                let (b, block, at, end) = steps[i];
                if let Some(fresh) = &self.fresh {
                    let CachedRow { row, n_keys, .. } = rows[at / group];
                    if (n_keys - 1) / BLOCK_TOKENS == b {
                        // SAFETY: the block exists, and is read here only; this list alone has the head.
                        unsafe { fresh.write(block, row, n_keys, kv_head) };
                    }
                }
                let after = steps.get(i + 1).map_or(block, |step| step.1);
                let (first_key, n_queries) = (b * BLOCK_TOKENS, end - at);
                let step = Step { block, after, first_key, n_queries };
                let room = &mut Blocks { keys_t, values };
                let block = self.block(step, kv_head, room);
                // SAFETY: cache blocks have the documented shapes; the run's queries lie in the list.
                unsafe {
                    let state = state.from(at, dims.v_pad());
                    tile::attend_block(self.call.isa, &dims, &block, &queries[at..end], state);
                }
            }
        });
    }

    unsafe fn merge(
        &self,
        list: usize,
        first_key: usize,
        states: [Running; 2],
        values: Range<usize>,
    ) {
        let ((rows, _), group) = (self.list(list), self.call.heads.group());
        let v_pad = self.call.heads.dims().v_pad();
        for query in 0..rows.len() * group {
            if rows[query / group].n_keys > first_key {
                // SAFETY: the states have room for the list.
                unsafe {
                    let [total, part] = states.map(|state| {
                        let state = state.from(query, v_pad);
                        Running { acc: state.acc.add(values.start), ..state }
                    });
                    merge_row(self.call.isa, values.len(), total, part);
                }
            }
        }
    }

    unsafe fn finish(&self, list: usize, state: Running, values: Range<usize>) {
        let ((rows, kv_head), dims) = (self.list(list), self.call.heads.dims());
        let group = self.call.heads.group();
        for query in 0..rows.len() * group {
            let (row, head) = (rows[query / group].row, kv_head * group + query % group);
            // SAFETY: rows and heads of different lists differ; the state has room for the list.
            unsafe {
                let out = self.call.result(row, head, &values);
                let state = state.from(query, dims.v_pad());
                let state = Running { acc: state.acc.add(values.start), ..state };
                let dims = Dims { v_dim: out.len(), ..dims };
                finish_row(self.call.isa, &dims, state, out, &mut 0.0);
            }
        }
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
        let CachedSegment { blocks, rows, .. } = segment;
        assert!(rows.start <= rows.end && rows.end <= n, "{segment:?} of {n} rows");
        let n_used = segment.n_blocks_used();
        assert!(blocks.len() >= n_used, "{segment:?} needs {n_used} blocks");
        for &block in &blocks[..n_used] {
            assert!((block as usize) < cache.n_blocks(), "{segment:?}: block {block} is missing");
        }
        for row in rows.clone() {
            assert!(!std::mem::replace(&mut taken[row], true), "two segments have row {row}");
        }
    }
}
