//! A weight: its name in the checkpoint, and its values: dense and trainable, with the packed copies
//! that products read, or in the format they are stored in, to be read only.

mod light;

use fathom_kernels::convert;
use fathom_kernels::matmul::{Format, Lhs, Packed, Precision, Write, matmul, pack_both_ways};
use fathom_kernels::quant::{self, ScaleKind};
use fathom_kernels::stored::{self, Matrix, Product, Rounded, Rows};
use fathom_kernels::threads;
use std::borrow::Cow;
use std::ops::Range;

/// A parameter of a model. Matrices are `[out, in]`, as in the checkpoint.
pub struct Weight {
    /// Name in the checkpoint.
    pub name: String,
    /// Shape in the checkpoint.
    pub shape: Vec<usize>,
    /// Place among the weights of the model, and of its gradient in [`crate::Gradients`].
    pub slot: usize,
    body: Body,
}

enum Body {
    Dense(Dense),
    Stored { matrix: Matrix, input: InputForm },
}

/// What products with a stored weight do to their input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InputForm {
    /// Nothing.
    Exact,
    /// It is rounded to bf16, as dense products of that precision do.
    Bf16,
    /// It is rounded to FP8 in groups.
    Fp8(ScaleKind),
    /// It is rounded to 8 bits in groups, and the product runs in integers.
    Int8,
}

/// Rows as products with stored weights take them.
pub(crate) enum Input<'x> {
    Float(Cow<'x, [f32]>),
    Int8(Rounded),
}

impl Input<'_> {
    /// The rows `rows`, of `n_in` elements each.
    pub(crate) fn rows(&self, rows: Range<usize>, n_in: usize) -> Rows<'_> {
        match self {
            Input::Float(x) => Rows::Exact(&x[rows.start * n_in..rows.end * n_in]),
            Input::Int8(x) => Rows::Rounded(x, rows),
        }
    }
}

struct Dense {
    values: Vec<f32>,
    forward: Packed,
    input_gradient: Packed,
    packed_as: Option<(Precision, bool)>,
}

/// Elements from which a weight is worth all threads; smaller ones are dealt to them.
const LARGE_WEIGHT: usize = 1 << 18;

/// [`Weight::pack`] of many weights, of those for which `precision_of` their place gives a precision.
pub fn pack_all(
    weights: &mut [Weight],
    training: bool,
    precision_of: impl Fn(usize, &Weight) -> Option<Precision> + Sync,
) {
    let is_small = |weight: &Weight| weight.n_elements() < LARGE_WEIGHT;
    threads::run_chunks(weights, 1, |at, weight| {
        if let Some(precision) = precision_of(at, &weight[0]).filter(|_| is_small(&weight[0])) {
            weight[0].pack(precision, training);
        }
    });
    for (at, weight) in weights.iter_mut().enumerate() {
        if let Some(precision) = precision_of(at, weight).filter(|_| !is_small(weight)) {
            weight.pack(precision, training);
        }
    }
}

impl Weight {
    /// A dense weight with the given values.
    ///
    /// Panics if the values do not have the elements of `shape`.
    pub fn new(name: impl Into<String>, shape: &[usize], slot: usize, values: Vec<f32>) -> Self {
        let name = name.into();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values of `{name}` {shape:?}");
        let body = Body::Dense(Dense {
            values,
            forward: Packed::new(),
            input_gradient: Packed::new(),
            packed_as: None,
        });
        Weight { name, shape: shape.to_vec(), slot, body }
    }

    /// A matrix in its stored format: for inference only.
    pub fn stored(name: impl Into<String>, slot: usize, matrix: Matrix) -> Self {
        let shape = vec![matrix.n_out, matrix.n_in];
        Weight {
            name: name.into(),
            shape,
            slot,
            body: Body::Stored { matrix, input: InputForm::Exact },
        }
    }

    /// The matrix of a stored weight; none of a dense one.
    pub fn as_stored(&self) -> Option<&Matrix> {
        match &self.body {
            Body::Stored { matrix, .. } => Some(matrix),
            Body::Dense(_) => None,
        }
    }

    /// The values, row-major.
    ///
    /// Panics if the weight is stored: see [`Weight::widened`].
    pub fn values(&self) -> &[f32] {
        &self.dense().values
    }

    /// The values for writing; packed copies are stale until the next [`Weight::pack`].
    ///
    /// Panics if the weight is stored.
    pub fn values_mut(&mut self) -> &mut [f32] {
        let name = &self.name;
        match &mut self.body {
            Body::Dense(dense) => {
                dense.packed_as = None;
                &mut dense.values
            }
            Body::Stored { .. } => panic!("`{name}` is stored, and only read"),
        }
    }

    /// The values, row-major; a copy if the weight is stored.
    pub fn widened(&self) -> Cow<'_, [f32]> {
        match &self.body {
            Body::Dense(dense) => Cow::Borrowed(&dense.values),
            Body::Stored { matrix, .. } => Cow::Owned(matrix.to_f32()),
        }
    }

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
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
    /// that input gradients read. Does nothing if they are fresh. Of a stored weight, nothing is
    /// packed; `precision` decides whether products round their input.
    ///
    /// Panics if the weight is not a matrix.
    pub fn pack(&mut self, precision: Precision, training: bool) {
        assert_eq!(self.shape.len(), 2, "`{}` is not a matrix", self.name);
        let (n_out, n_in) = (self.n_out(), self.n_in());
        match &mut self.body {
            Body::Dense(dense) => dense.pack(n_out, n_in, precision, training),
            Body::Stored { input, .. } => {
                assert!(!training, "`{}` is stored, and only read", self.name);
                match (&input, precision) {
                    (InputForm::Fp8(_) | InputForm::Int8, _) => {}
                    (_, Precision::Bf16) => *input = InputForm::Bf16,
                    (_, Precision::F32) => *input = InputForm::Exact,
                }
            }
        }
    }

    /// From now on products round their input to FP8 in groups of channels
    /// ([`fathom_kernels::quant::round_activations`]).
    ///
    /// Panics if the weight is dense.
    pub fn quantize_input(&mut self, kind: ScaleKind) {
        match &mut self.body {
            Body::Stored { input, .. } => *input = InputForm::Fp8(kind),
            Body::Dense(_) => panic!("`{}` is dense", self.name),
        }
    }

    /// From now on products round their input to 8 bits in groups and run in integers
    /// ([`stored::Rounded`]), if the weight is stored in integers. Returns whether it is.
    pub fn round_input(&mut self) -> bool {
        match &mut self.body {
            Body::Stored { matrix, input } if stored::can_round(matrix) => {
                *input = InputForm::Int8;
                true
            }
            _ => false,
        }
    }

    /// `out [n, n_out] = x [n, n_in] · Wᵀ`.
    pub(crate) fn multiply(&self, x: &[f32], n: usize, out: &mut [f32]) {
        match &self.body {
            Body::Dense(_) => {
                matmul(Lhs::rows(x, self.n_in()), n, self.forward(), out, Write::Set);
            }
            Body::Stored { matrix, .. } => {
                let input = self.input(x);
                let x = input.rows(0..n, matrix.n_in);
                stored::matmul_batch(&mut [Product { x, matrix, out }]);
            }
        }
    }

    /// The input as products of this weight take it.
    pub(crate) fn input<'x>(&self, x: &'x [f32]) -> Input<'x> {
        let Body::Stored { matrix, input } = &self.body else {
            return Input::Float(Cow::Borrowed(x));
        };
        let rounded = |round: &dyn Fn(&mut [f32])| {
            let mut x = x.to_vec();
            round(&mut x);
            Input::Float(Cow::Owned(x))
        };
        match input {
            InputForm::Exact => Input::Float(Cow::Borrowed(x)),
            InputForm::Int8 => Input::Int8(Rounded::new(x, matrix.n_in)),
            InputForm::Fp8(kind) => rounded(&|x| quant::round_activations(x, matrix.n_in, *kind)),
            InputForm::Bf16 => rounded(&convert::round_to_bf16),
        }
    }

    /// Whether products run in integers ([`Weight::round_input`]).
    pub(crate) fn takes_int8(&self) -> bool {
        matches!(self.body, Body::Stored { input: InputForm::Int8, .. })
    }

    /// Whether both take an input in the same form.
    pub(crate) fn shares_input_with(&self, other: &Weight) -> bool {
        match (&self.body, &other.body) {
            (Body::Stored { input: a, .. }, Body::Stored { input: b, .. }) => a == b,
            _ => false,
        }
    }

    /// Right operand of `x · Wᵀ`.
    pub(crate) fn forward(&self) -> &Packed {
        let dense = self.dense();
        assert!(dense.packed_as.is_some(), "`{}` changed and was not packed again", self.name);
        &dense.forward
    }

    /// Right operand of `dy · W`.
    pub(crate) fn input_gradient(&self) -> &Packed {
        let dense = self.dense();
        assert!(
            matches!(dense.packed_as, Some((_, true))),
            "`{}` is not packed for training",
            self.name
        );
        &dense.input_gradient
    }

    /// Format of the packed copies, which the operands of the weight gradient take too.
    pub(crate) fn format(&self) -> Format {
        self.dense().forward.format
    }

    fn dense(&self) -> &Dense {
        match &self.body {
            Body::Dense(dense) => dense,
            Body::Stored { .. } => panic!("`{}` is stored, and only read", self.name),
        }
    }
}

impl Dense {
    fn pack(&mut self, n_out: usize, n_in: usize, precision: Precision, training: bool) {
        if let Some((packed, with_gradient)) = self.packed_as
            && packed == precision
            && (with_gradient || !training)
        {
            return;
        }
        let format = Format::fastest(precision);
        let Dense { values, forward, input_gradient, .. } = self;
        if training {
            pack_both_ways(values, n_out, n_in, format, forward, input_gradient);
        } else {
            forward.pack_transposed(values, n_in, n_out, format);
        }
        self.packed_as = Some((precision, training));
    }
}
