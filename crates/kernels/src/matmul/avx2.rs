//! Register tiles of 3 × 32 for AVX2 with FMA: 12 sums, four panel registers.
#![cfg(target_arch = "x86_64")]

use super::{COLUMN_STRIDE, Left, PANEL, ROW_STRIDE, Tile};
use std::arch::x86_64::*;

const TILE_ROWS: usize = 3;

/// Safety: as [`super::run_tile`].
pub(super) unsafe fn tile_f32(tile: &Tile) {
    for i in (0..tile.rows).step_by(TILE_ROWS) {
        let (row, step) = match tile.left {
            Left::Direct(stride) => (stride, 1),
            Left::DirectColumns(stride) => (1, stride),
            Left::Rows => (ROW_STRIDE, 1),
            Left::Columns => (1, COLUMN_STRIDE),
        };
        // SAFETY: the caller's promise.
        unsafe {
            match tile.rows - i {
                1 => rows::<1>(tile, i, row, step),
                2 => rows::<2>(tile, i, row, step),
                _ => rows::<3>(tile, i, row, step),
            }
        }
    }
}

/// `M` rows from `first` on; element `(i, k)` of the left operand is at `i * row_stride + k * step`.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows<const M: usize>(tile: &Tile, first: usize, row_stride: usize, step: usize) {
    let mut edge = [[0f32; PANEL]; M];
    let mut sums = [[_mm256_setzero_ps(); 4]; M];
    // SAFETY: `Tile::check` covers every address; the edge buffer covers short panels.
    unsafe {
        let a = tile.a.as_ptr().add(first * row_stride);
        let row = |i: usize| tile.out.add((first + i) * tile.out_stride);
        if !tile.fresh {
            for i in 0..M {
                std::ptr::copy_nonoverlapping(row(i), edge[i].as_mut_ptr(), tile.n);
                for c in 0..4 {
                    sums[i][c] = _mm256_loadu_ps(edge[i].as_ptr().add(8 * c));
                }
            }
        }
        for k in 0..tile.k {
            let b = tile.b.as_ptr().add(k * PANEL);
            let right = [0, 8, 16, 24].map(|at| _mm256_loadu_ps(b.add(at)));
            for i in 0..M {
                let left = _mm256_broadcast_ss(&*a.add(i * row_stride + k * step));
                for c in 0..4 {
                    sums[i][c] = _mm256_fmadd_ps(left, right[c], sums[i][c]);
                }
            }
        }
        for i in 0..M {
            for c in 0..4 {
                _mm256_storeu_ps(edge[i].as_mut_ptr().add(8 * c), sums[i][c]);
            }
            std::ptr::copy_nonoverlapping(edge[i].as_ptr(), row(i), tile.n);
        }
    }
}
