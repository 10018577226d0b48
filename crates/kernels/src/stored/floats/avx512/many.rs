//! Tiles of 14 × 32 sums for many rows of x: lanes are rows of W, elements of x are broadcast.
//!
//! The chains of an element run one after another, in the order in which the tree wants them: a sum
//! waits in memory until its partner is there.

use super::pack::PANEL;
use crate::stored::floats::CHAINS;
use std::arch::x86_64::*;

/// Most rows of a tile.
pub(super) const M: usize = 14;
/// Sums that may wait at once: one per level of the tree but the last.
const WAITING: usize = CHAINS.ilog2() as usize;
/// Room for them.
pub(super) const PARTIAL: usize = WAITING * M * PANEL;

/// Chains in the order of the tree: each finds its partner, eight away, right before it, and so on up.
const ORDER: [usize; CHAINS] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// A chunk of some rows of x times a panel of W.
pub(super) struct Tile<'a> {
    /// `[chain, step, row]`
    pub x: &'a [f32],
    /// `[chain, step, PANEL]`
    pub panel: &'a [f32],
    /// Rows of x, [`M`] at most.
    pub rows: usize,
    /// Columns of the result, [`PANEL`] at most.
    pub n: usize,
    /// Room for sums that wait.
    pub partial: &'a mut [f32],
    pub out: *mut f32,
    pub out_stride: usize,
    /// Whether sums start here, or go on from what the result holds.
    pub first: bool,
}

/// Safety: `out` is good for `[rows, n]` and ours; the CPU has AVX-512.
pub(super) unsafe fn tile(tile: &Tile<'_>) {
    let n_steps = tile.panel.len() / CHAINS / PANEL;
    assert!(
        tile.x.len() == CHAINS * n_steps * tile.rows && tile.partial.len() >= PARTIAL,
        "a tile of {} rows and {n_steps} steps",
        tile.rows
    );
    // SAFETY: the caller's promise.
    unsafe {
        match tile.rows {
            1 => sums::<1>(tile, n_steps),
            2 => sums::<2>(tile, n_steps),
            3 => sums::<3>(tile, n_steps),
            4 => sums::<4>(tile, n_steps),
            5 => sums::<5>(tile, n_steps),
            6 => sums::<6>(tile, n_steps),
            7 => sums::<7>(tile, n_steps),
            8 => sums::<8>(tile, n_steps),
            9 => sums::<9>(tile, n_steps),
            10 => sums::<10>(tile, n_steps),
            11 => sums::<11>(tile, n_steps),
            12 => sums::<12>(tile, n_steps),
            13 => sums::<13>(tile, n_steps),
            _ => sums::<14>(tile, n_steps),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn sums<const M: usize>(tile: &Tile<'_>, n_steps: usize) {
    let partial = tile.partial.as_ptr().cast_mut();
    // SAFETY: the lengths were checked; steps are whole blocks, so four divide them.
    unsafe {
        for (turn, chain) in ORDER.into_iter().enumerate() {
            let mut sums = [[_mm512_setzero_ps(); 2]; M];
            let mut x = tile.x.as_ptr().add(chain * n_steps * M);
            let mut w = tile.panel.as_ptr().add(chain * n_steps * PANEL);
            for _ in 0..n_steps / 4 {
                for u in 0..4 {
                    let w0 = _mm512_loadu_ps(w.add(u * PANEL));
                    let w1 = _mm512_loadu_ps(w.add(u * PANEL + 16));
                    for i in 0..M {
                        let x = _mm512_set1_ps(*x.add(u * M + i));
                        sums[i][0] = _mm512_fmadd_ps(x, w0, sums[i][0]);
                        sums[i][1] = _mm512_fmadd_ps(x, w1, sums[i][1]);
                    }
                }
                (x, w) = (x.add(4 * M), w.add(4 * PANEL));
            }
            // As many partners are complete as the turn ends in ones.
            let complete = turn.trailing_ones() as usize;
            for level in 0..complete {
                let waiting = partial.add(level * M * PANEL);
                for i in 0..M {
                    for half in 0..2 {
                        let partner = _mm512_load_ps(waiting.add(i * PANEL + 16 * half));
                        sums[i][half] = _mm512_add_ps(partner, sums[i][half]);
                    }
                }
            }
            if complete < WAITING {
                let waiting = partial.add(complete * M * PANEL);
                for i in 0..M {
                    for half in 0..2 {
                        _mm512_store_ps(waiting.add(i * PANEL + 16 * half), sums[i][half]);
                    }
                }
            } else {
                put(tile, &sums);
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn put<const M: usize>(tile: &Tile<'_>, sums: &[[__m512; 2]; M]) {
    let all = (1u64 << tile.n) - 1;
    let masks = [all as u16, (all >> 16) as u16];
    for i in 0..M {
        for half in 0..2 {
            // SAFETY: the caller's promise; masked lanes are not touched.
            unsafe {
                let at = tile.out.add(i * tile.out_stride).wrapping_add(16 * half);
                let mut sum = sums[i][half];
                if !tile.first {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(masks[half], at), sum);
                }
                _mm512_mask_storeu_ps(at, masks[half], sum);
            }
        }
    }
}
