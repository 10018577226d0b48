//! Token embeddings.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::Weight;
use fathom_kernels::embedding as kernel;

/// Row `ids[i]` of the table for every i: table [V, D], result [N, D].
///
/// Panics if an id is outside the table.
pub fn embedding<'w>(tape: &Tape<'w>, table: &'w Weight, ids: &'w [u32]) -> Tensor {
    let width = table.n_in();
    let mut out = Buffer::stale(ids.len() * width);
    match table.as_stored() {
        Some(matrix) => matrix.gather(ids, &mut out),
        None => kernel::gather_f32(table.values(), ids, width, &mut out),
    }
    tape.output(out, &[ids.len(), width], |node| {
        move |backward| {
            let Some(dy) = backward.take(node) else { return };
            kernel::scatter_add(ids, &dy, width, backward.gradients.adding(table.slot));
        }
    })
}
