//! Tiles of 2 rows × 16 rows of W in AVX2.
//!
//! `vpmaddubsw` adds pairs in 16 bits. Codes up to 63 times ±127 fit. Codes that count from 128 do
//! not: they are made signed, and their signs move to x, so that a pair is at most 2·128·127.
#![cfg(target_arch = "x86_64")]

use super::groups::TO_INTEGER_BITS;
use super::opened::{Opened, PANEL};
use super::rounded::{GROUP, GROUPS, HALF, HALVES, Piece, START_MIDDLES};
use super::{PANELS, Tile};
use crate::quant::CHUNK;
use std::arch::x86_64::*;

/// Rows of x that a tile takes.
pub(super) const M: usize = 2;
/// Registers of a panel.
const PARTS: usize = PANEL / 8;

/// Safety: as [`Tile`]; the CPU has AVX2 and FMA.
pub(super) unsafe fn tile(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        for p in 0..PANELS {
            if tile.m == 2 { panel::<2>(tile, p) } else { panel::<1>(tile, p) }
        }
    }
}

/// Safety: as [`tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn panel<const M: usize>(tile: &Tile, p: usize) {
    let coding = tile.coding;
    // SAFETY: rows of x hold `len` elements, panels a chunk; the sums are ours.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); PARTS]; M];
        for i in 0..M {
            for part in 0..PARTS {
                if !tile.first {
                    sums[i][part] =
                        _mm256_loadu_ps(tile.from.row(i).start.add(p * PANEL + 8 * part));
                }
            }
        }
        for (c, panels) in tile.panels.iter().enumerate() {
            let (x, opened) = (tile.x.chunk(c), &panels[p]);
            for b in 0..x.len / GROUP {
                let first = dots::<M>(x, opened, coding.middle, 2 * b);
                let second = dots::<M>(x, opened, coding.middle, 2 * b + 1);
                for i in 0..M {
                    let scale = _mm256_set1_ps((*x.scales.add(i * GROUPS + b)).scale);
                    for part in 0..PARTS {
                        let sum = &mut sums[i][part];
                        if coding.group == GROUP {
                            let dot = _mm256_add_epi32(first[i][part], second[i][part]);
                            let term = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale);
                            *sum = _mm256_fmadd_ps(term, load(&opened.scales[b], part), *sum);
                            if coding.has_mins {
                                let total = *x.totals[0].add(i * GROUPS + b);
                                *sum = _mm256_fmadd_ps(
                                    load(&opened.mins[b], part),
                                    _mm256_set1_ps(total),
                                    *sum,
                                );
                            }
                        } else {
                            let term = _mm256_mul_ps(
                                _mm256_cvtepi32_ps(first[i][part]),
                                load(&opened.scales[2 * b], part),
                            );
                            let second = _mm256_cvtepi32_ps(second[i][part]);
                            let term = _mm256_fmadd_ps(
                                second,
                                load(&opened.scales[2 * b + 1], part),
                                term,
                            );
                            *sum = _mm256_fmadd_ps(term, scale, *sum);
                            if coding.has_mins {
                                for half in 0..2 {
                                    let at = i * HALVES + 2 * b + half;
                                    let total = _mm256_set1_ps(*x.totals[1].add(at));
                                    let mins = load(&opened.mins[2 * b + half], part);
                                    *sum = _mm256_fmadd_ps(mins, total, *sum);
                                }
                            }
                        }
                    }
                }
            }
        }
        for i in 0..M {
            for part in 0..PARTS {
                _mm256_storeu_ps(tile.to.row(i).start.add(p * PANEL + 8 * part), sums[i][part]);
            }
        }
    }
}

/// Lanes of one register. Safety: the CPU has AVX2.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load(of: &[f32; PANEL], part: usize) -> __m256 {
    // SAFETY: a panel has `PARTS` registers.
    unsafe { _mm256_loadu_ps(of.as_ptr().add(8 * part)) }
}

/// Dot products of half group `half`, counted from the middle. Safety: as [`tile`].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn dots<const M: usize>(
    x: Piece,
    opened: &Opened,
    middle: i32,
    half: usize,
) -> [[__m256i; PARTS]; M] {
    // Otherwise codes are small, and count from 32 or, so many times, from less.
    let signed = middle == START_MIDDLES[0];
    let ones = _mm256_set1_epi16(1);
    let mut dots = [[_mm256_setzero_si256(); PARTS]; M];
    // SAFETY: the caller's promise.
    unsafe {
        if !signed && middle != 0 {
            for i in 0..M {
                let start = *x.starts[1].add(i * HALVES + half) - TO_INTEGER_BITS;
                let start = start / (START_MIDDLES[1] / middle);
                dots[i] = [_mm256_set1_epi32(start); PARTS];
            }
        }
        for g in half * (HALF / 4)..(half + 1) * (HALF / 4) {
            for part in 0..PARTS {
                let mut w = _mm256_loadu_si256(opened.codes[g].as_ptr().add(32 * part).cast());
                if signed {
                    w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
                }
                for i in 0..M {
                    let four = x.codes.add(i * CHUNK + 4 * g).cast::<i32>().read_unaligned();
                    let four = _mm256_set1_epi32(four);
                    let pairs = if signed {
                        _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four, w))
                    } else {
                        _mm256_maddubs_epi16(w, four)
                    };
                    let fours = _mm256_madd_epi16(pairs, ones);
                    dots[i][part] = _mm256_add_epi32(dots[i][part], fours);
                }
            }
        }
    }
    dots
}
