//! DeepSeek's model families as one decoder driven by `config.json`.
//!
//! Knows configurations, tensor names, layers and caches; no text, no losses, no scheduling.
#![forbid(unsafe_code)]

mod build;
pub mod cache;
pub mod config;
pub mod cost;
mod error;
mod expert_trace;
mod export;
mod files;
pub mod gguf;
pub mod layer;
mod light_mtp;
mod load;
mod model;
pub mod names;
pub mod preset;
pub mod registry;
mod residency;
mod rows;
mod small_model;
mod stand_in;
pub mod survey;
pub mod verify;

pub use config::Config;
pub use error::Error;
pub use expert_trace::ExpertTrace;
pub use export::{DIRECTORY_FORMATS, export_directory, export_source};
pub use fathom_tensor::Precision;
pub use files::read_config;
pub use load::{Activations, LoadOptions, Loaded, Source, requantized_format};
pub use model::{Forward, Model};
pub use rows::{CachedRows, PackedRows, RowKind, Rows};
pub use stand_in::write_stand_in;
