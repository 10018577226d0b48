//! The optimizer over all weights of a model: AdamW, one clipping norm, moments in f32 or bf16.
//!
//! Norms, biases and embeddings-like vectors do not decay; the correction bias of a router gets no
//! gradient at all (DeepSeek-V3, arXiv:2412.19437, section 2.1.2).

use crate::error::Error;
use crate::recipe::{Moments, Optimizer as Settings};
use fathom_checkpoint::{Dtype, SafeTensors, TensorSource};
use fathom_kernels::adamw::{self, AdamW};
use fathom_model::Model;
use fathom_model::names::Role;
use fathom_tensor::Gradients;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Moments of all weights, end to end in the order of the weights.
enum State {
    F32([Vec<f32>; 2]),
    Bf16([Vec<u16>; 2]),
}

/// AdamW over a model.
pub struct Optimizer {
    settings: Settings,
    state: State,
    sizes: Vec<usize>,
    roles: Vec<Role>,
    updates: u64,
}

impl Optimizer {
    /// A fresh optimizer for `model`.
    pub fn new(model: &Model, settings: &Settings) -> Self {
        let sizes = model.weights().iter().map(|w| w.n_elements()).collect();
        Optimizer::of_sizes(model, sizes, settings)
    }

    /// As [`Optimizer::new`], for some weights: `sizes` has the elements of each, 0 for one that is not
    /// to be learnt. The gradients must have slots of the same sizes.
    pub(crate) fn of_sizes(model: &Model, sizes: Vec<usize>, settings: &Settings) -> Self {
        let total: usize = sizes.iter().sum();
        Optimizer {
            settings: settings.clone(),
            state: match settings.moments {
                Moments::F32 => State::F32([vec![0.0; total], vec![0.0; total]]),
                Moments::Bf16 => State::Bf16([vec![0; total], vec![0; total]]),
            },
            sizes,
            roles: model.specs().iter().map(|s| s.role).collect(),
            updates: 0,
        }
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// One update; returns the global norm of the gradient before clipping.
    /// The model must be packed again afterwards.
    pub fn update(
        &mut self,
        model: &mut Model,
        gradients: &mut Gradients,
        learning_rate: f64,
    ) -> f64 {
        self.updates += 1;
        // A weight that took no part (the MTP module outside pre-training, all others where the
        // module follows) stays as it is: no decay.
        let used: Vec<bool> =
            (0..self.sizes.len()).map(|slot| gradients.is_written(slot)).collect();
        let all = gradients.all();
        let norm = adamw::global_norm(&[all]);
        let limit = self.settings.grad_clip;
        let rule = AdamW {
            lr: learning_rate as f32,
            beta1: self.settings.beta1 as f32,
            beta2: self.settings.beta2 as f32,
            eps: self.settings.eps as f32,
            weight_decay: self.settings.weight_decay as f32,
            step: self.updates,
            grad_scale: if limit > 0.0 { adamw::clip_factor(norm, limit) } else { 1.0 },
        };
        let mut moments = self.state.split(&self.sizes);
        let mut at = 0;
        let mut tensors = Vec::with_capacity(self.sizes.len());
        for (slot, ((weight, role), size)) in
            model.weights_mut().iter_mut().zip(&self.roles).zip(&self.sizes).enumerate()
        {
            let (grad, moments) = (&all[at..at + size], moments.next());
            at += size;
            let Some(moments) = moments else { break };
            if used[slot] && *role != Role::RouterBias {
                let decay = !matches!(role, Role::Norm | Role::Bias);
                tensors.push(adamw::Tensor { param: weight.values_mut(), grad, moments, decay });
            }
        }
        rule.update(&mut tensors);
        norm
    }

    /// Writes the moments and the number of updates.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let total: usize = self.sizes.iter().sum();
        let tensor = |name: &str, which: usize| match &self.state {
            State::F32(moments) => TensorSource::from_f32(
                name,
                Dtype::F32,
                &[total],
                Cow::Borrowed(&moments[which][..]),
            ),
            State::Bf16(moments) => {
                let bytes: Vec<u8> =
                    moments[which].iter().flat_map(|bits| bits.to_le_bytes()).collect();
                TensorSource::from_bytes(name, Dtype::BF16, &[total], bytes)
            }
        };
        let metadata = BTreeMap::from([("updates".to_string(), self.updates.to_string())]);
        let tensors = vec![tensor("first_moment", 0), tensor("second_moment", 1)];
        Ok(fathom_checkpoint::write(path, &tensors, &metadata)?)
    }

    /// Reads what [`Optimizer::save`] wrote into an optimizer of the same model and settings.
    pub fn load(&mut self, path: &Path) -> Result<(), Error> {
        let damaged =
            |found: String, expected| Error::Damaged { path: path.into(), found, expected };
        let file = SafeTensors::open(path)?;
        let total: usize = self.sizes.iter().sum();
        for (which, name) in ["first_moment", "second_moment"].into_iter().enumerate() {
            let view = file.tensor(name)?;
            view.expect_shape(&[total])?;
            match &mut self.state {
                State::F32(moments) => moments[which] = view.to_f32()?,
                State::Bf16(moments) => moments[which] = view.to_bf16_bits()?,
            }
        }
        let updates = file.metadata().get("updates").cloned().unwrap_or_default();
        self.updates = updates
            .parse()
            .map_err(|_| damaged(format!("`updates` = `{updates}`"), "a number of updates"))?;
        Ok(())
    }
}

impl State {
    /// The moments of each weight in order.
    fn split<'s>(
        &'s mut self,
        sizes: &'s [usize],
    ) -> Box<dyn Iterator<Item = adamw::Moments<'s>> + 's> {
        match self {
            State::F32([first, second]) => {
                let (mut first, mut second) = (&mut first[..], &mut second[..]);
                Box::new(sizes.iter().map(move |size| {
                    let (a, rest_a) = std::mem::take(&mut first).split_at_mut(*size);
                    let (b, rest_b) = std::mem::take(&mut second).split_at_mut(*size);
                    (first, second) = (rest_a, rest_b);
                    adamw::Moments::F32 { first: a, second: b }
                }))
            }
            State::Bf16([first, second]) => {
                let (mut first, mut second) = (&mut first[..], &mut second[..]);
                Box::new(sizes.iter().map(move |size| {
                    let (a, rest_a) = std::mem::take(&mut first).split_at_mut(*size);
                    let (b, rest_b) = std::mem::take(&mut second).split_at_mut(*size);
                    (first, second) = (rest_a, rest_b);
                    adamw::Moments::Bf16 { first: a, second: b }
                }))
            }
        }
    }
}
