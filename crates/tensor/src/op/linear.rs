//! `y = x · Wᵀ`.

use crate::buffer::Buffer;
use crate::gradients::Gradients;
use crate::tape::Tape;
use crate::tensor::{NO_NODE, Tensor};
use crate::weight::Weight;
use fathom_kernels::matmul::{Lhs, Packed, Product, Write, matmul, matmul_batch};
use std::cell::RefCell;

/// Rows whose packed copy is held at a time while a weight gradient is summed.
const ROWS_AT_ONCE: usize = 8192;

thread_local! {
    static PACKED_INPUT: RefCell<Packed> = RefCell::new(Packed::new());
}

/// `x · Wᵀ`: x [N, in] (or any shape of that row width), W [out, in], result [N, out].
pub fn linear<'w>(tape: &Tape<'w>, x: &Tensor, weight: &'w Weight) -> Tensor {
    let (n, n_in, n_out) = (x.n_rows(), x.width(), weight.n_out());
    assert_eq!(n_in, weight.n_in(), "input width of `{}` {:?}", weight.name, weight.shape);
    let mut out = Buffer::stale(n * n_out);
    matmul(Lhs::rows(x.data(), n_in), n, weight.forward(), &mut out, Write::Set);
    let x = x.clone();
    tape.output(out, &[n, n_out], |node| {
        move |backward| {
            let Some(dy) = backward.take(node) else { return };
            if x.node != NO_NODE {
                let mut dx = Buffer::stale(n * n_in);
                matmul(Lhs::rows(&dy, n_out), n, weight.input_gradient(), &mut dx, Write::Set);
                backward.give(x.node, dx);
            }
            add_weight_gradient(weight, &dy, x.data(), n, backward.gradients);
        }
    })
}

/// Adds `dyᵀ · x` to the gradient of `weight`: dy [N, out], x [N, in].
pub(super) fn add_weight_gradient(
    weight: &Weight,
    dy: &[f32],
    x: &[f32],
    n: usize,
    gradients: &mut Gradients,
) {
    add_product(weight, weight.slot, dy, x, n, gradients);
}

/// Adds `dyᵀ · x`, with operands rounded as those of `weight`, to slot `slot`.
///
/// The sum runs over rows in ascending order, whatever the number of threads.
pub(super) fn add_product(
    weight: &Weight,
    slot: usize,
    dy: &[f32],
    x: &[f32],
    n: usize,
    gradients: &mut Gradients,
) {
    let (n_out, n_in) = (weight.n_out(), weight.n_in());
    let out_start = gradients.range(slot).start;
    let (out, mut write) = gradients.to_write(std::iter::once(slot));
    PACKED_INPUT.with_borrow_mut(|packed| {
        for row in (0..n).step_by(ROWS_AT_ONCE) {
            let rows = row..(row + ROWS_AT_ONCE).min(n);
            packed.pack_rows(
                &x[rows.start * n_in..rows.end * n_in],
                rows.len(),
                n_in,
                weight.format(),
            );
            let lhs = Lhs::transposed(&dy[rows.start * n_out..rows.end * n_out], n_out);
            let product = Product { lhs, m: n_out, rhs: packed, k_range: 0..rows.len(), out_start };
            matmul_batch(&[product], out, write);
            write = Write::Add;
        }
    });
}
