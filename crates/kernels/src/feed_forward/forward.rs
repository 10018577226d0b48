//! The forward pass of a batch of gated blocks.

use super::{Group, SlotRows, check_slots, tasks, with_scratch};
use crate::matmul::{LeftRows, Target, Write, multiply_rows};
use crate::swiglu::forward_part;
use crate::threads::{Shards, run};

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
    let saved = saved.map(|saved| {
        assert!(
            saved.gate.len() == n_slots * hidden && saved.up.len() == n_slots * hidden,
            "{n_slots} slots of {hidden}"
        );
        (Shards::new(saved.gate), Shards::new(saved.up))
    });
    let tasks = tasks(groups.iter().map(|g| g.slots.clone()));
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
            forward_part(gate, up, active);
            let left = LeftRows { data: active, width: hidden, listed: None, n_rows: slots.len() };
            // SAFETY: the slots of a task are its own, in `out` too.
            unsafe {
                let out = out.slice(slots.start * n_out..slots.end * n_out).as_mut_ptr();
                let target = Target { rhs: group.down, out, stride: n_out };
                multiply_rows(&left, &[target], Write::Set);
            }
        });
    });
}
