//! Routed experts: dispatch, three grouped products, weighted combination
//! (DeepSeekMoE, arXiv:2401.06066, section 3). No token is ever dropped.

use super::gate::Route;
use crate::buffer::Buffer;
use crate::gradients::Gradients;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::{Input, Weight};
use fathom_kernels::dispatch::Dispatch;
use fathom_kernels::matmul::{Lhs, Packed, Product, Write, matmul_batch};
use fathom_kernels::{stored, swiglu};
use std::cell::RefCell;

/// One routed expert: `down(silu(gate(x)) · up(x))`.
#[derive(Clone, Copy)]
pub struct Expert<'w> {
    /// [F, D]
    pub gate_proj: &'w Weight,
    /// [F, D]
    pub up_proj: &'w Weight,
    /// [D, F]
    pub down_proj: &'w Weight,
}

thread_local! {
    static PACKED_ROWS: RefCell<Packed> = RefCell::new(Packed::new());
}

/// Who holds stored experts in memory when not all of them fit.
pub trait ExpertMemory {
    /// Experts that may be at work at once.
    fn n_at_once(&self) -> usize;

    /// These are used next: they are read ahead, and others are given up for them.
    fn enter(&self, experts: &[usize]);
}

/// `Σ_k weight_k · expert_k(x)` for every row, experts summed in ascending order: x [N, D], result [N, D].
/// `memory` is asked for experts that are stored.
pub fn experts<'w>(
    tape: &Tape<'w>,
    x: &Tensor,
    route: &Route,
    experts: Vec<Expert<'w>>,
    memory: Option<&dyn ExpertMemory>,
) -> Tensor {
    if experts[0].gate_proj.as_stored().is_some() {
        return stored_experts(x, route, &experts, memory);
    }
    let (n, width) = (x.n_rows(), x.width());
    let hidden = experts[0].gate_proj.n_out();
    let top_k = route.weights.width();
    let dispatch = Dispatch::new(&route.ids, experts.len(), top_k);
    let slots = n * top_k;

    let mut rows = Buffer::stale(slots * width);
    dispatch.gather(x.data(), width, &mut rows);
    let mut gate = Buffer::stale(slots * hidden);
    let mut up = Buffer::stale(slots * hidden);
    grouped(&dispatch, &rows, width, &experts, |e| e.gate_proj.forward(), &mut gate, Write::Set);
    grouped(&dispatch, &rows, width, &experts, |e| e.up_proj.forward(), &mut up, Write::Set);
    let mut active = Buffer::stale(slots * hidden);
    swiglu::forward(&gate, &up, &mut active);
    let mut outputs = Buffer::stale(slots * width);
    grouped(
        &dispatch,
        &active,
        hidden,
        &experts,
        |e| e.down_proj.forward(),
        &mut outputs,
        Write::Set,
    );
    let mut out = Buffer::stale(n * width);
    dispatch.combine(&outputs, route.weights.data(), width, &mut out);

    let (node_x, weights) = (x.node, route.weights.clone());
    tape.output(out, &[n, width], |node| {
        move |backward| {
            let Some(dout) = backward.take(node) else { return };
            let mut doutputs = Buffer::stale(slots * width);
            let mut dweights = Buffer::stale(slots);
            dispatch.combine_backward(
                &outputs,
                weights.data(),
                &dout,
                &mut doutputs,
                &mut dweights,
            );
            backward.give(weights.node, dweights);

            let gradients = &mut *backward.gradients;
            weight_gradients(&dispatch, &doutputs, &active, &experts, |e| e.down_proj, gradients);
            let mut dactive = Buffer::stale(slots * hidden);
            grouped(
                &dispatch,
                &doutputs,
                width,
                &experts,
                |e| e.down_proj.input_gradient(),
                &mut dactive,
                Write::Set,
            );
            let (mut dgate, mut dup) =
                (Buffer::stale(slots * hidden), Buffer::stale(slots * hidden));
            swiglu::backward(&gate, &up, &dactive, &mut dgate, &mut dup);
            weight_gradients(&dispatch, &dgate, &rows, &experts, |e| e.gate_proj, gradients);
            weight_gradients(&dispatch, &dup, &rows, &experts, |e| e.up_proj, gradients);
            let mut drows = Buffer::stale(slots * width);
            grouped(
                &dispatch,
                &dgate,
                hidden,
                &experts,
                |e| e.gate_proj.input_gradient(),
                &mut drows,
                Write::Set,
            );
            grouped(
                &dispatch,
                &dup,
                hidden,
                &experts,
                |e| e.up_proj.input_gradient(),
                &mut drows,
                Write::Add,
            );
            let mut dx = Buffer::zeros(n * width);
            dispatch.gather_backward(&drows, width, &mut dx);
            backward.give(node_x, dx);
        }
    })
}

/// [`experts`] whose weights are stored. Only the chosen ones are read.
fn stored_experts(
    x: &Tensor,
    route: &Route,
    experts: &[Expert],
    memory: Option<&dyn ExpertMemory>,
) -> Tensor {
    let (n, width) = (x.n_rows(), x.width());
    let top_k = route.weights.width();
    let dispatch = Dispatch::new(&route.ids, experts.len(), top_k);
    let slots = n * top_k;
    let mut rows = Buffer::stale(slots * width);
    dispatch.gather(x.data(), width, &mut rows);
    let mut outputs = Buffer::stale(slots * width);

    let offsets = &dispatch.offsets;
    let chosen: Vec<usize> = (0..experts.len()).filter(|&e| offsets[e] < offsets[e + 1]).collect();
    let n_at_once = memory.map_or(chosen.len(), |memory| memory.n_at_once());
    let mut groups = chosen.chunks(n_at_once).peekable();
    if let (Some(memory), Some(first)) = (memory, groups.peek()) {
        memory.enter(first);
    }
    while let Some(group) = groups.next() {
        if let (Some(memory), Some(next)) = (memory, groups.peek()) {
            memory.enter(next); // is read while this group is at work
        }
        let span = offsets[group[0]]..offsets[group[group.len() - 1] + 1];
        let spanned = span.start * width..span.end * width;
        let group: Vec<(Expert, usize)> =
            group.iter().map(|&e| (experts[e], offsets[e + 1] - offsets[e])).collect();
        run_stored(&group, &rows[spanned.clone()], &mut outputs[spanned]);
    }
    let mut out = Buffer::stale(n * width);
    dispatch.combine(&outputs, route.weights.data(), width, &mut out);
    Tensor::new(out, &[n, width])
}

/// Runs experts over their rows, which follow each other: `(expert, number of rows)`.
fn run_stored(group: &[(Expert, usize)], rows: &[f32], outputs: &mut [f32]) {
    let (first, _) = &group[0];
    let slots = rows.len() / first.gate_proj.n_in();
    let hidden = first.gate_proj.n_out();
    let (mut gate, mut up) = (Buffer::stale(slots * hidden), Buffer::stale(slots * hidden));
    {
        let input = first.gate_proj.input(rows);
        let mut batch = stored_products(group, |e| e.gate_proj, &input, &mut gate);
        batch.extend(stored_products(group, |e| e.up_proj, &input, &mut up));
        stored::matmul_batch(&mut batch);
    }
    let mut active = Buffer::stale(slots * hidden);
    swiglu::forward(&gate, &up, &mut active);
    let input = first.down_proj.input(&active);
    stored::matmul_batch(&mut stored_products(group, |e| e.down_proj, &input, outputs));
}

/// One product per expert. The experts of a layer take their input in one form.
fn stored_products<'a>(
    group: &[(Expert<'a>, usize)],
    weight: impl Fn(&Expert<'a>) -> &'a Weight,
    input: &'a Input<'a>,
    mut out: &'a mut [f32],
) -> Vec<stored::Product<'a>> {
    let mut products = Vec::with_capacity(group.len());
    let mut start = 0;
    for (expert, n_rows) in group {
        let weight = weight(expert);
        let matrix = weight.as_stored().expect("the experts of a layer are stored, or none is");
        let (own, rest) = out.split_at_mut(n_rows * matrix.n_out);
        let x = input.rows(start..start + n_rows, matrix.n_in);
        products.push(stored::Product { x, matrix, out: own });
        (start, out) = (start + n_rows, rest);
    }
    products
}

/// Every expert's rows times its matrix, as one parallel loop.
fn grouped<'w>(
    dispatch: &Dispatch,
    rows: &[f32],
    width: usize,
    experts: &[Expert<'w>],
    matrix: impl Fn(&Expert<'w>) -> &'w Packed,
    out: &mut [f32],
    write: Write,
) {
    let products: Vec<Product> = experts
        .iter()
        .enumerate()
        .filter(|(e, _)| dispatch.offsets[*e] < dispatch.offsets[e + 1])
        .map(|(e, expert)| {
            let (from, to) = (dispatch.offsets[e], dispatch.offsets[e + 1]);
            let rhs = matrix(expert);
            let lhs = Lhs::rows(&rows[from * width..to * width], width);
            Product { lhs, m: to - from, rhs, k_range: 0..rhs.k, out_start: from * rhs.n }
        })
        .collect();
    matmul_batch(&products, out, write);
}

/// `dyᵀ · x` of every expert over its own rows, as one parallel loop.
fn weight_gradients<'w>(
    dispatch: &Dispatch,
    dy: &[f32],
    x: &[f32],
    experts: &[Expert<'w>],
    weight: impl Fn(&Expert<'w>) -> &'w Weight,
    gradients: &mut Gradients,
) {
    let (n_out, n_in) = (weight(&experts[0]).n_out(), weight(&experts[0]).n_in());
    let starts: Vec<usize> =
        experts.iter().map(|e| gradients.range(weight(e).slot).start).collect();
    let (out, write) = gradients.writing(experts.iter().map(|e| weight(e).slot));
    PACKED_ROWS.with_borrow_mut(|packed| {
        pack_even(dispatch, x, n_in, weight(&experts[0]).format(), packed);
        let products: Vec<Product> = (0..experts.len())
            .map(|e| {
                let (from, to) = (dispatch.offsets[e], dispatch.offsets[e + 1]);
                let lhs = Lhs::transposed(&dy[from * n_out..to * n_out], n_out);
                let start = even_start(dispatch, e);
                Product {
                    lhs,
                    m: n_out,
                    rhs: packed,
                    k_range: start..start + (to - from),
                    out_start: starts[e],
                }
            })
            .collect();
        matmul_batch(&products, out, write);
    });
}

/// Where the rows of expert `e` start if every expert's rows start at an even row: pairs of bf16 need that.
fn even_start(dispatch: &Dispatch, e: usize) -> usize {
    (0..e).map(|i| (dispatch.offsets[i + 1] - dispatch.offsets[i]).next_multiple_of(2)).sum()
}

fn pack_even(
    dispatch: &Dispatch,
    x: &[f32],
    width: usize,
    format: fathom_kernels::matmul::Format,
    packed: &mut Packed,
) {
    let n_experts = dispatch.offsets.len() - 1;
    let n_rows = even_start(dispatch, n_experts);
    let mut padded = Buffer::stale(n_rows * width);
    for e in 0..n_experts {
        let (from, to) = (dispatch.offsets[e], dispatch.offsets[e + 1]);
        let (start, end) = (even_start(dispatch, e), even_start(dispatch, e + 1));
        let filled = (start + to - from) * width;
        padded[start * width..filled].copy_from_slice(&x[from * width..to * width]);
        padded[filled..end * width].fill(0.0);
    }
    packed.pack_rows(&padded, n_rows, width, format);
}
