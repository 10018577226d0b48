//! Some rows of a matrix.

use crate::buffer::Buffer;
use crate::tensor::Tensor;

/// Rows `rows` of x [N, D], in that order. Not recorded.
///
/// Panics if a row is outside.
pub fn pick_rows(x: &Tensor, rows: &[usize]) -> Tensor {
    let width = x.width();
    let mut out = Buffer::stale(rows.len() * width);
    for (out, &row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
        out.copy_from_slice(&x.data()[row * width..(row + 1) * width]);
    }
    Tensor::new(out, &[rows.len(), width])
}
