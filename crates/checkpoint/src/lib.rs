//! Weights on disk: safetensors and GGUF readers and writers, sharded directories, atomic writes.
//!
//! Every byte of an input file is treated as hostile: lengths are bounded before anything is
//! allocated and every offset is checked before it is used. What a tensor's name means is not
//! known here. Source of the format: the safetensors README (8-byte length, JSON header, data).
#![deny(unsafe_code)]

pub mod atomic;
pub mod directory;
pub mod dtype;
mod error;
pub mod gguf;
mod header;
mod mapped_file;
pub mod safetensors;
pub mod safetensors_writer;

pub use directory::{Checkpoint, write_directory};
pub use dtype::Dtype;
pub use error::Error;
pub use gguf::Gguf;
pub use safetensors::{SafeTensors, TensorView};
pub use safetensors_writer::{TensorSource, write};

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
