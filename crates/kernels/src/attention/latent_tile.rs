//! The inner loop over latent rows, lanes being queries: one row of the cache meets all heads, first
//! as key, then as value, and is never turned.
//!
//! The arithmetic is that of [`super::tile`], entry by entry: a score is one chain of multiply-adds along the
//! row, the sum of weights is held in sixteen strands (keys 16 apart), a component of the output is
//! one chain along the keys, and keys past a query's last one are not added. The two products are in
//! [`super::latent_rows`].

use super::lanes::{Element, Lanes};
use super::latent_rows::{Fetch, score_rows, sum_rows};
use super::running::Running;
use super::tile::{exp_lanes, per_isa};
use crate::cpu::Isa;

/// Queries side by side, at most: four groups of lanes.
pub(super) const MOST_LANES: usize = 64;

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
    let mut fetch = Fetch::new(block.next, block.next_bytes);
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
