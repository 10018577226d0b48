//! Floating weights on AVX-512.
//!
//! Few rows of x ([`few`]): weights are widened in registers and used there, lanes being chains. Many
//! rows ([`many`]): weights are widened and transposed once per task, lanes being rows of W, and chains
//! run one after another. Both sum in the order of the definition.

mod few;
mod many;
mod pack;
mod weights;

use super::input::{Input, padded};
use super::scratch::with_weights;
use super::{CHAINS, K_CHUNK, TASK_ROWS, scaled};
use crate::quant::Format;
use crate::stored::Matrix;
use pack::{LANES, PANEL, Packing};
use std::ops::Range;

/// Most rows of x that are multiplied straight from registers.
pub(super) const FEW: usize = 16;

/// Columns of a block of scales that the kernels know.
const SCALED_COLUMNS: usize = 128;

/// Whether all rows of a task stand under the same scales, every [`SCALED_COLUMNS`] under one.
pub(super) fn knows_scales(matrix: &Matrix) -> bool {
    matrix.scales().is_none_or(|scales| {
        scales.block[0].is_multiple_of(TASK_ROWS) && scales.block[1] == SCALED_COLUMNS
    })
}

/// What kernels read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    F32,
    F16,
    Bf16,
    /// E4M3 through half precision.
    Fp8,
    /// E4M3 by table (AVX-512 VBMI).
    Fp8Table,
}

impl Kind {
    fn of(format: Format) -> Kind {
        match format {
            Format::F32 => Kind::F32,
            Format::F16 => Kind::F16,
            Format::Bf16 => Kind::Bf16,
            Format::F8E4M3 if is_x86_feature_detected!("avx512vbmi") => Kind::Fp8Table,
            Format::F8E4M3 => Kind::Fp8,
            other => panic!("`{}` has no floating weights", other.name()),
        }
    }
}

/// The rows of a matrix as the kernels see them.
#[derive(Clone, Copy)]
struct Source<'a> {
    kind: Kind,
    bytes: &'a [u8],
    weight_bytes: usize,
    n_in: usize,
    n_out: usize,
}

impl<'a> Source<'a> {
    fn new(matrix: &'a Matrix) -> Self {
        Source {
            kind: Kind::of(matrix.format),
            bytes: matrix.bytes(),
            weight_bytes: matrix.format.block_bytes(),
            n_in: matrix.n_in,
            n_out: matrix.n_out,
        }
    }

    /// The elements `ks` of a row.
    #[inline]
    fn row(&self, row: usize, ks: &Range<usize>) -> *const u8 {
        let from = (row * self.n_in + ks.start) * self.weight_bytes;
        self.bytes[from..from + ks.len() * self.weight_bytes].as_ptr()
    }
}

/// Rows of x in groups of nearly the same size, as many as a tile takes at most.
pub(super) fn groups(m: usize) -> impl Iterator<Item = Range<usize>> {
    let n = m.div_ceil(many::M);
    (0..n).map(move |i| i * m / n..(i + 1) * m / n)
}

/// Chunks of a row.
fn chunks(n_in: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    (0..n_in).step_by(K_CHUNK).map(move |k0| k0..(k0 + K_CHUNK).min(n_in))
}

/// Lays out a group of rows as `[chunk, chain, step, row]`.
pub(super) fn lay_out(x: &[f32], n_in: usize, out: &mut [f32]) {
    let n_rows = x.len() / n_in;
    assert!(n_rows <= many::M && out.len() == n_rows * padded(n_in), "a group of {n_rows} rows");
    let mut done = 0;
    for ks in chunks(n_in) {
        let mut rows = [x.as_ptr().cast::<u8>(); LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            let i = i.min(n_rows - 1);
            *row = x[i * n_in + ks.start..i * n_in + ks.end].as_ptr().cast();
        }
        let packing = Packing {
            rows,
            k: ks.len(),
            stride: n_rows,
            chain_stride: padded(ks.len()) / CHAINS * n_rows,
            n: n_rows,
            ahead: 0,
        };
        let room = n_rows * padded(ks.len());
        // SAFETY: the rows hold this chunk; this layout is chosen on AVX-512 only.
        unsafe { packing.run(Kind::F32, &mut out[done..done + room]) };
        done += room;
    }
}

/// Safety: as [`super::block`]; the CPU has AVX-512.
pub(super) unsafe fn few(input: Input<'_>, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    let (source, m) = (Source::new(matrix), input.m);
    if matrix.scales().is_none() {
        // SAFETY: the caller's promise.
        return unsafe { few::Task { x: input.values, m, source, rows, out }.run() };
    }
    with_weights(input.values.len(), |x| {
        let mut rest = rows.clone();
        while let run @ Range { start, end } = scaled::run(matrix, rest.clone())
            && start < end
        {
            rest.start = end;
            if let Some(scales) = scaled::of_row(matrix, start) {
                scaled::whole_columns(input.values, matrix.n_in, scales, SCALED_COLUMNS, x);
            }
            // SAFETY: the caller's promise.
            unsafe {
                let out = out.add(start - rows.start);
                few::Task { x, m, source, rows: run, out }.run();
            }
        }
    });
}

/// Safety: as [`super::block`]; the CPU has AVX-512.
pub(super) unsafe fn many(input: Input<'_>, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    let scales = scaled::of_row(matrix, rows.start);
    let n_panels = rows.len().div_ceil(PANEL);
    let panels_len = n_panels * CHAINS * many::chain_stride(K_CHUNK);
    with_weights(panels_len + many::room(n_panels), |scratch| {
        let (panels, room) = scratch.split_at_mut(panels_len);
        for ks in chunks(matrix.n_in) {
            let k = padded(ks.len());
            let panels = &mut panels[..n_panels * CHAINS * many::chain_stride(k)];
            pack_panels(&Source::new(matrix), rows.clone(), &ks, panels);
            for group in groups(input.m) {
                let at = group.start * padded(matrix.n_in) + ks.start * group.len();
                // SAFETY: the caller's promise; the result is ours.
                unsafe {
                    many::tile(&mut many::Tile {
                        x: &input.values[at..at + group.len() * k],
                        scales: scales.map(|scales| &scales[ks.start / SCALED_COLUMNS..]),
                        panels,
                        k,
                        rows: group.len(),
                        n: rows.len(),
                        room: &mut *room,
                        out: out.add(group.start * matrix.n_out),
                        out_stride: matrix.n_out,
                        first: ks.start == 0,
                    });
                }
            }
        }
    });
}

/// Packs a chunk of the rows of a task, panel after panel; the last row fills up the last panel.
fn pack_panels(source: &Source<'_>, rows: Range<usize>, ks: &Range<usize>, panels: &mut [f32]) {
    let len = CHAINS * many::chain_stride(ks.len());
    for (panel, first) in panels.chunks_exact_mut(len).zip(rows.clone().step_by(PANEL)) {
        for half in 0..PANEL / LANES {
            let mut packed = [std::ptr::null(); LANES];
            for (j, row) in packed.iter_mut().enumerate() {
                *row = source.row((first + half * LANES + j).min(rows.end - 1), ks);
            }
            let ahead = LANES * source.n_in * source.weight_bytes;
            let packing = Packing {
                rows: packed,
                k: ks.len(),
                stride: PANEL,
                chain_stride: many::chain_stride(ks.len()),
                n: LANES,
                ahead,
            };
            // SAFETY: rows of this matrix; this layout is chosen on AVX-512 only.
            unsafe { packing.run(source.kind, &mut panel[half * LANES..]) };
        }
    }
}
