//! Claims about whole models.
#![allow(clippy::unwrap_used)] // a failed test shows where

#[path = "../../../../fuzz/shared/allocation.rs"]
mod allocation;
mod blocks;
mod claims;
mod experts;
mod gguf;
mod golden;
mod gradients;
mod load;
mod mtp;
#[path = "../../../../fuzz/shared/mutation.rs"]
mod mutation;
mod mutations;
mod published;
