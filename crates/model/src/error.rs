//! What can be wrong with a model's files.

use crate::config::ConfigError;
use crate::names::SCALE_SUFFIX;
use fathom_kernels::quant::Format;
use fathom_kernels::stored::MatrixError;
use std::fmt;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug)]
pub enum Error {
    /// The configuration cannot work.
    Config(ConfigError),
    /// The configuration in a file cannot work.
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ConfigError,
    },
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The weights cannot be read or written.
    Checkpoint(fathom_checkpoint::Error),
    /// A tensor's bytes are no matrix of its shape.
    Matrix {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What does not fit.
        error: MatrixError,
    },
    /// An FP8 tensor without its scales means nothing.
    NoScales {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The memory allowed does not even hold what one step needs at once.
    Memory {
        /// What was allowed.
        found_bytes: u64,
        /// The least that works.
        needed_bytes: u64,
    },
    /// A file of reference values is not of its form, or belongs to another model.
    Golden {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A directory of safetensors cannot hold this format.
    Format {
        /// What was asked for.
        found: Format,
    },
    /// Somebody asked to stop.
    Stopped,
    /// Weights that were turned into another format cannot be dropped and read again.
    NotOnDisk,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => error.fmt(f),
            Error::ConfigFile { path, error } => write!(f, "`{}`: {error}", path.display()),
            Error::Read { path, source } => write!(f, "cannot read `{}`: {source}", path.display()),
            Error::Checkpoint(error) => error.fmt(f),
            Error::Matrix { path, tensor, error } => {
                write!(f, "`{}`: tensor `{tensor}`: {error}", path.display())
            }
            Error::NoScales { path, tensor } => write!(
                f,
                "`{}`: tensor `{tensor}` is stored as F8_E4M3, but the checkpoint has no \
                 `{tensor}{SCALE_SUFFIX}`\nhint: a shard may be missing; FP8 codes mean nothing without \
                 their scales",
                path.display()
            ),
            Error::Memory { found_bytes, needed_bytes } => write!(
                f,
                "{} MiB for weights are too few, this model needs {} MiB at once",
                found_bytes >> 20,
                (needed_bytes >> 20) + 1
            ),
            Error::Golden { path, problem } => write!(
                f,
                "`{}` holds no reference values of this model: {problem}\nhint: the form is that of \
                 `golden/*/golden.json`",
                path.display()
            ),
            Error::Format { found } => write!(
                f,
                "a directory of safetensors cannot hold `{}`\nhint: it can hold f32, f16, bf16 and fp8; \
                 write a `.gguf` for the others",
                found.name()
            ),
            Error::Stopped => f.write_str("stopped"),
            Error::NotOnDisk => write!(
                f,
                "weights that are quantised while loading cannot be read from disk again\nhint: \
                 `fathom quantize` writes them to a file first"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<fathom_checkpoint::Error> for Error {
    fn from(error: fathom_checkpoint::Error) -> Self {
        Error::Checkpoint(error)
    }
}
