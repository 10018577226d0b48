//! Tiles of 6 rows × 32 rows of W in `vpdpbusd` (4 × 32 where W has two scales in a group).
#![cfg(target_arch = "x86_64")]

use super::opened::PANEL;
use super::rounded::{GROUP, SUMMED};
use super::{PANELS, Tile};
use std::arch::x86_64::*;

/// Rows of x that a tile takes.
pub(super) const M: usize = 6;
/// Groups of a chunk.
const N_GROUPS: usize = crate::quant::CHUNK / GROUP;

/// Safety: as [`Tile`]; the CPU has AVX-512 F, BW and VNNI.
pub(super) unsafe fn tile(tile: &Tile) {
    debug_assert!(tile.m <= M && tile.x.len <= N_GROUPS * GROUP);
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

/// What rows of x bring along beside their codes, per half group.
struct Aside<const M: usize> {
    /// What a dot product starts from, so that codes count from their middle.
    start: [[i32; 2 * N_GROUPS]; M],
    /// Sums of codes times scale.
    totals: [[f32; 2 * N_GROUPS]; M],
}

/// Per group (even places only) if `WHOLE`, else per half. Safety: as [`tile`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn aside<const M: usize, const WHOLE: bool>(tile: &Tile) -> Aside<M> {
    let mut aside =
        Aside { start: [[0; 2 * N_GROUPS]; M], totals: [[0.0; 2 * N_GROUPS]; M] };
    let n_halves = tile.x.len / SUMMED;
    let mask = ((1u32 << n_halves) - 1) as u16;
    let middle = _mm512_set1_epi32(-tile.coding.middle);
    let pairs = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for i in 0..M {
        // SAFETY: a row has `n_halves` sums and half as many scales.
        unsafe {
            let mut sums = _mm512_maskz_loadu_epi32(mask, tile.x.sums.add(i * n_halves));
            if WHOLE {
                let other = _mm512_shuffle_epi32::<0b10_11_00_01>(sums);
                sums = _mm512_add_epi32(sums, other);
            }
            let start = _mm512_mullo_epi32(sums, middle);
            _mm512_storeu_si512(aside.start[i].as_mut_ptr().cast(), start);
            let scales = tile.x.scales.add(i * n_halves / 2);
            let scales = _mm512_maskz_loadu_ps((1u16 << (n_halves / 2)) - 1, scales);
            let scales = _mm512_permutexvar_ps(pairs, scales);
            let totals = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales);
            _mm512_storeu_ps(aside.totals[i].as_mut_ptr(), totals);
        }
    }
    aside
}

/// Four neighbours of a row of x in every lane. Safety: they exist.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn four(codes: *const i8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { codes.cast::<i32>().read_unaligned() })
}

/// One scale per group. Safety: as [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn whole<const M: usize, const MINS: bool>(tile: &Tile) {
    // SAFETY: rows of x hold `len` elements, panels a chunk; the sums are ours.
    unsafe {
        let aside = aside::<M, true>(tile);
        let mut sums = [[_mm512_setzero_ps(); PANELS]; M];
        for i in 0..M {
            for p in 0..PANELS {
                sums[i][p] = _mm512_loadu_ps(tile.out.add(i * tile.out_stride + p * PANEL));
            }
        }
        for b in 0..tile.x.len / GROUP {
            let mut dots = [[_mm512_setzero_si512(); PANELS]; M];
            for i in 0..M {
                let start = _mm512_set1_epi32(aside.start[i][2 * b]);
                dots[i] = [start; PANELS];
            }
            let x = tile.x.codes.add(b * GROUP);
            for g in 0..GROUP / 4 {
                let at = b * (GROUP / 4) + g;
                let w0 = _mm512_load_si512(tile.panels[0].codes[at].as_ptr().cast());
                let w1 = _mm512_load_si512(tile.panels[1].codes[at].as_ptr().cast());
                for i in 0..M {
                    let x = four(x.add(i * tile.x.len + 4 * g));
                    dots[i][0] = _mm512_dpbusd_epi32(dots[i][0], w0, x);
                    dots[i][1] = _mm512_dpbusd_epi32(dots[i][1], w1, x);
                }
            }
            for p in 0..PANELS {
                let scales = _mm512_load_ps(tile.panels[p].scales[b].as_ptr());
                let mins = _mm512_load_ps(tile.panels[p].mins[b].as_ptr());
                for i in 0..M {
                    let scale = _mm512_set1_ps(*tile.x.scales.add((i * tile.x.len) / GROUP + b));
                    let scale = _mm512_mul_ps(scales, scale);
                    let dot = _mm512_cvtepi32_ps(dots[i][p]);
                    sums[i][p] = _mm512_fmadd_ps(dot, scale, sums[i][p]);
                    if MINS {
                        let total = _mm512_set1_ps(aside.totals[i][2 * b]);
                        sums[i][p] = _mm512_fmadd_ps(mins, total, sums[i][p]);
                    }
                }
            }
        }
        for i in 0..M {
            for p in 0..PANELS {
                _mm512_storeu_ps(tile.out.add(i * tile.out_stride + p * PANEL), sums[i][p]);
            }
        }
    }
}

/// Two scales per group. Safety: as [`tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn halves<const M: usize, const MINS: bool>(tile: &Tile) {
    // SAFETY: as in `whole`.
    unsafe {
        let aside = aside::<M, false>(tile);
        let mut sums = [[_mm512_setzero_ps(); PANELS]; M];
        for i in 0..M {
            for p in 0..PANELS {
                sums[i][p] = _mm512_loadu_ps(tile.out.add(i * tile.out_stride + p * PANEL));
            }
        }
        for b in 0..tile.x.len / GROUP {
            let mut terms = [[_mm512_setzero_ps(); PANELS]; M];
            for half in 2 * b..2 * b + 2 {
                let mut dots = [[_mm512_setzero_si512(); PANELS]; M];
                for i in 0..M {
                    dots[i] = [_mm512_set1_epi32(aside.start[i][half]); PANELS];
                }
                let x = tile.x.codes.add(half * SUMMED);
                for g in 0..SUMMED / 4 {
                    let at = half * (SUMMED / 4) + g;
                    let w0 = _mm512_load_si512(tile.panels[0].codes[at].as_ptr().cast());
                    let w1 = _mm512_load_si512(tile.panels[1].codes[at].as_ptr().cast());
                    for i in 0..M {
                        let x = four(x.add(i * tile.x.len + 4 * g));
                        dots[i][0] = _mm512_dpbusd_epi32(dots[i][0], w0, x);
                        dots[i][1] = _mm512_dpbusd_epi32(dots[i][1], w1, x);
                    }
                }
                for p in 0..PANELS {
                    let scales = _mm512_load_ps(tile.panels[p].scales[half].as_ptr());
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
                let scale = _mm512_set1_ps(*tile.x.scales.add((i * tile.x.len) / GROUP + b));
                for p in 0..PANELS {
                    sums[i][p] = _mm512_fmadd_ps(terms[i][p], scale, sums[i][p]);
                    if MINS {
                        for half in 2 * b..2 * b + 2 {
                            let mins = _mm512_load_ps(tile.panels[p].mins[half].as_ptr());
                            let total = _mm512_set1_ps(aside.totals[i][half]);
                            sums[i][p] = _mm512_fmadd_ps(mins, total, sums[i][p]);
                        }
                    }
                }
            }
        }
        for i in 0..M {
            for p in 0..PANELS {
                _mm512_storeu_ps(tile.out.add(i * tile.out_stride + p * PANEL), sums[i][p]);
            }
        }
    }
}
