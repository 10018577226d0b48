//! Arithmetic on slices: the kernels that every model here is made of.
//!
//! Slices in, slices out; no tensors, no tape, no models. This crate is the home of `unsafe`.
//! Every kernel has a plain scalar definition; the fast variants are chosen once, at run time,
//! by what the CPU reports (see [`cpu`]).
//!
//! Two rules hold for every kernel on the forward path:
//! 1. **Row independence.** A row of the result depends on that row's inputs only, and its sums run
//!    in one fixed order, whatever other rows, chunks or threads there are beside it.
//! 2. **Thread independence.** Work is cut into units whose results do not depend on who runs them.

pub mod adamw;
pub mod attention;
pub mod balance;
pub mod columns;
pub mod convert;
pub mod cores;
pub mod cpu;
pub mod cross_entropy;
pub mod dispatch;
pub mod elementwise;
pub mod embedding;
pub mod feed_forward;
pub mod gate;
mod lanes;
pub mod limits;
pub mod math;
pub mod matmul;
mod memory;
mod neon;
pub mod quant;
pub mod rms_norm;
pub mod rope;
pub mod stored;
pub mod swiglu;
pub mod threads;

#[cfg(test)]
mod testing;
