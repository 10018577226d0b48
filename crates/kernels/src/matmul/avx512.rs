//! Register tiles of 14 × 32 for AVX-512: 28 sums, two panel registers, broadcasts from memory.
//! The bf16 tile multiplies pairs with `vdpbf16ps`.
#![cfg(target_arch = "x86_64")]

use super::{COLUMN_STRIDE, Left, PANEL, ROW_STRIDE, Tile};
use std::arch::x86_64::*;

/// Steps of `k` written out one after another, so that every address is one register and a constant:
/// address arithmetic would take turns of the multiply-add units.
const UNROLL: usize = 4;

/// Columns that lie far apart are asked for this many steps ahead: about the latency of the second cache.
const PREFETCH_STEPS: usize = 6;

/// And into the second cache, while the first panel that reads them is at the block before.
const FAR_STEPS: usize = super::K_BLOCK;

/// Rows of the panel that are asked for ahead: the prefetcher of the CPU stops at every page.
const PREFETCH_PANEL: usize = 24;

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
                if STEP == ANY_STRIDE {
                    // Far columns: no prefetcher of the CPU follows them. Past the end it does nothing.
                    let ahead = a.wrapping_add((u + PREFETCH_STEPS) * k_step);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(M - 1).cast());
                    let far = a.wrapping_add((u + FAR_STEPS) * k_step);
                    _mm_prefetch::<_MM_HINT_T1>(far.cast());
                }
                let ahead = b.wrapping_add((u + PREFETCH_PANEL) * PANEL);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(16).cast());
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

/// A square of a weight: up to [`PANEL`] rows and columns.
pub(super) struct Square<'a> {
    /// From its first element on; rows are `n_in` apart.
    pub(super) w: &'a [f32],
    pub(super) n_in: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Copies a square into both packed forms of its weight, rounded to bf16 if `rounded`: its transpose
/// to `forward`, [columns, PANEL], itself to `gradient`, [rows, PANEL]; zeros past its edges.
///
/// Safety: the targets have that room; AVX-512 is there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) unsafe fn pack_square(
    square: &Square,
    rounded: bool,
    forward: *mut f32,
    gradient: *mut f32,
) {
    let Square { w, n_in, rows, columns } = *square;
    assert!(rows > 0 && rows <= PANEL && columns > 0 && columns <= PANEL);
    assert!(w.len() >= (rows - 1) * n_in + columns, "square leaves its weight");
    let (low, high) = masks(columns);
    // SAFETY: lanes outside the masks are not touched; rows and columns were checked.
    unsafe {
        for first in [0, 16] {
            let mut halves = [[_mm512_setzero_ps(); 16]; 2];
            for i in 0..16.min(rows.saturating_sub(first)) {
                let row = w.as_ptr().add((first + i) * n_in);
                let mut left = _mm512_maskz_loadu_ps(low, row);
                let mut right = _mm512_maskz_loadu_ps(high, row.wrapping_add(16));
                if rounded {
                    (left, right) = (round(left), round(right));
                }
                let to = gradient.add((first + i) * PANEL);
                _mm512_storeu_ps(to, left);
                _mm512_storeu_ps(to.add(16), right);
                (halves[0][i], halves[1][i]) = (left, right);
            }
            for (half, square) in halves.iter().enumerate() {
                let turned = transpose(square);
                for i in 0..16.min(columns.saturating_sub(16 * half)) {
                    _mm512_storeu_ps(forward.add((16 * half + i) * PANEL + first), turned[i]);
                }
            }
        }
    }
}

/// Rounds to bf16 as `round_bf16` does.
#[inline]
#[target_feature(enable = "avx512f")]
fn round(x: __m512) -> __m512 {
    let bits = _mm512_castps_si512(x);
    let lowest = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let raised = _mm512_add_epi32(bits, _mm512_add_epi32(lowest, _mm512_set1_epi32(0x7fff)));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let quiet = _mm512_mask_or_epi32(raised, nan, bits, _mm512_set1_epi32(0x0040_0000));
    _mm512_castsi512_ps(_mm512_and_si512(quiet, _mm512_set1_epi32(0xffff_0000u32 as i32)))
}

/// Row `i` of the result is column `i` of `rows`.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn transpose(rows: &[__m512; 16]) -> [__m512; 16] {
    // Pairs, then fours, within each 128-bit quarter; then the quarters change places.
    let mut pairs = *rows;
    for i in 0..8 {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i] = _mm512_unpacklo_ps(a, b);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(a, b);
    }
    let mut fours = pairs;
    for i in 0..4 {
        for half in 0..2 {
            let a = _mm512_castps_pd(pairs[4 * i + half]);
            let b = _mm512_castps_pd(pairs[4 * i + half + 2]);
            fours[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            fours[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // fours[4 i + c] holds, in quarter q, column 4 q + c of rows 4 i .. 4 i + 4.
    let mut out = fours;
    for c in 0..4 {
        let (r0, r1, r2, r3) = (fours[c], fours[4 + c], fours[8 + c], fours[12 + c]);
        let even01 = _mm512_shuffle_f32x4::<0b10_00_10_00>(r0, r1);
        let odd01 = _mm512_shuffle_f32x4::<0b11_01_11_01>(r0, r1);
        let even23 = _mm512_shuffle_f32x4::<0b10_00_10_00>(r2, r3);
        let odd23 = _mm512_shuffle_f32x4::<0b11_01_11_01>(r2, r3);
        out[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even01, even23);
        out[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd01, odd23);
        out[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even01, even23);
        out[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd01, odd23);
    }
    out
}
