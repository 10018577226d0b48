//! The tape: what each recorded operation must do backwards, and the gradients on their way.

use crate::buffer::Buffer;
use crate::device::Device;
use crate::gradients::Gradients;
use crate::tensor::{NO_NODE, Tensor};
use fathom_kernels::elementwise;
use std::cell::{Cell, RefCell};

type Step<'w> = Box<dyn FnOnce(&mut Backward) + 'w>;

/// Records operations, or not. Lives for one forward pass over weights borrowed for `'w`.
pub struct Tape<'w> {
    /// One entry per tensor made; operations with several outputs hang on their first.
    steps: RefCell<Vec<Option<Step<'w>>>>,
    recording: bool,
    device: Device,
    auxiliary_loss: Cell<f64>,
}

impl<'w> Tape<'w> {
    /// A tape that records for [`Tape::backward`].
    pub fn recording() -> Self {
        Tape {
            steps: RefCell::default(),
            recording: true,
            device: Device::Cpu,
            auxiliary_loss: Cell::new(0.0),
        }
    }

    /// A tape that forgets: nothing is saved, memory is reused at once.
    pub fn forgetting() -> Self {
        Tape { recording: false, ..Tape::recording() }
    }

    /// Whether a backward pass will follow.
    pub fn is_recording(&self) -> bool {
        self.recording
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

    /// Two outputs of one operation.
    pub(crate) fn outputs<F>(
        &self,
        (data_a, shape_a): (Buffer, &[usize]),
        (data_b, shape_b): (Buffer, &[usize]),
        step: impl FnOnce(u32, u32) -> F,
    ) -> (Tensor, Tensor)
    where
        F: FnOnce(&mut Backward) + 'w,
    {
        if !self.recording {
            return (Tensor::new(data_a, shape_a), Tensor::new(data_b, shape_b));
        }
        let node = self.next_node();
        let step: Step<'w> = Box::new(step(node, node + 1));
        // Steps run from last to first, so the first output's step sees both gradients.
        self.steps.borrow_mut().extend([Some(step), None]);
        (Tensor::with_node(data_a, shape_a, node), Tensor::with_node(data_b, shape_b, node + 1))
    }

    /// An input whose gradient is wanted: a leaf for tests.
    pub fn leaf(&self, data: Buffer, shape: &[usize]) -> Tensor {
        let node = self.next_node();
        self.steps.borrow_mut().push(None);
        Tensor::with_node(data, shape, node)
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
        assert!(self.recording, "this tape did not record");
        let mut steps = self.steps.into_inner();
        let mut pending: Vec<Option<Buffer>> = (0..steps.len()).map(|_| None).collect();
        for (tensor, seed) in seeds {
            pending[tensor.node as usize] = Some(Buffer::copy_of(seed));
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
    pending: Vec<Option<Buffer>>,
}

impl LeafGradients {
    /// Gradient of a leaf; none if nothing depends on it.
    pub fn of(&self, leaf: &Tensor) -> Option<&[f32]> {
        self.pending[leaf.node as usize].as_deref()
    }
}

/// Gradients on their way through the tape.
pub struct Backward<'g> {
    pending: Vec<Option<Buffer>>,
    /// Gradients of the weights.
    pub(crate) gradients: &'g mut Gradients,
}

impl Backward<'_> {
    /// Takes the gradient of a tensor; none if nothing used the tensor.
    pub(crate) fn take(&mut self, node: u32) -> Option<Buffer> {
        self.pending[node as usize].take()
    }

    /// Adds `gradient` to that of `tensor`, if the tensor is on the tape.
    pub(crate) fn give(&mut self, tensor_node: u32, gradient: Buffer) {
        if tensor_node == NO_NODE {
            return;
        }
        match &mut self.pending[tensor_node as usize] {
            Some(sum) => elementwise::add_assign(sum, &gradient),
            empty => *empty = Some(gradient),
        }
    }
}
