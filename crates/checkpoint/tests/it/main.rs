//! What this crate promises about files, good and bad.
#![allow(clippy::unwrap_used)]

mod atomic;
mod directory;
mod gguf;
mod gguf_hostile;
mod golden;
mod hostile;
mod scratch;
mod writer;
