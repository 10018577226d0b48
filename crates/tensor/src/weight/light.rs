//! Copies of matrices for products that need not be exact: half the bytes, packed for few rows.

use super::{Body, Dense, Weight};
use fathom_kernels::matmul::{Format, Precision};

impl Weight {
    /// A dense copy whose products round their operands to bf16, packed in as few bytes as this CPU
    /// multiplies quickly. [`Weight::pack`] makes it an ordinary weight again.
    ///
    /// Panics if the weight is not a matrix.
    pub fn light_copy(&self) -> Weight {
        assert_eq!(self.shape.len(), 2, "`{}` is not a matrix", self.name);
        let mut copy =
            Weight::new(&*self.name, &self.shape, self.slot, self.widened().into_owned());
        let (n_out, n_in) = (self.n_out(), self.n_in());
        if let Body::Dense(Dense { values, forward, packed_as, .. }) = &mut copy.body {
            forward.pack_transposed(values, n_in, n_out, Format::smallest(Precision::Bf16));
            *packed_as = Some((Precision::Bf16, false));
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op;
    use crate::{Buffer, Tape, Tensor};

    #[test]
    fn a_light_copy_multiplies_nearly_as_the_weight_does() {
        let values: Vec<f32> =
            (0..70 * 50).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let mut weight = Weight::new("w", &[70, 50], 0, values);
        weight.pack(Precision::F32, false);
        let light = weight.light_copy();
        let x: Vec<f32> = (0..3 * 50).map(|i| ((i * 13 % 29) as f32 - 14.0) / 14.0).collect();
        let x = Tensor::new(Buffer::copy_of(&x), &[3, 50]);
        let tape = Tape::forgetting();
        let (exact, near) = (op::linear(&tape, &x, &weight), op::linear(&tape, &x, &light));
        for (exact, near) in exact.data().iter().zip(near.data()) {
            assert!((exact - near).abs() < 0.1, "{exact} and {near}");
        }
    }
}
