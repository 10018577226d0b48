//! Gradients of all weights of a model, in one run of memory.

use fathom_kernels::elementwise;
use fathom_kernels::matmul::Write;
use std::ops::Range;

/// One slot per weight, laid end to end, so that grouped products write many slots in one loop.
///
/// A slot that nothing was written to since [`Gradients::clear`] is replaced by the first write,
/// not added to: no pass over memory is spent on zeros.
pub struct Gradients {
    data: Vec<f32>,
    starts: Vec<usize>,
    written: Vec<bool>,
}

impl Gradients {
    /// Slots of the given sizes, all zero.
    pub fn new(sizes: &[usize]) -> Self {
        let mut starts = Vec::with_capacity(sizes.len() + 1);
        starts.push(0);
        for size in sizes {
            starts.push(starts[starts.len() - 1] + size);
        }
        let total = starts[starts.len() - 1];
        Gradients { data: vec![0.0; total], starts, written: vec![false; sizes.len()] }
    }

    /// Forgets all gradients.
    pub fn clear(&mut self) {
        self.written.fill(false);
    }

    /// Gradient of slot `slot`; zeros if nothing was written.
    pub fn slot(&mut self, slot: usize) -> &[f32] {
        let range = self.range(slot);
        if !self.written[slot] {
            elementwise::fill(&mut self.data[range.clone()], 0.0);
            self.written[slot] = true;
        }
        &self.data[range]
    }

    /// All slots end to end, unwritten ones zeroed.
    pub fn all(&mut self) -> &mut [f32] {
        for slot in 0..self.written.len() {
            self.slot(slot);
        }
        &mut self.data
    }

    /// Where slot `slot` lies in the run.
    pub fn range(&self, slot: usize) -> Range<usize> {
        self.starts[slot]..self.starts[slot + 1]
    }

    /// Whether anything was written to a slot since [`Gradients::clear`].
    pub fn is_written(&self, slot: usize) -> bool {
        self.written[slot]
    }

    /// Number of slots.
    pub fn n_slots(&self) -> usize {
        self.written.len()
    }

    /// Adds `values` to slot `slot`, or copies them if nothing was written.
    pub(crate) fn add(&mut self, slot: usize, values: &[f32]) {
        let range = self.range(slot);
        let written = std::mem::replace(&mut self.written[slot], true);
        if written {
            elementwise::add_assign(&mut self.data[range], values);
        } else {
            elementwise::copy(values, &mut self.data[range]);
        }
    }

    /// A slot to add to, zeroed first if nothing was written.
    pub(crate) fn adding(&mut self, slot: usize) -> &mut [f32] {
        self.slot(slot);
        let range = self.range(slot);
        &mut self.data[range]
    }

    /// The run for a batch of products that write `slots`, and how they must write.
    pub(crate) fn writing(
        &mut self,
        slots: impl Iterator<Item = usize> + Clone,
    ) -> (&mut [f32], Write) {
        if slots.clone().all(|slot| !self.written[slot]) {
            slots.for_each(|slot| self.written[slot] = true);
            return (&mut self.data, Write::Set);
        }
        slots.for_each(|slot| _ = self.slot(slot));
        (&mut self.data, Write::Add)
    }
}
