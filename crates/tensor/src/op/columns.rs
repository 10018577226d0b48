//! Cutting rows in two, and laying rows side by side.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;

/// The first `width` columns and the rest: x [N, D] to [N, width] and [N, D - width].
pub fn split_columns(tape: &Tape<'_>, x: &Tensor, width: usize) -> (Tensor, Tensor) {
    let (n, total) = (x.n_rows(), x.width());
    assert!(width <= total, "{width} of {total} columns");
    let rest = total - width;
    let (mut left, mut right) = (Buffer::stale(n * width), Buffer::stale(n * rest));
    for (i, row) in x.data().chunks_exact(total).enumerate() {
        left[i * width..(i + 1) * width].copy_from_slice(&row[..width]);
        right[i * rest..(i + 1) * rest].copy_from_slice(&row[width..]);
    }
    let node_x = x.node;
    tape.outputs((left, &[n, width]), (right, &[n, rest]), |node_left, node_right| {
        move |backward| {
            let (left, right) = (backward.take(node_left), backward.take(node_right));
            if left.is_none() && right.is_none() {
                return;
            }
            let mut dx = Buffer::stale(n * total);
            for (i, row) in dx.chunks_exact_mut(total).enumerate() {
                copy_or_zero(&mut row[..width], left.as_deref(), i);
                copy_or_zero(&mut row[width..], right.as_deref(), i);
            }
            backward.give(node_x, dx);
        }
    })
}

/// Rows of `a` followed by rows of `b`: [N, A] and [N, B] to [N, A + B].
pub fn concat_columns(tape: &Tape<'_>, a: &Tensor, b: &Tensor) -> Tensor {
    let (n, width_a, width_b) = (a.n_rows(), a.width(), b.width());
    assert_eq!(n, b.n_rows(), "rows laid side by side");
    let mut out = Buffer::stale(n * (width_a + width_b));
    for (i, row) in out.chunks_exact_mut(width_a + width_b).enumerate() {
        row[..width_a].copy_from_slice(&a.data()[i * width_a..(i + 1) * width_a]);
        row[width_a..].copy_from_slice(&b.data()[i * width_b..(i + 1) * width_b]);
    }
    let (node_a, node_b) = (a.node, b.node);
    tape.output(out, &[n, width_a + width_b], |node| {
        move |backward| {
            let Some(dy) = backward.take(node) else { return };
            let (mut da, mut db) = (Buffer::stale(n * width_a), Buffer::stale(n * width_b));
            for (i, row) in dy.chunks_exact(width_a + width_b).enumerate() {
                da[i * width_a..(i + 1) * width_a].copy_from_slice(&row[..width_a]);
                db[i * width_b..(i + 1) * width_b].copy_from_slice(&row[width_a..]);
            }
            backward.give(node_a, da);
            backward.give(node_b, db);
        }
    })
}

fn copy_or_zero(out: &mut [f32], rows: Option<&[f32]>, i: usize) {
    match rows {
        Some(rows) => out.copy_from_slice(&rows[i * out.len()..(i + 1) * out.len()]),
        None => out.fill(0.0),
    }
}
