//! The tape: what each recorded operation must do backwards, and the gradients on their way.

use crate::buffer::Buffer;
use crate::device::Device;
use crate::gradients::Gradients;
use crate::tensor::{NO_NODE, Tensor};
use fathom_kernels::elementwise;
use fathom_kernels::matmul::Write;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

type Step<'w> = Box<dyn FnOnce(&mut Backward) + 'w>;

/// Records operations, or not. Lives for one forward pass over weights borrowed for `'w`.
pub struct Tape<'w> {
    /// One entry per tensor made; operations with several outputs hang on their first.
    steps: RefCell<Vec<Option<Step<'w>>>>,
    recording: bool,
    /// Whether [`Tape::layer`] keeps what a layer was given, and nothing of what it did.
    recomputing: bool,
    device: Device,
    auxiliary_loss: Cell<f64>,
}

impl<'w> Tape<'w> {
    /// A tape that records for [`Tape::backward`].
    pub fn recording() -> Self {
        Tape {
            steps: RefCell::default(),
            recording: true,
            recomputing: false,
            device: Device::Cpu,
            auxiliary_loss: Cell::new(0.0),
        }
    }

    /// A tape that records of a layer only what it was given ([`Tape::layer`]).
    pub fn recomputing() -> Self {
        Tape { recomputing: true, ..Tape::recording() }
    }

    /// A tape that forgets: nothing is saved, memory is reused at once.
    pub fn forgetting() -> Self {
        Tape { recording: false, ..Tape::recording() }
    }

    /// Whether a backward pass will follow.
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// Whether layers run again in the backward pass.
    pub fn is_recomputing(&self) -> bool {
        self.recomputing
    }

    /// Where operations run.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Sum of the auxiliary losses that operations added (balance losses).
    pub fn auxiliary_loss(&self) -> f64 {
        self.auxiliary_loss.get()
    }

    pub(crate) fn add_auxiliary_loss(&self, loss: f64) {
        self.auxiliary_loss.set(self.auxiliary_loss.get() + loss);
    }

    /// An operation's only output; `step` is made only if the tape records.
    pub(crate) fn output<F>(
        &self,
        data: Buffer,
        shape: &[usize],
        step: impl FnOnce(u32) -> F,
    ) -> Tensor
    where
        F: FnOnce(&mut Backward) + 'w,
    {
        if !self.recording {
            return Tensor::new(data, shape);
        }
        let node = self.next_node();
        let step: Step<'w> = Box::new(step(node));
        self.steps.borrow_mut().push(Some(step));
        Tensor::with_node(data, shape, node)
    }

    /// As [`Tape::output`], for a step that reads the output itself: it gets it without a copy.
    pub(crate) fn output_kept<F>(
        &self,
        data: Buffer,
        shape: &[usize],
        step: impl FnOnce(u32, Tensor) -> F,
    ) -> Tensor
    where
        F: FnOnce(&mut Backward) + 'w,
    {
        if !self.recording {
            return Tensor::new(data, shape);
        }
        let node = self.next_node();
        let tensor = Tensor::with_node(data, shape, node);
        let step: Step<'w> = Box::new(step(node, tensor.clone()));
        self.steps.borrow_mut().push(Some(step));
        tensor
    }

    /// Several outputs of one operation; `step` gets their nodes.
    pub(crate) fn outputs<F, const K: usize>(
        &self,
        parts: [(Buffer, &[usize]); K],
        step: impl FnOnce([u32; K]) -> F,
    ) -> [Tensor; K]
    where
        F: FnOnce(&mut Backward) + 'w,
    {
        if !self.recording {
            return parts.map(|(data, shape)| Tensor::new(data, shape));
        }
        let first = self.next_node();
        let step: Step<'w> = Box::new(step(std::array::from_fn(|i| first + i as u32)));
        // Steps run from last to first, so the first output's step sees the gradients of all.
        let mut steps = self.steps.borrow_mut();
        steps.push(Some(step));
        steps.extend((1..K).map(|_| None));
        let mut node = first;
        parts.map(|(data, shape)| {
            let tensor = Tensor::with_node(data, shape, node);
            node += 1;
            tensor
        })
    }

    /// An input whose gradient is wanted: a leaf for tests.
    pub fn leaf(&self, data: Buffer, shape: &[usize]) -> Tensor {
        self.leaf_of(Tensor::new(data, shape))
    }

    /// A tensor of another tape as a leaf of this one.
    pub(crate) fn leaf_of(&self, mut tensor: Tensor) -> Tensor {
        tensor.node = self.next_node();
        self.steps.borrow_mut().push(None);
        tensor
    }

    fn next_node(&self) -> u32 {
        u32::try_from(self.steps.borrow().len()).expect("a pass records far fewer than 2^32 steps")
    }

    /// Runs all steps from last to first. Losses recorded on the tape start their own gradients.
    pub fn backward(self, gradients: &mut Gradients) {
        self.backward_from(&[], gradients);
    }

    /// As [`Tape::backward`], with gradients `seeds` of some tensors given.
    /// Returns what is left: the gradients of leaves, by node.
    pub fn backward_from(
        self,
        seeds: &[(&Tensor, &[f32])],
        gradients: &mut Gradients,
    ) -> LeafGradients {
        let shared =
            |(tensor, seed): &(&Tensor, &[f32])| (tensor.node, Arc::new(Buffer::copy_of(seed)));
        self.backward_shared(seeds.iter().map(shared), gradients)
    }

    /// As [`Tape::backward_from`], with seeds by node.
    pub(crate) fn backward_shared(
        self,
        seeds: impl Iterator<Item = (u32, Arc<Buffer>)>,
        gradients: &mut Gradients,
    ) -> LeafGradients {
        assert!(self.recording, "this tape did not record");
        let mut steps = self.steps.into_inner();
        let mut pending: Vec<Option<Arc<Buffer>>> = (0..steps.len()).map(|_| None).collect();
        for (node, seed) in seeds {
            pending[node as usize] = Some(seed);
        }
        let mut backward = Backward { pending, gradients };
        while let Some(step) = steps.pop() {
            if let Some(step) = step {
                step(&mut backward);
            }
        }
        LeafGradients { pending: backward.pending }
    }
}

/// Gradients of leaves after a backward pass.
pub struct LeafGradients {
    pending: Vec<Option<Arc<Buffer>>>,
}

impl LeafGradients {
    /// Gradient of a leaf; none if nothing depends on it.
    pub fn of(&self, leaf: &Tensor) -> Option<&[f32]> {
        self.pending[leaf.node as usize].as_ref().map(|gradient| &gradient[..])
    }

    /// As [`LeafGradients::of`], to keep.
    pub(crate) fn take(&mut self, leaf: u32) -> Option<Arc<Buffer>> {
        self.pending[leaf as usize].take()
    }
}

/// Gradients on their way through the tape.
pub struct Backward<'g> {
    pending: Vec<Option<Arc<Buffer>>>,
    /// Gradients of the weights.
    pub(crate) gradients: &'g mut Gradients,
}

impl Backward<'_> {
    /// Takes the gradient of a tensor, to read; none if nothing used the tensor.
    pub(crate) fn take(&mut self, node: u32) -> Option<Arc<Buffer>> {
        self.pending[node as usize].take()
    }

    /// Takes the gradient of a tensor, to write over.
    pub(crate) fn take_owned(&mut self, node: u32) -> Option<Buffer> {
        let gradient = self.take(node)?;
        Some(Arc::try_unwrap(gradient).unwrap_or_else(|shared| (*shared).clone()))
    }

    /// Adds `gradient` to that of the tensor at `node`, if it is on the tape.
    pub(crate) fn give(&mut self, node: u32, gradient: impl Into<Arc<Buffer>>) {
        if node == NO_NODE {
            return;
        }
        let gradient = gradient.into();
        let place = &mut self.pending[node as usize];
        let Some(sum) = place else {
            *place = Some(gradient);
            return;
        };
        match Arc::get_mut(sum) {
            Some(sum) => elementwise::add_assign(sum, &gradient),
            None => {
                let mut out = Buffer::stale(sum.len());
                elementwise::add(sum, &gradient, &mut out);
                *place = Some(Arc::new(out));
            }
        }
    }

    /// The sum of the gradients that the tensor at `node` was given so far, to add to, or stale memory of
    /// `len` elements to set; to be given back. None if the tensor is not on the tape.
    pub(crate) fn begin(&mut self, node: u32, len: usize) -> Option<(Buffer, Write)> {
        if node == NO_NODE {
            return None;
        }
        let sum = self.take_owned(node);
        Some(sum.map_or_else(|| (Buffer::stale(len), Write::Set), |sum| (sum, Write::Add)))
    }

    /// Lets `write` put the gradient of the tensor at `node` in place: over stale memory of `len`
    /// elements, or onto the sum so far. Not called if the tensor is not on the tape.
    pub(crate) fn give_with(
        &mut self,
        node: u32,
        len: usize,
        write: impl FnOnce(&mut [f32], Write),
    ) {
        if node == NO_NODE {
            return;
        }
        let place = &mut self.pending[node as usize];
        if let Some(sum) = place {
            if let Some(sum) = Arc::get_mut(sum) {
                return write(sum, Write::Add);
            }
            let mut sum = (**sum).clone();
            write(&mut sum, Write::Add);
            *place = Some(Arc::new(sum));
            return;
        }
        let mut gradient = Buffer::stale(len);
        write(&mut gradient, Write::Set);
        *place = Some(Arc::new(gradient));
    }
}
