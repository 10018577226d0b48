//! Products in integers: rows rounded to 8 bits times the codes of a quantised matrix.
//!
//! A task takes [`PANEL`] × 2 rows of W through the columns, [`CHUNK`] × 2 at a time: it opens the blocks
//! (takes them apart and interleaves the rows, so that sixteen rows are the lanes of a register) into
//! scratch that stays in the first-level cache, and multiplies them with all rows of x. Nothing is
//! repacked beforehand: a mapped file is read where it lies, once per product. With AVX-512, up to four rows of x
//! meet the blocks without that.
//!
//! An element of the result is one chain over the groups of 32 columns in ascending order,
//! `sum ← fma(dot·scale_x, scale_w, sum)`, where `dot` is an exact integer; minima follow as
//! `sum ← fma(min_w, Σcodes_x·scale_x, sum)`. Where W has two scales in a group, the group's term is
//! `fma(fma(dot₂, scale₂, dot₁·scale₁), scale_x, sum)`. So a row has the same bits alone and among
//! others, with any number of threads and on every CPU level.
//!
//! With AVX-512 a dot product starts from the bits of 1.5·2²³, so that what comes out is a float, so much
//! above the product. Taking it off again is exact, and part of the multiplication with a scale:
//! `fma(dot + 1.5·2²³, scale, −1.5·2²³·scale)` is `dot·scale`, rounded once. No conversion is needed.

mod avx2;
mod avx512;
mod avx512_open;
mod avx512_open_low;
mod avx512_row;
mod avx512_row_codes;
mod avx512_row_small;
mod avx512_scales;
mod gated;
mod groups;
mod groups_avx512;
mod neon;
mod neon_codes;
mod neon_open;
mod neon_row;
mod opened;
mod rounded;
mod scalar;
mod sweep;

pub use gated::{Gated, can_gate, gated_batch};
pub use rounded::Rounded;

use super::{Matrix, cut_rows};
#[cfg(target_arch = "x86_64")]
use crate::cpu::cpu;
use crate::cpu::{Isa, isa};
use crate::quant::{self, Coding, Format};
use opened::{Opened, PANEL, PanelRows};
use rounded::Piece;
use std::cell::RefCell;
use std::ops::Range;
use sweep::Sweep;

/// Panels side by side that are open at once.
const PANELS: usize = 2;
/// Chunks of columns that are open at once: sums are fetched and put away once for all of them.
const DEPTH: usize = 2;
/// Rows of W that are open at once.
const N_STEP: usize = PANELS * PANEL;
/// Columns that [`Direct`] kernels take at a time.
const DIRECT_STEP: usize = 128;
/// Rows of x that are few: memory is the limit, and a thread likes to read long runs.
const FEW: usize = 16;
/// Rows of x that meet an open panel before the next is opened: their sums stay in the second-level cache.
const M_BLOCK: usize = 1024;

/// Rows of W that a task takes, of `n_out`, for `m` rows of x, task by task; `behind` more rows follow in
/// other matrices.
///
/// For few rows of x tasks get smaller and smaller: memory likes long runs, but serves one thread faster
/// than another, which would wait for it at the end.
pub(super) fn tasks(n_out: usize, m: usize, behind: usize) -> impl Iterator<Item = Range<usize>> {
    match m > FEW {
        true => cut_rows(n_out, N_STEP, 2 * N_STEP, None),
        false => cut_rows(n_out, N_STEP, 4 * N_STEP, Some(behind)),
    }
}

/// Whether matrices of `format` can be multiplied in integers.
pub(super) fn can(format: Format) -> bool {
    quant::coding(format).is_some()
}

/// Panels side by side.
type Panels = [Opened; PANELS];

/// A tile of sums: `m` rows of x times the open panels.
///
/// Safety: the rows and places exist, and no one else touches the places meanwhile.
struct Tile<'a> {
    x: Piece,
    m: usize,
    /// Chunk by chunk, for all columns of the piece.
    panels: &'a [Panels],
    coding: Coding,
    /// What the sums go on from; unless `first`, when they start here.
    from: Place,
    first: bool,
    /// Where they go.
    to: Place,
}

/// Rows of sums.
#[derive(Clone, Copy)]
struct Place {
    start: *mut f32,
    /// From row to row.
    stride: usize,
}

impl Place {
    /// The same from row `i` on.
    #[inline(always)]
    fn row(self, i: usize) -> Place {
        Place { start: self.start.wrapping_add(i * self.stride), ..self }
    }
}

/// What a thread works in.
struct Scratch {
    panels: [Panels; DEPTH],
    /// Sums of a sweep; a gated block needs those of two.
    sums: [Vec<f32>; 2],
}

thread_local! {
    static SCRATCH: RefCell<Box<Scratch>> = RefCell::new(Box::new(Scratch {
        panels: [const { [const { Opened::new() }; PANELS] }; DEPTH],
        sums: [Vec::new(), Vec::new()],
    }));
}

/// The columns `rows` of the result for the rows `xs` of x; `out` is the first of them, a row of
/// results follows after `matrix.n_out`. What is read afterwards, the rows of a matrix from `then` on, is
/// fetched on the way.
///
/// Safety: no one else touches these places.
pub(super) unsafe fn block(
    x: &Rounded,
    xs: Range<usize>,
    matrix: &Matrix,
    rows: Range<usize>,
    then: (&Matrix, usize),
    out: *mut f32,
) {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { panels, sums: [sums, _] } = &mut **scratch;
        sums.resize(sums.len().max(xs.len().min(M_BLOCK) * N_STEP), 0.0);
        for first in rows.clone().step_by(N_STEP) {
            let few = first..(first + N_STEP).min(rows.end);
            let next = if few.end < rows.end { (matrix, few.end) } else { then };
            for from in xs.clone().step_by(M_BLOCK) {
                let xs_now = from..(from + M_BLOCK).min(xs.end);
                let sweep = Sweep { x, xs: xs_now, matrix, rows: few.clone(), next };
                let at = (from - xs.start) * matrix.n_out + first - rows.start;
                // SAFETY: the caller's promise; whole steps of rows of W are whole steps of the result.
                unsafe {
                    let to = Place { start: out.add(at), stride: matrix.n_out };
                    if few.len() == N_STEP {
                        sweep.run_to(panels, sums, to);
                    } else {
                        sweep.run(panels, sums);
                        copy_out(sums, sweep.xs.len(), few.len(), to);
                    }
                }
            }
        }
    });
}

/// The first `n` of every [`N_STEP`] sums, `m` times, to rows of `to`.
///
/// Safety: no one else touches these places.
unsafe fn copy_out(sums: &[f32], m: usize, n: usize, to: Place) {
    for (i, sums) in sums.as_chunks::<N_STEP>().0.iter().take(m).enumerate() {
        // SAFETY: the caller's promise.
        let row = unsafe { std::slice::from_raw_parts_mut(to.row(i).start, n) };
        row.copy_from_slice(&sums[..n]);
    }
}

type Open = unsafe fn(&mut Opened, Format, Coding, &PanelRows);

/// The sums of `m` rows of x and a panel through all columns of x, without opening it; the first argument is
/// scratch.
type Direct = unsafe fn(&mut Opened, x: Piece, m: usize, rows: PanelRows, to: Place);

/// The kernels of a CPU level.
#[derive(Clone, Copy)]
struct Variant {
    open: Open,
    tile: unsafe fn(&Tile),
    /// Rows of x that a tile takes.
    m: usize,
    /// The kernel for so few rows of x that nothing is opened.
    direct: fn(Format, m: usize) -> Option<Direct>,
}

fn variant() -> Variant {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if cpu().vnni => {
            let direct = avx512_row_codes::direct;
            Variant { open: avx512_open::open, tile: avx512::tile, m: avx512::M, direct }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => {
            Variant { open: Opened::open, tile: avx2::tile, m: avx2::M, direct: |_, _| None }
        }
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => {
            let tile = if neon::dotprod() { neon::tile_dotprod } else { neon::tile };
            Variant { open: neon_open::open, tile, m: neon::M, direct: neon_codes::direct }
        }
        _ => Variant { open: Opened::open, tile: scalar::tile, m: 1, direct: |_, _| None },
    }
}

#[cfg(test)]
mod tests;
