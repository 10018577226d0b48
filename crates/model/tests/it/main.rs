//! Claims about whole models.
#![allow(clippy::unwrap_used)] // a failed test shows where

mod gguf;
mod golden;
mod gradients;
mod load;
mod published;
