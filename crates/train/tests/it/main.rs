//! Claims about whole runs.
#![allow(clippy::unwrap_used)] // a failed test shows where

mod bits;
mod drafting;
mod golden;
mod small;
