//! Claims about whole models.
#![allow(clippy::unwrap_used)] // a failed test shows where

mod golden;
mod gradients;
mod published;
