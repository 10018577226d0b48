//! One tensor of a release out of a GGUF file: matrices as they are stored, vectors widened.

use fathom_checkpoint::gguf::{Gguf, GgufTensor};
use fathom_kernels::quant::{Format, dequantize};
use fathom_kernels::stored::Matrix;

use super::names::{GgufPlace, find};
use crate::config::{Attention, Config};
use crate::error::Error;
use crate::names::TensorSpec;

/// A tensor's values.
pub enum GgufTensorData {
    /// In its stored format, still in the mapped file where the file has it whole.
    Matrix(Matrix),
    /// Norms and biases.
    Vector(Vec<f32>),
}

/// Reads the tensor that a release calls `spec.name`.
///
/// Rows of q and k stay in the file's order, which `config.rope_interleave` describes. A
/// `kv_b_proj` in two parts is put together: in the format of the parts if that is plain floats,
/// else widened to f32. It keeps the parts too.
///
/// Errors: missing or misshapen tensors, formats we cannot compute with.
pub fn read(gguf: &Gguf, config: &Config, spec: &TensorSpec) -> Result<GgufTensorData, Error> {
    match find(gguf, spec)? {
        GgufPlace::Whole { name } => {
            let tensor = gguf.tensor(&name)?;
            expect(&tensor, &spec.shape)?;
            match spec.shape.as_slice() {
                &[n_out, n_in] => matrix(&tensor, n_out, n_in, 0).map(GgufTensorData::Matrix),
                _ => widen(&tensor).map(GgufTensorData::Vector),
            }
        }
        GgufPlace::Slice { name, expert } => {
            let tensor = gguf.tensor(&name)?;
            let n_experts = config.n_routed_experts.unwrap_or(0);
            let [n_out, n_in] = [spec.shape[0], spec.shape[1]];
            expect(&tensor, &[n_experts, n_out, n_in])?;
            matrix(&tensor, n_out, n_in, expert).map(GgufTensorData::Matrix)
        }
        GgufPlace::SplitKvB { k_b, v_b } => {
            let (k_b, v_b) = (gguf.tensor(&k_b)?, gguf.tensor(&v_b)?);
            join_kv_b(&k_b, &v_b, config, spec).map(GgufTensorData::Matrix)
        }
    }
}

/// Matrix number `index` of a tensor that holds several of `n_out` × `n_in`.
fn matrix(
    tensor: &GgufTensor<'_>,
    n_out: usize,
    n_in: usize,
    index: usize,
) -> Result<Matrix, Error> {
    let format = tensor.format()?;
    let shared = tensor.shared()?;
    let n_bytes = format.row_bytes(n_in).map_or(0, |row| row * n_out); // checked with the file
    let bytes = shared.slice(index * n_bytes..(index + 1) * n_bytes);
    Matrix::new(format, n_out, n_in, bytes).map_err(|error| Error::Matrix {
        path: tensor.path().to_owned(),
        tensor: tensor.name().to_owned(),
        error,
    })
}

fn widen(tensor: &GgufTensor<'_>) -> Result<Vec<f32>, Error> {
    // Only a known format bounds the elements by the bytes that are there.
    let (format, bytes) = (tensor.format()?, tensor.bytes()?);
    let mut values = vec![0.0; tensor.n_elements()];
    dequantize(format, bytes, &mut values);
    Ok(values)
}

/// `kv_b_proj` `[H · (Dn + Dv), r]` from keys `[H, r, Dn]` and values `[H, Dv, r]`.
fn join_kv_b(
    k_b: &GgufTensor<'_>,
    v_b: &GgufTensor<'_>,
    config: &Config,
    spec: &TensorSpec,
) -> Result<Matrix, Error> {
    let Attention::Mla {
        num_attention_heads: heads,
        kv_lora_rank: rank,
        qk_nope_head_dim: d_nope,
        v_head_dim: d_v,
        ..
    } = config.attention()
    else {
        unreachable!("only latent attention has a `kv_b_proj`")
    };
    // Some files write the heads of a part below each other.
    expect_either(k_b, &[heads, rank, d_nope], &[heads * rank, d_nope])?;
    expect_either(v_b, &[heads, d_v, rank], &[heads * d_v, rank])?;
    let (keys, values) = (widen(k_b)?, widen(v_b)?);
    let mut joined = Vec::with_capacity(heads * (d_nope + d_v) * rank);
    for head in 0..heads {
        let keys = &keys[head * rank * d_nope..][..rank * d_nope];
        for i in 0..d_nope {
            joined.extend((0..rank).map(|j| keys[j * d_nope + i]));
        }
        joined.extend_from_slice(&values[head * d_v * rank..][..d_v * rank]);
    }
    let format = match (k_b.format()?, v_b.format()?) {
        (a, b) if a == b && a.block_len() == 1 => a,
        _ => Format::F32,
    };
    let joined =
        Matrix::from_f32(&joined, spec.shape[0], spec.shape[1], format).map_err(|error| {
            let (path, tensor) = (k_b.path().to_owned(), k_b.name().to_owned());
            Error::Matrix { path, tensor, error }
        })?;
    let [keys, values] = [(k_b, heads * rank, d_nope), (v_b, heads * d_v, rank)];
    let part = |(tensor, n_out, n_in)| matrix(tensor, n_out, n_in, 0);
    Ok(joined.with_parts(part(keys)?, part(values)?))
}

/// Refuses another shape. Writers may drop leading sizes of one, which we forgive.
fn expect(tensor: &GgufTensor<'_>, expected: &[usize]) -> Result<(), Error> {
    if without_ones(tensor.shape()) == without_ones(expected) {
        return Ok(());
    }
    Ok(tensor.expect_shape(expected)?)
}

fn expect_either(
    tensor: &GgufTensor<'_>,
    expected: &[usize],
    other: &[usize],
) -> Result<(), Error> {
    expect(tensor, other).or_else(|_| expect(tensor, expected))
}

/// `found` written as `expected` is, if they differ by leading sizes of one only.
pub(super) fn like(found: &[usize], expected: &[usize]) -> Vec<usize> {
    if without_ones(found) == without_ones(expected) { expected.to_vec() } else { found.to_vec() }
}

fn without_ones(shape: &[usize]) -> &[usize] {
    let n = shape.iter().take_while(|d| **d == 1).count();
    &shape[n.min(shape.len().saturating_sub(1))..]
}
