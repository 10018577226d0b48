//! Register tiles for NEON: up to 5 rows × 16 columns or 3 × 32, of 32 registers. Rows of the left operand that
//! are contiguous are read four elements at a time, and multiplied lane by lane.
#![cfg(target_arch = "aarch64")]

use super::{COLUMN_STRIDE, Left, PANEL, ROW_STRIDE, Tile};
use std::arch::aarch64::*;

/// Most rows of a tile.
const TILE_ROWS: usize = 5;
/// Registers of a panel, and of half of one.
const WIDE: usize = PANEL / 4;
const NARROW: usize = WIDE / 2;

/// Safety: as [`super::run_tile`].
pub(super) unsafe fn tile_f32(tile: &Tile) {
    // Rows are dealt evenly: few of them have too few chains.
    let n_tiles = tile.rows.div_ceil(TILE_ROWS);
    for i in 0..n_tiles {
        let first = i * tile.rows / n_tiles;
        let end = (i + 1) * tile.rows / n_tiles;
        // SAFETY: the caller's promise.
        unsafe {
            match end - first {
                1 => rows::<1, WIDE>(tile, first, 0),
                2 => rows::<2, WIDE>(tile, first, 0),
                3 => rows::<3, WIDE>(tile, first, 0),
                4 => halves::<4>(tile, first),
                _ => halves::<5>(tile, first),
            }
        }
    }
}

/// Safety: as [`tile_f32`].
unsafe fn halves<const M: usize>(tile: &Tile, first: usize) {
    for column in (0..tile.n).step_by(PANEL / 2) {
        // SAFETY: the caller's promise.
        unsafe { rows::<M, NARROW>(tile, first, column) };
    }
}

/// `M` rows from `first` on times `Q` registers of columns from `column` on. Safety: as [`tile_f32`].
unsafe fn rows<const M: usize, const Q: usize>(tile: &Tile, first: usize, column: usize) {
    let n = (tile.n - column).min(4 * Q);
    let (row, step) = match tile.left {
        Left::Direct(stride) => (stride, 1),
        Left::DirectColumns(stride) => (1, stride),
        Left::Rows => (ROW_STRIDE, 1),
        Left::Columns => (1, COLUMN_STRIDE),
    };
    // SAFETY: `Tile::check` covers every address of the operands; a short row goes through `edge`.
    unsafe {
        let (a, b) = (tile.a.as_ptr().add(first * row), tile.b.as_ptr().add(column));
        let out = |i: usize| tile.out.add((first + i) * tile.out_stride + column);
        let mut edge = [0f32; PANEL];
        let mut sums = [[vdupq_n_f32(0.0); Q]; M];
        if !tile.fresh {
            for i in 0..M {
                let mut from = out(i).cast_const();
                if n < 4 * Q {
                    edge[..n].copy_from_slice(std::slice::from_raw_parts(from, n));
                    from = edge.as_ptr();
                }
                for c in 0..Q {
                    sums[i][c] = vld1q_f32(from.add(4 * c));
                }
            }
        }
        if step == 1 {
            along_rows(&mut sums, a, row, b, tile.k);
        } else {
            along_columns(&mut sums, a, step, b, tile.k);
        }
        for i in 0..M {
            let to = if n < 4 * Q { edge.as_mut_ptr() } else { out(i) };
            for c in 0..Q {
                vst1q_f32(to.add(4 * c), sums[i][c]);
            }
            if n < 4 * Q {
                std::ptr::copy_nonoverlapping(to, out(i), n);
            }
        }
    }
}

/// Element `(i, k)` of the left operand is at `i * row + k`. Safety: the operands hold `k` elements.
#[inline(always)]
unsafe fn along_rows<const M: usize, const Q: usize>(
    sums: &mut [[float32x4_t; Q]; M],
    mut a: *const f32,
    row: usize,
    mut b: *const f32,
    k: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for _ in 0..k / 4 {
            let mut left = [vdupq_n_f32(0.0); M];
            for i in 0..M {
                left[i] = vld1q_f32(a.add(i * row));
            }
            lane::<0, M, Q>(sums, &left, b);
            lane::<1, M, Q>(sums, &left, b.add(PANEL));
            lane::<2, M, Q>(sums, &left, b.add(2 * PANEL));
            lane::<3, M, Q>(sums, &left, b.add(3 * PANEL));
            (a, b) = (a.add(4), b.add(4 * PANEL));
        }
        for u in 0..k % 4 {
            let mut left = [0.0; M];
            for i in 0..M {
                left[i] = *a.add(i * row + u);
            }
            one(sums, left, b.add(u * PANEL));
        }
    }
}

/// Element `(i, k)` of the left operand is at `i + k * step`. Safety: as [`along_rows`].
#[inline(always)]
unsafe fn along_columns<const M: usize, const Q: usize>(
    sums: &mut [[float32x4_t; Q]; M],
    a: *const f32,
    step: usize,
    b: *const f32,
    k: usize,
) {
    for u in 0..k {
        // SAFETY: the caller's promise.
        unsafe { one(sums, *a.add(u * step).cast(), b.add(u * PANEL)) };
    }
}

/// One element of each row, a lane of `left`, times a row of the panel. Safety: the panel has it.
#[inline(always)]
unsafe fn lane<const L: i32, const M: usize, const Q: usize>(
    sums: &mut [[float32x4_t; Q]; M],
    left: &[float32x4_t; M],
    b: *const f32,
) {
    for c in 0..Q {
        // SAFETY: the caller's promise.
        unsafe {
            let right = vld1q_f32(b.add(4 * c));
            for i in 0..M {
                sums[i][c] = vfmaq_laneq_f32::<L>(sums[i][c], right, left[i]);
            }
        }
    }
}

/// The same with single numbers. Safety: as above.
#[inline(always)]
unsafe fn one<const M: usize, const Q: usize>(
    sums: &mut [[float32x4_t; Q]; M],
    left: [f32; M],
    b: *const f32,
) {
    for c in 0..Q {
        // SAFETY: the caller's promise.
        unsafe {
            let right = vld1q_f32(b.add(4 * c));
            for i in 0..M {
                sums[i][c] = vfmaq_n_f32(sums[i][c], right, left[i]);
            }
        }
    }
}
