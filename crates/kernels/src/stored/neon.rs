//! Register tiles of 2 × 3 sums for NEON; four registers make the sixteen lanes of a sum.
#![cfg(target_arch = "aarch64")]

use super::{LANES, Tile};
use crate::lanes::fold;
use std::arch::aarch64::*;

pub(super) const M: usize = 2;
pub(super) const N: usize = 3;
/// Registers of a sum.
const PARTS: usize = LANES / 4;

/// Safety: as [`Tile`].
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

unsafe fn sums<const M: usize, const N: usize>(tile: &Tile) {
    let whole = tile.k / LANES * LANES;
    // SAFETY: rows hold `k` elements.
    unsafe {
        let mut sums = [[[vdupq_n_f32(0.0); PARTS]; N]; M];
        for t in (0..whole).step_by(LANES) {
            for part in 0..PARTS {
                let at = t + 4 * part;
                let mut x = [vdupq_n_f32(0.0); M];
                for i in 0..M {
                    x[i] = vld1q_f32(tile.x.add(i * tile.x_stride + at));
                }
                for j in 0..N {
                    let w = vld1q_f32(tile.w.add(j * tile.w_stride + at));
                    for i in 0..M {
                        sums[i][j][part] = vfmaq_f32(sums[i][j][part], x[i], w);
                    }
                }
            }
        }
        for i in 0..M {
            for j in 0..N {
                let mut lanes = [0.0f32; LANES];
                for part in 0..PARTS {
                    vst1q_f32(lanes.as_mut_ptr().add(4 * part), sums[i][j][part]);
                }
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
