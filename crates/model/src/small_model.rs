//! Small models, whose weights come from the caches: there the way in which matrices lie counts, not their bytes.

use crate::model::Model;
use fathom_kernels::quant::Format;
use fathom_tensor::Weight;

/// Models that take more bytes in f32 stay as they are stored: they are read from memory, at the same speed in
/// both forms, and are there at once.
const MOST_BYTES: usize = 32 << 20;

impl Model {
    /// Has f32 matrices of a small model packed by [`Model::pack_for_cache`], as those of a training are: a token
    /// then takes four fifths of the time, and a pass over a few rows hardly more than over one. Sums run in
    /// another order than those of stored matrices. Does nothing to a large model, or one that is read on demand.
    pub fn pack_small(&mut self) {
        if 4 * self.n_parameters() > MOST_BYTES || self.residency.is_some() {
            return;
        }
        for weight in &mut self.weights {
            if weight.as_stored().is_some_and(|matrix| matrix.format == Format::F32) {
                let values = weight.widened().into_owned();
                *weight = Weight::new(&*weight.name, &weight.shape, weight.slot, values);
            }
        }
        self.precision = None;
    }
}
