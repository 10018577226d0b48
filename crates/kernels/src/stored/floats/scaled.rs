//! Scales of blocks, put on x: a run of rows of W that stand under the same scales meets `x · scale`,
//! rounded once, and codes as they are.

use super::input::padded;
use super::{CHAINS, PAIRED};
use crate::lanes::per_isa;
use crate::stored::Matrix;
use std::ops::Range;

/// The scales that row `row` stands under, for every block of columns.
pub(super) fn of_row(matrix: &Matrix, row: usize) -> Option<&[f32]> {
    let scales = matrix.scales()?;
    let per_row = matrix.n_in.div_ceil(scales.block[1]);
    let from = row / scales.block[0] * per_row;
    Some(&scales.values[from..from + per_row])
}

/// The rows from the first of `rows` on that stand under the same scales.
pub(super) fn run(matrix: &Matrix, rows: Range<usize>) -> Range<usize> {
    let height = matrix.scales().map_or(usize::MAX, |scales| scales.block[0]);
    let end = (rows.start / height + 1).saturating_mul(height);
    rows.start..end.min(rows.end)
}

/// Rows of x in pairs, times scales of any number of columns each.
pub(super) fn any_columns(x: &[f32], n_in: usize, scales: &[f32], columns: usize, out: &mut [f32]) {
    if columns.is_multiple_of(PAIRED) {
        return whole_columns(x, n_in, scales, columns, out);
    }
    let padded = padded(n_in);
    for (x, out) in x.chunks_exact(padded).zip(out.chunks_exact_mut(padded)) {
        for (at, (x, out)) in x.iter().zip(out).enumerate() {
            let (block, lane) = (at / PAIRED * PAIRED, at % PAIRED);
            let column = block + 2 * (lane % CHAINS) + lane / CHAINS;
            *out = x * scales[column.min(n_in - 1) / columns];
        }
    }
}

per_isa! {
    /// Rows of x in pairs, times scales of whole registers of columns each.
    pub(super) fn whole_columns(
        x: &[f32],
        n_in: usize,
        scales: &[f32],
        columns: usize,
        out: &mut [f32],
    ) {
        let padded = padded(n_in);
        for (x, out) in x.chunks_exact(padded).zip(out.chunks_exact_mut(padded)) {
            let parts = x.chunks(columns).zip(out.chunks_mut(columns));
            for (at, (x, out)) in parts.enumerate() {
                // Zeros behind the row may reach past its last block.
                let scale = scales[at.min(scales.len() - 1)];
                for (x, out) in x.iter().zip(out) {
                    *out = x * scale;
                }
            }
        }
    }
}
