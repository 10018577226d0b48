//! Root-mean-square normalisation.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::Weight;
use fathom_kernels::matmul::Write;
use fathom_kernels::rms_norm;

/// `x · rsqrt(mean(x²) + eps) · w` over the last dimension: x [N, D], w [D].
pub fn rms_norm<'w>(tape: &Tape<'w>, x: &Tensor, weight: &'w Weight, eps: f32) -> Tensor {
    let (n, width) = (x.n_rows(), x.width());
    assert_eq!(width, weight.n_elements(), "width of `{}`", weight.name);
    let mut out = Buffer::stale(n * width);
    let mut inv_rms = Buffer::stale(n);
    rms_norm::forward(x.data(), weight.values(), eps, &mut out, &mut inv_rms);
    let x = x.clone();
    tape.output(out, &[n, width], |node| {
        move |backward| {
            let Some(dy) = backward.take(node) else { return };
            let (mut dx, write) =
                backward.begin(x.node, n * width).unwrap_or((Buffer::stale(n * width), Write::Set));
            let dw = backward.gradients.adding(weight.slot);
            let target = (&mut dx[..], write);
            rms_norm::backward(x.data(), weight.values(), &inv_rms, &dy, target, dw);
            backward.give(x.node, dx);
        }
    })
}
