//! The definition of a tile of integer sums.

use super::Tile;
use super::opened::PANEL;
use super::rounded::{GROUP, SUMMED};
use crate::quant::Coding;

/// Safety: as [`Tile`].
pub(super) unsafe fn tile(tile: &Tile) {
    let Coding { middle, group, has_mins } = tile.coding;
    let len = tile.x.len;
    for i in 0..tile.m {
        // SAFETY: the rows exist and hold `len` elements.
        let (codes, scales, sums) = unsafe {
            (
                std::slice::from_raw_parts(tile.x.codes.add(i * len), len),
                std::slice::from_raw_parts(tile.x.scales.add(i * len / GROUP), len / GROUP),
                std::slice::from_raw_parts(tile.x.sums.add(i * len / SUMMED), len / SUMMED),
            )
        };
        for (p, opened) in tile.panels.iter().enumerate() {
            for r in 0..PANEL {
                // SAFETY: the sums exist and are ours.
                let out = unsafe { &mut *tile.out.add(i * tile.out_stride + p * PANEL + r) };
                let mut sum = *out;
                for (b, &scale) in scales.iter().enumerate() {
                    let dot = |from: usize, n: usize| -> f32 {
                        let w = |k: usize| i32::from(opened.codes[k / 4][4 * r + k % 4]) - middle;
                        let part = from..from + n;
                        part.map(|k| w(k) * i32::from(codes[k])).sum::<i32>() as f32
                    };
                    if group == GROUP {
                        sum = dot(b * GROUP, GROUP).mul_add(opened.scales[b][r] * scale, sum);
                        if has_mins {
                            let total = (sums[2 * b] + sums[2 * b + 1]) as f32 * scale;
                            sum = opened.mins[b][r].mul_add(total, sum);
                        }
                    } else {
                        let first = dot(b * GROUP, SUMMED) * opened.scales[2 * b][r];
                        let both = dot(b * GROUP + SUMMED, SUMMED)
                            .mul_add(opened.scales[2 * b + 1][r], first);
                        sum = both.mul_add(scale, sum);
                        if has_mins {
                            for half in [2 * b, 2 * b + 1] {
                                let total = sums[half] as f32 * scale;
                                sum = opened.mins[half][r].mul_add(total, sum);
                            }
                        }
                    }
                }
                *out = sum;
            }
        }
    }
}
