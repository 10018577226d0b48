//! What this crate promises about files, good and bad.
#![allow(clippy::unwrap_used)]

mod atomic;
mod directory;
mod golden;
mod hostile;
mod scratch;
mod writer;
