//! Which weights of a model larger than memory stay in it.
//!
//! Files are mapped, so a weight that is not in memory is read when it is touched; here it is decided
//! what is read ahead and what is given up. Layers (attention, norms, dense and shared blocks,
//! routers) are held as far as they fit, first ones first; the others are read for every pass. Routed
//! experts share what is left: those the router has just chosen are read ahead, those not chosen for
//! longest are given up.

use crate::error::Error;
use crate::layer::{FeedForward, Mlp};
use crate::model::Model;
use fathom_kernels::stored::SharedBytes;
use fathom_tensor::Weight;
use fathom_tensor::op::ExpertMemory;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The part of the limit that experts get at least, unless all of them take less.
const EXPERT_SHARE: f64 = 0.25;

/// The memory of a model's weights.
pub(crate) struct Residency {
    layers: Vec<Layer>,
    /// Bytes that experts may hold together.
    room: u64,
    held: Mutex<Held>,
}

struct Layer {
    /// Everything but routed experts.
    fixed: Vec<SharedBytes>,
    /// Whether that stays in memory.
    pinned: bool,
    /// Matrices of each routed expert.
    experts: Vec<Vec<SharedBytes>>,
}

/// Experts in memory, by layer and number.
#[derive(Default)]
struct Held {
    /// When each was chosen last.
    turns: BTreeMap<(usize, usize), u64>,
    /// The same the other way round.
    by_turn: BTreeMap<u64, (usize, usize)>,
    turn: u64,
    bytes: u64,
}

impl Residency {
    /// Plans for `limit` bytes of weights.
    ///
    /// Errors: `Memory` if the limit is less than what a layer needs at once.
    pub(crate) fn new(model: &Model, limit: u64) -> Result<Residency, Error> {
        let mut layers = layers_of(model);
        let always: u64 =
            [model.head, model.norm].iter().map(|at| bytes(&model.weights[*at])).sum();
        let experts = layers.iter().flat_map(|l| &l.experts);
        let expert_bytes = experts.clone().map(|e| total(e)).sum::<u64>();
        let largest_expert = experts.map(|e| total(e)).max().unwrap_or(0);
        let largest_layer = layers.iter().map(|l| total(&l.fixed)).max().unwrap_or(0);
        // Two experts: one at work, one being read.
        let needed = always + largest_layer + 2 * largest_expert;
        if limit < needed {
            return Err(Error::Memory { found_bytes: limit, needed_bytes: needed });
        }
        let share =
            ((limit as f64 * EXPERT_SHARE) as u64).min(expert_bytes).max(2 * largest_expert);
        let mut left = limit - always - largest_layer;
        for layer in &mut layers {
            let size = total(&layer.fixed);
            layer.pinned = size + share <= left;
            if layer.pinned {
                left -= size;
            }
        }
        Ok(Residency { layers, room: left, held: Mutex::default() })
    }

    /// Asks for the weights of a layer before it runs.
    pub(crate) fn enter_layer(&self, layer_idx: usize) {
        let layer = &self.layers[layer_idx];
        if !layer.pinned {
            layer.fixed.iter().for_each(SharedBytes::will_need);
        }
    }

    /// Gives them up afterwards, unless they stay.
    pub(crate) fn leave_layer(&self, layer_idx: usize) {
        let layer = &self.layers[layer_idx];
        if !layer.pinned {
            layer.fixed.iter().for_each(SharedBytes::release);
        }
    }

    /// The experts of a layer, for the operation that runs them.
    pub(crate) fn experts_of(&self, layer_idx: usize) -> LayerExperts<'_> {
        LayerExperts { residency: self, layer_idx }
    }
}

/// The routed experts of one layer.
pub(crate) struct LayerExperts<'a> {
    residency: &'a Residency,
    layer_idx: usize,
}

impl ExpertMemory for LayerExperts<'_> {
    fn n_at_once(&self) -> usize {
        let of_layer = &self.residency.layers[self.layer_idx].experts;
        let largest = of_layer.iter().map(|e| total(e)).max().unwrap_or(1).max(1);
        // Half for those at work, half for those being read.
        ((self.residency.room / 2 / largest) as usize).max(1)
    }

    fn enter(&self, experts: &[usize]) {
        let Residency { layers, room, held } = self.residency;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        for &expert in experts {
            if held.touch((self.layer_idx, expert)) {
                let matrices = &layers[self.layer_idx].experts[expert];
                matrices.iter().for_each(SharedBytes::will_need);
                held.bytes += total(matrices);
            }
        }
        while held.bytes > *room
            && let Some((&turn, &(layer, expert))) = held.by_turn.first_key_value()
            && !(layer == self.layer_idx && experts.contains(&expert))
        {
            let matrices = &layers[layer].experts[expert];
            matrices.iter().for_each(SharedBytes::release);
            held.bytes -= total(matrices);
            held.by_turn.remove(&turn);
            held.turns.remove(&(layer, expert));
        }
    }
}

impl Held {
    /// Notes that an expert was chosen; returns whether it was not in memory.
    fn touch(&mut self, expert: (usize, usize)) -> bool {
        self.turn += 1;
        let before = self.turns.insert(expert, self.turn);
        if let Some(turn) = before {
            self.by_turn.remove(&turn);
        }
        self.by_turn.insert(self.turn, expert);
        before.is_none()
    }
}

fn layers_of(model: &Model) -> Vec<Layer> {
    let blocks = model.layers.iter().chain(model.mtp.iter().map(|mtp| &mtp.block));
    let mut layers: Vec<Layer> = blocks
        .map(|block| {
            let experts = match &block.feed_forward {
                FeedForward::Dense(_) => Vec::new(),
                FeedForward::Moe(moe) => moe.experts.iter().map(|e| of_expert(model, e)).collect(),
            };
            Layer { fixed: Vec::new(), pinned: false, experts }
        })
        .collect();
    for (weight, spec) in model.weights.iter().zip(&model.specs) {
        if let (Some(layer), None, Some(matrix)) = (spec.layer, spec.expert, weight.as_stored()) {
            layers[layer].fixed.push(matrix.bytes().clone());
        }
    }
    layers
}

fn of_expert(model: &Model, expert: &Mlp) -> Vec<SharedBytes> {
    [expert.gate_proj, expert.up_proj, expert.down_proj]
        .iter()
        .filter_map(|at| model.weights[*at].as_stored())
        .map(|matrix| matrix.bytes().clone())
        .collect()
}

fn bytes(weight: &Weight) -> u64 {
    weight.as_stored().map_or(4 * weight.n_elements(), |matrix| matrix.bytes().len()) as u64
}

fn total(parts: &[SharedBytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}
