//! Cutting rows in two, and laying rows side by side.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use fathom_kernels::columns::{Columns, copy, fill};

/// The first `width` columns and the rest: x [N, D] to [N, width] and [N, D - width].
pub fn split_columns(tape: &Tape<'_>, x: &Tensor, width: usize) -> [Tensor; 2] {
    let (n, total) = (x.n_rows(), x.width());
    assert!(width <= total, "{width} of {total} columns");
    let (first, rest) = parts(width, total - width);
    let (mut left, mut right) = (Buffer::stale(n * width), Buffer::stale(n * (total - width)));
    copy(x.data(), first, &mut left, Columns::all(width));
    copy(x.data(), rest, &mut right, Columns::all(total - width));
    let node_x = x.node;
    tape.outputs([(left, &[n, width]), (right, &[n, total - width])], |nodes| {
        move |backward| {
            let gradients = nodes.map(|node| backward.take(node));
            if gradients.iter().all(Option::is_none) {
                return;
            }
            let mut dx = Buffer::stale(n * total);
            for (gradient, part) in gradients.iter().zip([first, rest]) {
                match gradient {
                    Some(gradient) => copy(gradient, Columns::all(part.width), &mut dx, part),
                    None => fill(0.0, &mut dx, part),
                }
            }
            backward.give(node_x, dx);
        }
    })
}

/// Rows of `a` followed by rows of `b`: [N, A] and [N, B] to [N, A + B].
pub fn concat_columns(tape: &Tape<'_>, a: &Tensor, b: &Tensor) -> Tensor {
    let (n, width_a, width_b) = (a.n_rows(), a.width(), b.width());
    assert_eq!(n, b.n_rows(), "rows laid side by side");
    let (first, rest) = parts(width_a, width_b);
    let mut out = Buffer::stale(n * (width_a + width_b));
    copy(a.data(), Columns::all(width_a), &mut out, first);
    copy(b.data(), Columns::all(width_b), &mut out, rest);
    let (node_a, node_b) = (a.node, b.node);
    tape.output(out, &[n, width_a + width_b], |node| {
        move |backward| {
            let Some(dy) = backward.take(node) else { return };
            for (node, part) in [(node_a, first), (node_b, rest)] {
                let mut dx = Buffer::stale(n * part.width);
                copy(&dy, part, &mut dx, Columns::all(part.width));
                backward.give(node, dx);
            }
        }
    })
}

/// The left `width` columns and the `rest` columns of rows that hold both.
fn parts(width: usize, rest: usize) -> (Columns, Columns) {
    let row_len = width + rest;
    (Columns { row_len, first: 0, width }, Columns { row_len, first: width, width: rest })
}
