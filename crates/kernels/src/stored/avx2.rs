//! Register tiles of 2 × 3 sums for AVX2; two registers make the sixteen lanes of a sum.
#![cfg(target_arch = "x86_64")]

use super::{LANES, Tile};
use crate::lanes::fold;
use std::arch::x86_64::*;

pub(super) const M: usize = 2;
pub(super) const N: usize = 3;

/// Safety: as [`Tile`]; the CPU has AVX2 and FMA.
pub(super) unsafe fn tile(tile: &Tile) {
    debug_assert!(tile.m <= M && tile.n <= N);
    // SAFETY: the caller's promise.
    unsafe {
        match (tile.m, tile.n) {
            (1, 1) => sums::<1, 1>(tile),
            (1, 2) => sums::<1, 2>(tile),
            (1, _) => sums::<1, 3>(tile),
            (_, 1) => sums::<2, 1>(tile),
            (_, 2) => sums::<2, 2>(tile),
            _ => sums::<2, 3>(tile),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn sums<const M: usize, const N: usize>(tile: &Tile) {
    let mut sums = [[[_mm256_setzero_ps(); 2]; N]; M];
    let whole = tile.k / LANES * LANES;
    // SAFETY: rows hold `k` elements.
    unsafe {
        let mut t = 0;
        while t < whole {
            for half in 0..2 {
                let at = t + 8 * half;
                let mut x = [_mm256_setzero_ps(); M];
                for i in 0..M {
                    x[i] = _mm256_loadu_ps(tile.x.add(i * tile.x_stride + at));
                }
                for j in 0..N {
                    let w = _mm256_loadu_ps(tile.w.add(j * tile.w_stride + at));
                    for i in 0..M {
                        sums[i][j][half] = _mm256_fmadd_ps(x[i], w, sums[i][j][half]);
                    }
                }
            }
            t += LANES;
        }
        for i in 0..M {
            for j in 0..N {
                let mut lanes = [0.0f32; LANES];
                _mm256_storeu_ps(lanes.as_mut_ptr(), sums[i][j][0]);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8), sums[i][j][1]);
                for t in whole..tile.k {
                    let x = *tile.x.add(i * tile.x_stride + t);
                    let w = *tile.w.add(j * tile.w_stride + t);
                    lanes[t - whole] = x.mul_add(w, lanes[t - whole]);
                }
                tile.put(i, j, fold(lanes));
            }
        }
    }
}
