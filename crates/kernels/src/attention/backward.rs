//! Attention over whole sequences, backward: the weights are computed again, block by block.
//!
//! Segments that share rows form a family; a task owns one key/value head of one family, so each
//! gradient is written by one task, in the order of the segments. Within a segment, chunks of query
//! rows walk the blocks; the gradients of keys and values gather in packed buffers and are added to
//! their rows at its end.

use super::forward::{Inputs, Matrix, Packer, copy_padded, copy_row, for_heads};
use super::grad_tile::{self, GradBlock, GradRows, QueryFacts};
use super::lanes::Lines;
use super::{BLOCK_TOKENS, Heads, Segment};
use crate::cpu::{self, Isa};
use crate::lanes::{dot, per_isa};
use crate::threads::Shards;
use std::cell::RefCell;

/// Query rows times heads that share one pass over a block.
const CHUNK_QUERIES: usize = 64;

/// Gradients of [`forward`](super::forward) for the gradient `dout` of its output.
///
/// Shapes: `q`, `dq` [N, H, D]; `k`, `dk` [N, K, D]; `v`, `dv` [N, K, V]; `out`, `dout` [N, H, V];
/// `lse` [N, H], with `out` and `lse` as `forward` left them. Overwrites `dq`, `dk` and `dv`; a row
/// that no segment touches gets zero, a prefix row the sum over all segments that see it.
///
/// Panics if a length does not fit, a segment leaves the rows, or two segments own one row.
#[allow(clippy::too_many_arguments)] // the operands of the operation, as in every kernel
pub fn backward(
    heads: &Heads,
    segments: &[Segment],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let saved = Saved { inputs: Inputs { q, k, v }, out, lse, dout };
    backward_on(cpu::isa(), heads, segments, saved, [dq, dk, dv]);
}

/// What the backward pass reads.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a> {
    pub(super) inputs: Inputs<'a>,
    /// [N, H, V]
    pub(super) out: &'a [f32],
    /// [N, H]
    pub(super) lse: &'a [f32],
    /// [N, H, V]
    pub(super) dout: &'a [f32],
}

/// [`backward`] on a given level. `grads` are those of q, k and v.
pub(super) fn backward_on(
    isa: Isa,
    heads: &Heads,
    segments: &[Segment],
    saved: Saved,
    grads: [&mut [f32]; 3],
) {
    let Inputs { q, k, v } = saved.inputs;
    heads.check_rows(segments, q, k, v, saved.lse);
    assert_eq!(saved.out.len(), saved.lse.len() * heads.v_dim, "out [N, H, V]");
    assert_eq!(saved.dout.len(), saved.out.len(), "dout [N, H, V]");
    for (grad, input, name) in [(&grads[0], q, "dq"), (&grads[1], k, "dk"), (&grads[2], v, "dv")] {
        assert_eq!(grad.len(), input.len(), "{name} differs in length from its input");
    }
    let n_rows = saved.lse.len() / heads.n_heads;
    let (families, untouched) = families(segments, n_rows);
    let [dq, dk, dv] = grads.map(|grad| {
        let row_len = grad.len() / n_rows.max(1);
        for row in &untouched {
            grad[row * row_len..(row + 1) * row_len].fill(0.0);
        }
        Shards::new(grad)
    });
    for_heads(families.len(), heads.n_kv_heads, |family, kv_head| {
        let family = &families[family];
        SCRATCH.with_borrow_mut(|scratch| {
            let mut pass = Pass { isa, heads, saved, kv_head, dq: &dq, dk: &dk, dv: &dv, scratch };
            if let [only] = family[..]
                && segments[only].prefix.is_empty()
            {
                return pass.segment(&segments[only], 0, Gathered::Replace);
            }
            family.iter().for_each(|&idx| pass.clear(&segments[idx]));
            let mut packed: Option<&Segment> = None;
            for segment in family.iter().map(|&idx| &segments[idx]) {
                // Whole blocks of a prefix that the segment before had too are packed already.
                let same = packed.is_some_and(|before| before.prefix == segment.prefix);
                let skip = if same { segment.prefix.len() / BLOCK_TOKENS } else { 0 };
                pass.segment(segment, skip, Gathered::Add);
                packed = Some(segment);
            }
        });
    });
}

/// What the gathered gradients of keys and values do to those of their rows.
#[derive(Clone, Copy, PartialEq)]
enum Gathered {
    Replace,
    Add,
}

/// Groups segments that touch common rows, directly or through others; both levels in order. Also
/// the rows that no segment touches or owns: a row only seen as a prefix has no query of its own.
fn families(segments: &[Segment], n_rows: usize) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut leader: Vec<usize> = (0..segments.len()).collect();
    fn find(leader: &mut [usize], mut at: usize) -> usize {
        while leader[at] != at {
            leader[at] = leader[leader[at]];
            at = leader[at];
        }
        at
    }
    let mut first_user = vec![usize::MAX; n_rows];
    for (idx, segment) in segments.iter().enumerate() {
        for row in segment.prefix.clone().chain(segment.own.clone()) {
            if first_user[row] == usize::MAX {
                first_user[row] = idx;
                continue;
            }
            let a = find(&mut leader, first_user[row]);
            let b = find(&mut leader, idx);
            leader[a.max(b)] = a.min(b); // the earliest segment leads
        }
    }
    let mut families = vec![Vec::new(); segments.len()];
    for idx in 0..segments.len() {
        families[find(&mut leader, idx)].push(idx);
    }
    families.retain(|family| !family.is_empty());
    let mut owned = vec![false; n_rows];
    segments.iter().for_each(|segment| owned[segment.own.clone()].fill(true));
    (families, (0..n_rows).filter(|row| !owned[*row]).collect())
}

/// Packed blocks of one head with their gradients, and one chunk of queries. Kept between calls.
#[derive(Default)]
struct Scratch {
    /// [n_blocks, D, BLOCK_TOKENS]
    keys_t: Lines,
    /// [n_blocks, V, BLOCK_TOKENS]
    values_t: Lines,
    /// [n_keys, D in whole lanes]
    keys: Lines,
    /// As `keys`.
    dk: Lines,
    /// [n_keys, V in whole lanes]
    dv: Lines,
    queries: Vec<QueryFacts>,
    /// Of the chunk, in whole lanes.
    q: Lines,
    dout: Lines,
    dq: Lines,
    /// Of the chunk, [n, BLOCK_TOKENS].
    weights: Lines,
    dscores: Lines,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One task: a key/value head of one family of segments.
struct Pass<'a> {
    isa: Isa,
    heads: &'a Heads,
    saved: Saved<'a>,
    kv_head: usize,
    dq: &'a Shards<'a, f32>,
    dk: &'a Shards<'a, f32>,
    dv: &'a Shards<'a, f32>,
    scratch: &'a mut Scratch,
}

impl Pass<'_> {
    /// Gradients that one segment gives; its first `skip` blocks are packed already.
    fn segment(&mut self, segment: &Segment, skip: usize, gathered: Gathered) {
        self.pack(segment, skip);
        let n_queries = segment.own.len() * self.heads.group();
        for start in (0..n_queries).step_by(CHUNK_QUERIES) {
            self.chunk(segment, start..(start + CHUNK_QUERIES).min(n_queries));
        }
        self.give_keys(segment, gathered);
    }

    fn pack(&mut self, segment: &Segment, skip: usize) {
        let dims = self.heads.dims();
        let n_keys = segment.prefix.len() + segment.own.len();
        let n_slots = n_keys.next_multiple_of(BLOCK_TOKENS);
        let (packer, from) = (Packer { isa: self.isa, segment, n_keys }, skip * BLOCK_TOKENS);
        let inputs = self.saved.inputs;
        let keys = Matrix { data: inputs.k, dim: dims.qk_dim, heads: self.heads.n_kv_heads };
        let keys = keys.head(self.kv_head);
        packer.transposed(keys, from, self.scratch.keys_t.room(n_slots * dims.qk_dim));
        packer.padded(keys, from, self.scratch.keys.room(n_slots * dims.qk_pad()));
        let values = Matrix { data: inputs.v, dim: dims.v_dim, heads: self.heads.n_kv_heads };
        let values = values.head(self.kv_head);
        packer.transposed(values, from, self.scratch.values_t.room(n_slots * dims.v_dim));
        self.scratch.dk.room(n_slots * dims.qk_pad())[..n_slots * dims.qk_pad()].fill(0.0);
        self.scratch.dv.room(n_slots * dims.v_pad())[..n_slots * dims.v_pad()].fill(0.0);
    }

    /// Walks a chunk of the segment's queries (rows times heads of the group) over the blocks.
    fn chunk(&mut self, segment: &Segment, chunk: std::ops::Range<usize>) {
        let (dims, n) = (self.heads.dims(), chunk.len());
        let (qk_pad, v_pad) = (dims.qk_pad(), dims.v_pad());
        self.load_queries(segment, chunk.clone());
        let scratch = &mut *self.scratch;
        let rows = GradRows {
            q: scratch.q.as_slice().as_ptr(),
            dout: scratch.dout.as_slice().as_ptr(),
            dq: scratch.dq.as_mut_slice().as_mut_ptr(),
            weights: scratch.weights.room(n * BLOCK_TOKENS).as_mut_ptr(),
            dscores: scratch.dscores.room(n * BLOCK_TOKENS).as_mut_ptr(),
        };
        let queries = &scratch.queries[..];
        for b in 0..queries[n - 1].n_keys.div_ceil(BLOCK_TOKENS) {
            let first_key = b * BLOCK_TOKENS;
            let active = queries.partition_point(|query| query.n_keys <= first_key);
            let first = |len: usize| first_key * len..(first_key + BLOCK_TOKENS) * len;
            let block = GradBlock {
                keys_t: scratch.keys_t.as_slice()[first(dims.qk_dim)].as_ptr(),
                values_t: scratch.values_t.as_slice()[first(dims.v_dim)].as_ptr(),
                keys: scratch.keys.as_slice()[first(qk_pad)].as_ptr(),
                dk: scratch.dk.as_mut_slice()[first(qk_pad)].as_mut_ptr(),
                dv: scratch.dv.as_mut_slice()[first(v_pad)].as_mut_ptr(),
                first_key,
            };
            // SAFETY: the slices above have the documented lengths; `active` is in the chunk.
            unsafe {
                let rows = rows.from(active, &dims);
                grad_tile::grad_block(self.isa, &dims, &block, &queries[active..], rows);
            }
        }
        for (at, query) in chunk.enumerate() {
            let at_dq = &scratch.dq.as_slice()[at * qk_pad..][..dims.qk_dim];
            let place = place(self.heads, self.kv_head, segment, query);
            // SAFETY: each row and head of `dq` belongs to one segment, hence to one task.
            let dq = unsafe { self.dq.slice(place * dims.qk_dim..(place + 1) * dims.qk_dim) };
            copy_row(at_dq, dq);
        }
    }

    /// Packs the chunk's queries and output gradients, and clears its `dq`.
    fn load_queries(&mut self, segment: &Segment, chunk: std::ops::Range<usize>) {
        let (dims, n) = (self.heads.dims(), chunk.len());
        let (qk_pad, v_pad) = (dims.qk_pad(), dims.v_pad());
        let scratch = &mut *self.scratch;
        let (q, dout) = (scratch.q.room(n * qk_pad), scratch.dout.room(n * v_pad));
        scratch.dq.room(n * qk_pad)[..n * qk_pad].fill(0.0);
        scratch.queries.clear();
        for (at, query) in chunk.enumerate() {
            let place = place(self.heads, self.kv_head, segment, query);
            let value = place * dims.v_dim..(place + 1) * dims.v_dim;
            let row = &self.saved.inputs.q[place * dims.qk_dim..][..dims.qk_dim];
            copy_padded(row, &mut q[at * qk_pad..][..qk_pad]);
            copy_padded(&self.saved.dout[value.clone()], &mut dout[at * v_pad..][..v_pad]);
            scratch.queries.push(QueryFacts {
                n_keys: segment.prefix.len() + query / self.heads.group() + 1,
                lse: self.saved.lse[place],
                delta: dot_row(&self.saved.dout[value.clone()], &self.saved.out[value]),
            });
        }
    }

    /// Clears the gradients of keys and values of a segment's rows.
    fn clear(&self, segment: &Segment) {
        let dims = self.heads.dims();
        for (target, dim) in [(self.dk, dims.qk_dim), (self.dv, dims.v_dim)] {
            for row in segment.prefix.clone().chain(segment.own.clone()) {
                let start = (row * self.heads.n_kv_heads + self.kv_head) * dim;
                // SAFETY: rows of a family are written by its task only, one task per head.
                unsafe { target.slice(start..start + dim) }.fill(0.0);
            }
        }
    }

    /// Gives the gathered gradients of keys and values to their rows.
    fn give_keys(&self, segment: &Segment, how: Gathered) {
        let dims = self.heads.dims();
        let targets = [
            (self.dk, &self.scratch.dk, dims.qk_dim, dims.qk_pad()),
            (self.dv, &self.scratch.dv, dims.v_dim, dims.v_pad()),
        ];
        for (target, gathered, dim, pad) in targets {
            for at in 0..segment.prefix.len() + segment.own.len() {
                let start = (segment.key_row(at) * self.heads.n_kv_heads + self.kv_head) * dim;
                // SAFETY: rows of a family are written by its task only, one task per head.
                let row = unsafe { target.slice(start..start + dim) };
                let gathered = &gathered.as_slice()[at * pad..][..dim];
                match how {
                    Gathered::Replace => copy_row(gathered, row),
                    Gathered::Add => row.iter_mut().zip(gathered).for_each(|(x, y)| *x += y),
                }
            }
        }
    }
}

per_isa! {
    fn dot_row(a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }
}

/// Place among all rows and heads of a segment's query, counted row by row over the group.
fn place(heads: &Heads, kv_head: usize, segment: &Segment, query: usize) -> usize {
    let group = heads.group();
    (segment.own.start + query / group) * heads.n_heads + kv_head * group + query % group
}
