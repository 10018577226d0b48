//! Gated feed-forward blocks as one operation: `down(silu(gate(x)) · up(x))`, of a dense layer or of the
//! experts that rows were sent to. Of what lies between the products, a recording tape keeps the two
//! before the activation.

use super::experts::{Expert, run_integers};
use super::{linear, linears, swiglu};
use crate::buffer::Buffer;
use crate::gradients::Gradients;
use crate::tape::Tape;
use crate::tensor::Tensor;
use fathom_kernels::dispatch::Dispatch;
use fathom_kernels::elementwise;
use fathom_kernels::feed_forward::{
    self as kernel, Gradient, GradientGroup, Group, InputGradient, Saved, SlotRows, WeightGradients,
};
use fathom_kernels::matmul::Write;
use fathom_kernels::stored::Rounded;
use std::ops::Range;

/// `down(silu(gate(x)) · up(x))`: x [N, D], result [N, D].
pub fn feed_forward<'w>(tape: &Tape<'w>, x: &Tensor, block: Expert<'w>) -> Tensor {
    if block.in_integers() {
        let mut out = Buffer::stale(x.n_rows() * block.down_proj.n_out());
        let rounded = Rounded::new(x.data(), x.width());
        run_integers(&[(block, x.n_rows())], &rounded, 0, &mut out);
        return Tensor::new(out, &[x.n_rows(), block.down_proj.n_out()]);
    }
    if block.gate_proj.as_stored().is_some() {
        let [gate, up] = linears(tape, x, [block.gate_proj, block.up_proj]);
        return linear(tape, &swiglu(tape, &gate, &up), block.down_proj);
    }
    let (n, width, n_out) = (x.n_rows(), x.width(), block.down_proj.n_out());
    let rows = SlotRows { data: x.data(), width, rows: None };
    let all = 0..n;
    let (out, saved) = run_forward(tape, rows, std::slice::from_ref(&all), &[block]);
    let x = x.clone();
    tape.output(out, &[n, n_out], |node| {
        move |backward| {
            let Some(dout) = backward.take(node) else { return };
            let mut sum = backward.begin(x.node, n * width);
            let rows = SlotRows { data: x.data(), width, rows: None };
            let dout = SlotRows { data: &dout, width: n_out, rows: None };
            let [mut gate, mut up] = saved;
            let (gate, up) = (&mut gate[..], &mut up[..]);
            let gradient = Gradient { x: rows, dout, gate, up, weights: None };
            let input = sum.as_mut().map(|(dx, write)| InputGradient { dx, write: *write });
            let slots = std::slice::from_ref(&all);
            run_backward(slots, &[block], gradient, input, backward.gradients);
            if let Some((dx, _)) = sum {
                backward.give(x.node, dx);
            }
        }
    })
}

/// `Σ_k weight_k · expert_k(x)` for every row over dense experts: x [N, D], weights [N, K], result [N, D].
pub(super) fn routed<'w>(
    tape: &Tape<'w>,
    x: &Tensor,
    weights: &Tensor,
    dispatch: Dispatch,
    experts: Vec<Expert<'w>>,
) -> Tensor {
    let (n, width, n_out) = (x.n_rows(), x.width(), experts[0].down_proj.n_out());
    let n_slots = dispatch.n_slots();
    let slots: Vec<Range<usize>> = (0..experts.len()).map(|e| dispatch.slots(e)).collect();
    let rows = SlotRows { data: x.data(), width, rows: Some(&dispatch.rows) };
    let (outputs, saved) = run_forward(tape, rows, &slots, &experts);
    let mut out = Buffer::stale(n * n_out);
    dispatch.combine(&outputs, weights.data(), n_out, &mut out);
    drop(outputs);
    let (x, weights) = (x.clone(), weights.clone());
    tape.output(out, &[n, n_out], |node| {
        move |backward| {
            let Some(dout) = backward.take(node) else { return };
            let (mut slot_weights, mut dslots) = (Buffer::stale(n_slots), Buffer::stale(n_slots));
            dispatch.to_slots(weights.data(), &mut slot_weights);
            let mut drows = Buffer::stale(n_slots * width);
            let [mut gate, mut up] = saved;
            let gradient = Gradient {
                x: SlotRows { data: x.data(), width, rows: Some(&dispatch.rows) },
                dout: SlotRows { data: &dout, width: n_out, rows: Some(&dispatch.rows) },
                gate: &mut gate,
                up: &mut up,
                weights: Some((&slot_weights, &mut dslots)),
            };
            let input = InputGradient { dx: &mut drows, write: Write::Set };
            run_backward(&slots, &experts, gradient, Some(input), backward.gradients);
            let mut dweights = Buffer::stale(n_slots);
            dispatch.from_slots(&dslots, &mut dweights);
            backward.give(weights.node, dweights);
            if let Some((mut dx, write)) = backward.begin(x.node, n * width) {
                dispatch.gather_backward(&drows, width, &mut dx, write);
                backward.give(x.node, dx);
            }
        }
    })
}

/// [`routed`] and a block that all rows visit, in one loop: one more group, and one more term of each sum. For
/// tapes that forget.
pub(super) fn routed_beside<'w>(
    x: &Tensor,
    weights: &Tensor,
    dispatch: &Dispatch,
    mut blocks: Vec<Expert<'w>>,
    shared: Expert<'w>,
) -> Tensor {
    let (n, width, n_out) = (x.n_rows(), x.width(), shared.down_proj.n_out());
    let n_slots = dispatch.n_slots();
    let mut slots: Vec<Range<usize>> = (0..blocks.len()).map(|e| dispatch.slots(e)).collect();
    slots.push(n_slots..n_slots + n);
    blocks.push(shared);
    let mut rows = Vec::with_capacity(n_slots + n);
    rows.extend_from_slice(&dispatch.rows);
    rows.extend(0..n as u32);
    let rows = SlotRows { data: x.data(), width, rows: Some(&rows) };
    let (outputs, _) = run_forward(&Tape::forgetting(), rows, &slots, &blocks);
    let mut out = Buffer::stale(n * n_out);
    dispatch.combine(&outputs[..n_slots * n_out], weights.data(), n_out, &mut out);
    elementwise::add_assign(&mut out, &outputs[n_slots * n_out..]);
    Tensor::new(out, &[n, n_out])
}

/// Outputs of all slots, and on a recording tape the products before the activation.
fn run_forward(
    tape: &Tape,
    rows: SlotRows,
    slots: &[Range<usize>],
    experts: &[Expert],
) -> (Buffer, [Buffer; 2]) {
    let n_slots = slots.last().map_or(0, |slots| slots.end);
    let (hidden, n_out) = (experts[0].gate_proj.n_out(), experts[0].down_proj.n_out());
    let groups: Vec<Group> = slots
        .iter()
        .zip(experts)
        .map(|(slots, expert)| Group {
            slots: slots.clone(),
            gate: expert.gate_proj.forward(),
            up: expert.up_proj.forward(),
            down: expert.down_proj.forward(),
        })
        .collect();
    let mut out = Buffer::stale(n_slots * n_out);
    if !tape.is_recording() {
        kernel::forward(&groups, rows, None, &mut out);
        return (out, [Buffer::stale(0), Buffer::stale(0)]);
    }
    let (mut gate, mut up) = (Buffer::stale(n_slots * hidden), Buffer::stale(n_slots * hidden));
    kernel::forward(&groups, rows, Some(Saved { gate: &mut gate, up: &mut up }), &mut out);
    (out, [gate, up])
}

/// Gradients of all slots, and of the weights into their places.
fn run_backward(
    slots: &[Range<usize>],
    experts: &[Expert],
    gradient: Gradient,
    input: Option<InputGradient>,
    gradients: &mut Gradients,
) {
    let groups: Vec<GradientGroup> = slots
        .iter()
        .zip(experts)
        .map(|(slots, expert)| GradientGroup {
            slots: slots.clone(),
            gate: expert.gate_proj.input_gradient(),
            up: expert.up_proj.input_gradient(),
            down: expert.down_proj.input_gradient(),
            starts: expert.weights().map(|weight| gradients.range(weight.slot).start),
        })
        .collect();
    let written = experts.iter().flat_map(|e| e.weights().map(|weight| weight.slot));
    let (data, write) = gradients.writing(written);
    kernel::backward(&groups, gradient, input, WeightGradients { data, write });
}
