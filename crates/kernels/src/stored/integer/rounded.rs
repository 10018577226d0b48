//! Rows rounded to 8 bits, as integer products read them.

use super::groups::{Groups, Places, round_groups};
use crate::quant::CHUNK;
use crate::threads::run_ranges;
use std::cell::RefCell;
use std::ops::Range;

/// Elements under one scale.
pub(super) const GROUP: usize = 32;
/// Half a group: some formats have a scale for sixteen elements.
pub(super) const HALF: usize = 16;
/// What [`Piece::starts`] hold is for codes of W that count from here: with one scale in a group, and
/// with two.
pub(super) const START_MIDDLES: [i32; 2] = [128, 32];
/// Rows that are worth another thread.
const ROWS_PER_TASK: usize = 8;
/// Groups of a chunk.
pub(super) const GROUPS: usize = CHUNK / GROUP;
/// Half groups of a chunk.
pub(super) const HALVES: usize = CHUNK / HALF;

/// Rows `[n_rows, n_in]` in groups of 32 elements: `x ≈ code·scale` with codes −127..=127 and
/// `scale = max|x| / 127`. A group that holds something not finite, or above 10³⁰, gets NaN as its scale.
///
/// Chunks of 256 columns stand one after another, each with its part of every row, since a product
/// takes all rows through one chunk of the matrix before the next. In each, a row has room for 256.
pub struct Rounded {
    n_rows: usize,
    n_in: usize,
    body: Body,
}

/// The scale of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Scale {
    pub(super) scale: f32,
    /// `scale · `[`TO_INTEGER`](super::groups::TO_INTEGER): what a dot product that started there has too much.
    pub(super) excess: f32,
}

/// Memory of rounded rows. Where a row has no columns, it holds anything.
#[derive(Default)]
struct Body {
    codes: Vec<i8>,
    /// One per group.
    scales: Vec<Scale>,
    /// As [`Piece::starts`].
    starts: [Vec<i32>; 2],
    /// As [`Piece::totals`].
    totals: [Vec<f32>; 2],
}

/// Bodies a thread keeps for reuse: fresh memory costs more page faults than rounding costs time.
const KEPT: usize = 4;

thread_local! {
    static FREE: RefCell<Vec<Body>> = const { RefCell::new(Vec::new()) };
}

impl Body {
    fn stale(n_groups: usize) -> Body {
        let mut body = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
        body.codes.resize(n_groups * GROUP, 0);
        body.scales.resize(n_groups, Scale::default());
        body.starts[0].resize(n_groups, 0);
        body.starts[1].resize(2 * n_groups, 0);
        body.totals[0].resize(n_groups, 0.0);
        body.totals[1].resize(2 * n_groups, 0.0);
        body
    }
}

impl Drop for Rounded {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        // `try_with`: rows dropped while their thread ends simply free their memory.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT {
                free.push(body);
            }
        });
    }
}

/// The part of some rows that lies in one chunk or some that follow each other: pointers to the first
/// row in the first chunk. The next row is `CHUNK` codes, `GROUPS` scales or `HALVES` starts further on.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) codes: *const i8,
    /// One per group.
    pub(super) scales: *const Scale,
    /// Per group and per half: what a dot product starts from, the bits of [`TO_INTEGER`](super::groups::TO_INTEGER) less sums of
    /// codes times [`START_MIDDLES`]. So its bits are a float, `TO_INTEGER` above the product.
    pub(super) starts: [*const i32; 2],
    /// Sums of codes times the scale, per group and per half: what minima are multiplied with.
    pub(super) totals: [*const f32; 2],
    /// Columns.
    pub(super) len: usize,
    /// Rows from chunk to chunk.
    n_rows: usize,
}

impl Rounded {
    /// Rounds the rows of `x`, which have `n_in` elements each.
    ///
    /// Panics unless `n_in` is a multiple of 32 that divides the length of `x`.
    pub fn new(x: &[f32], n_in: usize) -> Self {
        assert!(n_in > 0 && x.len().is_multiple_of(n_in), "{} in rows of {n_in}", x.len());
        let mut rounded = Rounded::stale(x.len() / n_in, n_in);
        let places = rounded.places();
        run_ranges(x.len() / n_in, ROWS_PER_TASK, |rows| {
            for row in rows {
                for start in (0..n_in).step_by(CHUNK) {
                    let len = CHUNK.min(n_in - start);
                    // SAFETY: the places exist, and no two rows and no two chunks share one.
                    unsafe {
                        let x = x[row * n_in + start..][..len].as_chunks().0;
                        round_groups(x, &places.of(row, start), 1);
                    }
                }
            }
        });
        rounded
    }

    /// Room for rows of `n_in` elements that hold anything.
    ///
    /// Panics unless `n_in` is a multiple of 32.
    pub fn stale(n_rows: usize, n_in: usize) -> Self {
        assert!(n_in > 0 && n_in.is_multiple_of(GROUP), "rows of {n_in} elements");
        let body = Body::stale(n_rows * n_in.div_ceil(CHUNK) * GROUPS);
        Rounded { n_rows, n_in, body }
    }

    /// The rows `rows`, one after another.
    ///
    /// Panics if one does not exist.
    pub fn gather(&self, rows: &[u32]) -> Rounded {
        let n_rows = self.n_rows;
        assert!(rows.iter().all(|row| (*row as usize) < n_rows), "rows of {n_rows}");
        let mut gathered = Rounded::stale(rows.len(), self.n_in);
        let to = gathered.places();
        run_ranges(rows.len(), ROWS_PER_TASK, |range| {
            for at in range {
                for start in (0..self.n_in).step_by(CHUNK) {
                    let row = rows[at] as usize;
                    let end = self.n_in.min(start + CHUNK);
                    let from = self.piece(start..end, &(row..row + 1));
                    // SAFETY: the places exist, and no two rows and no two chunks share one.
                    unsafe { to.of(at, start).copy_chunk(&from) };
                }
            }
        });
        gathered
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Elements of a row.
    pub fn n_in(&self) -> usize {
        self.n_in
    }

    /// The rows as numbers again: what products see.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut x = vec![0.0; self.n_rows * self.n_in];
        for (row, x) in x.chunks_exact_mut(self.n_in).enumerate() {
            for (i, x) in x.iter_mut().enumerate() {
                let start = i / CHUNK * CHUNK;
                let at = start * self.n_rows + row * CHUNK + i % CHUNK;
                *x = f32::from(self.body.codes[at]) * self.body.scales[at / GROUP].scale;
            }
        }
        x
    }

    /// The columns `columns`, which begin with a chunk and end with one or with the rows, of `rows`.
    pub(super) fn piece(&self, columns: Range<usize>, rows: &Range<usize>) -> Piece {
        let whole = columns.end.is_multiple_of(CHUNK) || columns.end == self.n_in;
        assert!(columns.start.is_multiple_of(CHUNK) && whole, "columns {columns:?}");
        let at = columns.start * self.n_rows + rows.start * CHUNK;
        let end = columns.end.next_multiple_of(CHUNK) - CHUNK;
        let end = end * self.n_rows + rows.end * CHUNK;
        let (groups, halves) = (at / GROUP..end / GROUP, at / HALF..end / HALF);
        let Body { codes, scales, starts, totals } = &self.body;
        Piece {
            codes: codes[at..end].as_ptr(),
            scales: scales[groups.clone()].as_ptr(),
            starts: [starts[0][groups.clone()].as_ptr(), starts[1][halves.clone()].as_ptr()],
            totals: [totals[0][groups].as_ptr(), totals[1][halves].as_ptr()],
            len: columns.len(),
            n_rows: self.n_rows,
        }
    }

    /// Where the rows are written.
    pub(super) fn places(&mut self) -> Places {
        let Body { codes, scales, starts, totals } = &mut self.body;
        let first = Groups {
            codes: codes.as_mut_ptr(),
            scales: scales.as_mut_ptr(),
            starts: starts.each_mut().map(|starts| starts.as_mut_ptr()),
            totals: totals.each_mut().map(|totals| totals.as_mut_ptr()),
        };
        Places { first, n_rows: self.n_rows, n_in: self.n_in }
    }
}

impl Piece {
    /// The same from row `i` on. Safety: the row exists.
    #[inline(always)]
    pub(super) unsafe fn row(self, i: usize) -> Piece {
        // SAFETY: the caller's promise.
        unsafe { self.after(i * CHUNK) }
    }

    /// What lies in the chunk `c`. Safety: the piece has it.
    #[inline(always)]
    pub(super) unsafe fn chunk(self, c: usize) -> Piece {
        let len = CHUNK.min(self.len - c * CHUNK);
        // SAFETY: the caller's promise.
        unsafe { Piece { len, ..self.after(c * self.n_rows * CHUNK) } }
    }

    /// The same, `at` codes further on. Safety: they exist.
    #[inline(always)]
    unsafe fn after(self, at: usize) -> Piece {
        // SAFETY: the caller's promise.
        unsafe {
            Piece {
                codes: self.codes.add(at),
                scales: self.scales.add(at / GROUP),
                starts: [self.starts[0].add(at / GROUP), self.starts[1].add(at / HALF)],
                totals: [self.totals[0].add(at / GROUP), self.totals[1].add(at / HALF)],
                ..self
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, same_bits_everywhere};

    #[test]
    fn rows_come_back_within_half_a_step() {
        for n_in in [32, 288, 1024] {
            let x = noise(1, 5 * n_in);
            let back = Rounded::new(&x, n_in).to_f32();
            for (x, back) in x.chunks(GROUP).zip(back.chunks(GROUP)) {
                let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                for (x, back) in x.iter().zip(back) {
                    assert!((x - back).abs() <= largest / 253.9, "{x} became {back}");
                }
            }
        }
    }

    #[test]
    fn gathered_rows_are_the_rows() {
        let x = noise(4, 9 * 544);
        let rows = [8, 0, 0, 3, 7];
        let picked: Vec<f32> =
            rows.iter().flat_map(|&row| &x[row as usize * 544..][..544]).copied().collect();
        let (gathered, want) = (Rounded::new(&x, 544).gather(&rows), Rounded::new(&picked, 544));
        assert_eq!(gathered.to_f32(), want.to_f32());
        for start in (0..544).step_by(CHUNK) {
            let columns = start..(start + CHUNK).min(544);
            let piece = |of: &Rounded| of.piece(columns.clone(), &(1..4));
            let (got, want) = (piece(&gathered), piece(&want));
            let n = got.len / GROUP;
            // SAFETY: the pieces hold that many groups.
            unsafe {
                use std::slice::from_raw_parts;
                assert_eq!(from_raw_parts(got.scales, n), from_raw_parts(want.scales, n));
                assert_eq!(from_raw_parts(got.starts[0], n), from_raw_parts(want.starts[0], n));
                assert_eq!(from_raw_parts(got.totals[0], n), from_raw_parts(want.totals[0], n));
                let n = 2 * n;
                assert_eq!(from_raw_parts(got.starts[1], n), from_raw_parts(want.starts[1], n));
                assert_eq!(from_raw_parts(got.totals[1], n), from_raw_parts(want.totals[1], n));
            }
        }
    }

    #[test]
    fn every_level_rounds_alike() {
        let x = noise(2, 7 * 544);
        same_bits_everywhere(|| Rounded::new(&x, 544).to_f32());
    }

    #[test]
    fn what_is_not_finite_spoils_its_group_only() {
        let mut x = noise(3, 96);
        (x[3], x[40]) = (f32::NAN, f32::INFINITY);
        let back = Rounded::new(&x, 96).to_f32();
        assert!(back[..64].iter().all(|x| !x.is_finite() || *x == 0.0));
        assert!(back[3].is_nan() && !back[40].is_finite());
        assert!(back[64..].iter().all(|x| x.is_finite()));
    }
}
