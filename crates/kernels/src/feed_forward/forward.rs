//! The forward pass of a batch of gated blocks.

use super::{Group, SlotRows, check_slots, tasks, with_scratch};
use crate::lanes::per_isa;
use crate::math::sigmoid;
use crate::matmul::{
    Format, LeftRows, Lhs, ListedProduct, M_BLOCK, Packed, Product, Target, Write, multiply_rows,
    round_bf16, run_products,
};
use crate::swiglu;
use crate::threads::{Shards, n_threads, run};

/// What the backward pass needs: the products before the activation, [S, F] each.
pub struct Saved<'a> {
    /// `x · gateᵀ`
    pub gate: &'a mut [f32],
    /// `x · upᵀ`
    pub up: &'a mut [f32],
}

/// `out[s] = down(silu(gate(x)) · up(x))` for the row of every slot, by the weights of its group.
///
/// Shapes: `out` [S, D']; `saved`, if a backward pass follows, [S, F] twice.
///
/// Panics if shapes disagree or groups do not cover the slots in order.
pub fn forward(groups: &[Group], x: SlotRows, saved: Option<Saved>, out: &mut [f32]) {
    let n_slots = x.n_slots();
    check_slots(groups.iter().map(|g| g.slots.clone()), n_slots);
    let Some(first) = groups.first() else { return };
    let (hidden, n_out) = (first.gate.n, first.down.n);
    for g in groups {
        let shapes = [g.gate.k, g.up.k, g.gate.n, g.up.n, g.down.k, g.down.n];
        assert_eq!(shapes, [x.width, x.width, hidden, hidden, hidden, n_out], "weights of a block");
    }
    assert_eq!(out.len(), n_slots * n_out, "{n_slots} slots of {n_out}");
    if let Some(saved) = &saved {
        let lens = [saved.gate.len(), saved.up.len()];
        assert_eq!(lens, [n_slots * hidden; 2], "{n_slots} slots of {hidden}");
    }
    if saved.is_none() && n_threads() > 1 && n_slots < M_BLOCK * n_threads() {
        return with_scratch(3 * n_slots * hidden, |scratch| few_rows(groups, x, scratch, out));
    }
    let saved = saved.map(|saved| (Shards::new(saved.gate), Shards::new(saved.up)));
    let tasks = tasks(groups.iter().map(|g| g.slots.clone()), n_slots);
    let out = Shards::new(out);
    run(tasks.len(), |i| {
        let (group, slots) = (&groups[tasks[i].group], tasks[i].slots.clone());
        let len = slots.len() * hidden;
        with_scratch(3 * len, |scratch| {
            let (active, rest) = scratch.split_at_mut(len);
            let (mut gate, mut up) = rest.split_at_mut(len);
            if let Some((saved_gate, saved_up)) = &saved {
                let own = slots.start * hidden..slots.end * hidden;
                // SAFETY: slots of different tasks differ.
                (gate, up) = unsafe { (saved_gate.slice(own.clone()), saved_up.slice(own)) };
            }
            let targets = [
                Target { rhs: group.gate, out: gate.as_mut_ptr(), stride: hidden },
                Target { rhs: group.up, out: up.as_mut_ptr(), stride: hidden },
            ];
            // SAFETY: both targets hold the block's rows, and are this task's.
            unsafe { multiply_rows(&x.of(slots.clone()), &targets, Write::Set) };
            // Rounded at once where the next product would round it.
            activate(gate, up, group.down.format == Format::RoundedF32, active);
            let n_rows = slots.len();
            let left =
                LeftRows { data: active, width: hidden, listed: None, n_rows, rounded: true };
            // SAFETY: the slots of a task are its own, in `out` too.
            unsafe {
                let out = out.slice(slots.start * n_out..slots.end * n_out).as_mut_ptr();
                let target = Target { rhs: group.down, out, stride: n_out };
                multiply_rows(&left, &[target], Write::Set);
            }
        });
    });
}

/// [`forward`] for few rows: one product after the other, each cut by columns as well, so that there is
/// work for all threads. `scratch` holds three times [S, F].
pub(super) fn few_rows(groups: &[Group], x: SlotRows, scratch: &mut [f32], out: &mut [f32]) {
    let len = scratch.len() / 3;
    let (gate_up, active) = scratch.split_at_mut(2 * len);
    let hidden = groups[0].gate.n;
    let busy = || groups.iter().filter(|group| !group.slots.is_empty());
    let mut products = Vec::with_capacity(2 * busy().count());
    for group in busy() {
        for (rhs, start) in [(group.gate, 0), (group.up, len)] {
            let rows = x.of(group.slots.clone());
            products.push(product(&rows, rhs, start + group.slots.start * hidden));
        }
    }
    run_products(&products, gate_up, Write::Set);
    let (gate, up) = gate_up.split_at(len);
    swiglu::forward(gate, up, active);
    products.clear();
    for group in busy() {
        let rows = SlotRows { data: active, width: hidden, rows: None };
        let rows = rows.of(group.slots.clone());
        products.push(product(&rows, group.down, group.slots.start * group.down.n));
    }
    run_products(&products, out, Write::Set);
}

fn product<'a>(rows: &LeftRows<'a>, rhs: &'a Packed, out_start: usize) -> ListedProduct<'a> {
    let LeftRows { data, width, listed, n_rows, rounded } = *rows;
    let (lhs, k_range) = (Lhs::rows(data, width), 0..width);
    let product = Product { lhs, m: n_rows, rhs, k_range, out_start };
    ListedProduct { product, listed, rounded }
}

per_isa! {
    /// [`crate::swiglu::forward`], rounded to bf16 if asked.
    fn activate(gate: &[f32], up: &[f32], rounded: bool, out: &mut [f32]) {
        let n = out.len().min(gate.len()).min(up.len());
        let (gate, up, out) = (&gate[..n], &up[..n], &mut out[..n]);
        if rounded {
            for i in 0..n {
                out[i] = round_bf16(gate[i] * sigmoid(gate[i]) * up[i]);
            }
        } else {
            for i in 0..n {
                out[i] = gate[i] * sigmoid(gate[i]) * up[i];
            }
        }
    }
}
