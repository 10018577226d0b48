//! Models in GGUF files, as llama.cpp and its converters lay them out: the metadata as a
//! configuration, the tensors under the names of the releases, and the way back.
//!
//! Sources: the converters, loaders and name tables of ggml-org/llama.cpp (`conversion/`,
//! `src/models/`, `src/llama-arch.cpp`), looked up in the copy inside llama-cpp-python 0.3.36, and
//! the layouts that older files have. `docs/gguf.md` lists what differs between them.

mod assumption;
mod config;
mod export;
mod metadata;
mod names;
mod permute;
mod read;

pub use assumption::Assumption;
pub use config::{config, config_with_assumptions};
pub use export::{ExportSource, export, export_format};
pub use metadata::{Vocabulary, metadata};
pub use names::{GgufPlace, find, places, stored_tensors, unknown};
pub use permute::{half_split_to_interleaved, interleaved_to_half_split};
pub use read::{GgufTensorData, read};
