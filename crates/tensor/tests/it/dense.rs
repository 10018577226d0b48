//! Products, sums, norms, activations, embeddings and columns.

use crate::check::{Case, matmul, silu};
use fathom_tensor::{Tape, Tensor, op};

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The same values in memory that nobody else holds.
fn unshared<'w>(tape: &Tape<'w>, x: &Tensor) -> Tensor {
    let [left, right] = op::split_columns(tape, x, 1);
    op::concat_columns(tape, &left, &right)
}

#[test]
fn linear_is_its_definition() {
    for (n, n_in, n_out) in [(5, 7, 3), (1, 1, 1), (33, 17, 19), (4, 64, 32)] {
        let case = Case::new("linear").leaf(&[n, n_in]).weight(&[n_out, n_in]);
        case.check(
            |tape, x, w| vec![op::linear(tape, &x[0], &w[0])],
            |v| matmul(&v[0], &v[1], n_in),
        );
    }
}

#[test]
fn linear_takes_rows_of_heads() {
    let case = Case::new("linear of [N, H, head]").leaf(&[5, 3, 4]).weight(&[7, 12]);
    case.check(|tape, x, w| vec![op::linear(tape, &x[0], &w[0])], |v| matmul(&v[0], &v[1], 12));
}

#[test]
fn linear_sums_its_weight_gradient_over_more_rows_than_it_packs_at_once() {
    let case = Case::new("linear of 8195 rows").leaf(&[8195, 2]).weight(&[3, 2]);
    case.check(|tape, x, w| vec![op::linear(tape, &x[0], &w[0])], |v| matmul(&v[0], &v[1], 2));
}

#[test]
fn linears_are_several_linears() {
    let case = Case::new("linears").leaf(&[6, 9]).weight(&[5, 9]).weight(&[1, 9]).weight(&[18, 9]);
    let outputs = |v: &[Vec<f64>], of: &[usize]| -> Vec<f64> {
        of.iter().flat_map(|i| matmul(&v[0], &v[*i], 9)).collect()
    };
    case.check(
        |tape, x, w| op::linears(tape, &x[0], [&w[0], &w[1], &w[2]]).to_vec(),
        |v| outputs(v, &[1, 2, 3]),
    );
    // Nothing depends on the second output: its weight has no gradient, the input still has one.
    case.check(
        |tape, x, w| {
            let [a, _, c] = op::linears(tape, &x[0], [&w[0], &w[1], &w[2]]);
            vec![a, c]
        },
        |v| outputs(v, &[1, 3]),
    );
}

#[test]
fn add_is_its_definition_whoever_holds_the_memory() {
    let case = Case::new("add").leaf(&[5, 7]).leaf(&[5, 7]);
    for (own_a, own_b) in [(false, false), (true, false), (false, true), (true, true)] {
        case.check(
            |tape, x, _| {
                let hold = |own, x: &Tensor| if own { unshared(tape, x) } else { x.clone() };
                vec![op::add(tape, hold(own_a, &x[0]), hold(own_b, &x[1]))]
            },
            |v| sum(&v[0], &v[1]),
        );
    }
}

#[test]
fn a_tensor_used_three_times_gets_the_sum_of_its_gradients() {
    let case = Case::new("x + x, and x").leaf(&[5, 7]);
    case.check(
        |tape, x, _| {
            let x = unshared(tape, &x[0]);
            let double = op::add(tape, x.clone(), x.clone());
            vec![op::add(tape, double.clone(), x), double]
        },
        |v| [3.0, 2.0].iter().flat_map(|f| v[0].iter().map(move |x| f * x)).collect(),
    );
}

#[test]
fn add_bias_is_its_definition() {
    for shape in [&[5, 7][..], &[70, 3], &[4, 3, 5]] {
        let width = shape[1..].iter().product();
        let case = Case::new("add_bias").leaf(shape).weight(&[width]);
        for own in [false, true] {
            case.check(
                |tape, x, w| {
                    let x = if own { unshared(tape, &x[0]) } else { x[0].clone() };
                    vec![op::add_bias(tape, x, &w[0])]
                },
                |v| v[0].chunks(width).flat_map(|row| sum(row, &v[1])).collect(),
            );
        }
    }
}

#[test]
fn rms_norm_is_its_definition() {
    for (n, width) in [(5, 7), (1, 1), (67, 5), (3, 33)] {
        // Large enough to be seen in the gradient.
        let eps = 0.01f32;
        let case = Case::new("rms_norm").leaf(&[n, width]).weight(&[width]);
        case.check(
            |tape, x, w| vec![op::rms_norm(tape, &x[0], &w[0], eps)],
            |v| {
                let row = |x: &[f64]| -> Vec<f64> {
                    let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
                    x.iter().zip(&v[1]).map(|(x, w)| x * scale * w).collect()
                };
                v[0].chunks(width).flat_map(row).collect()
            },
        );
    }
}

#[test]
fn swiglu_is_its_definition() {
    for shape in [[5, 7], [1, 1], [3, 35]] {
        let case = Case::new("swiglu").leaf(&shape).leaf(&shape);
        case.check(
            |tape, x, _| vec![op::swiglu(tape, &x[0], &x[1])],
            |v| v[0].iter().zip(&v[1]).map(|(gate, up)| silu(*gate) * up).collect(),
        );
    }
}

#[test]
fn embedding_adds_the_gradients_of_repeated_ids() {
    let ids = [3, 0, 3, 5, 3, 0, 1];
    let case = Case::new("embedding").weight(&[6, 5]);
    case.check(
        |tape, _, w| vec![op::embedding(tape, &w[0], &ids)],
        |v| ids.iter().flat_map(|id| v[0][*id as usize * 5..][..5].to_vec()).collect(),
    );
}

#[test]
fn split_columns_is_its_definition() {
    let case = Case::new("split_columns").leaf(&[5, 7]);
    let columns = |x: &[f64], from: usize, to: usize| -> Vec<f64> {
        x.chunks(7).flat_map(|row| row[from..to].to_vec()).collect()
    };
    for width in [1, 3, 6] {
        case.check(
            |tape, x, _| op::split_columns(tape, &x[0], width).to_vec(),
            |v| [columns(&v[0], 0, width), columns(&v[0], width, 7)].concat(),
        );
    }
    // One part unused: zeros, not stale memory.
    for used in [0, 1] {
        case.check(
            |tape, x, _| vec![op::split_columns(tape, &x[0], 3)[used].clone()],
            |v| if used == 0 { columns(&v[0], 0, 3) } else { columns(&v[0], 3, 7) },
        );
    }
}

#[test]
fn concat_columns_is_its_definition() {
    let case = Case::new("concat_columns").leaf(&[5, 7]).leaf(&[5, 2]);
    case.check(
        |tape, x, _| vec![op::concat_columns(tape, &x[0], &x[1])],
        |v| v[0].chunks(7).zip(v[1].chunks(2)).flat_map(|(a, b)| [a, b].concat()).collect(),
    );
}
