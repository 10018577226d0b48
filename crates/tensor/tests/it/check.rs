//! The proof of an operation: it is run on a recording tape, and compared with a plain f64
//! definition, its gradients with central differences of that definition.

use fathom_tensor::random::Random;
use fathom_tensor::{Buffer, Gradients, Precision, Tape, Tensor, Weight};

/// Allowed error of a value, relative to the largest of its output.
const VALUE_TOLERANCE: f64 = 1e-5;
/// Allowed error of a gradient, relative to the largest of its input.
const GRADIENT_TOLERANCE: f64 = 1e-4;
/// Gradients below this are zero but for rounding.
const GRADIENT_FLOOR: f64 = 2e-6;
/// Step of the central differences: f64 leaves about ten digits of them.
const STEP: f64 = 1e-5;
/// Entries of one input that are moved; larger inputs are sampled evenly.
const MOST_ENTRIES: usize = 400;

/// An operation under test and its inputs: leaves first, then weights.
pub(crate) struct Case {
    name: &'static str,
    leaves: Vec<(Vec<usize>, Vec<f32>)>,
    weights: Vec<Weight>,
}

impl Case {
    pub(crate) fn new(name: &'static str) -> Self {
        Case { name, leaves: Vec::new(), weights: Vec::new() }
    }

    fn noise(&self, shape: &[usize]) -> Vec<f32> {
        let place = (self.leaves.len() + self.weights.len()) as u64;
        Random::from_key(&[2, place]).normals(shape.iter().product(), 0.8)
    }

    /// Adds an input tensor of fixed noise.
    pub(crate) fn leaf(self, shape: &[usize]) -> Self {
        let values = self.noise(shape);
        self.leaf_of(shape, values)
    }

    pub(crate) fn leaf_of(mut self, shape: &[usize], values: Vec<f32>) -> Self {
        assert!(self.weights.is_empty(), "leaves come before weights");
        self.leaves.push((shape.to_vec(), values));
        self
    }

    /// Adds a weight of fixed noise, packed in f32 for training.
    pub(crate) fn weight(mut self, shape: &[usize]) -> Self {
        let slot = self.weights.len();
        let mut weight = Weight::new(format!("w{slot}"), shape, slot, self.noise(shape));
        if shape.len() == 2 {
            weight.pack(Precision::F32, true);
        }
        self.weights.push(weight);
        self
    }

    /// All inputs in f64.
    pub(crate) fn inputs(&self) -> Vec<Vec<f64>> {
        let leaves = self.leaves.iter().map(|(_, values)| &values[..]);
        let weights = self.weights.iter().map(Weight::values);
        leaves.chain(weights).map(|values| values.iter().map(|v| f64::from(*v)).collect()).collect()
    }

    fn leaf_tensors(&self, make: impl Fn(Buffer, &[usize]) -> Tensor) -> Vec<Tensor> {
        self.leaves.iter().map(|(shape, values)| make(Buffer::copy_of(values), shape)).collect()
    }

    /// [`Case::check_with_loss`] for operations that add no loss of their own.
    pub(crate) fn check<'w>(
        &'w self,
        op: impl Fn(&Tape<'w>, &[Tensor], &'w [Weight]) -> Vec<Tensor>,
        definition: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    ) {
        self.check_with_loss(op, |inputs| (definition(inputs), 0.0));
    }

    /// Checks values, gradients, and that a tape that forgets gives the same bits.
    ///
    /// `definition` gives the outputs of `op`, end to end, and the loss that it adds to the tape by
    /// itself. Returns the auxiliary loss on the tape.
    pub(crate) fn check_with_loss<'w>(
        &'w self,
        op: impl Fn(&Tape<'w>, &[Tensor], &'w [Weight]) -> Vec<Tensor>,
        definition: impl Fn(&[Vec<f64>]) -> (Vec<f64>, f64),
    ) -> f64 {
        let mut gradients = poisoned_gradients(&self.weights);
        let tape = Tape::recording();
        let leaves = self.leaf_tensors(|data, shape| tape.leaf(data, shape));
        let outputs = op(&tape, &leaves, &self.weights);
        let auxiliary_loss = tape.auxiliary_loss();
        let mut inputs = self.inputs();
        self.compare_values(&outputs, &definition(&inputs).0);
        self.compare_forgetting(&op, &outputs);

        let seeds: Vec<Vec<f32>> = (0..outputs.len() as u64)
            .zip(&outputs)
            .map(|(i, out)| Random::from_key(&[3, i]).normals(out.data().len(), 1.0))
            .collect();
        let seeded: Vec<(&Tensor, &[f32])> =
            outputs.iter().zip(&seeds).map(|(out, seed)| (out, &seed[..])).collect();
        let left = tape.backward_from(&seeded, &mut gradients);
        let seed: Vec<f64> = seeds.iter().flatten().map(|v| f64::from(*v)).collect();
        let loss = |inputs: &[Vec<f64>]| {
            let (values, loss) = definition(inputs);
            values.iter().zip(&seed).map(|(v, s)| v * s).sum::<f64>() + loss
        };
        for at in 0..inputs.len() {
            let zeros = vec![0.0; inputs[at].len()];
            let got = match at.checked_sub(leaves.len()) {
                None => left.of(&leaves[at]).unwrap_or(&zeros),
                Some(slot) => gradients.slot(slot),
            };
            self.compare_gradient(at, got, &mut inputs, &loss);
        }
        auxiliary_loss
    }

    fn compare_values(&self, outputs: &[Tensor], want: &[f64]) {
        let n: usize = outputs.iter().map(|out| out.data().len()).sum();
        assert_eq!(n, want.len(), "{}: number of values", self.name);
        let mut start = 0;
        for (which, out) in outputs.iter().enumerate() {
            let want = &want[start..start + out.data().len()];
            start += want.len();
            let largest = largest(want);
            for (i, (got, want)) in out.data().iter().zip(want).enumerate() {
                let error = (f64::from(*got) - want).abs();
                assert!(
                    error <= VALUE_TOLERANCE * largest,
                    "{}: output {which} at {i}: {got}, defined {want}",
                    self.name
                );
            }
        }
    }

    fn compare_forgetting<'w>(
        &'w self,
        op: &impl Fn(&Tape<'w>, &[Tensor], &'w [Weight]) -> Vec<Tensor>,
        recorded: &[Tensor],
    ) {
        let forgotten = op(&Tape::forgetting(), &self.leaf_tensors(Tensor::new), &self.weights);
        for (forgotten, recorded) in forgotten.iter().zip(recorded) {
            assert_eq!(forgotten.shape(), recorded.shape(), "{}", self.name);
            assert_eq!(forgotten.data(), recorded.data(), "{}: bits without recording", self.name);
        }
    }

    fn compare_gradient(
        &self,
        at: usize,
        got: &[f32],
        inputs: &mut [Vec<f64>],
        loss: &impl Fn(&[Vec<f64>]) -> f64,
    ) {
        let what = match at.checked_sub(self.leaves.len()) {
            None => format!("leaf {at}"),
            Some(slot) => format!("weight {slot}"),
        };
        assert_eq!(got.len(), inputs[at].len(), "{}: gradient of {what}", self.name);
        let step_by = got.len().div_ceil(MOST_ENTRIES).max(1);
        let moved: Vec<usize> = (0..got.len()).step_by(step_by).collect();
        let mut moved_by = |i: usize, step: f64| {
            let value = inputs[at][i];
            inputs[at][i] = value + step;
            let loss = loss(inputs);
            inputs[at][i] = value;
            loss
        };
        let want: Vec<f64> = moved
            .iter()
            .map(|i| (moved_by(*i, STEP) - moved_by(*i, -STEP)) / (2.0 * STEP))
            .collect();
        let allowed = (GRADIENT_TOLERANCE * largest(&want)).max(GRADIENT_FLOOR);
        for (i, want) in moved.into_iter().zip(want) {
            let error = (f64::from(got[i]) - want).abs();
            // Written so that NaN fails.
            let fine = error <= allowed;
            assert!(
                fine,
                "{}: gradient of {what} at {i}: {}, differences {want}",
                self.name, got[i]
            );
        }
    }
}

/// Cleared gradients over memory full of NaN, with reused buffers full of NaN too: whatever reads
/// stale memory shows.
pub(crate) fn poisoned_gradients(weights: &[Weight]) -> Gradients {
    for _ in 0..4 {
        let held: Vec<Buffer> = (1..60)
            .flat_map(|lines| [Buffer::stale(16 * lines), Buffer::stale(16 * lines)])
            .map(|mut buffer| {
                buffer.fill(f32::NAN);
                buffer
            })
            .collect();
        drop(held);
    }
    let sizes: Vec<usize> = weights.iter().map(Weight::n_elements).collect();
    let mut gradients = Gradients::new(&sizes);
    gradients.all().fill(f32::NAN);
    gradients.clear();
    gradients
}

/// `x · Wᵀ`: x [N, in], w [out, in].
pub(crate) fn matmul(x: &[f64], w: &[f64], n_in: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    x.chunks(n_in).flat_map(|x| w.chunks(n_in).map(move |w| dot(x, w))).collect()
}

/// Softmax of one row.
pub(crate) fn softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|v| (v - top).exp()).sum();
    row.iter().map(|v| (v - top).exp() / sum).collect()
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(crate) fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, v| v.abs().max(most))
}
