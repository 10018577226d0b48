//! Writing an opened checkpoint as a Hugging Face directory: plain floats, or FP8 in blocks with
//! `weight_scale_inv` beside it as DeepSeek publishes it. Tensors stream, one at a time.

use crate::config::{Attention, Config, Fp8Quantization, ScaleFmt, TorchDtype};
use crate::error::Error;
use crate::files::{MAX_SHARD_BYTES, write_config};
use crate::gguf::{ExportSource, interleaved_to_half_split};
use crate::load::{FP8_BLOCK, Source, Stored};
use crate::names::{self, Role, SCALE_SUFFIX, TensorSpec};
use fathom_checkpoint::{Dtype, TensorSource, write_directory};
use fathom_kernels::quant::{self, Format, ScaleKind};
use fathom_kernels::stored::{Matrix, encode};
use std::io;
use std::path::Path;

/// Formats that a directory of safetensors can hold.
pub const DIRECTORY_FORMATS: [Format; 4] = [Format::F32, Format::F16, Format::Bf16, Format::F8E4M3];

/// Writes `config.json` and the weights of `source` into `dir`, which exists; tokenizer files are
/// somebody else's.
///
/// `wanted` is the format of the matrices; none keeps what is stored, block formats of GGUF
/// becoming bf16. With FP8, matrices of layers are quantised in blocks of 128 × 128; embedding, head
/// and routers are bf16. Correction biases of routers stay f32.
///
/// `stops` is asked before each tensor whether to go on.
///
/// Errors: `Format` for one that [`DIRECTORY_FORMATS`] lacks; those of reading and of writing, which
/// being stopped is one of.
pub fn export_directory(
    source: &Source,
    dir: &Path,
    wanted: Option<Format>,
    stops: &dyn Fn() -> bool,
) -> Result<(), Error> {
    if let Some(format) = wanted.filter(|format| !DIRECTORY_FORMATS.contains(format)) {
        return Err(Error::Format { found: format });
    }
    let specs = names::tensors(source.config());
    let mut tensors = Vec::with_capacity(specs.len());
    let mut has_fp8 = false;
    for spec in &specs {
        let format = target(source, spec, wanted)?;
        if format == Format::F8E4M3 {
            has_fp8 = true;
            tensors.extend(fp8_tensors(source, spec, stops));
        } else {
            tensors.push(plain_tensor(source, spec, format, stops));
        }
    }
    write_config(dir, &written_config(source.config(), wanted, has_fp8))?;
    write_directory(dir, tensors, MAX_SHARD_BYTES).map_err(Error::Checkpoint)
}

/// What `config.json` says of the written weights.
fn written_config(config: &Config, wanted: Option<Format>, has_fp8: bool) -> Config {
    let is_gqa = matches!(config.attention(), Attention::Gqa { .. });
    Config {
        torch_dtype: match wanted {
            None => config.torch_dtype,
            Some(Format::F32) => TorchDtype::Float32,
            Some(Format::F16) => TorchDtype::Float16,
            Some(_) => TorchDtype::Bfloat16,
        },
        // Rows are brought back into the order of the releases.
        rope_interleave: config.rope_interleave && !is_gqa,
        quantization_config: has_fp8.then(|| {
            let fresh =
                Fp8Quantization { weight_block_size: FP8_BLOCK, scale_fmt: ScaleFmt::Float };
            match wanted {
                Some(_) => fresh,
                None => config.quantization_config.unwrap_or(fresh),
            }
        }),
        ..config.clone()
    }
}

/// The format of a tensor in the directory.
fn target(source: &Source, spec: &TensorSpec, wanted: Option<Format>) -> Result<Format, Error> {
    if spec.role == Role::RouterBias {
        return Ok(Format::F32);
    }
    let stored = match read(source, spec)? {
        Stored::Matrix(matrix) => Some(matrix.format),
        Stored::Vector(_) => None,
    };
    let own = match source.config().torch_dtype {
        TorchDtype::Float32 => Format::F32,
        TorchDtype::Float16 => Format::F16,
        TorchDtype::Bfloat16 => Format::Bf16,
    };
    Ok(match (wanted, stored) {
        (Some(Format::F8E4M3), Some(_)) if spec.role.quantised() => Format::F8E4M3,
        (Some(Format::F8E4M3), _) => Format::Bf16,
        (Some(format), _) => format,
        (None, Some(stored)) if DIRECTORY_FORMATS.contains(&stored) => stored,
        (None, Some(_)) => Format::Bf16,
        (None, None) => own,
    })
}

/// A tensor as it is stored. A copy that the source lacks is the tensor it copies.
fn read(source: &Source, spec: &TensorSpec) -> Result<Stored, Error> {
    let original = match spec.role {
        Role::EmbeddingCopy => names::EMBED,
        Role::HeadCopy => names::LM_HEAD,
        _ => return source.read(source.config(), spec),
    };
    source.read(source.config(), spec).or_else(|_| {
        source.read(source.config(), &TensorSpec { name: original.to_owned(), ..spec.clone() })
    })
}

/// The tensor for a GGUF, in its stored form.
pub fn export_source(source: &Source, spec: &TensorSpec) -> Result<ExportSource, Error> {
    Ok(match read(source, spec)? {
        Stored::Matrix(matrix) => ExportSource::Stored(matrix),
        Stored::Vector(values) => ExportSource::F32(values),
    })
}

fn plain_tensor<'a>(
    source: &'a Source,
    spec: &'a TensorSpec,
    format: Format,
    stops: &'a dyn Fn() -> bool,
) -> TensorSource<'a> {
    let dtype = match format {
        Format::F32 => Dtype::F32,
        Format::F16 => Dtype::F16,
        _ => Dtype::BF16,
    };
    TensorSource::new(&spec.name, dtype, &spec.shape, move |out| {
        go_on(stops)?;
        match read(source, spec).map_err(io::Error::other)? {
            Stored::Matrix(matrix) => {
                if matrix.format == format && row_heads(source.config(), spec).is_none() {
                    out.write_all(matrix.bytes())?;
                } else {
                    out.write_all(&encode(&values_of(source, spec, &matrix), format))?;
                }
                matrix.bytes().release();
                Ok(())
            }
            Stored::Vector(values) => {
                out.write_all(&encode(&ordered(source.config(), spec, values, 1), format))
            }
        }
    })
}

/// The codes and their multipliers.
fn fp8_tensors<'a>(
    source: &'a Source,
    spec: &'a TensorSpec,
    stops: &'a dyn Fn() -> bool,
) -> [TensorSource<'a>; 2] {
    let (n_out, n_in) = (spec.shape[0], spec.shape[1]);
    let made = move || -> io::Result<(Vec<u8>, Vec<f32>)> {
        go_on(stops)?;
        let Stored::Matrix(matrix) = read(source, spec).map_err(io::Error::other)? else {
            unreachable!("a matrix has two dimensions");
        };
        if let (Format::F8E4M3, Some(scales)) = (matrix.format, matrix.scales())
            && row_heads(source.config(), spec).is_none()
        {
            return Ok((matrix.bytes().to_vec(), scales.values.to_vec()));
        }
        let values = values_of(source, spec, &matrix);
        matrix.bytes().release();
        Ok(quant::fp8_blocks(&values, n_out, n_in, FP8_BLOCK, ScaleKind::F32))
    };
    let block = source.config().quantization_config.map_or(FP8_BLOCK, |fp8| fp8.weight_block_size);
    let scales_shape = [n_out.div_ceil(block[0]), n_in.div_ceil(block[1])];
    let name = format!("{}{SCALE_SUFFIX}", spec.name);
    [
        TensorSource::new(&spec.name, Dtype::F8E4M3, &spec.shape, move |out| {
            out.write_all(&made()?.0)
        }),
        TensorSource::new(name, Dtype::F32, &scales_shape, move |out| {
            out.write_all(&encode(&made()?.1, Format::F32))
        }),
    ]
}

fn go_on(stops: &dyn Fn() -> bool) -> io::Result<()> {
    if stops() { Err(io::Error::other(Error::Stopped)) } else { Ok(()) }
}

fn values_of(source: &Source, spec: &TensorSpec, matrix: &Matrix) -> Vec<f32> {
    ordered(source.config(), spec, matrix.to_f32(), matrix.n_in)
}

/// Rows of q and k in the order of the releases.
fn ordered(config: &Config, spec: &TensorSpec, values: Vec<f32>, row: usize) -> Vec<f32> {
    match row_heads(config, spec) {
        Some(n_heads) => interleaved_to_half_split(&values, n_heads, row),
        None => values,
    }
}

/// Heads of a tensor whose rows a GGUF has in interleaved order.
fn row_heads(config: &Config, spec: &TensorSpec) -> Option<usize> {
    if !config.rope_interleave || !matches!(config.attention(), Attention::Gqa { .. }) {
        return None;
    }
    spec.rotated_heads(config)
}
