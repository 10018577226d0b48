//! Rotary position embedding of a part of every head.

use crate::tape::Tape;
use crate::tensor::Tensor;
use fathom_kernels::rope::{HeadSlices, Layout, RopeTable, rotate, rotate_back};

/// How positions turn heads.
pub struct Rope {
    /// Angles by position.
    pub table: RopeTable,
    /// Which elements form pairs.
    pub layout: Layout,
}

/// Rotates elements `offset .. offset + dim` of every head: x [N, H, head], positions [N].
/// Reuses the memory of `x` if nobody else holds it.
pub fn rope<'w>(
    tape: &Tape<'w>,
    x: Tensor,
    rope: &'w Rope,
    offset: usize,
    positions: &'w [u32],
) -> Tensor {
    let (shape, node_x) = (x.shape().to_vec(), x.node);
    assert_eq!(shape.len(), 3, "heads to rotate are [N, H, head]");
    let heads = HeadSlices::packed(shape[1], shape[2], offset);
    let mut out = x.into_buffer();
    rotate(rope.layout, &rope.table, positions, heads, &mut out);
    tape.output(out, &shape, |node| {
        move |backward| {
            let Some(mut gradient) = backward.take_owned(node) else { return };
            rotate_back(rope.layout, &rope.table, positions, heads, &mut gradient);
            backward.give(node_x, gradient);
        }
    })
}
