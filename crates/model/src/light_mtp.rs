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
    /// Turns f32 matrices of the MTP module, and a copy of the head that only drafts use, into bf16 packed
    /// for few rows. Does nothing to a module in another format, or a large one. Routers stay.
    ///
    /// To be called after [`Model::pack_for_cache`], which undoes it for weights that are trained.
    pub fn lighten_mtp(&mut self) {
        let is_f32 = |weight: &Weight| weight.as_stored().is_none_or(|m| m.format == Format::F32);
        let of_module: Vec<usize> = (0..self.weights.len())
            .filter(|at| self.specs[*at].mtp && self.specs[*at].role != Role::Router)
            .filter(|at| self.weights[*at].shape.len() == 2)
            .collect();
        let matrices = || of_module.iter().copied().chain([self.head]);
        let n_elements: usize = matrices().map(|at| self.weights[at].n_elements()).sum();
        let fits = 4 * n_elements <= MOST_BYTES && matrices().all(|at| is_f32(&self.weights[at]));
        if !fits || of_module.is_empty() {
            return;
        }
        self.draft_head = Some(self.weights[self.head].light_copy());
        for at in of_module {
            self.weights[at] = self.weights[at].light_copy();
        }
    }

    /// The head that turns the module's hidden states into guesses, [V, D].
    pub fn draft_head(&self) -> &Weight {
        self.draft_head.as_ref().unwrap_or(self.head())
    }
}
