//! Sums: residual connections and biases.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::Weight;
use fathom_kernels::elementwise;

/// `a + b`, both [N, D]. Reuses the memory of `a` if nobody else holds it.
pub fn add(tape: &Tape<'_>, a: Tensor, b: &Tensor) -> Tensor {
    assert_eq!(a.shape(), b.shape(), "shapes of a sum");
    let (node_a, node_b) = (a.node, b.node);
    let shape = a.shape().to_vec();
    let mut sum = a.into_buffer();
    elementwise::add_assign(&mut sum, b.data());
    tape.output(sum, &shape, |node| {
        move |backward| {
            let Some(gradient) = backward.take(node) else { return };
            backward.give(node_a, gradient.clone());
            backward.give(node_b, gradient);
        }
    })
}

/// `x + bias` for every row: x [N, D], bias [D].
pub fn add_bias<'w>(tape: &Tape<'w>, x: Tensor, bias: &'w Weight) -> Tensor {
    let (node_x, shape, width) = (x.node, x.shape().to_vec(), x.width());
    assert_eq!(width, bias.n_elements(), "width of `{}`", bias.name);
    let mut out = x.into_buffer();
    for row in out.chunks_exact_mut(width) {
        elementwise::add_assign(row, bias.values());
    }
    tape.output(out, &shape, |node| {
        move |backward| {
            let Some(gradient) = backward.take(node) else { return };
            let mut sums = Buffer::zeros(width);
            for row in gradient.chunks_exact(width) {
                elementwise::add_assign(&mut sums, row);
            }
            elementwise::add_assign(backward.gradients.to_add(bias.slot), &sums);
            backward.give(node_x, gradient);
        }
    })
}
