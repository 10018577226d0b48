//! Copies of some columns of row-major matrices: cutting rows apart, laying them side by side,
//! giving one row to several heads.

use crate::lanes::{for_rows, per_isa};
use crate::threads::Shards;

/// Some neighbouring columns of a row-major matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Elements of a row.
    pub row_len: usize,
    /// First column.
    pub first: usize,
    /// Number of columns.
    pub width: usize,
}

impl Columns {
    /// All columns of rows of `width`.
    pub fn all(width: usize) -> Self {
        Columns { row_len: width, first: 0, width }
    }

    /// Rows of a matrix of `len` elements. Zero where rows are empty.
    fn n_rows(self, len: usize) -> usize {
        let Columns { row_len, first, width } = self;
        assert!(first + width <= row_len, "{self:?} leave their row");
        assert!(row_len == 0 || len.is_multiple_of(row_len), "{len} elements, {self:?}");
        len.checked_div(row_len).unwrap_or(0)
    }

    /// The elements in row `row`.
    fn of(self, row: usize) -> std::ops::Range<usize> {
        let at = row * self.row_len + self.first;
        at..at + self.width
    }
}

/// Copies columns `from` of every row of `src` to columns `to` of the same row of `out`.
///
/// Panics if widths or numbers of rows differ.
pub fn copy(src: &[f32], from: Columns, out: &mut [f32], to: Columns) {
    copy_repeated(src, from, 1, out, to);
}

/// As [`copy`]; every row of `src` goes to `times` neighbouring rows of `out`.
pub fn copy_repeated(src: &[f32], from: Columns, times: usize, out: &mut [f32], to: Columns) {
    check(from.n_rows(src.len()) * times, from, to.n_rows(out.len()), to);
    write_rows(out, to, |row, out| {
        out.copy_from_slice(&src[from.of(row / times)]);
    });
}

/// The gradient of [`copy_repeated`]: every row of `out` becomes the sum of `times` neighbouring
/// rows of `src`, in their order.
pub fn sum_repeated(src: &[f32], from: Columns, times: usize, out: &mut [f32], to: Columns) {
    check(from.n_rows(src.len()), from, to.n_rows(out.len()) * times, to);
    write_rows(out, to, |row, out| {
        out.copy_from_slice(&src[from.of(row * times)]);
        for other in row * times + 1..(row + 1) * times {
            add_row(&src[from.of(other)], out);
        }
    });
}

/// Writes `value` to columns `to` of every row.
pub fn fill(value: f32, out: &mut [f32], to: Columns) {
    write_rows(out, to, |_, out| out.fill(value));
}

fn check(n_from: usize, from: Columns, n_to: usize, to: Columns) {
    assert_eq!(from.width, to.width, "{from:?} to {to:?}");
    assert!(n_from == n_to || to.width == 0, "{n_from} rows to {n_to}");
}

fn write_rows(out: &mut [f32], to: Columns, body: impl Fn(usize, &mut [f32]) + Sync) {
    let n = to.n_rows(out.len());
    if to.width == 0 {
        return;
    }
    let out = Shards::new(out);
    for_rows(n, to.width, |rows| {
        for row in rows {
            // SAFETY: row ranges of one loop do not overlap.
            body(row, unsafe { out.slice(to.of(row)) });
        }
    });
}

per_isa! {
    fn add_row(x: &[f32], sum: &mut [f32]) {
        for (sum, &x) in sum.iter_mut().zip(x) {
            *sum += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn copied_columns_come_back_and_the_others_stay() {
        let (n, row_len) = (1000, 37);
        let src = noise(1, n * 20);
        let from = Columns { row_len: 20, first: 3, width: 17 };
        let to = Columns { row_len, first: 20, width: 17 };
        let mut out = vec![7.0; n * row_len];
        copy(&src, from, &mut out, to);
        for (row, out) in out.chunks(row_len).enumerate() {
            assert!(out[..20].iter().all(|v| *v == 7.0));
            assert_eq!(out[20..], src[row * 20 + 3..(row + 1) * 20]);
        }
        fill(0.5, &mut out, to);
        assert!(
            out.chunks(row_len).all(|out| out[19..] == [[7.0].as_slice(), &[0.5; 17]].concat())
        );
    }

    #[test]
    fn a_repeated_row_gathers_the_gradients_of_its_copies() {
        let (n, times, width) = (300, 3, 5);
        let src = noise(1, n * width);
        let to = Columns { row_len: 9, first: 4, width };
        let mut out = vec![0.0; n * times * 9];
        copy_repeated(&src, Columns::all(width), times, &mut out, to);
        let mut sums = vec![f32::NAN; n * width];
        sum_repeated(&out, to, times, &mut sums, Columns::all(width));
        assert!(sums.iter().zip(&src).all(|(sum, x)| *sum == x + x + x));
    }

    #[test]
    fn no_columns_are_no_work() {
        copy(&[], Columns::all(0), &mut [1.0; 6], Columns { row_len: 3, first: 3, width: 0 });
    }

    #[test]
    #[should_panic(expected = "4 rows to 3")]
    fn rows_must_match() {
        copy(&[0.0; 8], Columns::all(2), &mut [0.0; 6], Columns::all(2));
    }
}
