//! Products with floating weights: f32, half precision, bfloat16, and E4M3 with scales of blocks.
//!
//! An element of the result is, for every chunk of [`K_CHUNK`] elements of a row, sixteen chains
//! `s ← fma(x, w, s)` over ascending elements, element `e` belonging to chain `e / 2 % 16`, folded in one
//! tree (halves onto halves); chunks are added in order. Rows count as padded with zeros to whole
//! blocks of [`BLOCK`]. Where blocks have scales, `w` is the code and `x` stands for `x · scale`, rounded:
//! rows of W under the same scales share that product. All this holds for one row of x as for many, for
//! any number of threads and on every level of the CPU.
//!
//! Chains of pairs are what bfloat16 likes: a register of 32 weights is two registers of f32, even and
//! odd elements, after one shift and one mask. So rows of x are laid out that way too, once per product.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod input;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod scaled;
mod scratch;
#[cfg(test)]
mod tests;

pub(super) use input::{Input, Inputs};

use super::{Matrix, cut_rows};
use crate::quant::Format;
use input::Layout;
use std::ops::Range;

/// Elements of a row that are summed before the chains are folded: whole blocks of scales.
const K_CHUNK: usize = 1024;
/// Elements that kernels take at a time.
const BLOCK: usize = 64;
/// Elements that stand in one register as pairs: sixteen even ones, then sixteen odd ones.
const PAIRED: usize = 32;
/// Chains of a sum.
const CHAINS: usize = 16;

/// Whether matrices of this format are multiplied here.
pub(super) fn covers(format: Format) -> bool {
    matches!(format, Format::F32 | Format::F16 | Format::Bf16 | Format::F8E4M3)
}

/// Rows of W that a task takes; rows of one task stand under the same scales.
const TASK_ROWS: usize = 64;
/// The fewest rows that a task takes where memory is the limit.
const LEAST_ROWS: usize = 16;

/// Rows of W that a task takes, of `n_out`, task by task; `behind` more rows follow in other matrices.
///
/// Where memory is the limit tasks get smaller and smaller: the beginning of a run is read cold, and no one
/// should wait long for the last one.
pub(super) fn tasks(
    input: &Input<'_>,
    n_out: usize,
    behind: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    match input.layout.is_read_once() {
        true => cut_rows(n_out, LEAST_ROWS, LEAST_ROWS, Some(behind)),
        false => cut_rows(n_out, TASK_ROWS, TASK_ROWS, None),
    }
}

/// The columns `rows` of the result, for all rows of x.
///
/// Safety: `out` points at the first of them, in a result whose rows are `matrix.n_out` apart, and no
/// one else touches these columns meanwhile.
pub(super) unsafe fn block(input: Input<'_>, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    // SAFETY: the caller's promise; an input is laid out for the level it was made at.
    unsafe {
        match input.layout {
            Layout::Rows => plain::block(input, matrix, rows, out),
            #[cfg(target_arch = "x86_64")]
            Layout::Few => avx512::few(input, matrix, rows, out),
            #[cfg(target_arch = "aarch64")]
            Layout::Few => neon::few(input, matrix, rows, out),
            #[cfg(target_arch = "x86_64")]
            Layout::Groups => avx512::many(input, matrix, rows, out),
        }
    }
}
