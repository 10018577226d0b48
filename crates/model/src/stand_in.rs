//! A checkpoint of random weights in the shape of a release: what loading, speed and memory are
//! measured on where the release itself is not at hand.

use crate::config::{Config, TorchDtype};
use crate::error::Error;
use crate::files::{MAX_SHARD_BYTES, write_config};
use crate::names::{self, Initial, Role, TensorSpec};
use fathom_checkpoint::{Dtype, TensorSource, write_directory};
use fathom_kernels::quant::{self, Format};
use fathom_kernels::threads::run_chunks;
use fathom_tensor::random::Random;
use std::io::{self, Write};
use std::path::Path;

/// Rows made before they are written.
const ROWS_AT_ONCE: usize = 1024;

/// Writes `config.json` and weights in bf16 into `dir`, which exists: matrices normal with deviation
/// `initializer_range`, norms one, biases zero. The same seed gives the same bytes. Nothing larger
/// than some rows is ever in memory.
pub fn write_stand_in(config: &Config, dir: &Path, seed: u64) -> Result<(), Error> {
    config.check().map_err(Error::Config)?;
    let config =
        Config { torch_dtype: TorchDtype::Bfloat16, quantization_config: None, ..config.clone() };
    write_config(dir, &config)?;
    let std = config.initializer_range;
    let tensors = names::tensors(&config).into_iter().enumerate().map(|(slot, spec)| {
        let format = if spec.role == Role::RouterBias { Format::F32 } else { Format::Bf16 };
        let dtype = if format == Format::F32 { Dtype::F32 } else { Dtype::BF16 };
        let (name, shape) = (spec.name.clone(), spec.shape.clone());
        let key = [seed, slot as u64];
        TensorSource::new(name, dtype, &shape, move |out| fill(&spec, key, std, format, out))
    });
    write_directory(dir, tensors, MAX_SHARD_BYTES).map_err(Error::Checkpoint)
}

fn fill(
    spec: &TensorSpec,
    [seed, slot]: [u64; 2],
    std: f64,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<()> {
    let width = *spec.shape.last().expect("every tensor has a shape");
    let n_rows = spec.n_elements() / width;
    let row_bytes = width * format.block_bytes();
    let mut bytes = vec![0u8; ROWS_AT_ONCE.min(n_rows) * row_bytes];
    for first in (0..n_rows).step_by(ROWS_AT_ONCE) {
        let n = ROWS_AT_ONCE.min(n_rows - first);
        run_chunks(&mut bytes[..n * row_bytes], row_bytes, |row, out| {
            let values = match spec.role.initial() {
                Initial::Normal => {
                    Random::from_key(&[seed, slot, (first + row) as u64]).normals(width, std)
                }
                Initial::Ones => vec![1.0; width],
                Initial::Zeros => vec![0.0; width],
            };
            quant::quantize(format, &values, out);
        });
        out.write_all(&bytes[..n * row_bytes])?;
    }
    Ok(())
}
