//! Tiles of 4 rows × 16 rows of W in NEON: a register holds four neighbours of four rows of W.
//!
//! With FEAT_DotProd an instruction multiplies them with four neighbours of x, picked from a register of
//! sixteen. Without it, products of eight bytes are added in pairs in 16 bits (two are at most 2·128·127), then
//! in 32.
//!
//! Opened codes are signed here, less the middle: [`super::neon_open`].
#![cfg(target_arch = "aarch64")]

use super::groups::{TO_INTEGER, TO_INTEGER_BITS};
use super::opened::{Opened, PANEL};
use super::rounded::{GROUP, GROUPS, HALF, HALVES, Piece};
use super::{PANELS, Tile};
use crate::cpu::cpu;
use crate::neon::{dot, dot_lane};
use crate::quant::{CHUNK, Coding};
use std::arch::aarch64::*;

/// Rows of x that a tile takes.
pub(super) const M: usize = 4;
/// Registers of a panel.
const PARTS: usize = PANEL / 4;

#[cfg(test)]
thread_local! {
    /// Does as if the CPU had no `sdot`: one that has it runs the kernels without it nowhere else.
    pub(super) static WITHOUT_DOTPROD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether kernels may use `sdot`.
pub(super) fn dotprod() -> bool {
    #[cfg(test)]
    if WITHOUT_DOTPROD.get() {
        return false;
    }
    cpu().dotprod
}

/// Safety: as [`Tile`]; the CPU has FEAT_DotProd.
pub(super) unsafe fn tile_dotprod(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.m {
            1 => panels_dotprod::<1>(tile),
            2 => panels_dotprod::<2>(tile),
            3 => panels_dotprod::<3>(tile),
            _ => panels_dotprod::<4>(tile),
        }
    }
}

/// Safety: as [`Tile`].
pub(super) unsafe fn tile(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.m {
            1 => panels::<Products, 1>(tile),
            2 => panels::<Products, 2>(tile),
            3 => panels::<Products, 3>(tile),
            _ => panels::<Products, 4>(tile),
        }
    }
}

#[target_feature(enable = "dotprod")]
unsafe fn panels_dotprod<const M: usize>(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { panels::<DotProd, M>(tile) }
}

/// How dot products of bytes are made.
pub(super) trait Dot {
    /// `sums` and what four rows of W, four neighbours each in a register of `w`, give with sixteen codes of x.
    ///
    /// Safety: the CPU has the instructions.
    unsafe fn sixteen(sums: int32x4_t, w: [int8x16_t; 4], x: int8x16_t) -> int32x4_t;

    /// `sums` and what sixteen neighbours of one row of W give with those of x; which lane gets what is open.
    ///
    /// Safety: as above.
    unsafe fn neighbours(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;
}

pub(super) struct DotProd;

impl Dot for DotProd {
    #[inline(always)]
    unsafe fn sixteen(mut sums: int32x4_t, w: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe {
            sums = dot_lane::<0>(sums, w[0], x);
            sums = dot_lane::<1>(sums, w[1], x);
            sums = dot_lane::<2>(sums, w[2], x);
            dot_lane::<3>(sums, w[3], x)
        }
    }

    #[inline(always)]
    unsafe fn neighbours(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { dot(sums, w, x) }
    }
}

pub(super) struct Products;

impl Dot for Products {
    #[inline(always)]
    unsafe fn sixteen(sums: int32x4_t, w: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
        // SAFETY: part of every 64-bit ARM CPU.
        unsafe {
            let x = vreinterpretq_s32_s8(x);
            let x = [
                vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(x)),
                vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(x)),
                vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(x)),
                vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(x)),
            ];
            // Two rows of W in either half of a register.
            let low = |i: usize| {
                let first = vmull_s8(vget_low_s8(w[i]), vget_low_s8(x[i]));
                vmlal_s8(first, vget_low_s8(w[i + 1]), vget_low_s8(x[i + 1]))
            };
            let high = |i: usize| vmlal_high_s8(vmull_high_s8(w[i], x[i]), w[i + 1], x[i + 1]);
            let low = vpadalq_s16(vpaddlq_s16(low(0)), low(2));
            let high = vpadalq_s16(vpaddlq_s16(high(0)), high(2));
            vaddq_s32(sums, vpaddq_s32(low, high))
        }
    }

    #[inline(always)]
    unsafe fn neighbours(sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe {
            let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
            vpadalq_s16(sums, vmlal_high_s8(low, w, x))
        }
    }
}

/// Safety: as [`tile`]; the CPU has what `D` needs.
#[inline(always)]
unsafe fn panels<D: Dot, const M: usize>(tile: &Tile) {
    for p in 0..PANELS {
        // SAFETY: the caller's promise; the sums of a panel are ours.
        unsafe {
            let mut sums = [[vdupq_n_f32(0.0); PARTS]; M];
            if !tile.first {
                for i in 0..M {
                    for part in 0..PARTS {
                        let from = tile.from.row(i).start.add(p * PANEL + 4 * part);
                        sums[i][part] = vld1q_f32(from);
                    }
                }
            }
            let Coding { group, has_mins, .. } = tile.coding;
            for (c, panels) in tile.panels.iter().enumerate() {
                let (x, opened) = (tile.x.chunk(c), &panels[p]);
                for b in 0..x.len / GROUP {
                    match (group == GROUP, has_mins) {
                        (true, false) => whole::<D, M, false>(&mut sums, &x, opened, b),
                        (true, true) => whole::<D, M, true>(&mut sums, &x, opened, b),
                        (false, false) => halves::<D, M, false>(&mut sums, &x, opened, b),
                        (false, true) => halves::<D, M, true>(&mut sums, &x, opened, b),
                    }
                }
            }
            for i in 0..M {
                for part in 0..PARTS {
                    let to = tile.to.row(i).start.add(p * PANEL + 4 * part);
                    vst1q_f32(to, sums[i][part]);
                }
            }
        }
    }
}

/// Takes group `b`, under one scale, into the sums. Safety: as [`panels`].
#[inline(always)]
unsafe fn whole<D: Dot, const M: usize, const MINS: bool>(
    sums: &mut [[float32x4_t; PARTS]; M],
    x: &Piece,
    opened: &Opened,
    b: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let codes = codes::<M>(x, b);
        for part in 0..PARTS {
            let mut dots = [vdupq_n_s32(TO_INTEGER_BITS); M];
            for half in 0..2 {
                let w = weights(opened, 2 * b + half, part);
                for i in 0..M {
                    dots[i] = D::sixteen(dots[i], w, codes[i][half]);
                }
            }
            let scales = vld1q_f32(opened.scales[b].as_ptr().add(4 * part));
            for i in 0..M {
                let scale = (*x.scales.add(i * GROUPS + b)).scale;
                let term = vmulq_n_f32(float(dots[i]), scale);
                sums[i][part] = vfmaq_f32(sums[i][part], term, scales);
            }
            if MINS {
                let mins = vld1q_f32(opened.mins[b].as_ptr().add(4 * part));
                for i in 0..M {
                    let total = *x.totals[0].add(i * GROUPS + b);
                    sums[i][part] = vfmaq_n_f32(sums[i][part], mins, total);
                }
            }
        }
    }
}

/// Takes group `b`, with a scale for either half, into the sums. Safety: as [`panels`].
#[inline(always)]
unsafe fn halves<D: Dot, const M: usize, const MINS: bool>(
    sums: &mut [[float32x4_t; PARTS]; M],
    x: &Piece,
    opened: &Opened,
    b: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let codes = codes::<M>(x, b);
        for part in 0..PARTS {
            let mut terms = [vdupq_n_f32(0.0); M];
            for half in 0..2 {
                let w = weights(opened, 2 * b + half, part);
                let scales = vld1q_f32(opened.scales[2 * b + half].as_ptr().add(4 * part));
                for i in 0..M {
                    let dots = D::sixteen(vdupq_n_s32(TO_INTEGER_BITS), w, codes[i][half]);
                    terms[i] = match half {
                        0 => vmulq_f32(float(dots), scales),
                        _ => vfmaq_f32(terms[i], float(dots), scales),
                    };
                }
            }
            for i in 0..M {
                let scale = (*x.scales.add(i * GROUPS + b)).scale;
                sums[i][part] = vfmaq_n_f32(sums[i][part], terms[i], scale);
            }
            if MINS {
                for half in 0..2 {
                    let mins = vld1q_f32(opened.mins[2 * b + half].as_ptr().add(4 * part));
                    for i in 0..M {
                        let total = *x.totals[1].add(i * HALVES + 2 * b + half);
                        sums[i][part] = vfmaq_n_f32(sums[i][part], mins, total);
                    }
                }
            }
        }
    }
}

/// Dot products that started from the bits of [`TO_INTEGER`], as floats. Exact: they are below 2²² in size.
#[inline(always)]
fn float(dots: int32x4_t) -> float32x4_t {
    // SAFETY: part of every 64-bit ARM CPU.
    unsafe { vsubq_f32(vreinterpretq_f32_s32(dots), vdupq_n_f32(TO_INTEGER)) }
}

/// The codes of group `b` of `M` rows. Safety: the rows have it.
#[inline(always)]
unsafe fn codes<const M: usize>(x: &Piece, b: usize) -> [[int8x16_t; 2]; M] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut codes = [[vdupq_n_s8(0); 2]; M];
        for i in 0..M {
            let at = x.codes.add(i * CHUNK + b * GROUP);
            codes[i] = [vld1q_s8(at), vld1q_s8(at.add(HALF))];
        }
        codes
    }
}

/// Sixteen codes of each of four rows of W. Safety: the half group exists.
#[inline(always)]
unsafe fn weights(opened: &Opened, half: usize, part: usize) -> [int8x16_t; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut w = [vdupq_n_s8(0); 4];
        for g in 0..4 {
            w[g] = vld1q_s8(opened.codes[4 * half + g].as_ptr().add(16 * part).cast());
        }
        w
    }
}
