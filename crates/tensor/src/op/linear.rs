//! `y = x · Wᵀ`.

use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::{Input, Weight};
use fathom_kernels::matmul::{
    Lhs, Packed, Product, Write, matmul_batch, multiply_shared, multiply_sum,
};
use fathom_kernels::stored;
use std::cell::RefCell;

/// Rows whose packed copy is held at a time while a weight gradient is summed.
const ROWS_AT_ONCE: usize = 8192;

thread_local! {
    static PACKED_INPUT: RefCell<Packed> = RefCell::new(Packed::new());
}

/// `x · Wᵀ`: x [N, in] (or any shape of that row width), W [out, in], result [N, out].
pub fn linear<'w>(tape: &Tape<'w>, x: &Tensor, weight: &'w Weight) -> Tensor {
    let [y] = linears(tape, x, [weight]);
    y
}

/// [`linear`] of one input by several weights, all packed in one precision: the input is packed
/// once for all weight gradients, and its own gradient is summed in place, in the order given.
pub fn linears<'w, const K: usize>(
    tape: &Tape<'w>,
    x: &Tensor,
    weights: [&'w Weight; K],
) -> [Tensor; K] {
    let (n, n_in) = (x.n_rows(), x.width());
    let shapes = weights.map(|weight| [n, weight.n_out()]);
    let outs = products(x, weights);
    let mut shapes = shapes.iter();
    let parts = outs.map(|out| (out, &shapes.next().expect("one shape per output")[..]));
    let x = x.clone();
    tape.outputs(parts, |nodes| {
        move |backward| {
            let gradients = nodes.map(|node| backward.take(node));
            let used: Vec<(&Weight, &[f32], usize)> = weights
                .iter()
                .zip(&gradients)
                .filter_map(|(weight, dy)| {
                    let start = backward.gradients.range(weight.slot).start;
                    Some((*weight, &dy.as_ref()?[..], start))
                })
                .collect();
            if used.is_empty() {
                return;
            }
            backward.give_with(x.node, n * n_in, |dx, write| {
                let terms: Vec<(&[f32], &Packed)> =
                    used.iter().map(|(weight, dy, _)| (*dy, weight.input_gradient())).collect();
                multiply_sum(&terms, n, dx, write);
            });
            let slots = used.iter().map(|(weight, ..)| weight.slot);
            let (out, write) = backward.gradients.writing(slots);
            add_products(&used, x.data(), n, out, write);
        }
    })
}

/// The products themselves; those of stored weights run as one parallel loop.
fn products<const K: usize>(x: &Tensor, weights: [&Weight; K]) -> [Buffer; K] {
    let (n, n_in) = (x.n_rows(), x.width());
    let mut outs = weights.map(|weight| {
        assert_eq!(n_in, weight.n_in(), "input width of `{}` {:?}", weight.name, weight.shape);
        Buffer::stale(n * weight.n_out())
    });
    if K > 1 && weights.iter().all(|weight| weight.as_stored().is_some()) {
        // One input in each form that is asked for: the weights of a layer may be stored differently.
        let mut inputs: Vec<(&Weight, Input)> = Vec::with_capacity(1);
        for weight in weights {
            if !inputs.iter().any(|(first, _)| first.shares_input_with(weight)) {
                inputs.push((weight, weight.input(x.data())));
            }
        }
        let mut batch: Vec<stored::Product> = weights
            .iter()
            .zip(&mut outs)
            .filter_map(|(weight, out)| {
                let (_, input) =
                    inputs.iter().find(|(first, _)| first.shares_input_with(weight))?;
                let matrix = weight.as_stored()?;
                Some(stored::Product { x: input.rows(0..n, n_in), matrix, out })
            })
            .collect();
        stored::matmul_batch(&mut batch);
    } else if K > 1
        && weights.iter().all(|weight| weight.as_stored().is_none())
        && one_format(&weights)
    {
        let rhs = weights.map(Weight::forward);
        let mut targets: Vec<&mut [f32]> = outs.iter_mut().map(|out| &mut out[..]).collect();
        multiply_shared(x.data(), n, &rhs, &mut targets);
    } else {
        for (weight, out) in weights.iter().zip(&mut outs) {
            weight.multiply(x.data(), n, out);
        }
    }
    outs
}

fn one_format(weights: &[&Weight]) -> bool {
    weights.iter().all(|weight| weight.format() == weights[0].format())
}

/// `out[start] (+)= dyᵀ · x` for every weight and its output gradient `(weight, dy, start)`, operands
/// rounded as those of the weight: dy [N, out], x [N, in].
///
/// The sum runs over rows in ascending order, whatever the number of threads.
pub(super) fn add_products(
    factors: &[(&Weight, &[f32], usize)],
    x: &[f32],
    n: usize,
    out: &mut [f32],
    mut write: Write,
) {
    let (first, ..) = factors[0];
    let (n_in, format) = (first.n_in(), first.format());
    assert!(factors.iter().all(|(weight, ..)| weight.format() == format), "one format for all");
    PACKED_INPUT.with_borrow_mut(|packed| {
        for row in (0..n).step_by(ROWS_AT_ONCE) {
            let rows = row..(row + ROWS_AT_ONCE).min(n);
            packed.pack_rows(&x[rows.start * n_in..rows.end * n_in], rows.len(), n_in, format);
            let packed = &*packed;
            let products: Vec<Product> = factors
                .iter()
                .map(|(weight, dy, out_start)| {
                    let m = weight.n_out();
                    let lhs = Lhs::transposed(&dy[rows.start * m..rows.end * m], m);
                    let (k_range, out_start) = (0..rows.len(), *out_start);
                    Product { lhs, m, rhs: packed, k_range, out_start }
                })
                .collect();
            matmul_batch(&products, out, write);
            write = Write::Add;
        }
    });
}
