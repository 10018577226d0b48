//! Repositories of a Hugging Face hub, fetched into the cache that Python's `huggingface_hub`
//! keeps, so that both programs share one copy.
//!
//! Everything that a server sends is hostile: names of files, hashes, sizes and the bytes. Nothing
//! here prints; a caller watches through [`Progress`]. Only models are fetched, no data sets, and
//! nothing is ever sent up.
#![forbid(unsafe_code)]

mod api;
mod blob;
mod cache;
mod checksum;
mod client;
mod error;
mod events;
mod name;
mod pull;
mod select;
mod settings;

pub use cache::{Cache, Held};
pub use error::{Error, Result};
pub use events::{Event, Progress, Unwatched};
pub use name::{ModelName, Repo, Revision};
pub use pull::{Pulled, PulledFile, Request, pull};
pub use settings::{Settings, Token};
