//! The running softmax of a list of queries: largest score, sum of exponentials, weighted sum of
//! values; how the states of two parts of the keys become one, and what remains at the end.
//!
//! Source: FlashAttention, arXiv:2205.14135, section 3.1.

use super::lanes::{Lanes, Lines};
use super::tile::{Dims, exp_f32_on, per_isa};
use crate::cpu::Isa;

/// State of `n` queries, to be carried from block to block.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// Largest score so far, [n]
    pub(super) max: *mut f32,
    /// Sum of exponentials, spread over sixteen lanes, [n, 16]
    pub(super) sum: *mut f32,
    /// Weighted sum of values, [n, v_pad]
    pub(super) acc: *mut f32,
}

impl Running {
    /// Numbers in the state of `n` queries.
    pub(super) fn len(n: usize, v_pad: usize) -> usize {
        n.next_multiple_of(16) + n * 16 + n * v_pad
    }

    /// The state of `n` queries in `memory`, of [`Running::len`] numbers.
    pub(super) fn within(memory: &mut [f32], n: usize, v_pad: usize) -> Self {
        let (max, rest) = memory.split_at_mut(n.next_multiple_of(16));
        let (sum, acc) = rest.split_at_mut(n * 16);
        assert!(acc.len() >= n * v_pad, "memory for {n} queries");
        Running { max: max.as_mut_ptr(), sum: sum.as_mut_ptr(), acc: acc.as_mut_ptr() }
    }

    /// Sets the state of `n` queries before the first key.
    ///
    /// # Safety
    /// There must be that many.
    pub(super) unsafe fn begin(self, n: usize, v_pad: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            std::slice::from_raw_parts_mut(self.max, n).fill(f32::NEG_INFINITY);
            std::slice::from_raw_parts_mut(self.sum, n * 16).fill(0.0);
            std::slice::from_raw_parts_mut(self.acc, n * v_pad).fill(0.0);
        }
    }

    /// The state of the queries from number `at` on.
    ///
    /// # Safety
    /// There must be that many.
    pub(super) unsafe fn from(self, at: usize, v_pad: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Running {
                max: self.max.add(at),
                sum: self.sum.add(at * 16),
                acc: self.acc.add(at * v_pad),
            }
        }
    }
}

/// Memory for the state of a list of queries over all keys, and over one part of them.
#[derive(Default)]
pub(super) struct Softmax {
    total: Lines,
    part: Lines,
}

impl Softmax {
    /// Room for both states of `n` queries.
    pub(super) fn states(&mut self, n: usize, v_pad: usize) -> [Running; 2] {
        let len = Running::len(n, v_pad);
        [&mut self.total, &mut self.part].map(|lines| Running::within(lines.room(len), n, v_pad))
    }
}

per_isa! {
    /// Takes the state of one query over a part of the keys into its state over the keys before.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn merge_row = merge_row_on(v_pad: usize, total: Running, part: Running)
}

per_isa! {
    /// Ends the running softmax of the first query of `state`: writes its output, [v_dim], and the
    /// log of its sum of exponentials.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn finish_row = finish_row_on(dims: &Dims, state: Running, out: &mut [f32], lse: &mut f32)
}

#[inline(always)]
unsafe fn merge_row_on<V: Lanes>(v_pad: usize, total: Running, part: Running) {
    // SAFETY: the caller's promise.
    unsafe {
        let (old, other) = (*total.max, *part.max);
        let new = if other > old { other } else { old };
        *total.max = new;
        let (kept, added) = (exp_f32_on::<V>(old - new), exp_f32_on::<V>(other - new));
        merge_lanes::<V>((kept, added), total.sum, part.sum);
        for at in (0..v_pad).step_by(16) {
            merge_lanes::<V>((kept, added), total.acc.add(at), part.acc.add(at));
        }
    }
}

#[inline(always)]
unsafe fn merge_lanes<V: Lanes>((kept, added): (f32, f32), total: *mut f32, part: *const f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let kept = V::load(total).mul(V::splat(kept));
        V::load(part).mul_add(V::splat(added), kept).store(total);
    }
}

#[inline(always)]
unsafe fn finish_row_on<V: Lanes>(dims: &Dims, state: Running, out: &mut [f32], lse: &mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = V::load(state.sum).sum();
        *lse = *state.max + sum.ln();
        let inverse = 1.0 / sum;
        let acc = std::slice::from_raw_parts(state.acc, dims.v_dim);
        for i in 0..out.len() {
            out[i] = acc[i] * inverse;
        }
    }
}
