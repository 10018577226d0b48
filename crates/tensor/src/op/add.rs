//! Sums: residual connections and biases.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::Weight;
use fathom_kernels::elementwise;

/// `a + b`, both [N, D]. Reuses the memory of one of them if nobody else holds it.
pub fn add(tape: &Tape<'_>, a: Tensor, b: Tensor) -> Tensor {
    assert_eq!(a.shape(), b.shape(), "shapes of a sum");
    let (node_a, node_b) = (a.node, b.node);
    let shape = a.shape().to_vec();
    let sum = match (a.into_own_buffer(), b.into_own_buffer()) {
        (Ok(mut a), Ok(b)) => {
            elementwise::add_assign(&mut a, &b);
            a
        }
        (Ok(mut a), Err(b)) => {
            elementwise::add_assign(&mut a, b.data());
            a
        }
        (Err(a), Ok(mut b)) => {
            elementwise::add_assign(&mut b, a.data());
            b
        }
        (Err(a), Err(b)) => {
            let mut sum = Buffer::stale(a.data().len());
            elementwise::add(a.data(), b.data(), &mut sum);
            sum
        }
    };
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
    elementwise::add_row(bias.values(), &mut out);
    tape.output(out, &shape, |node| {
        move |backward| {
            let Some(gradient) = backward.take(node) else { return };
            elementwise::sum_rows(&gradient, backward.gradients.adding(bias.slot));
            backward.give(node_x, gradient);
        }
    })
}
