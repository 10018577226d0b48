//! What this crate promises about files, good and bad.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fuzz/shared/allocation.rs"]
mod allocation;
mod atomic;
mod claims;
mod directory;
mod gguf;
mod gguf_hostile;
mod golden;
mod hostile;
#[path = "../../../../fuzz/shared/mutation.rs"]
mod mutation;
mod mutations;
mod scratch;
mod writer;
