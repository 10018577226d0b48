//! Register tiles of 14 × 32 for AVX-512: 28 sums, two panel registers, broadcasts from memory.
//! The bf16 tile multiplies pairs with `vdpbf16ps`.
#![cfg(target_arch = "x86_64")]

use super::{COLUMN_STRIDE, Left, PANEL, ROW_STRIDE, Tile};
use std::arch::x86_64::*;

/// Steps of `k` written out one after another, so that every address is one register and a constant:
/// address arithmetic would take turns of the multiply-add units.
const UNROLL: usize = 4;

/// Stands for a distance of rows that is known when it runs only.
const ANY_STRIDE: usize = 0;

/// Calls `$rows::<M, …>` with the number of rows and the strides as constants.
macro_rules! with_rows {
    ($rows:ident, $tile:expr) => {
        match $tile.left {
            Left::Direct(_) => with_rows!($rows, $tile, ANY_STRIDE, 1),
            Left::DirectColumns(_) => with_rows!($rows, $tile, 1, ANY_STRIDE),
            Left::Rows => with_rows!($rows, $tile, ROW_STRIDE, 1),
            Left::Columns => with_rows!($rows, $tile, 1, COLUMN_STRIDE),
        }
    };
    ($rows:ident, $tile:expr, $row:expr, $step:expr) => {
        match $tile.rows {
            1 => $rows::<1, { $row }, { $step }>($tile),
            2 => $rows::<2, { $row }, { $step }>($tile),
            3 => $rows::<3, { $row }, { $step }>($tile),
            4 => $rows::<4, { $row }, { $step }>($tile),
            5 => $rows::<5, { $row }, { $step }>($tile),
            6 => $rows::<6, { $row }, { $step }>($tile),
            7 => $rows::<7, { $row }, { $step }>($tile),
            8 => $rows::<8, { $row }, { $step }>($tile),
            9 => $rows::<9, { $row }, { $step }>($tile),
            10 => $rows::<10, { $row }, { $step }>($tile),
            11 => $rows::<11, { $row }, { $step }>($tile),
            12 => $rows::<12, { $row }, { $step }>($tile),
            13 => $rows::<13, { $row }, { $step }>($tile),
            _ => $rows::<14, { $row }, { $step }>($tile),
        }
    };
}

/// Safety: as [`super::run_tile`].
pub(super) unsafe fn tile_f32(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { with_rows!(rows_f32, tile) }
}

/// Safety: as [`super::run_tile`]; the operands hold pairs, packed only where AVX-512 BF16 exists.
pub(super) unsafe fn tile_bf16(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { with_rows!(rows_bf16, tile) }
}

/// Lane masks of the two halves of a panel of `n` columns.
fn masks(n: usize) -> (__mmask16, __mmask16) {
    let all = (1u64 << n) - 1;
    (all as u16, (all >> 16) as u16)
}

/// Offsets of rows as an x86 address can express them: one register times 1, 2, 4 or 8.
#[derive(Clone, Copy)]
struct Strides {
    /// 1, 3, 5, 7, 9, 11 and 13 strides, in bytes.
    odd: [usize; 7],
}

impl Strides {
    #[inline(always)]
    fn new(stride: usize) -> Self {
        let mut odd = [4 * stride; 7];
        for (i, odd) in odd.iter_mut().enumerate() {
            *odd *= 2 * i + 1;
            // The compiler must not see how they relate, or it computes them anew in the loop.
            // SAFETY: no instruction at all.
            unsafe { std::arch::asm!("/* {} */", inout(reg) * odd, options(pure, nomem, nostack)) };
        }
        Strides { odd }
    }

    #[inline(always)]
    fn bytes(self, row: usize) -> usize {
        if row == 0 {
            return 0;
        }
        let shift = row.trailing_zeros();
        self.odd[(row >> shift) / 2] << shift
    }
}

/// `M` rows; element `(i, k)` of the left operand is at `i * ROW + k * STEP`, `ROW` being the
/// stride of [`Left::Direct`] where it is [`ANY_STRIDE`].
#[target_feature(enable = "avx512f")]
unsafe fn rows_f32<const M: usize, const ROW: usize, const STEP: usize>(tile: &Tile) {
    #[inline(always)]
    unsafe fn step<const M: usize, const ROW: usize>(
        a: *const f32,
        strides: Strides,
        b: *const f32,
        sums: &mut [[__m512; 2]; M],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let (b0, b1) = (_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16)));
            for i in 0..M {
                let bytes = if ROW == ANY_STRIDE { strides.bytes(i) } else { 4 * i * ROW };
                let left = _mm512_set1_ps(*a.byte_add(bytes));
                sums[i][0] = _mm512_fmadd_ps(left, b0, sums[i][0]);
                sums[i][1] = _mm512_fmadd_ps(left, b1, sums[i][1]);
            }
        }
    }
    let any_step = match tile.left {
        Left::DirectColumns(stride) => stride,
        _ => 0,
    };
    let k_step = if STEP == ANY_STRIDE { any_step } else { STEP };
    let strides = match tile.left {
        Left::Direct(stride) if ROW == ANY_STRIDE => Strides::new(stride),
        _ => Strides { odd: [0; 7] },
    };
    let (low, high) = masks(tile.n);
    // SAFETY: `Tile::check` covers every address; masked lanes are not touched.
    unsafe {
        let (mut a, mut b) = (tile.a.as_ptr(), tile.b.as_ptr());
        let mut sums = load::<M>(tile.out, tile.out_stride, low, high, tile.fresh);
        for _ in 0..tile.k / UNROLL {
            for u in 0..UNROLL {
                step::<M, ROW>(a.add(u * k_step), strides, b.add(u * PANEL), &mut sums);
            }
            (a, b) = (a.add(UNROLL * k_step), b.add(UNROLL * PANEL));
        }
        for u in 0..tile.k % UNROLL {
            step::<M, ROW>(a.add(u * k_step), strides, b.add(u * PANEL), &mut sums);
        }
        store::<M>(tile.out, tile.out_stride, low, high, &sums);
    }
}

/// As [`rows_f32`], an element being a pair of bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rows_bf16<const M: usize, const ROW: usize, const STEP: usize>(tile: &Tile) {
    let (low, high) = masks(tile.n);
    // SAFETY: `Tile::check` covers every address; a pair of bf16 has the size of an f32.
    unsafe {
        let (mut a, mut b) = (tile.a.as_ptr(), tile.b.as_ptr());
        let mut sums = load::<M>(tile.out, tile.out_stride, low, high, tile.fresh);
        for _ in 0..tile.k.div_ceil(2) {
            let b0: __m512bh = std::mem::transmute(_mm512_loadu_ps(b));
            let b1: __m512bh = std::mem::transmute(_mm512_loadu_ps(b.add(16)));
            for i in 0..M {
                let left: __m512bh = std::mem::transmute(_mm512_set1_ps(*a.add(i * ROW)));
                sums[i][0] = _mm512_dpbf16_ps(sums[i][0], left, b0);
                sums[i][1] = _mm512_dpbf16_ps(sums[i][1], left, b1);
            }
            (a, b) = (a.add(STEP), b.add(PANEL));
        }
        store::<M>(tile.out, tile.out_stride, low, high, &sums);
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
