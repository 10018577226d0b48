//! A lighter MTP module for drafts. What it guesses is checked by the main model, so it need not be
//! exact; it has to be quick.

use crate::model::Model;
use crate::names::Role;
use fathom_kernels::quant::Format;
use fathom_tensor::Weight;

/// Modules that take more bytes in f32 stay as they are stored: memory counts there, and matrices are
/// large enough to be read at full speed in any form.
const MOST_BYTES: usize = 64 << 20;

impl Model {
    /// Turns f32 matrices of the MTP module into bf16 packed for few rows. Does nothing to a module in another
    /// format, or a large one. Routers stay, and so does the head: it has just been read for the answer, so its
    /// bytes are near, and those of a copy would take their place.
    ///
    /// To be called after [`Model::pack_for_cache`], which undoes it for weights that are trained.
    pub fn lighten_mtp(&mut self) {
        let is_f32 = |weight: &Weight| weight.as_stored().is_none_or(|m| m.format == Format::F32);
        let of_module: Vec<usize> = (0..self.weights.len())
            .filter(|at| self.specs[*at].mtp && self.specs[*at].role != Role::Router)
            .filter(|at| self.weights[*at].shape.len() == 2)
            .collect();
        let n_elements: usize = of_module.iter().map(|at| self.weights[*at].n_elements()).sum();
        let all_f32 = of_module.iter().all(|at| is_f32(&self.weights[*at]));
        if 4 * n_elements <= MOST_BYTES && all_f32 {
            for at in of_module {
                self.weights[at] = self.weights[at].light_copy();
            }
        }
    }
}
