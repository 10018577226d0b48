//! Layers that run twice: what they compute on the way is not kept for the backward pass but computed again there
//! (T. Chen et al. 2016, arXiv:1604.06174). Memory of one layer at a time for a third more arithmetic.

use crate::tape::Tape;
use crate::tensor::Tensor;

impl<'w> Tape<'w> {
    /// Runs a layer on `x`; `forward` also returns what else is to be known of the run.
    ///
    /// On a tape that is recomputing, only `x` is kept. The backward pass runs `forward` again, on a tape of its
    /// own. Kernels give the same bits each time, so gradients have the bits that they have without;
    /// `forward` must do the same both times, and use no recorded tensor but the one it is given.
    pub fn layer<T>(
        &self,
        x: Tensor,
        forward: impl Fn(&Tape<'w>, Tensor) -> (Tensor, T) + 'w,
    ) -> (Tensor, T) {
        if !self.is_recomputing() {
            return forward(self, x);
        }
        let aside = Tape::forgetting();
        let (y, told) = forward(&aside, x.detached());
        self.add_auxiliary_loss(aside.auxiliary_loss());
        let shape = y.shape().to_vec();
        let y = self.output(y.into_buffer(), &shape, |node| {
            move |backward| {
                let Some(dy) = backward.take(node) else { return };
                let tape = Tape::recording();
                let leaf = tape.leaf_of(x.detached());
                let leaf_node = leaf.node;
                let again = forward(&tape, leaf).0.node;
                let seeds = std::iter::once((again, dy));
                let mut left = tape.backward_shared(seeds, backward.gradients);
                if let Some(dx) = left.take(leaf_node) {
                    backward.give(x.node, dx);
                }
            }
        });
        (y, told)
    }
}
