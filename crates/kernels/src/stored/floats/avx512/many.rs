//! Tiles of 14 × 32 sums for many rows of x: lanes are rows of W, elements of x are broadcast.
//!
//! The chains of an element run one after another, in the order in which the tree wants them: a sum
//! waits in memory until its partner is there.

use super::SCALED_COLUMNS;
use super::pack::PANEL;
use crate::stored::floats::input::padded;
use crate::stored::floats::{CHAINS, K_CHUNK};
use std::arch::x86_64::*;

/// Most rows of a tile.
pub(super) const M: usize = 14;
/// Sums that may wait at once: one per level of the tree but the last.
const WAITING: usize = CHAINS.ilog2() as usize;
/// Steps of a chain that stand under one scale.
const STEPS_SCALED: usize = SCALED_COLUMNS / CHAINS;
/// Room for a chain of x times its scales.
const SCALED_CHAIN: usize = K_CHUNK / CHAINS * M;

/// Numbers of scratch that so many panels need.
pub(super) fn room(n_panels: usize) -> usize {
    n_panels * WAITING * M * PANEL + SCALED_CHAIN
}

/// Chains in the order of the tree: each finds its partner, eight away, right before it, and so on up.
const ORDER: [usize; CHAINS] = [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15];

/// Distance of the chains of a panel for so many elements of a row: no power of two, so that chains fall
/// into different cache sets.
pub(super) fn chain_stride(k: usize) -> usize {
    (padded(k) / CHAINS + 1) * PANEL
}

/// A chunk of some rows of x times the panels of a task.
pub(super) struct Tile<'a> {
    /// `[chain, step, row]`
    pub x: &'a [f32],
    /// What x is multiplied by: one per [`STEPS_SCALED`] steps.
    pub scales: Option<&'a [f32]>,
    /// Each `[chain, step, PANEL]`, chains [`chain_stride`] apart.
    pub panels: &'a [f32],
    /// Elements of a row, zeros behind it included.
    pub k: usize,
    /// Rows of x, [`M`] at most.
    pub rows: usize,
    /// Columns of the result.
    pub n: usize,
    /// Room for sums that wait and a chain of x: [`room`] numbers.
    pub room: &'a mut [f32],
    pub out: *mut f32,
    pub out_stride: usize,
    /// Whether sums start here, or go on from what the result holds.
    pub first: bool,
}

/// Safety: `out` is good for `[rows, n]` and ours; the CPU has AVX-512.
pub(super) unsafe fn tile(tile: &mut Tile<'_>) {
    let (n_steps, n_panels) = (tile.k / CHAINS, tile.n.div_ceil(PANEL));
    assert!(
        tile.x.len() == tile.k * tile.rows
            && tile.panels.len() >= n_panels * CHAINS * chain_stride(tile.k)
            && tile.room.len() >= room(n_panels)
            && tile.scales.is_none_or(|scales| scales.len() >= n_steps.div_ceil(STEPS_SCALED)),
        "a tile of {} rows, {n_panels} panels and {n_steps} steps",
        tile.rows
    );
    // SAFETY: the caller's promise.
    unsafe {
        match tile.rows {
            1 => sums::<1>(tile),
            2 => sums::<2>(tile),
            3 => sums::<3>(tile),
            4 => sums::<4>(tile),
            5 => sums::<5>(tile),
            6 => sums::<6>(tile),
            7 => sums::<7>(tile),
            8 => sums::<8>(tile),
            9 => sums::<9>(tile),
            10 => sums::<10>(tile),
            11 => sums::<11>(tile),
            12 => sums::<12>(tile),
            13 => sums::<13>(tile),
            _ => sums::<14>(tile),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn sums<const M: usize>(tile: &mut Tile<'_>) {
    let n_steps = tile.k / CHAINS;
    let (waiting, scaled_x) = tile.room.split_at_mut(tile.room.len() - SCALED_CHAIN);
    // SAFETY: the lengths were checked; steps are whole blocks, so four divide them.
    unsafe {
        for (turn, chain) in ORDER.into_iter().enumerate() {
            let mut x = tile.x.as_ptr().add(chain * n_steps * M);
            if let Some(scales) = tile.scales {
                scale::<M>(x, n_steps, scales, scaled_x.as_mut_ptr());
                x = scaled_x.as_ptr();
            }
            for panel in 0..tile.n.div_ceil(PANEL) {
                let at = (panel * CHAINS + chain) * chain_stride(tile.k);
                let mut sums = multiply::<M>(x, tile.panels.as_ptr().add(at), n_steps);
                let waiting = waiting.as_mut_ptr().add(panel * WAITING * M * PANEL);
                if !join::<M>(turn, waiting, &mut sums) {
                    continue;
                }
                let n = PANEL.min(tile.n - panel * PANEL);
                put(tile.out.add(panel * PANEL), tile.out_stride, n, tile.first, &sums);
            }
        }
    }
}

/// One chain of all sums.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn multiply<const M: usize>(
    mut x: *const f32,
    mut w: *const f32,
    n_steps: usize,
) -> [[__m512; 2]; M] {
    let mut sums = [[_mm512_setzero_ps(); 2]; M];
    // SAFETY: the caller's promise.
    unsafe {
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
    }
    sums
}

/// Adds the partners that are complete, as many as the turn ends in ones, and leaves the sums waiting for
/// the next one. Returns whether there is none.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn join<const M: usize>(
    turn: usize,
    waiting: *mut f32,
    sums: &mut [[__m512; 2]; M],
) -> bool {
    let complete = turn.trailing_ones() as usize;
    // SAFETY: the caller's promise.
    unsafe {
        for level in 0..complete {
            let waiting = waiting.add(level * M * PANEL);
            for i in 0..M {
                for half in 0..2 {
                    let partner = _mm512_loadu_ps(waiting.add(i * PANEL + 16 * half));
                    sums[i][half] = _mm512_add_ps(partner, sums[i][half]);
                }
            }
        }
        if complete == WAITING {
            return true;
        }
        let waiting = waiting.add(complete * M * PANEL);
        for i in 0..M {
            for half in 0..2 {
                _mm512_storeu_ps(waiting.add(i * PANEL + 16 * half), sums[i][half]);
            }
        }
    }
    false
}

/// A chain of x times its scales.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn scale<const M: usize>(x: *const f32, n_steps: usize, scales: &[f32], out: *mut f32) {
    for (at, scale) in scales.iter().enumerate().take(n_steps.div_ceil(STEPS_SCALED)) {
        let from = at * STEPS_SCALED * M;
        let len = STEPS_SCALED.min(n_steps - at * STEPS_SCALED) * M;
        let mut done = 0;
        // SAFETY: the caller's promise; masked lanes are not touched.
        unsafe {
            while done < len {
                let mask = if len - done >= 16 { 0xffff } else { (1u16 << (len - done)) - 1 };
                let x = _mm512_maskz_loadu_ps(mask, x.add(from + done));
                let x = _mm512_mul_ps(x, _mm512_set1_ps(*scale));
                _mm512_mask_storeu_ps(out.add(from + done), mask, x);
                done += 16;
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn put<const M: usize>(
    out: *mut f32,
    out_stride: usize,
    n: usize,
    first: bool,
    sums: &[[__m512; 2]; M],
) {
    let all = (1u64 << n) - 1;
    let masks = [all as u16, (all >> 16) as u16];
    for i in 0..M {
        for half in 0..2 {
            // SAFETY: the caller's promise; masked lanes are not touched.
            unsafe {
                let at = out.add(i * out_stride).wrapping_add(16 * half);
                let mut sum = sums[i][half];
                if !first {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(masks[half], at), sum);
                }
                _mm512_mask_storeu_ps(at, masks[half], sum);
            }
        }
    }
}
