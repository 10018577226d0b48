//! Chores of the house that are not part of the product: today the tidy test.

#![forbid(unsafe_code)]

pub mod tidy;
