//! Gated feed-forward blocks over groups of rows: `down(silu(gate(x)) · up(x))`.
//!
//! A dense layer is one group of all rows; the experts of a layer are one group each, with the rows
//! that chose them. A task takes up to [`M_BLOCK`] rows of a group through all three products, so what
//! lies between them stays in cache, and the whole layer is one parallel loop. Nothing is gathered
//! beforehand: rows are picked while they are copied into the order that products read.
//!
//! Every element is the chain that separate products would form, so a row's bits do not depend on the
//! rows beside it.
//!
//! Letters: T rows of x, S slots (visits of a row to a group, ordered by group), D width, F hidden width.

mod backward;
mod forward;
#[cfg(test)]
mod tests;

pub use backward::{Gradient, GradientGroup, InputGradient, WeightGradients, backward};
pub use forward::{Saved, forward};

use crate::matmul::{GROUP_ROWS, LeftRows, M_BLOCK, Packed};
use crate::threads::n_threads;
use std::cell::RefCell;
use std::ops::Range;

/// One block of weights and the slots that go through it.
pub struct Group<'a> {
    /// Its slots; groups are in order and leave none out.
    pub slots: Range<usize>,
    /// Right operand of `x · gateᵀ`, [D, F].
    pub gate: &'a Packed,
    /// Right operand of `x · upᵀ`, [D, F].
    pub up: &'a Packed,
    /// Right operand of `active · downᵀ`, [F, D].
    pub down: &'a Packed,
}

/// The rows that slots stand for.
#[derive(Clone, Copy)]
pub struct SlotRows<'a> {
    /// [T, D]
    pub data: &'a [f32],
    /// D
    pub width: usize,
    /// Row of each slot, ascending within a group; none: slot `s` is row `s`.
    pub rows: Option<&'a [u32]>,
}

impl<'a> SlotRows<'a> {
    /// The rows of some slots, as the left operand of products.
    fn of(&self, slots: Range<usize>) -> LeftRows<'a> {
        let (n_rows, width) = (slots.len(), self.width);
        match self.rows {
            Some(rows) => {
                let listed = Some(&rows[slots]);
                LeftRows { data: self.data, width, listed, n_rows, rounded: false }
            }
            None => {
                let data = &self.data[slots.start * width..slots.end * width];
                LeftRows { data, width, listed: None, n_rows, rounded: false }
            }
        }
    }

    /// Number of slots. Panics if a row is outside the matrix.
    fn n_slots(&self) -> usize {
        let n = self.data.len() / self.width;
        assert_eq!(self.data.len(), n * self.width, "rows of {}", self.width);
        if let Some(rows) = self.rows {
            assert!(rows.iter().all(|row| (*row as usize) < n), "slots of {n} rows");
        }
        self.rows.map_or(n, <[u32]>::len)
    }
}

/// One task: slots of one group.
struct Task {
    group: usize,
    slots: Range<usize>,
}

/// Cuts groups into blocks of rows: whole ones, or smaller ones where those would leave threads idle.
fn tasks(slots: impl Iterator<Item = Range<usize>>, n_slots: usize) -> Vec<Task> {
    let even = n_slots.div_ceil(4 * n_threads()).next_multiple_of(GROUP_ROWS);
    let block = if n_threads() == 1 { M_BLOCK } else { even.clamp(GROUP_ROWS, M_BLOCK) };
    let mut tasks = Vec::new();
    for (group, slots) in slots.enumerate() {
        for start in slots.clone().step_by(block) {
            tasks.push(Task { group, slots: start..(start + block).min(slots.end) });
        }
    }
    tasks
}

/// Panics unless groups cover the slots in order.
fn check_slots(slots: impl Iterator<Item = Range<usize>>, n: usize) {
    let mut end = 0;
    for slots in slots {
        assert!(slots.start == end && slots.end >= end, "groups in order: {slots:?} after {end}");
        end = slots.end;
    }
    assert_eq!(end, n, "groups cover all slots");
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with `len` elements of this thread's memory, of unspecified content.
fn with_scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        body(&mut scratch[..len])
    })
}
