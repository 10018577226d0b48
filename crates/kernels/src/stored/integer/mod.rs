//! Products in integers: rows rounded to 8 bits times the codes of a quantised matrix.
//!
//! A task takes [`PANEL`] × 2 rows of W through the columns, [`CHUNK`] at a time: it opens the blocks
//! (takes them apart and interleaves the rows, so that sixteen rows are the lanes of a register) into
//! scratch that stays in the first-level cache, and multiplies them with all rows of x. Nothing is
//! repacked beforehand: a mapped file is read where it lies, once per product.
//!
//! An element of the result is one chain over the groups of 32 columns in ascending order,
//! `sum ← fma(dot, scale_w·scale_x, sum)`, where `dot` is an exact integer; minima follow as
//! `sum ← fma(min_w, Σcodes_x·scale_x, sum)`. Where W has two scales in a group, the group's term is
//! `fma(fma(dot₂, scale₂, dot₁·scale₁), scale_x, sum)`. So a row has the same bits alone and among
//! others, with any number of threads and on every CPU level.

mod avx2;
mod avx512;
mod avx512_open;
mod opened;
mod rounded;
mod scalar;

pub use rounded::Rounded;

use super::Matrix;
use crate::cpu::{Isa, cpu, isa};
use crate::quant::{self, CHUNK, Coding, Format};
use crate::threads::n_threads;
use opened::{Opened, PANEL, PanelRows};
use rounded::Piece;
use std::cell::RefCell;
use std::ops::Range;

/// Panels that are open at once.
const PANELS: usize = 2;
/// Rows of W that are open at once.
const N_STEP: usize = PANELS * PANEL;
/// Rows of x that are few: memory is the limit, and a thread likes to read long runs.
const FEW: usize = 16;
/// Tasks per thread that a matrix is cut into for few rows of x.
const RUNS_PER_THREAD: usize = 4;
/// Rows of x that meet an open panel before the next is opened: their sums stay in the second-level cache.
const M_BLOCK: usize = 512;

/// Rows of W that a task takes, of `n_out`, for `m` rows of x.
pub(super) fn task_rows(n_out: usize, m: usize) -> usize {
    let least = 2 * N_STEP;
    if m > FEW {
        return least;
    }
    (n_out / (RUNS_PER_THREAD * n_threads())).next_multiple_of(N_STEP).max(least)
}

/// Whether matrices of `format` can be multiplied in integers.
pub(super) fn can(format: Format) -> bool {
    quant::coding(format).is_some()
}

/// A tile of sums: `m` rows of x times the open panels.
///
/// Safety: the rows exist, and so do the sums, which no one else touches meanwhile.
struct Tile<'a> {
    x: Piece,
    m: usize,
    panels: &'a [Opened; PANELS],
    coding: Coding,
    out: *mut f32,
    /// From row to row of the sums.
    out_stride: usize,
    /// Whether the sums start here, or go on from what is there.
    first: bool,
}

struct Scratch {
    panels: [Opened; PANELS],
    sums: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Box<Scratch>> = RefCell::new(Box::new(Scratch {
        panels: [const { Opened::new() }; PANELS],
        sums: Vec::new(),
    }));
}

/// The columns `rows` of the result for the rows `xs` of x; `out` is the first of them, a row of
/// results follows after `matrix.n_out`.
///
/// Safety: no one else touches these places.
pub(super) unsafe fn block(
    x: &Rounded,
    xs: Range<usize>,
    matrix: &Matrix,
    rows: Range<usize>,
    out: *mut f32,
) {
    let coding = quant::coding(matrix.format).expect("`can` said so");
    SCRATCH.with_borrow_mut(|scratch| {
        for first in rows.clone().step_by(N_STEP) {
            let pair = first..(first + N_STEP).min(rows.end);
            for from in xs.clone().step_by(M_BLOCK) {
                let xs_now = from..(from + M_BLOCK).min(xs.end);
                let at = (from - xs.start) * matrix.n_out + first - rows.start;
                let last = pair.end == rows.end;
                let rows = pair.clone();
                let mut task = Task { x, xs: xs_now, matrix, coding, rows, last, scratch };
                // SAFETY: the caller's promise.
                unsafe { task.run(out.add(at)) };
            }
        }
    });
}

/// Up to [`N_STEP`] rows of W and up to [`M_BLOCK`] rows of x.
struct Task<'a> {
    x: &'a Rounded,
    xs: Range<usize>,
    matrix: &'a Matrix,
    coding: Coding,
    rows: Range<usize>,
    /// No rows follow these.
    last: bool,
    scratch: &'a mut Scratch,
}

impl Task<'_> {
    /// Safety: as [`block`].
    unsafe fn run(&mut self, out: *mut f32) {
        let variant = variant();
        let (m, n_in) = (self.xs.len(), self.matrix.n_in);
        self.scratch.sums.resize(self.scratch.sums.len().max(m * N_STEP), 0.0);
        for start in (0..n_in).step_by(CHUNK) {
            // SAFETY: the rows and their blocks exist.
            unsafe { self.open(start, variant.open) };
            let x = self.x.piece(start, &self.xs);
            for i in (0..m).step_by(variant.m) {
                let sums = &mut self.scratch.sums[i * N_STEP..];
                let tile = Tile {
                    // SAFETY: row i exists.
                    x: unsafe { x.row(i) },
                    m: variant.m.min(m - i),
                    panels: &self.scratch.panels,
                    coding: self.coding,
                    out: sums.as_mut_ptr(),
                    out_stride: N_STEP,
                    first: start == 0,
                };
                // SAFETY: rows i.. exist in x and in the sums.
                unsafe { (variant.tile)(&tile) };
            }
        }
        let n = self.rows.len();
        for (i, sums) in self.scratch.sums.as_chunks::<N_STEP>().0.iter().take(m).enumerate() {
            // SAFETY: these places of the result are ours.
            unsafe {
                let out = out.add(i * self.matrix.n_out);
                if n == N_STEP {
                    out.cast::<[f32; N_STEP]>().write_unaligned(*sums);
                } else {
                    std::slice::from_raw_parts_mut(out, n).copy_from_slice(&sums[..n]);
                }
            }
        }
    }

    /// Opens the chunk that starts at column `start`. Safety: it exists.
    unsafe fn open(&mut self, start: usize, open: Open) {
        let format = self.matrix.format;
        let row_bytes = self.matrix.row_bytes();
        let at = start / format.block_len() * format.block_bytes();
        let panels = self.rows.clone().step_by(PANEL);
        for (first, opened) in panels.zip(&mut self.scratch.panels) {
            let bytes = &self.matrix.bytes()[first * row_bytes..];
            let next = if self.last { 0 } else { N_STEP * row_bytes };
            let rows = PanelRows {
                ahead: bytes.as_ptr().wrapping_add(next + PANEL * at),
                bytes: bytes[at..].as_ptr(),
                row_bytes,
                n_rows: PANEL.min(self.rows.end - first),
                len: CHUNK.min(self.matrix.n_in - start),
            };
            // SAFETY: the rows lie in the matrix.
            unsafe { open(opened, format, self.coding, &rows) };
        }
    }
}

type Open = unsafe fn(&mut Opened, Format, Coding, &PanelRows);

/// The kernels of a CPU level.
#[derive(Clone, Copy)]
struct Variant {
    open: Open,
    tile: unsafe fn(&Tile),
    /// Rows of x that a tile takes.
    m: usize,
}

fn variant() -> Variant {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if cpu().vnni => {
            Variant { open: avx512_open::open, tile: avx512::tile, m: avx512::M }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => Variant { open: Opened::open, tile: avx2::tile, m: avx2::M },
        _ => Variant { open: Opened::open, tile: scalar::tile, m: 1 },
    }
}

#[cfg(test)]
mod tests;
