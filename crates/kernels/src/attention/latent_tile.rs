//! The inner loop over latent rows, lanes being queries: one row of the cache meets all heads, first
//! as key, then as value, and is never turned.
//!
//! The arithmetic is that of [`super::tile`], entry by entry: a score is one chain of multiply-adds along the
//! row, the sum of weights is held in sixteen strands (keys 16 apart), a component of the output is
//! one chain along the keys, and keys past a query's last one are not added. Half-precision rows are widened
//! into the first-level cache a piece at a time, right before the piece is used.

use super::BLOCK_TOKENS;
use super::lanes::{Element, Lanes, Plain, fetch_far};
#[cfg(target_arch = "x86_64")]
use super::lanes::{Ymm2, Zmm};
use super::running::Running;
use super::tile::{exp_lanes, per_isa};
use crate::cpu::Isa;
use std::mem::MaybeUninit;

/// Queries side by side, at most: four groups of lanes.
pub(super) const MOST_LANES: usize = 64;
/// Numbers of the queries, over all lanes, that stay in the first-level cache while the rows of a block
/// pass: 16 KiB.
const QUERY_NUMBERS: usize = 4096;

/// Rows of a block as the cache holds them, [BLOCK_TOKENS, stride].
#[derive(Clone, Copy)]
pub(super) enum LatentRows {
    Full(*const f32),
    Half(*const u16),
}

/// One block of latent rows, and the queries that meet it.
#[derive(Clone, Copy)]
pub(super) struct LatentBlock {
    pub(super) rows: LatentRows,
    pub(super) stride: usize,
    /// Length of a key.
    pub(super) qk_dim: usize,
    /// Length of a value in whole lanes.
    pub(super) v_pad: usize,
    pub(super) scale: f32,
    /// Queries: 16, 32 or 64.
    pub(super) lanes: usize,
    /// Queries turned, [qk_dim, lanes]
    pub(super) q_t: *const f32,
    /// Keys of the block that each query sees, [lanes]
    pub(super) counts: *const f32,
    /// Keys that all queries see, and that any of them sees.
    pub(super) shared: usize,
    pub(super) most: usize,
    /// Room for scores, [BLOCK_TOKENS, lanes]
    pub(super) scores: *mut f32,
    /// Memory that is read next, to be fetched meanwhile.
    pub(super) next: *const u8,
    pub(super) next_bytes: usize,
}

per_isa! {
    /// Takes one block into the running softmax of its queries, whose state is turned: sums of weights
    /// [16, lanes], weighted sums [v_pad, lanes]. A query that has seen no key yet and sees none here is
    /// left with garbage.
    ///
    /// # Safety
    /// All pointers must reach as far as their documented shapes; `isa` must be available.
    fn attend_latent = attend_latent_on(block: &LatentBlock, state: Running)
}

per_isa! {
    /// Takes the states of `lanes` queries over a part of the keys into those over the keys before;
    /// `counts` are the keys of the part that each sees. Both are turned.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn merge_latent = merge_latent_on(
        lanes: usize, v_pad: usize, counts: *const f32, total: Running, part: Running
    )
}

per_isa! {
    /// Ends the softmax of sixteen queries of `lanes`: writes their outputs to `out`, [v_dim] each;
    /// those that are null are left out.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn finish_latent = finish_latent_on(
        lanes: usize, v_dim: usize, state: Running, out: &[*mut f32; 16]
    )
}

#[inline(always)]
unsafe fn attend_latent_on<V: Lanes>(block: &LatentBlock, state: Running) {
    // SAFETY: the caller's promise.
    unsafe {
        match block.rows {
            LatentRows::Full(rows) => attend_rows::<V, f32>(block, rows, state),
            LatentRows::Half(rows) => attend_rows::<V, u16>(block, rows, state),
        }
    }
}

#[inline(always)]
unsafe fn attend_rows<V: Lanes, E: Element>(block: &LatentBlock, rows: *const E, state: Running) {
    let mut fetch = Fetch { next: block.next, end: block.next.wrapping_add(block.next_bytes) };
    // SAFETY: the caller's promise.
    unsafe {
        // Sixteen accumulators; where registers are few, four.
        match (V::COLS, block.lanes / 16) {
            (1, _) => score_rows::<V, E, 1, 4>(block, rows, &mut fetch),
            (_, 1) => score_rows::<V, E, 1, 16>(block, rows, &mut fetch),
            (_, 2) => score_rows::<V, E, 2, 8>(block, rows, &mut fetch),
            _ => score_rows::<V, E, 4, 4>(block, rows, &mut fetch),
        }
        let mut rescale = Rescale([0.0; MOST_LANES]);
        for lane in (0..block.lanes).step_by(16) {
            weigh::<V>(block, lane, state).store(rescale.0.as_mut_ptr().add(lane));
        }
        let rescale = rescale.0.as_ptr();
        match (V::COLS, block.lanes / 16) {
            (1, _) => sum_rows::<V, E, 1, 4>(block, rows, rescale, state, &mut fetch),
            (_, 1) => sum_rows::<V, E, 1, 16>(block, rows, rescale, state, &mut fetch),
            (_, 2) => sum_rows::<V, E, 2, 8>(block, rows, rescale, state, &mut fetch),
            _ => sum_rows::<V, E, 4, 4>(block, rows, rescale, state, &mut fetch),
        }
    }
}

#[repr(align(64))]
struct Rescale([f32; MOST_LANES]);

/// Memory that is read next, fetched a line at a time between the products.
struct Fetch {
    next: *const u8,
    end: *const u8,
}

impl Fetch {
    #[inline(always)]
    fn line(&mut self) {
        if self.next < self.end {
            fetch_far(self.next);
            self.next = self.next.wrapping_add(64);
        }
    }
}

/// A piece of rows in f32: where they lie if the cache holds them so, else widened.
#[repr(align(64))]
struct Piece<const N: usize>(MaybeUninit<[f32; N]>);

impl<const N: usize> Piece<N> {
    fn new() -> Self {
        Piece(MaybeUninit::uninit())
    }

    /// `n` rows of `width` numbers from `rows` on: the first one, and the distance of the others.
    ///
    /// # Safety
    /// The rows must reach that far, in whole lanes; a piece holds N numbers.
    #[inline(always)]
    unsafe fn of<V: Lanes, E: Element>(
        &mut self,
        rows: *const E,
        stride: usize,
        (n, width): (usize, usize),
    ) -> (*const f32, usize) {
        if E::IS_F32 {
            return (rows.cast(), stride);
        }
        let width = width.next_multiple_of(16);
        let dst: *mut f32 = self.0.as_mut_ptr().cast();
        // SAFETY: the caller's promise.
        unsafe {
            for i in 0..n {
                let mut k = 0;
                while k < width {
                    E::load::<V>(rows.add(i * stride + k)).store(dst.add(i * width + k));
                    k += 16;
                }
            }
        }
        (dst, width)
    }
}

/// Products of all queries with the rows that any of them sees: `G` groups of lanes and `T` rows in
/// registers.
#[inline(always)]
unsafe fn score_rows<V: Lanes, E: Element, const G: usize, const T: usize>(
    block: &LatentBlock,
    rows: *const E,
    fetch: &mut Fetch,
) {
    let step = QUERY_NUMBERS / block.lanes;
    let lanes = block.lanes;
    let mut piece = Piece::<QUERY_NUMBERS>::new();
    for first in (0..block.qk_dim).step_by(step) {
        let width = step.min(block.qk_dim - first);
        for lane in (0..lanes).step_by(16 * G) {
            for t in (0..block.most).step_by(T) {
                // SAFETY: the caller's promise; BLOCK_TOKENS is a multiple of T, and T rows of a
                // piece are no more than there are queries times rows.
                unsafe {
                    let scores = block.scores.add(t * lanes + lane);
                    let rows = rows.add(t * block.stride + first);
                    let (rows, stride) = piece.of::<V, E>(rows, block.stride, (T, width));
                    let q_t = block.q_t.add(first * lanes + lane);
                    let mut acc = [[V::splat(0.0); G]; T];
                    if first > 0 {
                        for i in 0..T {
                            for g in 0..G {
                                acc[i][g] = V::load(scores.add(i * lanes + g * 16));
                            }
                        }
                    }
                    for d in 0..width {
                        let mut q = [V::splat(0.0); G];
                        for g in 0..G {
                            q[g] = V::load(q_t.add(d * lanes + g * 16));
                        }
                        for i in 0..T {
                            let x = V::splat(*rows.add(i * stride + d));
                            for g in 0..G {
                                acc[i][g] = x.mul_add(q[g], acc[i][g]);
                            }
                        }
                        if d % (4 * G) == 0 {
                            fetch.line();
                        }
                    }
                    for i in 0..T {
                        for g in 0..G {
                            acc[i][g].store(scores.add(i * lanes + g * 16));
                        }
                    }
                }
            }
        }
    }
}

/// Turns the scores of sixteen queries into weights; returns the factor on what was summed before.
#[inline(always)]
unsafe fn weigh<V: Lanes>(block: &LatentBlock, lane: usize, state: Running) -> V {
    let lanes = block.lanes;
    // SAFETY: the caller's promise.
    unsafe {
        let counts = V::load(block.counts.add(lane));
        let mut largest = V::splat(f32::NEG_INFINITY);
        for t in 0..block.most {
            let at = block.scores.add(t * lanes + lane);
            let mut score = V::load(at).mul(V::splat(block.scale));
            if t >= block.shared {
                score = counts.above(t as f32, score, V::splat(f32::NEG_INFINITY));
            }
            score.store(at);
            largest = largest.max(score);
        }
        let max = state.max.add(lane);
        let old = V::load(max);
        let new = largest.max(old);
        new.store(max);
        let minus = new.mul(V::splat(-1.0));
        let rescale = exp_lanes(old.add(minus));
        for i in 0..16 {
            let sum = state.sum.add(i * lanes + lane);
            V::load(sum).mul(rescale).store(sum);
        }
        for t in 0..block.most {
            let at = block.scores.add(t * lanes + lane);
            let weight = exp_lanes(V::load(at).add(minus));
            weight.store(at);
            let sum = state.sum.add(t % 16 * lanes + lane);
            V::load(sum).add(weight).store(sum);
        }
        rescale
    }
}

/// Adds the weighted rows to the sums: `G` groups of lanes and `T` components in registers.
#[inline(always)]
unsafe fn sum_rows<V: Lanes, E: Element, const G: usize, const T: usize>(
    block: &LatentBlock,
    rows: *const E,
    rescale: *const f32,
    state: Running,
    fetch: &mut Fetch,
) {
    let lanes = block.lanes;
    let mut piece = Piece::<{ 16 * BLOCK_TOKENS }>::new();
    for lane in (0..lanes).step_by(16 * G) {
        for v in (0..block.v_pad).step_by(16) {
            // SAFETY: the caller's promise; `v_pad` is whole lanes, and T divides sixteen.
            unsafe {
                let rows = rows.add(v);
                let (rows, stride) = piece.of::<V, E>(rows, block.stride, (block.most, 16));
                for i in (0..16).step_by(T) {
                    let piece = (rows.add(i), stride, v + i);
                    sum_columns::<V, G, T>(block, piece, lane, rescale, state, fetch);
                }
            }
        }
    }
}

/// [`sum_rows`] for `T` components: the first row from the first of them on, the distance of rows, and the
/// number of the component.
#[inline(always)]
unsafe fn sum_columns<V: Lanes, const G: usize, const T: usize>(
    block: &LatentBlock,
    (rows, stride, v): (*const f32, usize, usize),
    lane: usize,
    rescale: *const f32,
    state: Running,
    fetch: &mut Fetch,
) {
    let lanes = block.lanes;
    // SAFETY: the caller's promise.
    unsafe {
        let acc = state.acc.add(v * lanes + lane);
        let mut sum = [[V::splat(0.0); G]; T];
        for g in 0..G {
            let rescale = V::load(rescale.add(lane + g * 16));
            for i in 0..T {
                sum[i][g] = V::load(acc.add(i * lanes + g * 16)).mul(rescale);
            }
        }
        for t in 0..block.shared {
            let w: [V; G] = weights(block, t, lane);
            for i in 0..T {
                let x = V::splat(*rows.add(t * stride + i));
                for g in 0..G {
                    sum[i][g] = w[g].mul_add(x, sum[i][g]);
                }
            }
            if t % (4 * G) == 0 {
                fetch.line();
            }
        }
        // The causal staircase: rows that some queries do not see.
        for t in block.shared..block.most {
            let w: [V; G] = weights(block, t, lane);
            for g in 0..G {
                let counts = V::load(block.counts.add(lane + g * 16));
                for i in 0..T {
                    let x = V::splat(*rows.add(t * stride + i));
                    let more = w[g].mul_add(x, sum[i][g]);
                    sum[i][g] = counts.above(t as f32, more, sum[i][g]);
                }
            }
        }
        for i in 0..T {
            for g in 0..G {
                sum[i][g].store(acc.add(i * lanes + g * 16));
            }
        }
    }
}

#[inline(always)]
unsafe fn weights<V: Lanes, const G: usize>(block: &LatentBlock, t: usize, lane: usize) -> [V; G] {
    let mut w = [V::splat(0.0); G];
    for g in 0..G {
        // SAFETY: the caller's promise.
        w[g] = unsafe { V::load(block.scores.add(t * block.lanes + lane + g * 16)) };
    }
    w
}

#[inline(always)]
unsafe fn merge_latent_on<V: Lanes>(
    lanes: usize,
    v_pad: usize,
    counts: *const f32,
    total: Running,
    part: Running,
) {
    for lane in (0..lanes).step_by(16) {
        // SAFETY: the caller's promise.
        unsafe {
            let seen = V::load(counts.add(lane));
            let (old, other) = (V::load(total.max.add(lane)), V::load(part.max.add(lane)));
            let new = other.max(old);
            seen.above(0.0, new, old).store(total.max.add(lane));
            let minus = new.mul(V::splat(-1.0));
            let (kept, added) = (exp_lanes(old.add(minus)), exp_lanes(other.add(minus)));
            for (total, part, n) in [(total.sum, part.sum, 16), (total.acc, part.acc, v_pad)] {
                for i in 0..n {
                    let (total, part) = (total.add(i * lanes + lane), part.add(i * lanes + lane));
                    let old = V::load(total);
                    let new = V::load(part).mul_add(added, old.mul(kept));
                    seen.above(0.0, new, old).store(total);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn finish_latent_on<V: Lanes>(
    lanes: usize,
    v_dim: usize,
    state: Running,
    out: &[*mut f32; 16],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [V::splat(0.0); 16];
        for i in 0..16 {
            sums[i] = V::load(state.sum.add(i * lanes));
        }
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                sums[i] = sums[i].add(sums[i + half]);
            }
        }
        let mut inverse = sums[0].array();
        for i in 0..16 {
            inverse[i] = 1.0 / inverse[i];
        }
        let inverse = V::load(inverse.as_ptr());
        for v in (0..v_dim).step_by(16) {
            let mut square = [V::splat(0.0); 16];
            for i in 0..16 {
                square[i] = V::load(state.acc.add((v + i) * lanes)).mul(inverse);
            }
            let square = V::transpose(square);
            let n = (v_dim - v).min(16);
            for i in 0..16 {
                if out[i].is_null() {
                    continue;
                }
                if n == 16 {
                    square[i].store(out[i].add(v));
                } else {
                    let row = square[i].array();
                    std::ptr::copy_nonoverlapping(row.as_ptr(), out[i].add(v), n);
                }
            }
        }
    }
}
