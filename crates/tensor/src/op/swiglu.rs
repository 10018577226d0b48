//! The gated activation of every feed-forward block here.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use fathom_kernels::swiglu as kernel;

/// `silu(gate) · up`, elementwise: both [N, F].
pub fn swiglu(tape: &Tape<'_>, gate: &Tensor, up: &Tensor) -> Tensor {
    assert_eq!(gate.shape(), up.shape(), "shapes of gate and up");
    let len = gate.data().len();
    let mut out = Buffer::stale(len);
    kernel::forward(gate.data(), up.data(), &mut out);
    let (gate, up) = (gate.clone(), up.clone());
    let shape = gate.shape().to_vec();
    tape.output(out, &shape, |node| {
        move |backward| {
            let Some(dout) = backward.take(node) else { return };
            let (mut dgate, mut dup) = (Buffer::stale(len), Buffer::stale(len));
            kernel::backward(gate.data(), up.data(), &dout, &mut dgate, &mut dup);
            backward.give(gate.node, dgate);
            backward.give(up.node, dup);
        }
    })
}
