//! Attention over whole sequences, forward.
//!
//! A task packs the keys of its segments into blocks (transposed, so that lanes are keys), then
//! walks chunks of query rows over the blocks, part by part. Tasks own disjoint rows of the output.

use super::dots::{Source, transpose_rows};
use super::lanes::Lines;
use super::parts::parts;
use super::running::{Softmax, finish_row, merge_row};
use super::tile::{self, Block, Query, Stored};
use super::{BLOCK_TOKENS, Heads, Segment};
use crate::cpu::{self, Isa};
use crate::threads::{self, Shards};
use std::cell::RefCell;
use std::ops::Range;

/// Query rows times heads that share one pass over a block: their state stays in the first-level
/// cache beside the block.
const CHUNK_QUERIES: usize = 32;

/// Causal attention of the own rows of all segments.
///
/// Shapes: `q` [N, H, D], `k` [N, K, D], `v` [N, K, V], `out` [N, H, V]; `lse` [N, H] receives the
/// log of the sum of exponentials of each row's scaled scores, which [`backward`](super::backward)
/// needs. Rows that no segment owns are left as they are.
///
/// Panics if a length does not fit, a segment leaves the rows, or two segments own one row.
#[allow(clippy::too_many_arguments)] // the operands of the operation, as in every kernel
pub fn forward(
    heads: &Heads,
    segments: &[Segment],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    forward_on(cpu::isa(), heads, segments, Inputs { q, k, v }, out, lse);
}

/// What attention reads.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// [N, H, D]
    pub(super) q: &'a [f32],
    /// [N, K, D]
    pub(super) k: &'a [f32],
    /// [N, K, V]
    pub(super) v: &'a [f32],
}

/// [`forward`] on a given level.
pub(super) fn forward_on(
    isa: Isa,
    heads: &Heads,
    segments: &[Segment],
    inputs: Inputs,
    out: &mut [f32],
    lse: &mut [f32],
) {
    heads.check_rows(segments, inputs.q, inputs.k, inputs.v, lse);
    assert_eq!(out.len(), lse.len() * heads.v_dim, "out [N, H, V]");
    let together = cut(segments, 1);
    let enough = together.len() >= enough_cuts();
    let cuts = if enough { together } else { cut(segments, heads.n_kv_heads) };
    let (out, lse) = (Shards::new(out), Shards::new(lse));
    for_heads(cuts.len(), heads.n_kv_heads, |cut, kv_head| {
        let cut = &cuts[cut];
        SCRATCH.with_borrow_mut(|scratch| {
            let mut pass = Pass { isa, heads, inputs, kv_head, out: &out, lse: &lse, scratch };
            let mut packed: Option<&Segment> = None;
            for segment in &segments[cut.segments.clone()] {
                // Whole blocks of a prefix that the segment before had too are packed already.
                let same = packed.is_some_and(|before| before.prefix == segment.prefix);
                let skip = if same { segment.prefix.len() / BLOCK_TOKENS } else { 0 };
                let rows = match &cut.rows {
                    Some(rows) => rows.clone(),
                    None => 0..segment.own.len(),
                };
                pass.attend(segment, rows, skip);
                packed = Some(segment);
            }
        });
    });
}

/// Cuts that keep all threads busy without being shared by heads.
fn enough_cuts() -> usize {
    8 * threads::n_threads()
}

/// Runs `body(i, kv_head)` for all cuts and heads. A thread takes all heads of a cut in turn if there are
/// enough cuts: the heads of a row lie side by side.
pub(super) fn for_heads(n_cuts: usize, n_kv_heads: usize, body: impl Fn(usize, usize) + Sync) {
    let at_once = if n_cuts >= enough_cuts() { n_kv_heads } else { 1 };
    threads::run(n_cuts * (n_kv_heads / at_once), |task| {
        let heads = n_kv_heads / at_once;
        for kv_head in task % heads * at_once..(task % heads + 1) * at_once {
            body(task / heads, kv_head);
        }
    });
}

/// The work of one task, for each key/value head.
struct Cut {
    segments: Range<usize>,
    /// Own rows, counted from the segment's first, where one long segment is shared by several tasks.
    rows: Option<Range<usize>>,
}

/// Cuts the segments into pieces of about equal cost, eight per thread over `n_kv_heads` heads.
fn cut(segments: &[Segment], n_kv_heads: usize) -> Vec<Cut> {
    let cost = |s: &Segment| s.own.len() * (s.prefix.len() + s.own.len().div_ceil(2));
    let total: usize = segments.iter().map(cost).sum();
    let target = (total * n_kv_heads / (8 * threads::n_threads())).max(BLOCK_TOKENS * BLOCK_TOKENS);
    let mut cuts = Vec::new();
    let (mut start, mut held) = (0, 0);
    for (idx, segment) in segments.iter().enumerate() {
        let n_pieces = (cost(segment) / target).min(segment.own.len() / BLOCK_TOKENS);
        if n_pieces >= 2 {
            if start < idx {
                cuts.push(Cut { segments: start..idx, rows: None });
            }
            let step = segment.own.len().div_ceil(n_pieces);
            for first in (0..segment.own.len()).step_by(step) {
                let rows = Some(first..(first + step).min(segment.own.len()));
                cuts.push(Cut { segments: idx..idx + 1, rows });
            }
            (start, held) = (idx + 1, 0);
            continue;
        }
        held += cost(segment);
        if held >= target {
            cuts.push(Cut { segments: start..idx + 1, rows: None });
            (start, held) = (idx + 1, 0);
        }
    }
    if start < segments.len() {
        cuts.push(Cut { segments: start..segments.len(), rows: None });
    }
    cuts
}

/// Packed blocks of one head, and the state of one chunk of queries. Kept between calls.
#[derive(Default)]
struct Scratch {
    /// [n_blocks, qk_dim, BLOCK_TOKENS]
    keys_t: Lines,
    /// [n_blocks, BLOCK_TOKENS, v_pad]
    values: Lines,
    queries: Vec<Query>,
    softmax: Softmax,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One task: a key/value head of some segments.
struct Pass<'a> {
    isa: Isa,
    heads: &'a Heads,
    inputs: Inputs<'a>,
    kv_head: usize,
    out: &'a Shards<'a, f32>,
    lse: &'a Shards<'a, f32>,
    scratch: &'a mut Scratch,
}

impl Pass<'_> {
    /// Attention of the own rows `rows` of a segment, whose first `skip` blocks are packed already.
    fn attend(&mut self, segment: &Segment, rows: Range<usize>, skip: usize) {
        let dims = self.heads.dims();
        let n_keys = segment.prefix.len() + rows.end;
        let n_blocks = n_keys.div_ceil(BLOCK_TOKENS);
        let keys_t = self.scratch.keys_t.room(n_blocks * dims.qk_dim * BLOCK_TOKENS);
        let values = self.scratch.values.room(n_blocks * dims.v_pad() * BLOCK_TOKENS);
        let (packer, from) = (Packer { isa: self.isa, segment, n_keys }, skip * BLOCK_TOKENS);
        let keys = Matrix { data: self.inputs.k, dim: dims.qk_dim, heads: self.heads.n_kv_heads };
        packer.transposed(keys.head(self.kv_head), from, keys_t);
        let vals = Matrix { data: self.inputs.v, dim: dims.v_dim, heads: self.heads.n_kv_heads };
        packer.padded(vals.head(self.kv_head), from, values);

        let (group, v_pad) = (self.heads.group(), dims.v_pad());
        let (block_keys, block_values) = (dims.qk_dim * BLOCK_TOKENS, v_pad * BLOCK_TOKENS);
        let all = rows.start * group..rows.end * group;
        for start in all.clone().step_by(CHUNK_QUERIES) {
            let chunk = start..(start + CHUNK_QUERIES).min(all.end);
            // Places of the chunk's queries among all rows and heads.
            let place = |query: usize| {
                let row = segment.own.start + query / group;
                row * self.heads.n_heads + self.kv_head * group + query % group
            };
            let queries = &mut self.scratch.queries;
            queries.clear();
            queries.extend(chunk.clone().map(|query| {
                let at = place(query) * dims.qk_dim;
                Query {
                    q: self.inputs.q[at..at + dims.qk_dim].as_ptr(),
                    n_keys: segment.prefix.len() + query / group + 1,
                }
            }));
            let n_blocks = queries[chunk.len() - 1].n_keys.div_ceil(BLOCK_TOKENS);
            let [total, part] = self.scratch.softmax.states(chunk.len(), v_pad);
            for blocks in parts(n_blocks) {
                let state = if blocks.start == 0 { total } else { part };
                // SAFETY: both states are of the chunk.
                unsafe { state.begin(chunk.len(), v_pad) };
                let seeing =
                    |b: usize| queries.partition_point(|query| query.n_keys <= b * BLOCK_TOKENS);
                for b in blocks.clone() {
                    let block = Block {
                        stored: Stored::Full {
                            keys_t: Source::alone(keys_t[b * block_keys..][..block_keys].as_ptr()),
                            values: Source::alone(
                                values[b * block_values..][..block_values].as_ptr(),
                            ),
                        },
                        first_key: b * BLOCK_TOKENS,
                    };
                    let active = seeing(b);
                    // SAFETY: the slices above have the documented lengths; `active` is in the chunk.
                    unsafe {
                        let state = state.from(active, v_pad);
                        tile::attend_block(self.isa, &dims, &block, &queries[active..], state);
                    }
                }
                if blocks.start > 0 {
                    for at in seeing(blocks.start)..chunk.len() {
                        // SAFETY: `at` is in the chunk.
                        unsafe {
                            let (total, part) = (total.from(at, v_pad), part.from(at, v_pad));
                            merge_row(self.isa, v_pad, total, part);
                        }
                    }
                }
            }
            for (at, query) in chunk.enumerate() {
                let place = place(query);
                // SAFETY: rows and heads of different tasks differ; `at` is in the chunk.
                unsafe {
                    let out = self.out.slice(place * dims.v_dim..(place + 1) * dims.v_dim);
                    let lse = self.lse.slice(place..place + 1);
                    let state = total.from(at, v_pad);
                    finish_row(self.isa, &dims, state, out, &mut lse[0]);
                }
            }
        }
    }
}

/// Rows of all heads, [N, heads, dim].
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) heads: usize,
    pub(super) dim: usize,
}

impl<'a> Matrix<'a> {
    pub(super) fn head(self, head: usize) -> HeadRows<'a> {
        HeadRows { matrix: self, head }
    }
}

/// The rows of one head.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a> {
    matrix: Matrix<'a>,
    head: usize,
}

impl<'a> HeadRows<'a> {
    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        let dim = self.matrix.dim;
        &self.matrix.data[(row * self.matrix.heads + self.head) * dim..][..dim]
    }
}

/// Gathers the first `n_keys` logical keys of a segment into blocks.
pub(super) struct Packer<'a> {
    pub(super) isa: Isa,
    pub(super) segment: &'a Segment,
    pub(super) n_keys: usize,
}

impl Packer<'_> {
    /// Blocks [dim, BLOCK_TOKENS], from the key `from` (a block's first) on.
    pub(super) fn transposed(&self, source: HeadRows, from: usize, dst: &mut [f32]) {
        let dim = source.matrix.dim;
        for first in (from..self.n_keys).step_by(BLOCK_TOKENS) {
            let n = BLOCK_TOKENS.min(self.n_keys - first);
            let mut rows = [std::ptr::null(); BLOCK_TOKENS];
            for i in 0..n {
                rows[i] = source.row(self.segment.key_row(first + i)).as_ptr();
            }
            let dst = &mut dst[first * dim..][..dim * BLOCK_TOKENS];
            // SAFETY: each row has `dim` values, the block has room for all of them.
            unsafe { transpose_rows(self.isa, &rows[..n], dim, dst.as_mut_ptr(), BLOCK_TOKENS) };
        }
    }

    /// Rows in whole lanes, from the key `from` on.
    pub(super) fn padded(&self, source: HeadRows, from: usize, dst: &mut [f32]) {
        let pad = source.matrix.dim.next_multiple_of(16);
        for at in from..self.n_keys {
            copy_padded(source.row(self.segment.key_row(at)), &mut dst[at * pad..][..pad]);
        }
    }
}

/// Copies a row and clears the lanes after it. Rows are short: a call for each copy would cost more.
pub(super) fn copy_padded(row: &[f32], dst: &mut [f32]) {
    let (whole, tail) = row.as_chunks::<16>();
    let (to, _) = dst.as_chunks_mut::<16>();
    #[allow(clippy::manual_memcpy)] // a call of memcpy costs more than the row
    for i in 0..whole.len() {
        to[i] = whole[i];
    }
    if !tail.is_empty() {
        let mut last = [0.0; 16];
        last[..tail.len()].copy_from_slice(tail);
        to[whole.len()] = last;
    }
}

/// Copies a short row.
pub(super) fn copy_row(row: &[f32], dst: &mut [f32]) {
    let (whole, tail) = row.as_chunks::<16>();
    let (to, to_tail) = dst.as_chunks_mut::<16>();
    #[allow(clippy::manual_memcpy)] // a call of memcpy costs more than the row
    for i in 0..whole.len() {
        to[i] = whole[i];
    }
    to_tail.copy_from_slice(tail);
}
