//! Tiles of 6 rows × 32 rows of W in `vpdpbusd` (4 × 32 where W has two scales in a group).
#![cfg(target_arch = "x86_64")]

use super::opened::{Opened, PANEL};
use super::rounded::{GROUP, GROUPS, HALF, HALVES, Piece, START_MIDDLE};
use super::{PANELS, Tile};
use crate::quant::CHUNK;
use std::arch::x86_64::*;

/// Rows of x that a tile takes.
pub(super) const M: usize = 6;

/// Safety: as [`Tile`]; the CPU has AVX-512 F, BW and VNNI.
pub(super) unsafe fn tile(tile: &Tile) {
    debug_assert!(tile.m <= M && tile.x.len <= CHUNK);
    // SAFETY: the caller's promise.
    unsafe {
        match (tile.coding.group == GROUP, tile.coding.has_mins) {
            (true, false) => sized::<false>(tile),
            (true, true) => sized::<true>(tile),
            (false, has_mins) => {
                for i in (0..tile.m).step_by(4) {
                    let part = Tile {
                        x: tile.x.row(i),
                        m: 4.min(tile.m - i),
                        out: tile.out.add(i * tile.out_stride),
                        ..*tile
                    };
                    match (part.m, has_mins) {
                        (1, false) => halves::<1, false>(&part),
                        (2, false) => halves::<2, false>(&part),
                        (3, false) => halves::<3, false>(&part),
                        (_, false) => halves::<4, false>(&part),
                        (1, true) => halves::<1, true>(&part),
                        (2, true) => halves::<2, true>(&part),
                        (3, true) => halves::<3, true>(&part),
                        (_, true) => halves::<4, true>(&part),
                    }
                }
            }
        }
    }
}

/// Safety: as [`tile`].
unsafe fn sized<const MINS: bool>(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.m {
            1 => whole::<1, MINS>(tile),
            2 => whole::<2, MINS>(tile),
            3 => whole::<3, MINS>(tile),
            4 => whole::<4, MINS>(tile),
            5 => whole::<5, MINS>(tile),
            _ => whole::<6, MINS>(tile),
        }
    }
}

// Pointers, since checks of bounds in the inner loops make the compiler copy them many times over.
impl Opened {
    #[inline(always)]
    unsafe fn codes(&self, at: usize) -> *const u8 {
        // SAFETY: the caller stays within the chunk.
        unsafe { self.codes.as_ptr().cast::<u8>().add(at) }
    }

    #[inline(always)]
    unsafe fn scales(&self, group: usize) -> *const f32 {
        // SAFETY: as above.
        unsafe { self.scales.as_ptr().cast::<f32>().add(group * PANEL) }
    }

    #[inline(always)]
    unsafe fn mins(&self, group: usize) -> *const f32 {
        // SAFETY: as above.
        unsafe { self.mins.as_ptr().cast::<f32>().add(group * PANEL) }
    }
}

/// How far starts are shifted to the right for codes that count from `middle`.
fn shift(middle: i32) -> i32 {
    if middle == 0 { 0 } else { (START_MIDDLE / middle).ilog2() as i32 }
}

/// What two dot products start from. Formats with minima count from zero. Safety: the place exists.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn start<const FROM_ZERO: bool>(start: *const i32, shift: __m128i) -> [__m512i; PANELS] {
    if FROM_ZERO {
        return [_mm512_setzero_si512(); PANELS];
    }
    // SAFETY: the caller's promise.
    let start = _mm512_set1_epi32(unsafe { *start });
    [_mm512_sra_epi32(start, shift); PANELS]
}

/// Four neighbours of a row of x in every lane. Safety: they exist.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn four(codes: *const i8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { codes.cast::<i32>().read_unaligned() })
}

/// What the sums go on from. Safety: as [`tile`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn sums_so_far<const M: usize>(tile: &Tile) -> [[__m512; PANELS]; M] {
    let mut sums = [[_mm512_setzero_ps(); PANELS]; M];
    if tile.first {
        return sums;
    }
    for i in 0..M {
        for p in 0..PANELS {
            // SAFETY: the caller's promise.
            sums[i][p] = unsafe { _mm512_loadu_ps(tile.out.add(i * tile.out_stride + p * PANEL)) };
        }
    }
    sums
}

/// Safety: as [`tile`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const M: usize>(tile: &Tile, sums: &[[__m512; PANELS]; M]) {
    for i in 0..M {
        for p in 0..PANELS {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(tile.out.add(i * tile.out_stride + p * PANEL), sums[i][p]) };
        }
    }
}

/// One scale per group. Safety: as [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn whole<const M: usize, const MINS: bool>(tile: &Tile) {
    // SAFETY: rows of x hold `len` elements, panels a chunk; the sums are ours.
    unsafe {
        let mut sums = sums_so_far::<M>(tile);
        let ([first, second], Piece { len, codes, scales: x_scales, starts, totals }) =
            (tile.panels, tile.x);
        let shift = _mm_cvtsi32_si128(shift(tile.coding.middle));
        for b in 0..len / GROUP {
            let mut dots = [[_mm512_setzero_si512(); PANELS]; M];
            for i in 0..M {
                dots[i] = start::<MINS>(starts[0].add(i * GROUPS + b), shift);
            }
            let x = codes.add(b * GROUP);
            if b % 2 == 0 {
                for i in 0..M {
                    // The next tile's rows.
                    _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add((M + i) * CHUNK));
                }
            } else {
                let next = tile.out.wrapping_add((M + b / 2) * tile.out_stride);
                _mm_prefetch::<_MM_HINT_T0>(next.cast());
                _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(PANEL).cast());
            }
            let w = b * GROUP * PANEL;
            let (first_codes, second_codes) = (first.codes(w), second.codes(w));
            for g in 0..GROUP / 4 {
                let w0 = _mm512_load_si512(first_codes.add(4 * PANEL * g).cast());
                let w1 = _mm512_load_si512(second_codes.add(4 * PANEL * g).cast());
                for i in 0..M {
                    let x = four(x.add(i * CHUNK + 4 * g));
                    dots[i][0] = _mm512_dpbusd_epi32(dots[i][0], w0, x);
                    dots[i][1] = _mm512_dpbusd_epi32(dots[i][1], w1, x);
                }
            }
            for p in 0..PANELS {
                let scales = _mm512_load_ps(tile.panels[p].scales(b));
                let mins = _mm512_load_ps(tile.panels[p].mins(b));
                for i in 0..M {
                    let scale = _mm512_set1_ps(*x_scales.add(i * GROUPS + b));
                    let scale = _mm512_mul_ps(scales, scale);
                    let dot = _mm512_cvtepi32_ps(dots[i][p]);
                    sums[i][p] = _mm512_fmadd_ps(dot, scale, sums[i][p]);
                    if MINS {
                        let total = _mm512_set1_ps(*totals[0].add(i * GROUPS + b));
                        sums[i][p] = _mm512_fmadd_ps(mins, total, sums[i][p]);
                    }
                }
            }
        }
        store(tile, &sums);
    }
}

/// Two scales per group. Safety: as [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn halves<const M: usize, const MINS: bool>(tile: &Tile) {
    // SAFETY: as in `whole`.
    unsafe {
        let mut sums = sums_so_far::<M>(tile);
        let ([first, second], Piece { len, codes, scales: x_scales, starts, totals }) =
            (tile.panels, tile.x);
        let shift = _mm_cvtsi32_si128(shift(tile.coding.middle));
        for b in 0..len / GROUP {
            let mut terms = [[_mm512_setzero_ps(); PANELS]; M];
            for half in 2 * b..2 * b + 2 {
                let mut dots = [[_mm512_setzero_si512(); PANELS]; M];
                for i in 0..M {
                    dots[i] = start::<MINS>(starts[1].add(i * HALVES + half), shift);
                }
                let x = codes.add(half * HALF);
                let w = half * HALF * PANEL;
                let (first_codes, second_codes) = (first.codes(w), second.codes(w));
                for g in 0..HALF / 4 {
                    let w0 = _mm512_load_si512(first_codes.add(4 * PANEL * g).cast());
                    let w1 = _mm512_load_si512(second_codes.add(4 * PANEL * g).cast());
                    for i in 0..M {
                        let x = four(x.add(i * CHUNK + 4 * g));
                        dots[i][0] = _mm512_dpbusd_epi32(dots[i][0], w0, x);
                        dots[i][1] = _mm512_dpbusd_epi32(dots[i][1], w1, x);
                    }
                }
                for p in 0..PANELS {
                    let scales = _mm512_load_ps(tile.panels[p].scales(half));
                    for i in 0..M {
                        let dot = _mm512_cvtepi32_ps(dots[i][p]);
                        terms[i][p] = if half == 2 * b {
                            _mm512_mul_ps(dot, scales)
                        } else {
                            _mm512_fmadd_ps(dot, scales, terms[i][p])
                        };
                    }
                }
            }
            for i in 0..M {
                let scale = _mm512_set1_ps(*x_scales.add(i * GROUPS + b));
                for p in 0..PANELS {
                    sums[i][p] = _mm512_fmadd_ps(terms[i][p], scale, sums[i][p]);
                    if MINS {
                        for half in 2 * b..2 * b + 2 {
                            let mins = _mm512_load_ps(tile.panels[p].mins(half));
                            let total = _mm512_set1_ps(*totals[1].add(i * HALVES + half));
                            sums[i][p] = _mm512_fmadd_ps(mins, total, sums[i][p]);
                        }
                    }
                }
            }
        }
        store(tile, &sums);
    }
}
