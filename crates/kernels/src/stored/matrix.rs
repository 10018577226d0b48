//! A matrix in the format it is stored in.

use super::SharedBytes;
use crate::quant::{self, Format};
use crate::threads::run_chunks;
use std::ops::Range;
use std::sync::Arc;

/// A matrix `[n_out, n_in]`, row-major, in any stored format.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// How its elements are stored.
    pub format: Format,
    /// Rows.
    pub n_out: usize,
    /// Elements of a row.
    pub n_in: usize,
    row_bytes: usize,
    bytes: SharedBytes,
    scales: Option<Scales>,
    parts: Option<Arc<[Matrix; 2]>>,
}

/// Multipliers of blocks of a matrix (DeepSeek-V3, arXiv:2412.19437, section 3.3): element `(i, j)` is
/// its code times `values[i / block[0]][j / block[1]]`. Blocks at the edges may be partial.
#[derive(Clone, Debug)]
pub struct Scales {
    /// `[ceil(n_out / block[0]), ceil(n_in / block[1])]`
    pub values: Arc<[f32]>,
    /// Rows and columns of a block.
    pub block: [usize; 2],
}

/// Values that a thread encodes at a time: whole blocks of every format.
const ENCODE_AT_ONCE: usize = 1 << 14;

/// Stores values, row after row, in `format`, on all threads; rounding as [`quant::quantize`].
///
/// Panics if they are no whole blocks.
pub fn encode(values: &[f32], format: Format) -> Vec<u8> {
    let n_bytes = format.row_bytes(values.len()).expect("values of whole blocks");
    let part_bytes = ENCODE_AT_ONCE / format.block_len() * format.block_bytes();
    let mut bytes = vec![0u8; n_bytes];
    run_chunks(&mut bytes, part_bytes, |part, out| {
        let from = part * ENCODE_AT_ONCE;
        let to = (from + ENCODE_AT_ONCE).min(values.len());
        quant::quantize(format, &values[from..to], out);
    });
    bytes
}

/// Why bytes are no matrix of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatrixError {
    /// Rows of this format hold whole blocks only.
    RowLength { format: Format, n_in: usize },
    /// The number of bytes does not fit the shape.
    Length { found: usize, expected: usize },
    /// The number of scales does not fit the shape.
    ScaleCount { found: usize, expected: usize },
}

impl std::fmt::Display for MatrixError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MatrixError::RowLength { format, n_in } => write!(
                f,
                "rows of {n_in} elements are no whole blocks of {} (`{}`)",
                format.block_len(),
                format.name()
            ),
            MatrixError::Length { found, expected } => {
                write!(f, "{found} bytes, expected {expected}")
            }
            MatrixError::ScaleCount { found, expected } => {
                write!(f, "{found} block scales, expected {expected}")
            }
        }
    }
}

impl std::error::Error for MatrixError {}

impl Matrix {
    /// A matrix over stored bytes.
    pub fn new(
        format: Format,
        n_out: usize,
        n_in: usize,
        bytes: SharedBytes,
    ) -> Result<Matrix, MatrixError> {
        let row_bytes = format.row_bytes(n_in).ok_or(MatrixError::RowLength { format, n_in })?;
        let (found, expected) = (bytes.len(), n_out.saturating_mul(row_bytes));
        if found != expected {
            return Err(MatrixError::Length { found, expected });
        }
        Ok(Matrix { format, n_out, n_in, row_bytes, bytes, scales: None, parts: None })
    }

    /// The same matrix with multipliers of blocks.
    pub fn with_scales(mut self, scales: Scales) -> Result<Matrix, MatrixError> {
        let [rows, columns] = scales.block;
        let expected = self.n_out.div_ceil(rows) * self.n_in.div_ceil(columns);
        let found = scales.values.len();
        if found != expected {
            return Err(MatrixError::ScaleCount { found, expected });
        }
        self.scales = Some(scales);
        Ok(self)
    }

    /// The same matrix with the two it was put together from, for those who can read them as they are: of
    /// `kv_b_proj` [H · (Dn + Dv), r], the keys of each head turned, [H · r, Dn], and the values [H · Dv, r].
    ///
    /// Panics if they hold other numbers of elements.
    pub fn with_parts(mut self, keys_t: Matrix, values: Matrix) -> Matrix {
        let n = |matrix: &Matrix| matrix.n_out * matrix.n_in;
        assert_eq!(n(&keys_t) + n(&values), n(&self), "elements of two parts");
        self.parts = Some(Arc::new([keys_t, values]));
        self
    }

    /// The matrices it was put together from.
    pub fn parts(&self) -> Option<&[Matrix; 2]> {
        self.parts.as_deref()
    }

    /// Stores `values` [n_out, n_in] in `format`; rounding as [`quant::quantize`].
    pub fn from_f32(
        values: &[f32],
        n_out: usize,
        n_in: usize,
        format: Format,
    ) -> Result<Matrix, MatrixError> {
        assert_eq!(values.len(), n_out * n_in, "values of a matrix [{n_out}, {n_in}]");
        format.row_bytes(n_in).ok_or(MatrixError::RowLength { format, n_in })?;
        Matrix::new(format, n_out, n_in, SharedBytes::owned(encode(values, format)))
    }

    /// The rows `rows` as a matrix of their own, sharing the bytes.
    ///
    /// Panics if the rows leave the matrix or cut a block of scales.
    pub fn rows(&self, rows: Range<usize>) -> Matrix {
        let bytes = self.bytes.slice(rows.start * self.row_bytes..rows.end * self.row_bytes);
        let scales = self.scales.as_ref().map(|scales| {
            let [height, width] = scales.block;
            assert!(rows.start.is_multiple_of(height), "rows {rows:?} cut a block of {height}");
            let per_row = self.n_in.div_ceil(width);
            let range = rows.start / height * per_row..rows.end.div_ceil(height) * per_row;
            Scales { values: scales.values[range].into(), block: scales.block }
        });
        Matrix { n_out: rows.len(), bytes, scales, parts: None, ..self.clone() }
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &SharedBytes {
        &self.bytes
    }

    /// All elements where they lie, if this machine can read them as f32 there.
    pub(crate) fn as_f32(&self) -> Option<&[f32]> {
        if self.format != Format::F32 || cfg!(target_endian = "big") {
            return None;
        }
        // SAFETY: all bits are numbers.
        let (before, values, after) = unsafe { self.bytes.align_to::<f32>() };
        (before.is_empty() && after.is_empty()).then_some(values)
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The multipliers of blocks, where the format keeps them apart.
    pub fn scales(&self) -> Option<&Scales> {
        self.scales.as_ref()
    }

    /// Elements `columns` of row `row`, widened to f32. `columns` starts and ends between blocks.
    ///
    /// Panics if they leave the matrix or cut a block.
    pub fn dequantize(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let (len, size) = (self.format.block_len(), self.format.block_bytes());
        debug_assert!(columns.start.is_multiple_of(len) && columns.len().is_multiple_of(len));
        let start = row * self.row_bytes;
        let bytes = columns.start / len * size..columns.end / len * size;
        let bytes = &self.bytes[start + bytes.start..start + bytes.end];
        let out = &mut out[..columns.len()];
        quant::dequantize(self.format, bytes, out);
        if let Some(scales) = &self.scales {
            scales.apply(row, columns, self.n_in, out);
        }
    }

    /// Row `row`, widened to f32.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        self.dequantize(row, 0..self.n_in, out);
    }

    /// The rows `rows`, widened to f32: out [rows, n_in].
    ///
    /// Panics if they leave the matrix.
    pub(crate) fn rows_in_f32(&self, rows: Range<usize>, out: &mut [f32]) {
        if self.scales.is_none() {
            // They follow each other: one call, since a row may take less than a call does.
            let bytes = &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes];
            return quant::dequantize(self.format, bytes, out);
        }
        for (row, out) in rows.zip(out.chunks_exact_mut(self.n_in)) {
            self.row(row, out);
        }
    }

    /// All elements, widened to f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n_out * self.n_in];
        if self.n_in > 0 {
            run_chunks(&mut out, self.n_in, |row, out| self.row(row, out));
        }
        out
    }

    /// Rows `ids[i]` of the table, one after another: out [N, n_in].
    ///
    /// Panics if an id is outside the table.
    pub fn gather(&self, ids: &[u32], out: &mut [f32]) {
        assert_eq!(out.len(), ids.len() * self.n_in, "{} rows of {}", ids.len(), self.n_in);
        for (id, out) in ids.iter().zip(out.chunks_exact_mut(self.n_in)) {
            assert!((*id as usize) < self.n_out, "row {id} of a table of {}", self.n_out);
            self.row(*id as usize, out);
        }
    }
}

impl Scales {
    fn apply(&self, row: usize, columns: Range<usize>, n_in: usize, out: &mut [f32]) {
        let width = self.block[1];
        let of_row = &self.values[row / self.block[0] * n_in.div_ceil(width)..];
        let mut at = columns.start;
        while at < columns.end {
            let block = at / width;
            let end = ((block + 1) * width).min(columns.end);
            let scale = of_row[block];
            out[at - columns.start..end - columns.start].iter_mut().for_each(|x| *x *= scale);
            at = end;
        }
    }
}
