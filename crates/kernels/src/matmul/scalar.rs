//! The definition of the tile: plain loops, products and sums rounded separately.

use super::{PANEL, Tile};

/// Safety: as [`super::run_panel`].
pub(super) unsafe fn panel_f32(tile: &Tile) {
    for i in 0..tile.rows {
        let a = &tile.a[i * tile.stride..i * tile.stride + tile.k];
        // SAFETY: the caller's promise.
        let row = unsafe { std::slice::from_raw_parts_mut(tile.out.add(i * tile.out_stride), tile.n) };
        let mut sums = [0f32; PANEL];
        if !tile.fresh {
            sums[..tile.n].copy_from_slice(row);
        }
        for (k, &left) in a.iter().enumerate() {
            let right = &tile.b[k * PANEL..(k + 1) * PANEL];
            for (sum, r) in sums.iter_mut().zip(right) {
                *sum += left * r;
            }
        }
        row.copy_from_slice(&sums[..tile.n]);
    }
}
