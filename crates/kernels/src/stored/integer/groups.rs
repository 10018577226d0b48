//! Writing rounded rows, group by group.

use super::rounded::{GROUP, GROUPS, HALF, HALVES, Piece, START_MIDDLES, Scale};
#[cfg(target_arch = "x86_64")]
use crate::cpu::{Isa, isa};
use crate::lanes::per_isa;
use crate::quant::CHUNK;
use crate::swiglu;

/// Adding this to a float below 2²² in size leaves its nearest integer (ties to even) in the low bits.
/// Likewise an integer of that size, added to the bits of this, makes the float of both.
pub(super) const TO_INTEGER: f32 = 12_582_912.0;
/// The bits of [`TO_INTEGER`], as a dot product starts from them.
pub(super) const TO_INTEGER_BITS: i32 = TO_INTEGER.to_bits() as i32;
/// Groups below this size are zeros: their scale would not be a normal number.
const SMALLEST: f32 = 1e-30;
/// Groups above this size are not numbers: their scale's excess would not be finite.
const LARGEST: f32 = 1e30;

/// The groups of all rows, for threads that write different ones.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) first: Groups,
    pub(super) n_rows: usize,
    pub(super) n_in: usize,
}

// SAFETY: whoever writes through it promises to be alone with the groups.
unsafe impl Sync for Places {}

impl Places {
    /// The groups from column `start` of row `row` on. Panics if they do not exist.
    #[inline(always)]
    pub(super) fn of(&self, row: usize, start: usize) -> Groups {
        assert!(row < self.n_rows && start < self.n_in && start.is_multiple_of(GROUP));
        let chunk = start / CHUNK * CHUNK;
        let at = chunk * self.n_rows + row * CHUNK + start - chunk;
        // SAFETY: every row has room for whole chunks.
        unsafe { self.first.after(at / GROUP) }
    }
}

/// A group, and those behind it: of a row in one chunk, and [`GROUPS`] further on those of the next row.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    pub(super) codes: *mut i8,
    pub(super) scales: *mut Scale,
    pub(super) starts: [*mut i32; 2],
    pub(super) totals: [*mut f32; 2],
}

impl Groups {
    /// The `n`-th group behind this one. Safety: it exists.
    #[inline(always)]
    pub(super) unsafe fn after(&self, n: usize) -> Groups {
        let [starts, half_starts] = self.starts;
        let [totals, half_totals] = self.totals;
        // SAFETY: the caller's promise.
        unsafe {
            Groups {
                codes: self.codes.add(n * GROUP),
                scales: self.scales.add(n),
                starts: [starts.add(n), half_starts.add(2 * n)],
                totals: [totals.add(n), half_totals.add(2 * n)],
            }
        }
    }

    /// Copies a chunk of a row. Safety: both have room for one, and no one else touches this one.
    pub(super) unsafe fn copy_chunk(&self, from: &Piece) {
        // SAFETY: the caller's promise.
        unsafe {
            self.codes.copy_from_nonoverlapping(from.codes, CHUNK);
            self.scales.copy_from_nonoverlapping(from.scales, GROUPS);
            for (i, n) in [GROUPS, HALVES].into_iter().enumerate() {
                self.starts[i].copy_from_nonoverlapping(from.starts[i], n);
                self.totals[i].copy_from_nonoverlapping(from.totals[i], n);
            }
        }
    }

    /// Rounds a group. Safety: it exists, and no one else touches it.
    #[inline(always)]
    unsafe fn round(&self, x: &[f32; GROUP]) {
        // Compared as bits, so that what is not finite is the largest.
        let mut largest = 0u32;
        for x in x {
            largest = largest.max(x.to_bits() & 0x7fff_ffff);
        }
        let largest = f32::from_bits(largest);
        let (scale, inverse) = scale(largest);
        let (mut whole, mut codes) = ([0i32; GROUP], [0i8; GROUP]);
        for j in 0..GROUP {
            whole[j] = (x[j] * inverse + TO_INTEGER).to_bits() as i8 as i32;
        }
        for j in 0..GROUP {
            codes[j] = whole[j] as i8;
        }
        let mut sum = [0i32; 2];
        for j in 0..HALF {
            sum[0] += whole[j];
            sum[1] += whole[HALF + j];
        }
        // SAFETY: the caller's promise.
        unsafe {
            self.codes.cast::<[i8; GROUP]>().write(codes);
            self.scales.write(scale);
            for half in 0..2 {
                self.starts[1].add(half).write(start(1, sum[half]));
                self.totals[1].add(half).write(sum[half] as f32 * scale.scale);
            }
            self.starts[0].write(start(0, sum[0] + sum[1]));
            self.totals[0].write((sum[0] + sum[1]) as f32 * scale.scale);
        }
    }
}

/// The scale of a group whose largest element has this size, and what elements are multiplied with.
///
/// The scale has 22 bits, so that its excess is exact.
#[inline(always)]
pub(super) fn scale(largest: f32) -> (Scale, f32) {
    let (scale, inverse) = match largest {
        _ if largest < SMALLEST => (0.0, 0.0),
        _ if largest <= LARGEST => (largest / 127.0, 127.0 / largest),
        _ => (f32::NAN, 0.0),
    };
    let scale = f32::from_bits(scale.to_bits() & !3);
    (Scale { scale, excess: scale * TO_INTEGER }, inverse)
}

/// What the dot product with a group (0) or half a group (1) starts from, if its codes have this sum.
#[inline(always)]
pub(super) fn start(of: usize, sum: i32) -> i32 {
    TO_INTEGER_BITS - START_MIDDLES[of] * sum
}

/// Rounds groups; each goes `step` groups behind the one before.
///
/// Safety: they exist, and no one else touches them.
pub(super) unsafe fn round_groups(x: &[[f32; GROUP]], out: &Groups, step: usize) {
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512 {
        // SAFETY: the caller's promise; the level has all that is needed.
        return unsafe { super::groups_avx512::round_groups(x, out, step) };
    }
    round_each(x, out, step);
}

per_isa! {
    /// The definition. Safety: as [`round_groups`], its only caller.
    fn round_each(x: &[[f32; GROUP]], out: &Groups, step: usize) {
        for (g, x) in x.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { out.after(g * step).round(x) };
        }
    }
}

/// Rounds `silu(gate) · up`: a group of every row, from that of `out` on.
///
/// Safety: the rows exist, and no one else touches their groups.
pub(super) unsafe fn round_gated(gate: &[[f32; GROUP]], up: &[[f32; GROUP]], out: &Groups) {
    /// Rows that are activated at a time: they stay in the first-level cache.
    const AT_ONCE: usize = 32;
    let mut active = [[0.0; GROUP]; AT_ONCE];
    for (i, (gate, up)) in gate.chunks(AT_ONCE).zip(up.chunks(AT_ONCE)).enumerate() {
        let active = &mut active[..gate.len()];
        swiglu::forward_part(gate.as_flattened(), up.as_flattened(), active.as_flattened_mut());
        // SAFETY: the caller's promise.
        unsafe { round_groups(active, &out.after(i * AT_ONCE * GROUPS), GROUPS) };
    }
}
