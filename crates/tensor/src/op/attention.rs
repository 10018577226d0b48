//! Causal attention over packed documents.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use fathom_kernels::attention as kernel;
use fathom_kernels::attention::{Heads, Segment};

/// `softmax(q · kᵀ · scale) · v` per head, each row over its segment's rows up to itself.
///
/// Shapes: q [N, H, Dqk], k [N, Hkv, Dqk], v [N, Hkv, Dv]; result [N, H · Dv].
pub fn attention<'w>(
    tape: &Tape<'w>,
    heads: Heads,
    segments: &'w [Segment],
    (q, k, v): (&Tensor, &Tensor, &Tensor),
) -> Tensor {
    let n = q.n_rows();
    let width = heads.n_heads * heads.v_dim;
    let mut out = Buffer::stale(n * width);
    let mut lse = Buffer::stale(n * heads.n_heads);
    kernel::forward(&heads, segments, q.data(), k.data(), v.data(), &mut out, &mut lse);
    let (q, k, v) = (q.clone(), k.clone(), v.clone());
    tape.output_kept(out, &[n, width], |node, out| {
        move |backward| {
            let Some(dout) = backward.take(node) else { return };
            let mut dq = Buffer::stale(q.data().len());
            let mut dk = Buffer::stale(k.data().len());
            let mut dv = Buffer::stale(v.data().len());
            kernel::backward(
                &heads,
                segments,
                q.data(),
                k.data(),
                v.data(),
                out.data(),
                &lse,
                &dout,
                &mut dq,
                &mut dk,
                &mut dv,
            );
            backward.give(q.node, dq);
            backward.give(k.node, dk);
            backward.give(v.node, dv);
        }
    })
}
