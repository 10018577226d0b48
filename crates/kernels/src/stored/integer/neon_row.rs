//! A few rows of x times sixteen rows of W straight from the stored bytes, in NEON: nothing is opened.
//!
//! Opening pays where many rows of x meet a panel. For few, what it writes is read once. Here codes are cut out
//! in registers and met by x as they lie: sixteen neighbours of one row of W at a time. The lanes of such a dot
//! product are added up, those of four rows of W together, at the end of a group; then lanes are rows, and what
//! follows is what tiles do, in their order.
#![cfg(target_arch = "aarch64")]

use super::Place;
use super::neon::Dot;
use super::opened::{Opened, PANEL, PanelRows};
use super::rounded::{GROUP, GROUPS, HALF, HALVES, Piece};
use crate::memory::fetch_far;
use crate::quant::{CHUNK, Coding, Format, coding};
use std::arch::aarch64::*;

/// Rows of x that a pass over W takes.
const M: usize = 4;
/// Rows of x that are few: two passes over W cost less than opening it.
pub(super) const FEW: usize = 2 * M;
/// Rows of W that are taken side by side.
pub(super) const ROWS: usize = 4;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Scales and minima of the sub-blocks of a chunk; lanes are rows of W.
pub(super) struct Scales {
    pub(super) scales: [[f32; ROWS]; 16],
    pub(super) mins: [[f32; ROWS]; 16],
}

/// A format of stored weights.
pub(super) trait Stored {
    /// Which it is.
    const FORMAT: Format;
    /// How it codes weights.
    const CODING: Coding = match coding(Self::FORMAT) {
        Some(coding) => coding,
        None => panic!("a format without codes"),
    };
    /// Bytes of a row for [`CHUNK`] columns.
    const CHUNK_BYTES: usize = CHUNK / Self::FORMAT.block_len() * Self::FORMAT.block_bytes();

    /// Scales and minima of the first `n_groups` groups of a chunk of four rows.
    ///
    /// Safety: the rows hold them.
    unsafe fn scales(rows: &[*const u8; ROWS], n_groups: usize, to: &mut Scales);

    /// Codes of group `g` of a chunk of a row, less the middle. Safety: the row holds it.
    unsafe fn codes(row: *const u8, g: usize) -> [int8x16_t; 2];
}

/// As [`super::Direct`]. Safety: as there; the CPU has FEAT_DotProd.
pub(super) unsafe fn panel_dotprod<F: Stored>(
    _: &mut Opened,
    x: Piece,
    m: usize,
    rows: PanelRows,
    to: Place,
) {
    #[target_feature(enable = "dotprod")]
    unsafe fn with_dotprod<F: Stored>(x: Piece, m: usize, rows: &PanelRows, to: Place) {
        // SAFETY: the caller's promise.
        unsafe { all::<F, super::neon::DotProd>(x, m, rows, to) }
    }
    // SAFETY: the caller's promise.
    unsafe { with_dotprod::<F>(x, m, &rows, to) }
}

/// As [`super::Direct`]. Safety: as there.
pub(super) unsafe fn panel<F: Stored>(
    _: &mut Opened,
    x: Piece,
    m: usize,
    rows: PanelRows,
    to: Place,
) {
    // SAFETY: the caller's promise.
    unsafe { all::<F, super::neon::Products>(x, m, &rows, to) }
}

/// All rows of x, [`M`] at a time. Safety: as [`super::Direct`]; the CPU has what `D` needs.
#[inline(always)]
unsafe fn all<F: Stored, D: Dot>(x: Piece, m: usize, rows: &PanelRows, to: Place) {
    debug_assert!(m <= FEW && rows.n_rows == PANEL);
    let n_passes = m.div_ceil(M);
    for pass in 0..n_passes {
        let first = pass * m / n_passes;
        // SAFETY: the caller's promise.
        unsafe {
            let (x, to) = (x.row(first), to.row(first));
            match (pass + 1) * m / n_passes - first {
                1 => sized::<F, D, 1>(x, rows, to),
                2 => sized::<F, D, 2>(x, rows, to),
                3 => sized::<F, D, 3>(x, rows, to),
                _ => sized::<F, D, M>(x, rows, to),
            }
        }
    }
}

/// Safety: as [`all`].
#[inline(always)]
unsafe fn sized<F: Stored, D: Dot, const M: usize>(x: Piece, panel: &PanelRows, to: Place) {
    let mut scales = Scales { scales: [[0.0; ROWS]; 16], mins: [[0.0; ROWS]; 16] };
    for first in (0..PANEL).step_by(ROWS) {
        let mut rows = [panel.bytes; ROWS];
        for r in 0..ROWS {
            rows[r] = panel.bytes.wrapping_add((first + r) * panel.row_bytes);
        }
        let mut ahead = panel.ahead.wrapping_add(first * panel.ahead_row_bytes);
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [vdupq_n_f32(0.0); M];
            for c in 0..x.len.div_ceil(CHUNK) {
                for line in (0..ROWS * F::CHUNK_BYTES).step_by(LINE) {
                    fetch_far(ahead.wrapping_add(line));
                }
                ahead = ahead.wrapping_add(ROWS * F::CHUNK_BYTES);
                let x = x.chunk(c);
                F::scales(&rows, x.len / GROUP, &mut scales);
                if F::FORMAT.block_len() == CHUNK {
                    // Written out for even and odd groups, which many formats cut out differently.
                    for pair in 0..x.len / GROUP / 2 {
                        group::<F, D, M>(&mut sums, &x, &rows, &scales, 2 * pair);
                        group::<F, D, M>(&mut sums, &x, &rows, &scales, 2 * pair + 1);
                    }
                } else {
                    for g in 0..x.len / GROUP {
                        group::<F, D, M>(&mut sums, &x, &rows, &scales, g);
                    }
                }
                for r in 0..ROWS {
                    rows[r] = rows[r].wrapping_add(F::CHUNK_BYTES);
                }
            }
            for i in 0..M {
                vst1q_f32(to.row(i).start.add(first), sums[i]);
            }
        }
    }
}

/// Takes group `g` into the sums. Safety: as [`all`].
#[inline(always)]
unsafe fn group<F: Stored, D: Dot, const M: usize>(
    sums: &mut [float32x4_t; M],
    x: &Piece,
    rows: &[*const u8; ROWS],
    scales: &Scales,
    g: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if F::CODING.group == GROUP {
            whole::<F, D, M>(sums, x, rows, scales, g);
        } else {
            halves::<F, D, M>(sums, x, rows, scales, g);
        }
    }
}

/// Takes group `g`, under one scale, into the sums. Safety: as [`all`].
#[inline(always)]
unsafe fn whole<F: Stored, D: Dot, const M: usize>(
    sums: &mut [float32x4_t; M],
    x: &Piece,
    rows: &[*const u8; ROWS],
    scales: &Scales,
    g: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut dots = [[vdupq_n_s32(0); ROWS]; M];
        for r in 0..ROWS {
            let w = F::codes(rows[r], g);
            for i in 0..M {
                for half in 0..2 {
                    let x = vld1q_s8(x.codes.add(i * CHUNK + g * GROUP + half * HALF));
                    dots[i][r] = D::neighbours(dots[i][r], w[half], x);
                }
            }
        }
        let w_scales = vld1q_f32(scales.scales[g].as_ptr());
        for i in 0..M {
            let term = vmulq_n_f32(added_up(dots[i]), (*x.scales.add(i * GROUPS + g)).scale);
            sums[i] = vfmaq_f32(sums[i], term, w_scales);
            if F::CODING.has_mins {
                let mins = vld1q_f32(scales.mins[g].as_ptr());
                sums[i] = vfmaq_n_f32(sums[i], mins, *x.totals[0].add(i * GROUPS + g));
            }
        }
    }
}

/// Takes group `g`, with a scale for either half, into the sums. Safety: as [`all`].
#[inline(always)]
unsafe fn halves<F: Stored, D: Dot, const M: usize>(
    sums: &mut [float32x4_t; M],
    x: &Piece,
    rows: &[*const u8; ROWS],
    scales: &Scales,
    g: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut dots = [[[vdupq_n_s32(0); ROWS]; 2]; M];
        for r in 0..ROWS {
            let w = F::codes(rows[r], g);
            for i in 0..M {
                for half in 0..2 {
                    let x = vld1q_s8(x.codes.add(i * CHUNK + g * GROUP + half * HALF));
                    dots[i][half][r] = D::neighbours(dots[i][half][r], w[half], x);
                }
            }
        }
        let first_scales = vld1q_f32(scales.scales[2 * g].as_ptr());
        let second_scales = vld1q_f32(scales.scales[2 * g + 1].as_ptr());
        for i in 0..M {
            let [first, second] = dots[i];
            let term = vmulq_f32(added_up(first), first_scales);
            let term = vfmaq_f32(term, added_up(second), second_scales);
            sums[i] = vfmaq_n_f32(sums[i], term, (*x.scales.add(i * GROUPS + g)).scale);
            if F::CODING.has_mins {
                for half in 0..2 {
                    let mins = vld1q_f32(scales.mins[2 * g + half].as_ptr());
                    let total = *x.totals[1].add(i * HALVES + 2 * g + half);
                    sums[i] = vfmaq_n_f32(sums[i], mins, total);
                }
            }
        }
    }
}

/// The sum of the lanes of each of four registers.
#[inline(always)]
fn added_up(dots: [int32x4_t; ROWS]) -> float32x4_t {
    // SAFETY: part of every 64-bit ARM CPU.
    unsafe {
        let low = vpaddq_s32(dots[0], dots[1]);
        vcvtq_f32_s32(vpaddq_s32(low, vpaddq_s32(dots[2], dots[3])))
    }
}
