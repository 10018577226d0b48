//! Sixteen rows of a matrix, taken apart and interleaved: what tiles of sums read.

use crate::quant::{CHUNK, Codes, Coding, Format};

/// Rows of W side by side: the lanes of a sum.
pub(super) const PANEL: usize = 16;

/// Up to [`CHUNK`] columns of [`PANEL`] rows.
#[repr(C, align(64))]
pub(super) struct Opened {
    /// Four neighbours of every row after four neighbours of every row: `[CHUNK / 4, PANEL, 4]`.
    pub(super) codes: [[u8; 4 * PANEL]; CHUNK / 4],
    /// Scales of sub-blocks, `[sub-blocks, PANEL]`.
    pub(super) scales: [[f32; PANEL]; 16],
    /// Minima of sub-blocks.
    pub(super) mins: [[f32; PANEL]; 16],
}

/// Bytes to fetch of a quarter of the rows that are next, for each byte read of a row.
pub(super) const AHEAD_PER_BYTE: usize = PANEL / 4;

/// Where rows begin in their stored bytes.
#[derive(Clone, Copy)]
pub(super) struct PanelRows {
    /// The first block of the chunk in the first row.
    pub(super) bytes: *const u8,
    /// From row to row.
    pub(super) row_bytes: usize,
    /// Rows that exist, 1..=16.
    pub(super) n_rows: usize,
    /// Columns, a multiple of 32, at most [`CHUNK`].
    pub(super) len: usize,
    /// The first of sixteen rows that are read next. They are fetched on the way, in four runs of a
    /// quarter of them each: for every byte of a row this goes on by [`AHEAD_PER_BYTE`].
    pub(super) ahead: *const u8,
    /// From row to row of those.
    pub(super) ahead_row_bytes: usize,
}

impl Opened {
    pub(super) const fn new() -> Self {
        Opened {
            codes: [[0; 4 * PANEL]; CHUNK / 4],
            scales: [[0.0; PANEL]; 16],
            mins: [[0.0; PANEL]; 16],
        }
    }

    /// The definition. Lanes of rows that do not exist keep what they hold. Safety: the rows hold whole blocks of `format` for `rows.len` columns.
    pub(super) unsafe fn open(&mut self, format: Format, coding: Coding, rows: &PanelRows) {
        let n_bytes = rows.len / format.block_len() * format.block_bytes();
        let mut read = Codes::new();
        for r in 0..rows.n_rows {
            // SAFETY: the caller's promise.
            let bytes =
                unsafe { std::slice::from_raw_parts(rows.bytes.add(r * rows.row_bytes), n_bytes) };
            read.read(format, bytes);
            let words = read.codes.as_chunks::<4>().0;
            for (word, out) in words.iter().zip(&mut self.codes).take(rows.len / 4) {
                out.as_chunks_mut::<4>().0[r] = *word;
            }
            for i in 0..rows.len / coding.group {
                self.scales[i][r] = read.scales[i];
                self.mins[i][r] = read.mins[i];
            }
        }
    }
}
