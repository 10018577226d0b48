//! The tensor: shared memory, a shape, and its place on the tape.

use crate::buffer::Buffer;
use std::sync::Arc;

/// Marks a tensor that no recorded operation made.
pub(crate) const NO_NODE: u32 = u32::MAX;

/// A row-major f32 tensor of up to three dimensions. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Tensor {
    data: Arc<Buffer>,
    shape: [usize; 3],
    n_dims: usize,
    pub(crate) node: u32,
}

impl Tensor {
    /// A tensor outside the tape.
    ///
    /// Panics if `data` does not have the elements of `shape`, or `shape` more than three dimensions.
    pub fn new(data: Buffer, shape: &[usize]) -> Self {
        Tensor::with_node(data, shape, NO_NODE)
    }

    pub(crate) fn with_node(data: Buffer, shape: &[usize], node: u32) -> Self {
        assert!(shape.len() <= 3, "shape {shape:?} has more than three dimensions");
        assert_eq!(data.len(), shape.iter().product::<usize>(), "elements of shape {shape:?}");
        let mut dims = [1; 3];
        dims[..shape.len()].copy_from_slice(shape);
        Tensor { data: Arc::new(data), shape: dims, n_dims: shape.len(), node }
    }

    /// Sizes of the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape[..self.n_dims]
    }

    /// Size of the first dimension.
    pub fn n_rows(&self) -> usize {
        self.shape[0]
    }

    /// Elements of a row: everything past the first dimension.
    pub fn width(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// The elements.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The same elements and tape node under another shape.
    ///
    /// Panics if the number of elements differs.
    pub fn reshaped(mut self, shape: &[usize]) -> Self {
        assert_eq!(
            self.data.len(),
            shape.iter().product::<usize>(),
            "{:?} as {shape:?}",
            self.shape()
        );
        assert!(shape.len() <= 3, "shape {shape:?} has more than three dimensions");
        self.shape = [1; 3];
        self.shape[..shape.len()].copy_from_slice(shape);
        self.n_dims = shape.len();
        self
    }

    /// The same elements outside the tape: what is made of them sends no gradient back.
    pub fn detached(&self) -> Tensor {
        Tensor { node: NO_NODE, ..self.clone() }
    }

    /// The memory for writing: this tensor's own if nobody else holds it, else a copy.
    pub(crate) fn into_buffer(self) -> Buffer {
        self.into_own_buffer().unwrap_or_else(|shared| (*shared.data).clone())
    }

    /// The memory if nobody else holds it, else the tensor again.
    pub(crate) fn into_own_buffer(self) -> Result<Buffer, Tensor> {
        let Tensor { data, shape, n_dims, node } = self;
        Arc::try_unwrap(data).map_err(|data| Tensor { data, shape, n_dims, node })
    }
}
