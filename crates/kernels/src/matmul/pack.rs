//! Packing of both operands: panels of the right one, rounded row copies of the left one.

use super::{Lhs, PANEL};
use crate::cpu::cpu;
use crate::threads::run_chunks;
use std::ops::Range;

/// Precision of the operands. Sums are always f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Precision {
    /// Operands as they are.
    F32,
    /// Operands rounded to bf16 (nearest even) before multiplying.
    Bf16,
}

/// How the elements of a packed operand are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// f32 panels `[k, PANEL]`.
    F32,
    /// f32 panels whose values are rounded to bf16: for CPUs on which `vdpbf16ps` is missing or
    /// slower than f32 FMA (Intel up to Emerald Rapids: half its rate).
    RoundedF32,
    /// Panels `[k/2, PANEL, 2]` of bf16, for `vdpbf16ps`; two bf16 in the place of one f32.
    Bf16Pairs,
}

impl Format {
    /// The format that runs fastest here for operands of `precision`.
    pub fn fastest(precision: Precision) -> Format {
        match precision {
            Precision::F32 => Format::F32,
            Precision::Bf16 if cpu().bf16_dot_pays => Format::Bf16Pairs,
            Precision::Bf16 => Format::RoundedF32,
        }
    }
}

/// A right operand `[k, n]` in panels of [`PANEL`] columns, zero-padded at the right and, for pairs, at the end of `k`.
pub struct Packed {
    /// Rows of the operand: the length of the sums.
    pub k: usize,
    /// Columns of the operand.
    pub n: usize,
    /// Storage of the elements.
    pub format: Format,
    data: Vec<f32>,
}

impl Packed {
    /// An empty buffer that `pack_*` fills; its memory is reused from call to call.
    pub fn new() -> Self {
        Packed { k: 0, n: 0, format: Format::F32, data: Vec::new() }
    }

    /// Packs the row-major matrix `b [k, n]`.
    pub fn pack_rows(&mut self, b: &[f32], k: usize, n: usize, format: Format) {
        self.pack(b, k, n, format, n, 1);
    }

    /// Packs the transpose of the row-major matrix `w [n, k]`: weights stored `[out, in]`.
    pub fn pack_transposed(&mut self, w: &[f32], k: usize, n: usize, format: Format) {
        self.pack(w, k, n, format, 1, k);
    }

    fn pack(&mut self, b: &[f32], k: usize, n: usize, format: Format, k_stride: usize, n_stride: usize) {
        assert_eq!(b.len(), k * n, "operand [{k}, {n}]");
        (self.k, self.n, self.format) = (k, n, format);
        let panel_len = rows_of(k, format) * PANEL;
        self.data.resize(n.div_ceil(PANEL) * panel_len, 0.0);
        if panel_len == 0 {
            return;
        }
        run_chunks(&mut self.data, panel_len, |panel, out| {
            let column = panel * PANEL;
            let width = PANEL.min(n - column);
            match (n_stride, format) {
                (1, Format::Bf16Pairs) => pairs(out, k, width, |i, j| b[i * k_stride + column + j]),
                (_, Format::Bf16Pairs) => pairs(out, k, width, |i, j| b[i + (column + j) * n_stride]),
                (1, _) => copy_rows(&b[column..], k, k_stride, width, out),
                _ => copy_columns(&b[column * n_stride..], k, n_stride, width, out),
            }
            if format == Format::RoundedF32 {
                out.iter_mut().for_each(|v| *v = round_bf16(*v));
            }
        });
    }

    /// Elements `k0 .. k0 + k` of panel `panel`.
    pub(super) fn panel(&self, panel: usize, k0: usize, k: usize) -> &[f32] {
        let rows = rows_of(self.k, self.format);
        let (from, to) = match self.format {
            Format::Bf16Pairs => {
                assert!(k0.is_multiple_of(2), "pairs start at even elements, not at {k0}");
                (k0 / 2, (k0 + k).div_ceil(2))
            }
            _ => (k0, k0 + k),
        };
        &self.data[(panel * rows + from) * PANEL..(panel * rows + to) * PANEL]
    }
}

impl Default for Packed {
    fn default() -> Self {
        Packed::new()
    }
}

/// f32-sized rows of a panel that hold `k` elements.
fn rows_of(k: usize, format: Format) -> usize {
    if format == Format::Bf16Pairs { k.div_ceil(2) } else { k }
}

fn copy_rows(b: &[f32], k: usize, k_stride: usize, width: usize, out: &mut [f32]) {
    for (i, row) in out.chunks_exact_mut(PANEL).enumerate().take(k) {
        row[..width].copy_from_slice(&b[i * k_stride..i * k_stride + width]);
        row[width..].fill(0.0);
    }
}

/// Transposes in squares of 16, so that both sides stay in cache.
fn copy_columns(w: &[f32], k: usize, n_stride: usize, width: usize, out: &mut [f32]) {
    for i0 in (0..k).step_by(16) {
        let end = (i0 + 16).min(k);
        for j in 0..width {
            let column = &w[j * n_stride..j * n_stride + k];
            for i in i0..end {
                out[i * PANEL + j] = column[i];
            }
        }
        for i in i0..end {
            out[i * PANEL + width..(i + 1) * PANEL].fill(0.0);
        }
    }
}

fn pairs(out: &mut [f32], k: usize, width: usize, at: impl Fn(usize, usize) -> f32) {
    for (pair, row) in out.chunks_exact_mut(PANEL).enumerate() {
        for (j, slot) in row.iter_mut().enumerate() {
            let get = |i: usize| if i < k && j < width { bf16_bits(at(i, j)) } else { 0 };
            *slot = f32::from_bits(u32::from(get(2 * pair)) | u32::from(get(2 * pair + 1)) << 16);
        }
    }
}

/// The upper half of `x` rounded to nearest even; NaN stays NaN.
#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u16 {
    (round_bf16(x).to_bits() >> 16) as u16
}

/// `x` rounded to bf16, as f32.
#[inline(always)]
pub(super) fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f32::from_bits(if x.is_nan() { (bits | 0x0040_0000) & 0xffff_0000 } else { rounded })
}

/// Copies rows `rows`, columns `ks` of the left operand into `scratch`, `stride` apart, rounded as `format` wants.
/// Pairs take half of the row. Scratch past the last column is left as it is, but the odd element of a last pair is zero.
pub(super) fn copy_lhs(lhs: &Lhs, rows: Range<usize>, ks: Range<usize>, format: Format, scratch: &mut [f32], stride: usize) {
    let k = ks.len();
    if lhs.col_stride == 1 {
        for (i, row) in rows.enumerate() {
            let at = row * lhs.row_stride + ks.start;
            let src = &lhs.data[at..at + k];
            let dst = &mut scratch[i * stride..i * stride + k];
            match format {
                Format::F32 => dst.copy_from_slice(src),
                Format::RoundedF32 => dst.iter_mut().zip(src).for_each(|(d, s)| *d = round_bf16(*s)),
                Format::Bf16Pairs => pack_pairs(src, dst),
            }
        }
    } else {
        copy_transposed(lhs, rows.clone(), ks, scratch, stride);
        if format != Format::F32 {
            for i in 0..rows.len() {
                let row = &mut scratch[i * stride..i * stride + k];
                row.iter_mut().for_each(|v| *v = round_bf16(*v));
                if format == Format::Bf16Pairs {
                    pack_pairs_in_place(row);
                }
            }
        }
    }
}

fn copy_transposed(lhs: &Lhs, rows: Range<usize>, ks: Range<usize>, scratch: &mut [f32], stride: usize) {
    for k0 in (0..ks.len()).step_by(16) {
        let end = (k0 + 16).min(ks.len());
        for k in k0..end {
            let at = (ks.start + k) * lhs.col_stride + rows.start * lhs.row_stride;
            if lhs.row_stride == 1 {
                let src = &lhs.data[at..at + rows.len()];
                src.iter().enumerate().for_each(|(i, v)| scratch[i * stride + k] = *v);
            } else {
                (0..rows.len()).for_each(|i| scratch[i * stride + k] = lhs.data[at + i * lhs.row_stride]);
            }
        }
    }
}

fn pack_pairs(src: &[f32], dst: &mut [f32]) {
    for (pair, two) in src.chunks(2).enumerate() {
        let high = two.get(1).map_or(0, |v| bf16_bits(*v));
        dst[pair] = f32::from_bits(u32::from(bf16_bits(two[0])) | u32::from(high) << 16);
    }
}

fn pack_pairs_in_place(row: &mut [f32]) {
    for pair in 0..row.len().div_ceil(2) {
        let low = bf16_bits(row[2 * pair]);
        let high = row.get(2 * pair + 1).map_or(0, |v| bf16_bits(*v));
        row[pair] = f32::from_bits(u32::from(low) | u32::from(high) << 16);
    }
}
