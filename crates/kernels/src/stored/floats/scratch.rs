//! Memory of a thread that starts on a cache line and is used again and again.

use std::cell::RefCell;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Room for f32 numbers, left as the last user left it.
#[derive(Default)]
pub(super) struct Scratch {
    lines: Vec<Line>,
}

impl Scratch {
    /// Room for `n` numbers.
    pub(super) fn room(&mut self, n: usize) -> &mut [f32] {
        if self.lines.len() < n.div_ceil(16) {
            self.lines.resize(n.div_ceil(16), Line([0.0; 16]));
        }
        // SAFETY: lines are 16 floats each, without padding, and there are enough.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), n) }
    }

    /// The first `n` numbers.
    pub(super) fn get(&self, n: usize) -> &[f32] {
        assert!(n <= 16 * self.lines.len(), "{n} of {}", 16 * self.lines.len());
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), n) }
    }
}

thread_local! {
    static WEIGHTS: RefCell<Scratch> = RefCell::default();
    static INPUTS: RefCell<Scratch> = RefCell::default();
}

/// Runs `body` with room for `n` numbers of widened weights.
pub(super) fn with_weights(n: usize, body: impl FnOnce(&mut [f32])) {
    WEIGHTS.with_borrow_mut(|scratch| body(scratch.room(n)));
}

/// The memory for inputs of this thread; whoever takes it gives it back.
pub(super) fn take_inputs() -> Scratch {
    INPUTS.take()
}

/// See [`take_inputs`].
pub(super) fn give_inputs(scratch: Scratch) {
    INPUTS.replace(scratch);
}
