//! The definition of a tile of integer sums.

use super::Tile;
use super::opened::PANEL;
use super::rounded::{GROUP, HALF, Scale};
use crate::quant::Coding;

/// Safety: as [`Tile`].
pub(super) unsafe fn tile(tile: &Tile) {
    let Coding { middle, group, has_mins } = tile.coding;
    let len = tile.x.len;
    for i in 0..tile.m {
        // SAFETY: the rows exist and hold `len` elements.
        let (codes, scales, totals, half_totals) = unsafe {
            let x = tile.x.row(i);
            (
                std::slice::from_raw_parts(x.codes, len),
                std::slice::from_raw_parts(x.scales, len / GROUP),
                std::slice::from_raw_parts(x.totals[0], len / GROUP),
                std::slice::from_raw_parts(x.totals[1], len / HALF),
            )
        };
        for (p, opened) in tile.panels.iter().enumerate() {
            for r in 0..PANEL {
                // SAFETY: the sums exist and are ours.
                let out = unsafe { &mut *tile.out.add(i * tile.out_stride + p * PANEL + r) };
                let mut sum = if tile.first { 0.0 } else { *out };
                for (b, &Scale { scale, .. }) in scales.iter().enumerate() {
                    let dot = |from: usize, n: usize| -> f32 {
                        let w = |k: usize| i32::from(opened.codes[k / 4][4 * r + k % 4]) - middle;
                        let part = from..from + n;
                        part.map(|k| w(k) * i32::from(codes[k])).sum::<i32>() as f32
                    };
                    if group == GROUP {
                        sum = (dot(b * GROUP, GROUP) * scale).mul_add(opened.scales[b][r], sum);
                        if has_mins {
                            sum = opened.mins[b][r].mul_add(totals[b], sum);
                        }
                    } else {
                        let first = dot(b * GROUP, HALF) * opened.scales[2 * b][r];
                        let both =
                            dot(b * GROUP + HALF, HALF).mul_add(opened.scales[2 * b + 1][r], first);
                        sum = both.mul_add(scale, sum);
                        if has_mins {
                            for half in [2 * b, 2 * b + 1] {
                                sum = opened.mins[half][r].mul_add(half_totals[half], sum);
                            }
                        }
                    }
                }
                *out = sum;
            }
        }
    }
}
