//! Routed experts: dispatch, three grouped products, weighted combination
//! (DeepSeekMoE, arXiv:2401.06066, section 3). No token is ever dropped.

use super::add;
use super::feed_forward::{feed_forward, routed, routed_beside};
use super::gate::Route;
use crate::buffer::Buffer;
use crate::tape::Tape;
use crate::tensor::Tensor;
use crate::weight::{Input, Weight};
use fathom_kernels::dispatch::Dispatch;
use fathom_kernels::stored::{self, Rounded};
use fathom_kernels::swiglu;

/// The weights of a gated block, an expert or a dense one: `down(silu(gate(x)) · up(x))`.
#[derive(Clone, Copy)]
pub struct Expert<'w> {
    /// [F, D]
    pub gate_proj: &'w Weight,
    /// [F, D]
    pub up_proj: &'w Weight,
    /// [D, F]
    pub down_proj: &'w Weight,
}

impl<'w> Expert<'w> {
    /// gate, up and down.
    pub(super) fn weights(&self) -> [&'w Weight; 3] {
        [self.gate_proj, self.up_proj, self.down_proj]
    }

    /// Whether all of the block can run in integers.
    pub(super) fn in_integers(&self) -> bool {
        let gate_and_up = self.gate_proj.as_stored().zip(self.up_proj.as_stored());
        self.weights().iter().all(|weight| weight.takes_int8())
            && gate_and_up.is_some_and(|(gate, up)| stored::can_gate(gate, up))
    }
}

/// Who holds stored experts in memory when not all of them fit.
pub trait ExpertMemory {
    /// Experts that may be at work at once.
    fn n_at_once(&self) -> usize;

    /// These are used next: they are read ahead, and others are given up for them.
    fn enter(&self, experts: &[usize]);
}

/// `Σ_k weight_k · expert_k(x)` for every row, experts summed in ascending order, and the block that all rows
/// visit added to that: x [N, D], result [N, D]. `memory` is asked for experts that are stored.
pub fn experts<'w>(
    tape: &Tape<'w>,
    x: &Tensor,
    route: &Route,
    experts: Vec<Expert<'w>>,
    shared: Option<Expert<'w>>,
    memory: Option<&dyn ExpertMemory>,
) -> Tensor {
    let is_stored = |block: &Expert| block.gate_proj.as_stored().is_some();
    let sum = if is_stored(&experts[0]) {
        stored_experts(x, route, &experts, memory)
    } else {
        let dispatch = Dispatch::new(&route.ids, experts.len(), route.weights.width());
        let alike = |block: &Expert| block.gate_proj.n_out() == experts[0].gate_proj.n_out();
        match shared.filter(|shared| !tape.is_recording() && !is_stored(shared) && alike(shared)) {
            Some(shared) => return routed_beside(x, &route.weights, &dispatch, experts, shared),
            None => routed(tape, x, &route.weights, dispatch, experts),
        }
    };
    match shared {
        Some(shared) => add(tape, sum, feed_forward(tape, x, shared)),
        None => sum,
    }
}

/// [`experts`] whose weights are stored. Only the chosen ones are read.
fn stored_experts(
    x: &Tensor,
    route: &Route,
    experts: &[Expert],
    memory: Option<&dyn ExpertMemory>,
) -> Tensor {
    let (n, width) = (x.n_rows(), x.width());
    let dispatch = Dispatch::new(&route.ids, experts.len(), route.weights.width());
    let in_integers = experts.iter().all(Expert::in_integers);
    let rows = if in_integers {
        // A row is rounded once, for all of its experts.
        SlotInput::Int8(Rounded::new(x.data(), width).gather(&dispatch.rows))
    } else {
        let mut rows = Buffer::stale(dispatch.n_slots() * width);
        dispatch.gather(x.data(), width, &mut rows);
        SlotInput::Float(rows)
    };
    let mut outputs = Buffer::stale(dispatch.n_slots() * width);

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
        let outputs = &mut outputs[span.start * width..span.end * width];
        let group: Vec<(Expert, usize)> =
            group.iter().map(|&e| (experts[e], offsets[e + 1] - offsets[e])).collect();
        match &rows {
            SlotInput::Int8(rows) => run_integers(&group, rows, span.start, outputs),
            SlotInput::Float(rows) => {
                run_stored(&group, &rows[span.start * width..span.end * width], outputs);
            }
        }
    }
    let mut out = Buffer::stale(n * width);
    dispatch.combine(&outputs, route.weights.data(), width, &mut out);
    Tensor::new(out, &[n, width])
}

/// The rows of all slots.
enum SlotInput {
    Float(Buffer),
    Int8(Rounded),
}

/// Runs blocks over their rows of `x`, which follow each other from `first` on: `(block, number of rows)`.
/// All of them take rounded rows ([`Expert::in_integers`]); outputs [rows of all blocks, D].
pub(super) fn run_integers(
    group: &[(Expert, usize)],
    x: &Rounded,
    first: usize,
    outputs: &mut [f32],
) {
    let n_rows: usize = group.iter().map(|(_, n_rows)| n_rows).sum();
    let mut hidden = Rounded::stale(n_rows, group[0].0.gate_proj.n_out());
    let mut gated = Vec::with_capacity(group.len());
    let mut to = 0;
    for (block, n_rows) in group {
        let (Some(gate), Some(up)) = (block.gate_proj.as_stored(), block.up_proj.as_stored())
        else {
            unreachable!("blocks in integers are stored");
        };
        gated.push(stored::Gated { x, xs: first + to..first + to + n_rows, gate, up, to });
        to += n_rows;
    }
    stored::gated_batch(&gated, &mut hidden);
    let hidden = Input::Int8(hidden);
    stored::matmul_batch(&mut stored_products(group, |e| e.down_proj, &hidden, outputs));
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
