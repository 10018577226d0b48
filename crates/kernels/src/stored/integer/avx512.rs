//! Tiles of 6 rows × 32 rows of W in `vpdpbusd` (4 × 32 where W has two scales in a group).
#![cfg(target_arch = "x86_64")]

use super::groups::{TO_INTEGER, TO_INTEGER_BITS};
use super::opened::{Opened, PANEL};
use super::rounded::{GROUP, GROUPS, HALF, HALVES, Piece, Scale};
use super::{PANELS, Tile};
use crate::quant::CHUNK;
use std::arch::x86_64::*;

/// Rows of x that a tile takes.
pub(super) const M: usize = 6;

/// Safety: as [`Tile`]; the CPU has AVX-512 F, BW and VNNI.
pub(super) unsafe fn tile(tile: &Tile) {
    debug_assert!(tile.m <= M);
    // SAFETY: the caller's promise.
    unsafe {
        // With minima codes count from zero. Otherwise from what starts are made for or, so many bits to the
        // right, from less.
        match (tile.coding.group, tile.coding.middle) {
            (GROUP, 0) => sized::<true, 0>(tile),
            (GROUP, 128) => sized::<false, 0>(tile),
            (GROUP, 16) => sized::<false, 3>(tile),
            (GROUP, 8) => sized::<false, 4>(tile),
            (_, 0) => sized_halves::<true, 0>(tile),
            (_, 32) => sized_halves::<false, 0>(tile),
            (_, 4) => sized_halves::<false, 3>(tile),
            (group, middle) => unreachable!("codes in groups of {group} from {middle}"),
        }
    }
}

/// Safety: as [`tile`].
unsafe fn sized<const MINS: bool, const SHIFT: u32>(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.m {
            1 => whole::<1, MINS, SHIFT>(tile),
            2 => whole::<2, MINS, SHIFT>(tile),
            3 => whole::<3, MINS, SHIFT>(tile),
            4 => whole::<4, MINS, SHIFT>(tile),
            5 => whole::<5, MINS, SHIFT>(tile),
            _ => whole::<6, MINS, SHIFT>(tile),
        }
    }
}

/// Safety: as [`tile`].
unsafe fn sized_halves<const MINS: bool, const SHIFT: u32>(tile: &Tile) {
    for i in (0..tile.m).step_by(4) {
        // SAFETY: the caller's promise.
        unsafe {
            let part = Tile {
                x: tile.x.row(i),
                m: 4.min(tile.m - i),
                from: tile.from.row(i),
                to: tile.to.row(i),
                ..*tile
            };
            match part.m {
                1 => halves::<1, MINS, SHIFT>(&part),
                2 => halves::<2, MINS, SHIFT>(&part),
                3 => halves::<3, MINS, SHIFT>(&part),
                _ => halves::<4, MINS, SHIFT>(&part),
            }
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

/// What two dot products start from. Safety: the place exists.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn start<const MINS: bool, const SHIFT: u32>(start: *const i32) -> [__m512i; PANELS] {
    if MINS {
        return [_mm512_set1_epi32(TO_INTEGER_BITS); PANELS];
    }
    // SAFETY: the caller's promise.
    let start = _mm512_set1_epi32(unsafe { *start });
    if SHIFT == 0 {
        return [start; PANELS];
    }
    // The lowest bits of both parts are zeros.
    let lost = TO_INTEGER_BITS - (TO_INTEGER_BITS >> SHIFT);
    [_mm512_add_epi32(_mm512_srai_epi32::<SHIFT>(start), _mm512_set1_epi32(lost)); PANELS]
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
            sums[i][p] = unsafe { _mm512_loadu_ps(tile.from.row(i).start.add(p * PANEL)) };
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
            unsafe { _mm512_storeu_ps(tile.to.row(i).start.add(p * PANEL), sums[i][p]) };
        }
    }
}

/// One scale per group. Safety: as [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn whole<const M: usize, const MINS: bool, const SHIFT: u32>(tile: &Tile) {
    // SAFETY: rows of x hold `len` elements, panels a chunk; the sums are ours.
    unsafe {
        let mut sums = sums_so_far::<M>(tile);
        for (c, [first, second]) in tile.panels.iter().enumerate() {
            let Piece { len, codes, scales: x_scales, starts, totals, .. } = tile.x.chunk(c);
            for b in 0..len / GROUP {
                let mut dots = [[_mm512_setzero_si512(); PANELS]; M];
                for i in 0..M {
                    dots[i] = start::<MINS, SHIFT>(starts[0].add(i * GROUPS + b));
                }
                let x = codes.add(b * GROUP);
                if b % 2 == 0 {
                    for i in 0..M {
                        // The next tile's rows.
                        _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add((M + i) * CHUNK));
                    }
                } else {
                    let next = tile.from.row(M + (c * GROUPS + b) / 2).start;
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
                for (p, panel) in [first, second].into_iter().enumerate() {
                    let scales = _mm512_load_ps(panel.scales(b));
                    let mins = _mm512_load_ps(panel.mins(b));
                    for i in 0..M {
                        let Scale { scale, excess } = *x_scales.add(i * GROUPS + b);
                        let dot = _mm512_castsi512_ps(dots[i][p]);
                        let term =
                            _mm512_fmsub_ps(dot, _mm512_set1_ps(scale), _mm512_set1_ps(excess));
                        sums[i][p] = _mm512_fmadd_ps(term, scales, sums[i][p]);
                        if MINS {
                            let total = _mm512_set1_ps(*totals[0].add(i * GROUPS + b));
                            sums[i][p] = _mm512_fmadd_ps(mins, total, sums[i][p]);
                        }
                    }
                }
            }
        }
        store(tile, &sums);
    }
}

/// Two scales per group. Safety: as [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn halves<const M: usize, const MINS: bool, const SHIFT: u32>(tile: &Tile) {
    // SAFETY: as in `whole`.
    unsafe {
        let mut sums = sums_so_far::<M>(tile);
        let to_integer = _mm512_set1_ps(TO_INTEGER);
        for (c, [first, second]) in tile.panels.iter().enumerate() {
            let Piece { len, codes, scales: x_scales, starts, totals, .. } = tile.x.chunk(c);
            for b in 0..len / GROUP {
                let mut terms = [[_mm512_setzero_ps(); PANELS]; M];
                for half in 2 * b..2 * b + 2 {
                    let mut dots = [[_mm512_setzero_si512(); PANELS]; M];
                    for i in 0..M {
                        dots[i] = start::<MINS, SHIFT>(starts[1].add(i * HALVES + half));
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
                    for (p, panel) in [first, second].into_iter().enumerate() {
                        let scales = _mm512_load_ps(panel.scales(half));
                        let excess = _mm512_mul_ps(scales, to_integer);
                        for i in 0..M {
                            let dot = _mm512_castsi512_ps(dots[i][p]);
                            terms[i][p] = if half == 2 * b {
                                _mm512_fmsub_ps(dot, scales, excess)
                            } else {
                                let dot = _mm512_sub_ps(dot, to_integer);
                                _mm512_fmadd_ps(dot, scales, terms[i][p])
                            };
                        }
                    }
                }
                for i in 0..M {
                    let scale = _mm512_set1_ps((*x_scales.add(i * GROUPS + b)).scale);
                    for (p, panel) in [first, second].into_iter().enumerate() {
                        sums[i][p] = _mm512_fmadd_ps(terms[i][p], scale, sums[i][p]);
                        if MINS {
                            for half in 2 * b..2 * b + 2 {
                                let mins = _mm512_load_ps(panel.mins(half));
                                let total = _mm512_set1_ps(*totals[1].add(i * HALVES + half));
                                sums[i][p] = _mm512_fmadd_ps(mins, total, sums[i][p]);
                            }
                        }
                    }
                }
            }
        }
        store(tile, &sums);
    }
}
