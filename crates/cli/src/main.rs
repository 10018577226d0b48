#![forbid(unsafe_code)]
//! The `fathom` program.
fn main() {}
