//! A few rows of W through all their columns, times many rows of x.

use super::opened::{AHEAD_PER_BYTE, Opened, PANEL, PanelRows};
use super::{
    DEPTH, DIRECT_STEP, Direct, FEW, N_STEP, PANELS, Panels, Place, Rounded, Tile, variant,
};
use crate::memory::fetch_far;
use crate::quant::{self, CHUNK};
use crate::stored::Matrix;
use std::ops::Range;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Up to [`N_STEP`] rows of W and up to [`super::M_BLOCK`] rows of x.
pub(super) struct Sweep<'a> {
    pub(super) x: &'a Rounded,
    pub(super) xs: Range<usize>,
    pub(super) matrix: &'a Matrix,
    pub(super) rows: Range<usize>,
    /// The matrix and its row that are read after these: fetched on the way.
    pub(super) next: (&'a Matrix, usize),
}

impl Sweep<'_> {
    /// Sets `sums [m, N_STEP]`; those of rows of W that do not exist hold anything.
    pub(super) fn run(&self, panels: &mut [Panels; DEPTH], sums: &mut [f32]) {
        let to = Place { start: sums.as_mut_ptr(), stride: N_STEP };
        assert!(sums.len() >= self.xs.len() * N_STEP, "room for {} rows", self.xs.len());
        // SAFETY: there are so many sums.
        unsafe { self.run_to(panels, sums, to) };
    }

    /// Sets [`N_STEP`] sums of as many rows of `to` as there are of x; `sums` hold anything.
    ///
    /// Safety: the places exist, and no one else touches them.
    pub(super) unsafe fn run_to(&self, panels: &mut [Panels; DEPTH], sums: &mut [f32], to: Place) {
        let variant = variant();
        let Matrix { format, n_in, .. } = *self.matrix;
        let coding = quant::coding(format).expect("`can` said so");
        let m = self.xs.len();
        let direct = if self.rows.len() == N_STEP { (variant.direct)(format, m) } else { None };
        if let Some(direct) = direct.filter(|_| n_in.is_multiple_of(DIRECT_STEP)) {
            // SAFETY: the caller's promise; all rows exist.
            return unsafe { self.run_direct(direct, &mut panels[0][0], to) };
        }
        assert!(sums.len() >= m * N_STEP || n_in <= DEPTH * CHUNK, "room for {m} rows");
        let mut panel_rows = self.panel_rows();
        let chunk_bytes = CHUNK / format.block_len() * format.block_bytes();
        let between = Place { start: sums.as_mut_ptr(), stride: N_STEP };
        for start in (0..n_in).step_by(DEPTH * CHUNK) {
            let end = n_in.min(start + DEPTH * CHUNK);
            let panels = &mut panels[..(end - start).div_ceil(CHUNK)];
            for (start, panels) in (start..end).step_by(CHUNK).zip(&mut *panels) {
                for (rows, opened) in
                    panel_rows.iter_mut().zip(panels).filter(|(rows, _)| rows.n_rows > 0)
                {
                    rows.len = CHUNK.min(n_in - start);
                    // SAFETY: the rows lie in the matrix, and this chunk in them.
                    unsafe { (variant.open)(opened, format, coding, rows) };
                    rows.bytes = rows.bytes.wrapping_add(chunk_bytes);
                    rows.ahead = rows.ahead.wrapping_add(AHEAD_PER_BYTE * chunk_bytes);
                }
            }
            let mut ahead = self.ahead(end, m.div_ceil(variant.m));
            let x = self.x.piece(start..end, &self.xs);
            let to = if end == n_in { to } else { between };
            for i in (0..m).step_by(variant.m) {
                ahead.fetch();
                let tile = Tile {
                    // SAFETY: row i exists.
                    x: unsafe { x.row(i) },
                    m: variant.m.min(m - i),
                    panels,
                    coding,
                    from: between.row(i),
                    first: start == 0,
                    to: to.row(i),
                };
                // SAFETY: rows i.. exist in x, in the sums and in the result.
                unsafe { (variant.tile)(&tile) };
            }
        }
    }

    /// As [`Sweep::run_to`], without opening anything. Safety: as there; there are [`N_STEP`] rows of W.
    unsafe fn run_direct(&self, direct: Direct, scratch: &mut Opened, to: Place) {
        let x = self.x.piece(0..self.matrix.n_in, &self.xs);
        let rows = self.panel_rows();
        for p in 0..PANELS {
            let to = Place { start: to.start.wrapping_add(p * PANEL), ..to };
            // SAFETY: the caller's promise.
            unsafe { direct(scratch, x, self.xs.len(), rows[p], to) };
        }
    }

    /// The first chunk of every panel; of a panel without rows, none.
    fn panel_rows(&self) -> [PanelRows; PANELS] {
        let row_bytes = self.matrix.row_bytes();
        let bytes = &self.matrix.bytes()[self.rows.start * row_bytes..self.rows.end * row_bytes];
        let (next, next_row) = self.next;
        let next_bytes = next.bytes()[next_row * next.row_bytes()..].as_ptr();
        // For many rows of x it is done between tiles; asking for what is here costs nothing.
        let (ahead, ahead_row_bytes) = match self.is_few() {
            true => (next_bytes, next.row_bytes()),
            false => (bytes.as_ptr(), row_bytes),
        };
        std::array::from_fn(|p| PanelRows {
            bytes: bytes.as_ptr().wrapping_add(p * PANEL * row_bytes),
            row_bytes,
            n_rows: self.rows.len().saturating_sub(p * PANEL).min(PANEL),
            len: 0,
            ahead: ahead.wrapping_add(p * PANEL * ahead_row_bytes),
            ahead_row_bytes,
        })
    }

    /// Whether opening itself fetches what is next: there are no tiles to do it between.
    fn is_few(&self) -> bool {
        self.xs.len() <= FEW
    }

    /// What is opened after this chunk: the columns from `start` on, or the next rows.
    fn ahead(&self, start: usize, n_tiles: usize) -> Ahead {
        if self.is_few() {
            return Ahead::NOTHING;
        }
        let (matrix, row, start) = if start < self.matrix.n_in {
            (self.matrix, self.rows.start, start)
        } else {
            (self.next.0, self.next.1, 0)
        };
        let Matrix { format, n_in, n_out, .. } = *matrix;
        let bytes_of = |columns: usize| columns / format.block_len() * format.block_bytes();
        let at = row * matrix.row_bytes() + bytes_of(start);
        let lines = bytes_of((DEPTH * CHUNK).min(n_in - start)).div_ceil(LINE);
        let n_rows = N_STEP.min(n_out - row);
        let per_tile = (lines * n_rows).div_ceil(n_tiles);
        let row = matrix.bytes()[at..].as_ptr();
        Ahead { row, row_bytes: matrix.row_bytes(), n_rows, lines, line: 0, per_tile }
    }
}

/// Lines that are fetched into the second-level cache, some before every tile: asked for all at once
/// they would wait for each other, and the opening of blocks for them.
struct Ahead {
    row: *const u8,
    row_bytes: usize,
    /// Rows that are left.
    n_rows: usize,
    /// Lines of a row.
    lines: usize,
    line: usize,
    per_tile: usize,
}

impl Ahead {
    const NOTHING: Ahead =
        Ahead { row: std::ptr::null(), row_bytes: 0, n_rows: 0, lines: 0, line: 0, per_tile: 0 };

    #[inline(always)]
    fn fetch(&mut self) {
        for _ in 0..self.per_tile {
            if self.n_rows == 0 {
                return;
            }
            fetch_far(self.row.wrapping_add(LINE * self.line));
            self.line += 1;
            if self.line == self.lines {
                self.line = 0;
                self.n_rows -= 1;
                self.row = self.row.wrapping_add(self.row_bytes);
            }
        }
    }
}
