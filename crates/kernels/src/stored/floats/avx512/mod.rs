//! Floating weights on AVX-512.
//!
//! Few rows of x ([`few`]): weights are widened in registers and used there, lanes being chains. Many
//! rows ([`many`]): weights are widened and transposed once per task, lanes being rows of W, and chains
//! run one after another. Both sum in the order of the definition.

mod few;
mod many;
mod pack;
mod weights;

use super::K_CHUNK;
use super::input::{Input, padded};
use super::scratch::with_weights;
use crate::quant::Format;
use crate::stored::Matrix;
use pack::{LANES, PANEL, Packing};
use std::ops::Range;

/// Most rows of x that are multiplied straight from registers.
pub(super) const FEW: usize = 16;

/// Columns of a block of scales that the kernels know; others are widened first.
const SCALED_COLUMNS: usize = 128;

/// Scales of a matrix that has none.
static ONES: [f32; K_CHUNK / SCALED_COLUMNS] = [1.0; K_CHUNK / SCALED_COLUMNS];

/// A chunk of a row of weights: its bytes, and the scales of its blocks of 128.
#[derive(Clone, Copy)]
struct Row {
    at: *const u8,
    scales: *const f32,
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
    /// f32 in scratch, widened from anything.
    Widened,
}

impl Kind {
    fn of(matrix: &Matrix) -> Kind {
        let known = match matrix.scales() {
            None => true,
            Some(scales) => matrix.format == Format::F8E4M3 && scales.block[1] == SCALED_COLUMNS,
        };
        match matrix.format {
            _ if !known => Kind::Widened,
            Format::F32 => Kind::F32,
            Format::F16 => Kind::F16,
            Format::Bf16 => Kind::Bf16,
            Format::F8E4M3 if is_x86_feature_detected!("avx512vbmi") => Kind::Fp8Table,
            Format::F8E4M3 => Kind::Fp8,
            _ => Kind::Widened,
        }
    }

    fn weight_bytes(self) -> usize {
        match self {
            Kind::F32 | Kind::Widened => 4,
            Kind::F16 | Kind::Bf16 => 2,
            Kind::Fp8 | Kind::Fp8Table => 1,
        }
    }
}

/// A matrix as the kernels see it.
#[derive(Clone, Copy)]
struct Source<'a> {
    matrix: &'a Matrix,
    kind: Kind,
}

impl Source<'_> {
    /// The elements `ks` of a row; `room` holds them where they must be widened first.
    fn row(&self, row: usize, ks: &Range<usize>, room: &mut [f32]) -> Row {
        let (n_in, bytes) = (self.matrix.n_in, self.matrix.bytes());
        if self.kind == Kind::Widened {
            self.matrix.dequantize(row, ks.clone(), room);
            return Row { at: room.as_ptr().cast(), scales: ONES.as_ptr() };
        }
        let size = self.kind.weight_bytes();
        let from = (row * n_in + ks.start) * size;
        let at = bytes[from..from + ks.len() * size].as_ptr();
        let scales = match self.matrix.scales() {
            None => ONES.as_ptr(),
            Some(scales) => {
                let first = row / scales.block[0] * n_in.div_ceil(SCALED_COLUMNS);
                let from = first + ks.start / SCALED_COLUMNS;
                scales.values[from..from + ks.len().div_ceil(SCALED_COLUMNS)].as_ptr()
            }
        };
        Row { at, scales }
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
        let mut rows = [Row { at: x.as_ptr().cast(), scales: ONES.as_ptr() }; LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            let i = i.min(n_rows - 1);
            row.at = x[i * n_in + ks.start..i * n_in + ks.end].as_ptr().cast();
        }
        let packing = Packing { rows, k: ks.len(), stride: n_rows, n: n_rows };
        let room = n_rows * padded(ks.len());
        // SAFETY: the rows hold this chunk; this layout is chosen on AVX-512 only.
        unsafe { packing.run(Kind::F32, &mut out[done..done + room]) };
        done += room;
    }
}

/// Safety: as [`super::block`]; the CPU has AVX-512.
pub(super) unsafe fn few(input: Input<'_>, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    let source = Source { matrix, kind: Kind::of(matrix) };
    let room = if source.kind == Kind::Widened { few::MOST_ROWS * K_CHUNK } else { 0 };
    with_weights(room, |scratch| {
        let mut task = few::Task { input, source, rows, out, scratch };
        // SAFETY: the caller's promise.
        unsafe { task.run() };
    });
}

/// Safety: as [`super::block`]; the CPU has AVX-512.
pub(super) unsafe fn many(input: Input<'_>, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    let source = Source { matrix, kind: Kind::of(matrix) };
    let panels = rows.len().div_ceil(PANEL);
    let widened = if source.kind == Kind::Widened { LANES * K_CHUNK } else { 0 };
    with_weights(panels * PANEL * K_CHUNK + many::PARTIAL + widened, |scratch| {
        let (scratch, widened) = scratch.split_at_mut(panels * PANEL * K_CHUNK + many::PARTIAL);
        let (scratch, partial) = scratch.split_at_mut(panels * PANEL * K_CHUNK);
        let mut done = 0;
        for ks in chunks(matrix.n_in) {
            let panel_len = PANEL * padded(ks.len());
            let panels = &mut scratch[..panels * panel_len];
            for (panel, first) in
                panels.chunks_exact_mut(panel_len).zip(rows.clone().step_by(PANEL))
            {
                for half in 0..PANEL / LANES {
                    let first = first + half * LANES;
                    let mut packed = [Row { at: std::ptr::null(), scales: ONES.as_ptr() }; LANES];
                    for (j, row) in packed.iter_mut().enumerate() {
                        let room = match source.kind {
                            Kind::Widened => &mut widened[j * K_CHUNK..j * K_CHUNK + ks.len()],
                            _ => &mut [],
                        };
                        *row = source.row((first + j).min(rows.end - 1), &ks, room);
                    }
                    let packing = Packing { rows: packed, k: ks.len(), stride: PANEL, n: LANES };
                    // SAFETY: rows of this matrix; the caller has AVX-512.
                    unsafe { packing.run(source.kind, &mut panel[half * LANES..]) };
                }
            }
            for group in groups(input.m) {
                let at = group.start * padded(matrix.n_in) + done * group.len();
                let x = &input.values[at..at + group.len() * padded(ks.len())];
                for (j, panel) in panels.chunks_exact(panel_len).enumerate() {
                    // SAFETY: the caller's promise; the result is ours.
                    unsafe {
                        many::tile(&many::Tile {
                            x,
                            panel,
                            rows: group.len(),
                            n: PANEL.min(rows.len() - j * PANEL),
                            partial: &mut *partial,
                            out: out.add(group.start * matrix.n_out + j * PANEL),
                            out_stride: matrix.n_out,
                            first: ks.start == 0,
                        });
                    }
                }
            }
            done += padded(ks.len());
        }
    });
}
