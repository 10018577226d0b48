//! The definition of a tile of integer sums.

use super::opened::{Opened, PANEL};
use super::rounded::{GROUP, HALF, Piece};
use super::{PANELS, Tile};
use crate::quant::Coding;
use std::ops::Range;

/// Safety: as [`Tile`].
pub(super) unsafe fn tile(tile: &Tile) {
    for i in 0..tile.m {
        for p in 0..PANELS {
            for r in 0..PANEL {
                let at = p * PANEL + r;
                // SAFETY: the sums exist and are ours.
                let mut sum =
                    if tile.first { 0.0 } else { unsafe { *tile.from.row(i).start.add(at) } };
                for (c, panels) in tile.panels.iter().enumerate() {
                    // SAFETY: the piece has row i and this chunk.
                    let x = unsafe { tile.x.chunk(c).row(i) };
                    let opened = &panels[p];
                    for b in 0..x.len / GROUP {
                        sum = unsafe { group(&x, opened, tile.coding, b, r, sum) };
                    }
                }
                // SAFETY: as above.
                unsafe { *tile.to.row(i).start.add(at) = sum };
            }
        }
    }
}

/// `sum` and what group `b` of x adds to it with row `r` of the panel. Safety: the group exists.
unsafe fn group(x: &Piece, opened: &Opened, coding: Coding, b: usize, r: usize, sum: f32) -> f32 {
    let Coding { middle, group, has_mins } = coding;
    // SAFETY: the caller's promise.
    let (codes, scale, total, half_totals) = unsafe {
        (
            &*x.codes.add(b * GROUP).cast::<[i8; GROUP]>(),
            (*x.scales.add(b)).scale,
            *x.totals[0].add(b),
            &*x.totals[1].add(2 * b).cast::<[f32; 2]>(),
        )
    };
    let dot = |part: Range<usize>| -> f32 {
        let w = |k: usize| i32::from(opened.codes[k / 4][4 * r + k % 4]) - middle;
        part.map(|k| w(b * GROUP + k) * i32::from(codes[k])).sum::<i32>() as f32
    };
    if group == GROUP {
        let sum = (dot(0..GROUP) * scale).mul_add(opened.scales[b][r], sum);
        return if has_mins { opened.mins[b][r].mul_add(total, sum) } else { sum };
    }
    let first = dot(0..HALF) * opened.scales[2 * b][r];
    let both = dot(HALF..GROUP).mul_add(opened.scales[2 * b + 1][r], first);
    let mut sum = both.mul_add(scale, sum);
    if has_mins {
        for half in 0..2 {
            sum = opened.mins[2 * b + half][r].mul_add(half_totals[half], sum);
        }
    }
    sum
}
