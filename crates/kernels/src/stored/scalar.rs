//! The definition: sixteen sums over every sixteenth element, folded in one tree.

use super::{LANES, Tile};
use crate::lanes::fold;

/// Safety: as [`Tile`].
pub(super) unsafe fn tile(tile: &Tile) {
    for i in 0..tile.m {
        for j in 0..tile.n {
            // SAFETY: the caller's promise.
            unsafe {
                let x = std::slice::from_raw_parts(tile.x.add(i * tile.x_stride), tile.k);
                let w = std::slice::from_raw_parts(tile.w.add(j * tile.w_stride), tile.k);
                let mut lanes = [0.0f32; LANES];
                for (t, (x, w)) in x.iter().zip(w).enumerate() {
                    lanes[t % LANES] = x.mul_add(*w, lanes[t % LANES]);
                }
                tile.put(i, j, fold(lanes));
            }
        }
    }
}
