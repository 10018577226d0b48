//! Register tiles of 4 × 6 sums of sixteen lanes for AVX-512.
#![cfg(target_arch = "x86_64")]

use super::Tile;
use std::arch::x86_64::*;

pub(super) const M: usize = 4;
pub(super) const N: usize = 6;

/// Calls `$rows::<m, n>` with the sizes of the tile as constants.
macro_rules! sized {
    ($tile:expr, $m:literal) => {
        match $tile.n {
            1 => sums::<$m, 1>($tile),
            2 => sums::<$m, 2>($tile),
            3 => sums::<$m, 3>($tile),
            4 => sums::<$m, 4>($tile),
            5 => sums::<$m, 5>($tile),
            _ => sums::<$m, 6>($tile),
        }
    };
}

/// Safety: as [`Tile`]; the CPU has AVX-512 F.
pub(super) unsafe fn tile(tile: &Tile) {
    debug_assert!(tile.m <= M && tile.n <= N);
    // SAFETY: the caller's promise.
    unsafe {
        match tile.m {
            1 => sized!(tile, 1),
            2 => sized!(tile, 2),
            3 => sized!(tile, 3),
            _ => sized!(tile, 4),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn sums<const M: usize, const N: usize>(tile: &Tile) {
    let mut sums = [[_mm512_setzero_ps(); N]; M];
    let whole = tile.k / 16 * 16;
    // SAFETY: rows hold `k` elements; the masked loads touch what is left of them only.
    unsafe {
        let mut t = 0;
        while t < whole {
            // A loop: closures do not take over the features of the function around them.
            let mut x = [_mm512_setzero_ps(); M];
            for i in 0..M {
                x[i] = _mm512_loadu_ps(tile.x.add(i * tile.x_stride + t));
            }
            for j in 0..N {
                let w = _mm512_loadu_ps(tile.w.add(j * tile.w_stride + t));
                for i in 0..M {
                    sums[i][j] = _mm512_fmadd_ps(x[i], w, sums[i][j]);
                }
            }
            t += 16;
        }
        if whole < tile.k {
            let mask = (1u16 << (tile.k - whole)) - 1;
            for j in 0..N {
                let w = _mm512_maskz_loadu_ps(mask, tile.w.add(j * tile.w_stride + whole));
                for i in 0..M {
                    let x = _mm512_maskz_loadu_ps(mask, tile.x.add(i * tile.x_stride + whole));
                    sums[i][j] = _mm512_mask3_fmadd_ps(x, w, sums[i][j], mask);
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                tile.put(i, j, fold(sums[i][j]));
            }
        }
    }
}

/// Folds the lanes in the order of the scalar definition.
#[inline]
#[target_feature(enable = "avx512f")]
fn fold(x: __m512) -> f32 {
    let high = _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0b11_10_11_10>(x, x));
    let x = _mm256_add_ps(_mm512_castps512_ps256(x), high);
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}
