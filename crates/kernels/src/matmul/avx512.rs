//! Register tiles of 14 × 32 for AVX-512: 28 sums, two panel registers, broadcasts from memory.
//! The bf16 tile multiplies pairs with `vdpbf16ps`.
#![cfg(target_arch = "x86_64")]

use super::{PANEL, Tile};
use std::arch::x86_64::*;

const TILE_ROWS: usize = 14;

/// Calls `$rows::<M>` with the number of rows as a constant.
macro_rules! with_rows {
    ($m:expr, $rows:ident, $($arg:expr),*) => {
        match $m {
            1 => $rows::<1>($($arg),*), 2 => $rows::<2>($($arg),*), 3 => $rows::<3>($($arg),*),
            4 => $rows::<4>($($arg),*), 5 => $rows::<5>($($arg),*), 6 => $rows::<6>($($arg),*),
            7 => $rows::<7>($($arg),*), 8 => $rows::<8>($($arg),*), 9 => $rows::<9>($($arg),*),
            10 => $rows::<10>($($arg),*), 11 => $rows::<11>($($arg),*), 12 => $rows::<12>($($arg),*),
            13 => $rows::<13>($($arg),*), _ => $rows::<14>($($arg),*),
        }
    };
}

/// Safety: as [`super::run_panel`].
pub(super) unsafe fn panel_f32(tile: &Tile) {
    for i in (0..tile.rows).step_by(TILE_ROWS) {
        // SAFETY: the caller's promise.
        unsafe { with_rows!(tile.rows - i, rows_f32, tile, i) }
    }
}

/// Safety: as [`super::run_panel`]; the operands hold pairs, packed only where AVX-512 BF16 exists.
pub(super) unsafe fn panel_bf16(tile: &Tile) {
    for i in (0..tile.rows).step_by(TILE_ROWS) {
        // SAFETY: the caller's promise.
        unsafe { with_rows!(tile.rows - i, rows_bf16, tile, i) }
    }
}

/// Lane masks of the two halves of a panel of `n` columns.
fn masks(n: usize) -> (__mmask16, __mmask16) {
    let all = (1u64 << n) - 1;
    (all as u16, (all >> 16) as u16)
}

#[target_feature(enable = "avx512f")]
unsafe fn rows_f32<const M: usize>(tile: &Tile, first: usize) {
    let (low, high) = masks(tile.n);
    // SAFETY: `Tile::check` covers every address; masked lanes are not touched.
    unsafe {
        let (a, c) = (tile.a.as_ptr().add(first * tile.stride), tile.out.add(first * tile.out_stride));
        let mut sums = load::<M>(c, tile.out_stride, low, high, tile.fresh);
        let mut b = tile.b.as_ptr();
        for k in 0..tile.k {
            let (b0, b1) = (_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16)));
            for i in 0..M {
                let left = _mm512_set1_ps(*a.add(i * tile.stride + k));
                sums[i][0] = _mm512_fmadd_ps(left, b0, sums[i][0]);
                sums[i][1] = _mm512_fmadd_ps(left, b1, sums[i][1]);
            }
            b = b.add(PANEL);
        }
        store::<M>(c, tile.out_stride, low, high, &sums);
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rows_bf16<const M: usize>(tile: &Tile, first: usize) {
    let (low, high) = masks(tile.n);
    // SAFETY: `Tile::check` covers every address; a pair of bf16 has the size of an f32.
    unsafe {
        let (a, c) = (tile.a.as_ptr().add(first * tile.stride), tile.out.add(first * tile.out_stride));
        let mut sums = load::<M>(c, tile.out_stride, low, high, tile.fresh);
        let mut b = tile.b.as_ptr();
        for k in 0..tile.k.div_ceil(2) {
            let b0: __m512bh = std::mem::transmute(_mm512_loadu_ps(b));
            let b1: __m512bh = std::mem::transmute(_mm512_loadu_ps(b.add(16)));
            for i in 0..M {
                let left: __m512bh = std::mem::transmute(_mm512_set1_ps(*a.add(i * tile.stride + k)));
                sums[i][0] = _mm512_dpbf16_ps(sums[i][0], left, b0);
                sums[i][1] = _mm512_dpbf16_ps(sums[i][1], left, b1);
            }
            b = b.add(PANEL);
        }
        store::<M>(c, tile.out_stride, low, high, &sums);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load<const M: usize>(
    c: *const f32,
    out_stride: usize,
    low: __mmask16,
    high: __mmask16,
    fresh: bool,
) -> [[__m512; 2]; M] {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    if !fresh {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's promise; lanes outside the masks are not read.
            unsafe {
                let row = c.add(i * out_stride);
                sum[0] = _mm512_maskz_loadu_ps(low, row);
                sum[1] = _mm512_maskz_loadu_ps(high, row.wrapping_add(16));
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const M: usize>(
    c: *mut f32,
    out_stride: usize,
    low: __mmask16,
    high: __mmask16,
    sums: &[[__m512; 2]; M],
) {
    for (i, sum) in sums.iter().enumerate() {
        // SAFETY: the caller's promise; lanes outside the masks are not written.
        unsafe {
            let row = c.add(i * out_stride);
            _mm512_mask_storeu_ps(row, low, sum[0]);
            _mm512_mask_storeu_ps(row.wrapping_add(16), high, sum[1]);
        }
    }
}
