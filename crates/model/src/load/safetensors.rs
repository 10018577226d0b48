//! Tensors of a directory of safetensors, FP8 with its block scales included
//! (DeepSeek-V3, `README_WEIGHTS.md`: the scale multiplies, despite its name).

use super::Stored;
use crate::config::Config;
use crate::error::Error;
use crate::names::{self, SCALE_SUFFIX, TensorSpec};
use fathom_checkpoint::{Checkpoint, Dtype, TensorView};
use fathom_kernels::quant::Format;
use fathom_kernels::stored::{Matrix, Scales};
use std::collections::BTreeSet;

/// Block of FP8 weights where `config.json` does not say.
const DEFAULT_BLOCK: [usize; 2] = [128, 128];

pub(super) fn read(
    checkpoint: &Checkpoint,
    config: &Config,
    spec: &TensorSpec,
) -> Result<Stored, Error> {
    let tensor = checkpoint.tensor(&spec.name)?;
    tensor.expect_shape(&spec.shape)?;
    if spec.shape.len() != 2 {
        return Ok(Stored::Vector(tensor.to_f32()?));
    }
    let format = match tensor.dtype {
        Dtype::F32 => Format::F32,
        Dtype::F16 => Format::F16,
        Dtype::BF16 => Format::Bf16,
        Dtype::F8E4M3 => Format::F8E4M3,
        Dtype::F64 => {
            let values = tensor.to_f32()?;
            return Ok(Stored::Matrix(matrix_of(&tensor, |n_out, n_in| {
                Matrix::from_f32(&values, n_out, n_in, Format::F32)
            })?));
        }
        _ => return Err(tensor.wrong_dtype("F32, F16, BF16, F64 or F8_E4M3").into()),
    };
    let mut matrix =
        matrix_of(&tensor, |n_out, n_in| Matrix::new(format, n_out, n_in, tensor.shared()))?;
    if format == Format::F8E4M3 {
        let scales = scales(checkpoint, config, &tensor)?;
        matrix = matrix_of(&tensor, |_, _| matrix.with_scales(scales))?;
    }
    Ok(Stored::Matrix(matrix))
}

fn matrix_of(
    tensor: &TensorView<'_>,
    make: impl FnOnce(usize, usize) -> Result<Matrix, fathom_kernels::stored::MatrixError>,
) -> Result<Matrix, Error> {
    make(tensor.shape[0], tensor.shape[1]).map_err(|error| Error::Matrix {
        path: tensor.path().to_owned(),
        tensor: tensor.name.to_owned(),
        error,
    })
}

/// The multipliers of an FP8 tensor, which may lie in another shard.
fn scales(
    checkpoint: &Checkpoint,
    config: &Config,
    tensor: &TensorView<'_>,
) -> Result<Scales, Error> {
    let block = config.quantization_config.map_or(DEFAULT_BLOCK, |fp8| fp8.weight_block_size);
    let name = format!("{}{SCALE_SUFFIX}", tensor.name);
    if !checkpoint.contains(&name) {
        return Err(Error::NoScales {
            path: tensor.path().to_owned(),
            tensor: tensor.name.to_owned(),
        });
    }
    let stored = checkpoint.tensor(&name)?;
    stored
        .expect_shape(&[tensor.shape[0].div_ceil(block[0]), tensor.shape[1].div_ceil(block[1])])?;
    let values = match stored.dtype {
        // Bare exponents: 2^(code - 127); the code of all ones is no number.
        Dtype::F8E8M0 => stored.bytes.iter().map(|&code| exp2_of(code)).collect(),
        _ => stored.to_f32()?,
    };
    Ok(Scales { values: values.into(), block })
}

fn exp2_of(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(1 << 22), // 2^-127 is subnormal
        0xff => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// Names that a model of `config` has no place for.
pub(super) fn unknown(checkpoint: &Checkpoint, config: &Config) -> Vec<String> {
    let known: BTreeSet<String> = names::tensors(config).into_iter().map(|s| s.name).collect();
    checkpoint
        .names()
        .filter(|name| {
            let scaled = name.strip_suffix(SCALE_SUFFIX).unwrap_or(name);
            !known.contains(scaled) && !names::is_ignorable(config, name)
        })
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::exp2_of;

    #[test]
    fn bare_exponents_are_powers_of_two() {
        assert_eq!([127, 128, 120, 254].map(exp2_of), [1.0, 2.0, 1.0 / 128.0, 2f32.powi(127)]);
        assert_eq!(exp2_of(0), 2f32.powi(-127));
        assert!(exp2_of(255).is_nan());
    }
}
