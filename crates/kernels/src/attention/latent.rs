//! Rows over a latent cache: each block meets all heads of some rows while it is in cache, in the
//! layout of [`super::latent_tile`].

use super::cached::{CachedSegment, Call};
use super::dots::transpose_rows;
use super::lanes::Lines;
use super::latent_tile::{
    self, LatentBlock, MOST_LANES, attend_latent, finish_latent, merge_latent,
};
use super::paged::pad;
use super::parts::Walk;
use super::running::Running;
use super::{BLOCK_TOKENS, CacheType};
use crate::threads;
use std::cell::RefCell;
use std::ops::Range;

/// Queries of a list, at most: their states and a block share the second-level cache.
const LIST_QUERIES: usize = 2 * MOST_LANES;

/// Rows over a latent cache, cut into lists.
pub(super) struct LatentRows<'a> {
    call: &'a Call<'a>,
    lists: Vec<List<'a>>,
}

/// Some rows of one sequence, and some heads of each.
struct List<'a> {
    blocks: &'a [u32],
    rows: Range<usize>,
    /// Keys that the first row sees; each row after it sees one more.
    n_keys: usize,
    heads: Range<usize>,
}

/// Queries of a list that stand side by side.
struct Lane {
    /// The first, and the one after the last.
    queries: Range<usize>,
    /// Lanes of the list before them.
    start: usize,
    /// Lanes they take: 16, 32 or 64.
    n: usize,
}

#[derive(Default)]
struct Scratch {
    /// Queries of the list turned, [lanes, D] in all.
    q_t: Lines,
    scores: Lines,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl<'a> LatentRows<'a> {
    pub(super) fn new(call: &'a Call, segments: &[CachedSegment<'a>]) -> Self {
        let n_heads = call.heads.n_heads;
        let n_rows: usize = segments.iter().map(|segment| segment.rows.len()).sum();
        // Fewer heads at a time only where rows are too few for the threads.
        let few = n_rows < threads::n_threads();
        let n_at_once = if few { MOST_LANES } else { LIST_QUERIES };
        let heads_step = n_heads.min(n_at_once);
        let rows_step = (n_at_once / n_heads).max(1);
        let mut lists = Vec::new();
        for segment in segments {
            for first in segment.rows.clone().step_by(rows_step) {
                let rows = first..(first + rows_step).min(segment.rows.end);
                let n_keys = segment.past + (first - segment.rows.start) + 1;
                for head in (0..n_heads).step_by(heads_step) {
                    let heads = head..(head + heads_step).min(n_heads);
                    let (blocks, rows) = (segment.blocks, rows.clone());
                    lists.push(List { blocks, rows, n_keys, heads });
                }
            }
        }
        LatentRows { call, lists }
    }

    /// The queries at `lane`, as lanes see them: those past the last one repeat it.
    fn queries(list: &List, lane: &Lane) -> impl Fn(usize) -> (usize, usize, usize) {
        let (last, n_heads) = (lane.queries.end - 1, list.heads.len());
        let (first, row, head, n_keys) =
            (lane.queries.start, list.rows.start, list.heads.start, list.n_keys);
        move |i: usize| {
            let query = (first + i).min(last);
            let at = query / n_heads;
            (row + at, head + query % n_heads, n_keys + at)
        }
    }

    /// Keys from `first_key` on that each lane sees, `most` at most.
    fn counts(list: &List, lane: &Lane, first_key: usize, most: usize) -> [f32; MOST_LANES] {
        let query = Self::queries(list, lane);
        let mut counts = [0.0; MOST_LANES];
        for (i, count) in counts[..lane.n].iter_mut().enumerate() {
            *count = query(i).2.saturating_sub(first_key).min(most) as f32;
        }
        counts
    }
}

impl List<'_> {
    fn n_queries(&self) -> usize {
        self.rows.len() * self.heads.len()
    }

    /// Its queries in groups of lanes.
    fn lanes(&self) -> Vec<Lane> {
        let n = self.n_queries();
        let (mut lanes, mut at, mut start) = (Vec::new(), 0, 0);
        while at < n {
            let width = match n - at {
                0..=16 => 16,
                17..=32 => 32,
                _ => MOST_LANES,
            };
            let end = (at + width).min(n);
            lanes.push(Lane { queries: at..end, start, n: width });
            (at, start) = (end, start + width);
        }
        lanes
    }
}

impl LatentRows<'_> {
    /// Turns the queries of a list: [D, n] for each of its groups of lanes.
    fn turn<'s>(&self, list: &List, lanes: &[Lane], q_t: &'s mut Lines) -> &'s [f32] {
        let qk_dim = self.call.heads.qk_dim;
        let n_lanes: usize = lanes.iter().map(|lane| lane.n).sum();
        let q_t = q_t.room(n_lanes * qk_dim);
        for lane in lanes {
            let query = Self::queries(list, lane);
            for group in (0..lane.n).step_by(16) {
                let mut rows = [std::ptr::null(); 16];
                for (i, row) in rows.iter_mut().enumerate() {
                    let (at, head, _) = query(group + i);
                    *row = self.call.query(at, head).as_ptr();
                }
                let dst = &mut q_t[lane.start * qk_dim..][..lane.n * qk_dim];
                // SAFETY: each row has D numbers; the result has D rows of `lane.n`.
                unsafe {
                    let dst = dst.as_mut_ptr().add(group);
                    transpose_rows(self.call.isa, &rows, qk_dim, dst, lane.n);
                }
            }
        }
        q_t
    }

    /// The rows of a block.
    fn rows(&self, block: u32) -> latent_tile::LatentRows {
        let cache = self.call.cache;
        match cache.cache_type() {
            CacheType::F32 => latent_tile::LatentRows::Full(cache.keys(block, 0).as_ptr()),
            CacheType::F16 => latent_tile::LatentRows::Half(cache.keys(block, 0).as_ptr()),
        }
    }

    /// Where a block lies, and its bytes.
    fn bytes_of(&self, block: u32) -> (*const u8, usize) {
        match self.call.cache.cache_type() {
            CacheType::F32 => {
                let rows = self.call.cache.keys::<f32>(block, 0);
                (rows.as_ptr().cast(), size_of_val(rows))
            }
            CacheType::F16 => {
                let rows = self.call.cache.keys::<u16>(block, 0);
                (rows.as_ptr().cast(), size_of_val(rows))
            }
        }
    }
}

impl Walk for LatentRows<'_> {
    fn n_lists(&self) -> usize {
        self.lists.len()
    }

    fn size(&self, list: usize) -> (usize, usize) {
        let list = &self.lists[list];
        let n = list.lanes().iter().map(|lane| lane.n).sum();
        (n, list.n_keys + list.rows.len() - 1)
    }

    unsafe fn attend(&self, list: usize, blocks: Range<usize>, after: usize, state: Running) {
        let (list, dims) = (&self.lists[list], self.call.heads.dims());
        SCRATCH.with_borrow_mut(|Scratch { q_t, scores }| {
            let lanes = list.lanes();
            let q_t = self.turn(list, &lanes, q_t);
            let scores = scores.room(BLOCK_TOKENS * MOST_LANES).as_mut_ptr();
            for b in blocks.clone() {
                let first_key = b * BLOCK_TOKENS;
                let rows = self.rows(list.blocks[b]);
                let (mut next, mut next_bytes) = (std::ptr::null(), 0);
                let after = if b + 1 < blocks.end { b + 1 } else { after };
                if after * BLOCK_TOKENS < list.n_keys {
                    (next, next_bytes) = self.bytes_of(list.blocks[after]);
                }
                for lane in &lanes {
                    let counts = Self::counts(list, lane, first_key, BLOCK_TOKENS);
                    let seen = |count: f32| count as usize;
                    let most = counts[..lane.n].iter().copied().map(seen).max().unwrap_or(0);
                    let shared = counts[..lane.n].iter().copied().map(seen).min().unwrap_or(0);
                    if most == 0 {
                        continue;
                    }
                    let block = LatentBlock {
                        rows,
                        stride: pad(dims.qk_dim),
                        qk_dim: dims.qk_dim,
                        v_pad: dims.v_pad(),
                        scale: dims.scale,
                        lanes: lane.n,
                        q_t: q_t[lane.start * dims.qk_dim..].as_ptr(),
                        counts: counts.as_ptr(),
                        shared,
                        most,
                        scores,
                        next,
                        next_bytes,
                    };
                    // SAFETY: a block has whole tiles of rows; the state has room for the lanes.
                    unsafe {
                        attend_latent(self.call.isa, &block, state.from(lane.start, dims.v_pad()));
                    }
                    next_bytes = 0;
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
        let (list, v_pad) = (&self.lists[list], self.call.heads.dims().v_pad());
        for lane in &list.lanes() {
            let counts = Self::counts(list, lane, first_key, BLOCK_TOKENS);
            // SAFETY: the states have room for the list.
            unsafe {
                let [total, part] = states.map(|state| {
                    let state = state.from(lane.start, v_pad);
                    Running { acc: state.acc.add(values.start * lane.n), ..state }
                });
                merge_latent(self.call.isa, lane.n, values.len(), counts.as_ptr(), total, part);
            }
        }
    }

    unsafe fn finish(&self, list: usize, state: Running, values: Range<usize>) {
        let (list, dims) = (&self.lists[list], self.call.heads.dims());
        for lane in &list.lanes() {
            let query = Self::queries(list, lane);
            for group in (0..lane.n).step_by(16) {
                let mut out = [std::ptr::null_mut(); 16];
                for (i, out) in out.iter_mut().enumerate() {
                    if group + i < lane.queries.len() {
                        let (row, head, _) = query(group + i);
                        // SAFETY: rows and heads of different lists and lanes differ.
                        *out = unsafe { self.call.result(row, head, &values) }.as_mut_ptr();
                    }
                }
                // SAFETY: the state has room for the list; each result has V numbers.
                unsafe {
                    let mut state = state.from(lane.start, dims.v_pad());
                    let first = values.start * lane.n + group;
                    (state.sum, state.acc) = (state.sum.add(group), state.acc.add(first));
                    let n_values = values.end.min(dims.v_dim) - values.start;
                    finish_latent(self.call.isa, lane.n, n_values, state, &out);
                }
            }
        }
    }
}
