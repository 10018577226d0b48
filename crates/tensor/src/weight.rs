//! A weight: its values, its name in the checkpoint, and the packed copies that products read.

use fathom_kernels::matmul::{Format, Packed, Precision};

/// A parameter of a model. Matrices are `[out, in]`, as in the checkpoint.
pub struct Weight {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape in the checkpoint.
    pub shape: Vec<usize>,
    /// Place among the weights of the model, and of its gradient in [`crate::Gradients`].
    pub slot: usize,
    values: Vec<f32>,
    forward: Packed,
    input_gradient: Packed,
    packed_as: Option<(Precision, bool)>,
}

impl Weight {
    /// A weight with the given values.
    ///
    /// Panics if the values do not have the elements of `shape`.
    pub fn new(name: impl Into<String>, shape: &[usize], slot: usize, values: Vec<f32>) -> Self {
        let name = name.into();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values of `{name}` {shape:?}");
        Weight {
            name,
            shape: shape.to_vec(),
            slot,
            values,
            forward: Packed::new(),
            input_gradient: Packed::new(),
            packed_as: None,
        }
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values for writing; packed copies are stale until the next [`Weight::pack`].
    pub fn values_mut(&mut self) -> &mut [f32] {
        self.packed_as = None;
        &mut self.values
    }

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.values.len()
    }

    /// Output width of a matrix.
    pub fn n_out(&self) -> usize {
        self.shape[0]
    }

    /// Input width of a matrix.
    pub fn n_in(&self) -> usize {
        self.shape[1]
    }

    /// Makes the packed copies that products at `precision` read; with `training`, also the one
    /// that input gradients read. Does nothing if they are fresh.
    ///
    /// Panics if the weight is not a matrix.
    pub fn pack(&mut self, precision: Precision, training: bool) {
        assert_eq!(self.shape.len(), 2, "`{}` is not a matrix", self.name);
        if let Some((packed, with_gradient)) = self.packed_as
            && packed == precision
            && (with_gradient || !training)
        {
            return;
        }
        let (n_out, n_in) = (self.n_out(), self.n_in());
        let format = Format::fastest(precision);
        self.forward.pack_transposed(&self.values, n_in, n_out, format);
        if training {
            self.input_gradient.pack_rows(&self.values, n_out, n_in, format);
        }
        self.packed_as = Some((precision, training));
    }

    /// Right operand of `x · Wᵀ`.
    pub(crate) fn forward(&self) -> &Packed {
        assert!(self.packed_as.is_some(), "`{}` changed and was not packed again", self.name);
        &self.forward
    }

    /// Right operand of `dy · W`.
    pub(crate) fn input_gradient(&self) -> &Packed {
        assert!(
            matches!(self.packed_as, Some((_, true))),
            "`{}` is not packed for training",
            self.name
        );
        &self.input_gradient
    }

    /// Format of the packed copies, which the operands of the weight gradient take too.
    pub(crate) fn format(&self) -> Format {
        self.forward.format
    }
}
