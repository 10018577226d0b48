//! The definition of the tile: plain loops, products and sums rounded separately.

use super::{COLUMN_STRIDE, Left, PANEL, ROW_STRIDE, Tile};

/// Safety: as [`super::run_tile`].
pub(super) unsafe fn tile_f32(tile: &Tile) {
    for i in 0..tile.rows {
        // SAFETY: the caller's promise.
        let row =
            unsafe { std::slice::from_raw_parts_mut(tile.out.add(i * tile.out_stride), tile.n) };
        let mut sums = [0f32; PANEL];
        if !tile.fresh {
            sums[..tile.n].copy_from_slice(row);
        }
        for k in 0..tile.k {
            let left = match tile.left {
                Left::Direct(stride) => tile.a[i * stride + k],
                Left::DirectColumns(stride) => tile.a[k * stride + i],
                Left::Rows => tile.a[i * ROW_STRIDE + k],
                Left::Columns => tile.a[k * COLUMN_STRIDE + i],
            };
            let right = &tile.b[k * PANEL..(k + 1) * PANEL];
            for (sum, r) in sums.iter_mut().zip(right) {
                *sum += left * r;
            }
        }
        row.copy_from_slice(&sums[..tile.n]);
    }
}
