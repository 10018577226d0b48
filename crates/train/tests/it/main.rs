//! Claims about whole runs.
#![allow(clippy::unwrap_used)] // a failed test shows where

mod bits;
mod golden;
mod small;
