//! Rows rounded to 8 bits, as integer products read them.

use crate::lanes::per_isa;
use crate::quant::CHUNK;
use crate::threads::{Shards, run_ranges};
use std::ops::Range;

/// Elements under one scale.
pub(super) const GROUP: usize = 32;
/// Half a group: some formats have a scale for sixteen elements.
pub(super) const HALF: usize = 16;
/// What [`Piece::starts`] hold is for codes that count from here.
pub(super) const START_MIDDLE: i32 = 128;
/// Adding this to a float below 2²² in size leaves its nearest integer (ties to even) in the low bits.
const TO_INTEGER: f32 = 12_582_912.0;
/// Rows that are worth another thread.
const ROWS_PER_TASK: usize = 8;
/// Groups of a chunk.
pub(super) const GROUPS: usize = CHUNK / GROUP;
/// Half groups of a chunk.
pub(super) const HALVES: usize = CHUNK / HALF;

/// Rows `[n_rows, n_in]` in groups of 32 elements: `x ≈ code·scale` with codes −127..=127 and
/// `scale = max|x| / 127`. A group that holds something not finite gets a scale that is not finite.
///
/// Chunks of 256 columns stand one after another, each with its part of every row, since a product
/// takes all rows through one chunk of the matrix before the next. In each, a row has room for 256.
pub struct Rounded {
    n_rows: usize,
    n_in: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    starts: [Vec<i32>; 2],
    totals: [Vec<f32>; 2],
}

/// The part of some rows that lies in one chunk: pointers to the first row. The next one is `CHUNK`
/// codes, `GROUPS` scales or `HALVES` starts further on.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) codes: *const i8,
    /// One per group.
    pub(super) scales: *const f32,
    /// Sums of codes times −[`START_MIDDLE`], per group and per half: what a dot product starts from.
    pub(super) starts: [*const i32; 2],
    /// Sums of codes times the scale, per group and per half: what minima are multiplied with.
    pub(super) totals: [*const f32; 2],
    /// Columns.
    pub(super) len: usize,
}

impl Rounded {
    /// Rounds the rows of `x`, which have `n_in` elements each.
    ///
    /// Panics unless `n_in` is a multiple of 32 that divides the length of `x`.
    pub fn new(x: &[f32], n_in: usize) -> Self {
        assert!(n_in > 0 && n_in.is_multiple_of(GROUP), "rows of {n_in} elements");
        assert!(x.len().is_multiple_of(n_in), "{} elements in rows of {n_in}", x.len());
        let n_rows = x.len() / n_in;
        let n_groups = n_rows * n_in.div_ceil(CHUNK) * GROUPS;
        let mut rounded = Rounded {
            n_rows,
            n_in,
            codes: vec![0; n_groups * GROUP],
            scales: vec![0.0; n_groups],
            starts: [vec![0; n_groups], vec![0; 2 * n_groups]],
            totals: [vec![0.0; n_groups], vec![0.0; 2 * n_groups]],
        };
        let codes = Shards::new(&mut rounded.codes);
        let scales = Shards::new(&mut rounded.scales);
        let starts = rounded.starts.each_mut().map(|starts| Shards::new(starts));
        let totals = rounded.totals.each_mut().map(|totals| Shards::new(totals));
        run_ranges(n_rows, ROWS_PER_TASK, |rows| {
            for row in rows {
                for start in (0..n_in).step_by(CHUNK) {
                    let len = CHUNK.min(n_in - start);
                    let at = start * n_rows + row * CHUNK;
                    let (groups, halves) =
                        (at / GROUP..(at + len) / GROUP, at / HALF..(at + len) / HALF);
                    // SAFETY: no two rows and no two chunks share a place.
                    let mut out = unsafe {
                        Out {
                            codes: codes.slice(at..at + len),
                            scales: scales.slice(groups.clone()),
                            starts: [
                                starts[0].slice(groups.clone()),
                                starts[1].slice(halves.clone()),
                            ],
                            totals: [totals[0].slice(groups), totals[1].slice(halves)],
                        }
                    };
                    round(&x[row * n_in + start..][..len], &mut out);
                }
            }
        });
        rounded
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
                *x = f32::from(self.codes[at]) * self.scales[at / GROUP];
            }
        }
        x
    }

    /// The columns from `start` on, at most a chunk of them, of `rows`.
    pub(super) fn piece(&self, start: usize, rows: &Range<usize>) -> Piece {
        let at = start * self.n_rows + rows.start * CHUNK;
        let end = at + rows.len() * CHUNK;
        let (groups, halves) = (at / GROUP..end / GROUP, at / HALF..end / HALF);
        Piece {
            codes: self.codes[at..end].as_ptr(),
            scales: self.scales[groups.clone()].as_ptr(),
            starts: [
                self.starts[0][groups.clone()].as_ptr(),
                self.starts[1][halves.clone()].as_ptr(),
            ],
            totals: [self.totals[0][groups].as_ptr(), self.totals[1][halves].as_ptr()],
            len: CHUNK.min(self.n_in - start),
        }
    }
}

impl Piece {
    /// The same from row `i` on. Safety: the row exists.
    pub(super) unsafe fn row(self, i: usize) -> Piece {
        let at = i * CHUNK;
        // SAFETY: the caller's promise.
        unsafe {
            Piece {
                codes: self.codes.add(at),
                scales: self.scales.add(at / GROUP),
                starts: [self.starts[0].add(at / GROUP), self.starts[1].add(at / HALF)],
                totals: [self.totals[0].add(at / GROUP), self.totals[1].add(at / HALF)],
                len: self.len,
            }
        }
    }
}

/// Where the rounded elements of one row in one chunk go.
struct Out<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    starts: [&'a mut [i32]; 2],
    totals: [&'a mut [f32]; 2],
}

per_isa! {
    fn round(x: &[f32], out: &mut Out<'_>) {
        let (x, codes) = (x.as_chunks::<GROUP>().0, out.codes.as_chunks_mut::<GROUP>().0);
        let mut g = 0;
        while g < x.len() {
            // Compared as bits, so that what is not finite is the largest.
            let mut largest = 0u32;
            let mut j = 0;
            while j < GROUP {
                let bits = x[g][j].to_bits() & 0x7fff_ffff;
                largest = if bits > largest { bits } else { largest };
                j += 1;
            }
            let largest = f32::from_bits(largest);
            // Groups too small for a normal scale are zeros.
            let (scale, inverse) = if largest < 1e-30 { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
            out.scales[g] = scale;
            let mut whole = [0i32; GROUP];
            j = 0;
            while j < GROUP {
                whole[j] = (x[g][j] * inverse + TO_INTEGER).to_bits() as i8 as i32;
                j += 1;
            }
            j = 0;
            while j < GROUP {
                codes[g][j] = whole[j] as i8;
                j += 1;
            }
            let mut sum = [0i32; 2];
            j = 0;
            while j < HALF {
                sum[0] += whole[j];
                sum[1] += whole[HALF + j];
                j += 1;
            }
            for half in 0..2 {
                out.starts[1][2 * g + half] = -START_MIDDLE * sum[half];
                out.totals[1][2 * g + half] = sum[half] as f32 * scale;
            }
            out.starts[0][g] = -START_MIDDLE * (sum[0] + sum[1]);
            out.totals[0][g] = (sum[0] + sum[1]) as f32 * scale;
            g += 1;
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
