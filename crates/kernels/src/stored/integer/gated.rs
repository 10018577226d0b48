//! The first half of a gated feed-forward block in integers: `silu(x·gateᵀ) · (x·upᵀ)`, rounded to 8 bits
//! for the product that follows.
//!
//! A task computes the same rows of gate and up, one sweep after the other, and 32 of them are a group
//! of the result: it is activated and rounded while the sums are in cache (for few rows of x, a task first does all of its gate). Neither product is written
//! to memory, and the result takes a byte per element there. The bits are those of two products,
//! [`crate::swiglu`] and [`Rounded::new`].

use super::groups::{Places, round_gated};
use super::rounded::GROUP;
use super::{FEW, M_BLOCK, N_STEP, Rounded, SCRATCH, Scratch, Sweep, can};
use crate::stored::Matrix;
use crate::threads::{n_threads, run};
use std::ops::Range;

// A step gives one group.
const _: () = assert!(N_STEP == GROUP);

/// One block of a batch.
pub struct Gated<'a> {
    /// Holds the input.
    pub x: &'a Rounded,
    /// Its rows.
    pub xs: Range<usize>,
    /// [F, D]
    pub gate: &'a Matrix,
    /// [F, D]
    pub up: &'a Matrix,
    /// The first of as many rows of the result.
    pub to: usize,
}

/// Whether [`gated_batch`] takes these two: both have integer codes, of one shape, of rows in groups of 32.
pub fn can_gate(gate: &Matrix, up: &Matrix) -> bool {
    let shape = |matrix: &Matrix| (matrix.n_out, matrix.n_in);
    can(gate.format)
        && can(up.format)
        && shape(gate) == shape(up)
        && gate.n_out.is_multiple_of(GROUP)
}

/// `silu(x·gateᵀ) · (x·upᵀ)` of all blocks as one parallel loop; `out` [rows of all blocks, F].
///
/// Panics if a block does not fit ([`can_gate`]), or two of them have rows of the result in common.
pub fn gated_batch(blocks: &[Gated], out: &mut Rounded) {
    let mut end = 0;
    let mut tasks: Vec<(&Gated, Range<usize>)> = Vec::new();
    let mut behind: usize = blocks.iter().map(|block| block.gate.n_out).sum();
    for block in blocks {
        let Matrix { n_out, n_in, .. } = *block.gate;
        behind -= n_out;
        assert!(can_gate(block.gate, block.up), "[{n_out}, {n_in}] in groups of {GROUP}");
        assert_eq!((block.x.n_in(), out.n_in()), (n_in, n_out), "elements of a row");
        assert!(block.xs.end <= block.x.n_rows() && block.to >= end, "rows {:?}", block.xs);
        end = block.to + block.xs.len();
        tasks.extend(super::tasks(n_out, block.xs.len(), behind).map(|rows| (block, rows)));
    }
    assert!(end <= out.n_rows(), "{end} rows of {}", out.n_rows());
    let places = out.places();
    // Every thread takes tasks of a region of its own: neighbours of a row write into one line. For few
    // rows that is nothing, and the last tasks, which are small, shall be taken last.
    let n_regions = n_threads().min(tasks.len().max(1));
    let region = tasks.len().div_ceil(n_regions);
    let few = blocks.iter().all(|block| block.xs.len() <= FEW);
    run(region * n_regions, |i| {
        let i = if few { i } else { i % n_regions * region + i / n_regions };
        let Some((block, rows)) = tasks.get(i) else { return };
        // Tasks are dealt to the threads in turn, or threads go on in their regions.
        let (then, then_rows) =
            tasks.get(i + if few { n_threads() } else { 1 }).unwrap_or(&tasks[i]);
        let then = (then.gate, then_rows.start);
        SCRATCH.with_borrow_mut(|scratch| {
            // Few rows of x: memory is the limit, and likes to be read in long runs of one matrix.
            let step = if block.xs.len() <= FEW { rows.len() } else { N_STEP };
            for first in rows.clone().step_by(step) {
                let stripe = first..(first + step).min(rows.end);
                for from in block.xs.clone().step_by(M_BLOCK) {
                    let xs = from..(from + M_BLOCK).min(block.xs.end);
                    let then = if stripe.end < rows.end { (block.gate, stripe.end) } else { then };
                    // SAFETY: no other task has these rows and columns.
                    unsafe { block.stripe(scratch, xs, stripe.clone(), then, &places) };
                }
            }
        });
    });
}

impl Gated<'_> {
    /// The columns `stripe` of the result, for the rows `xs` of x; then rows of a matrix from `then` on.
    ///
    /// Safety: no one else touches these places.
    unsafe fn stripe(
        &self,
        scratch: &mut Scratch,
        xs: Range<usize>,
        stripe: Range<usize>,
        then: (&Matrix, usize),
        places: &Places,
    ) {
        let Scratch { panels, sums } = scratch;
        let n_sums = xs.len() * N_STEP;
        let steps = || stripe.clone().step_by(N_STEP);
        let matrices = [self.gate, self.up];
        for (i, sums) in sums.iter_mut().enumerate() {
            sums.resize(sums.len().max(stripe.len() * xs.len()), 0.0);
            for (first, sums) in steps().zip(sums.chunks_exact_mut(n_sums)) {
                let end = first + N_STEP;
                // Behind the last rows of gate come the first of up.
                let next = if end < stripe.end {
                    (matrices[i], end)
                } else if i == 0 {
                    (self.up, stripe.start)
                } else {
                    then
                };
                let (matrix, rows, xs) = (matrices[i], first..end, xs.clone());
                Sweep { x: self.x, xs, matrix, rows, next }.run(panels, sums);
            }
        }
        let [gate, up] = sums.each_ref().map(|sums| sums.as_chunks::<N_STEP>().0);
        let groups = gate.chunks_exact(xs.len()).zip(up.chunks_exact(xs.len()));
        for (first, (gate, up)) in steps().zip(groups) {
            let to = places.of(self.to + xs.start - self.xs.start, first);
            // SAFETY: the caller's promise.
            unsafe { round_gated(gate, up, &to) };
        }
    }
}
