//! The two matrix products inside attention, over tiles of rows that stay in registers, and turning
//! rows into columns.
//!
//! An entry of a result is one chain of multiply-adds in a fixed order, so neither the tile a row
//! falls into nor its neighbours show in its bits.

use super::BLOCK_TOKENS;
use super::lanes::{Element, Lanes};
use super::tile::per_isa;
use crate::cpu::Isa;
use crate::memory::fetch;

/// Rows up to which blocks in f32 are read faster than caches bring them.
const FEW_ROWS: usize = 2;

/// Sixteen-element steps of the memory behind a matrix: what is read now, and how far on lies what
/// will be read after it (0: nothing is known).
#[derive(Clone, Copy)]
pub(super) struct Source<E> {
    pub(super) at: *const E,
    /// Distance to the block that is read next, in bytes.
    pub(super) next: isize,
}

impl<E: Element> Source<E> {
    /// What is read here only.
    pub(super) fn alone(at: *const E) -> Self {
        Source { at, next: 0 }
    }

    /// `C` groups of sixteen from element `at` on, for `R` rows. Few rows do little with what they read:
    /// then the next block is fetched meanwhile.
    #[inline(always)]
    unsafe fn load<V: Lanes, const R: usize, const C: usize>(&self, at: usize) -> [V; C] {
        let mut lanes = [V::splat(0.0); C];
        for c in 0..C {
            // SAFETY: the caller's promise.
            lanes[c] = unsafe { E::load(self.at.add(at + c * 16)) };
            // A cache line holds two groups of half-precision numbers, one of f32.
            let fetches = if E::FETCH_AHEAD { c % 2 == 0 } else { R <= FEW_ROWS };
            if fetches {
                fetch(self.at.wrapping_add(at + c * 16).wrapping_byte_offset(self.next));
            }
        }
        lanes
    }
}

per_isa! {
    /// `dst[c * dst_stride + r] = rows[r][c]` for all rows and the columns `0..n_cols`.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn transpose_rows = transpose_rows_on(
        rows: &[*const f32], n_cols: usize, dst: *mut f32, dst_stride: usize
    )
}

per_isa! {
    /// Widens `n` half-precision numbers, a multiple of sixteen.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn widen = widen_on(src: *const u16, n: usize, dst: *mut f32)
}

#[inline(always)]
unsafe fn widen_on<V: Lanes>(src: *const u16, n: usize, dst: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        for at in (0..n).step_by(16) {
            V::load_half(src.add(at)).store(dst.add(at));
        }
    }
}

/// `dst[r][j] = Σ_d rows[r][d] * cols[d][j]` for the first `n_groups` groups of sixteen `j`;
/// `cols` is [n, BLOCK_TOKENS], `dst` [R, BLOCK_TOKENS].
#[inline(always)]
pub(super) unsafe fn dot_tile<V: Lanes, E: Element, const R: usize>(
    rows: [*const f32; R],
    n: usize,
    cols: Source<E>,
    n_groups: usize,
    dst: *mut f32,
) {
    let mut group = 0;
    while group < n_groups {
        // SAFETY: the caller's promise; `group` and the columns after it are below `n_groups`.
        unsafe {
            let (at, dst) = (group * 16, dst.add(group * 16));
            group += match V::COLS.min(n_groups - group) {
                1 => dot_cols::<V, E, R, 1>(rows, n, cols, at, dst),
                2 => dot_cols::<V, E, R, 2>(rows, n, cols, at, dst),
                3 => dot_cols::<V, E, R, 3>(rows, n, cols, at, dst),
                _ => dot_cols::<V, E, R, 4>(rows, n, cols, at, dst),
            };
        }
    }
}

#[inline(always)]
unsafe fn dot_cols<V: Lanes, E: Element, const R: usize, const C: usize>(
    rows: [*const f32; R],
    n: usize,
    cols: Source<E>,
    at: usize,
    dst: *mut f32,
) -> usize {
    let mut acc = [[V::splat(0.0); C]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for d in 0..n {
            let col: [V; C] = cols.load::<V, R, C>(d * BLOCK_TOKENS + at);
            for r in 0..R {
                let x = V::splat(*rows[r].add(d));
                for c in 0..C {
                    acc[r][c] = x.mul_add(col[c], acc[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                acc[r][c].store(dst.add(r * BLOCK_TOKENS + c * 16));
            }
        }
    }
    C
}

/// The weights of a tile's rows: weight of term `t` in row `r` is at `r * row_stride + t * stride`.
pub(super) struct Terms {
    pub(super) weights: *const f32,
    pub(super) row_stride: usize,
    pub(super) stride: usize,
}

/// `acc[r] = acc[r] * rescale[r] + Σ_t weight[r][t] * x[t]`, over the terms `0..counts[r]` in order.
/// `x` and `acc` are matrices, each a pointer and the distance of its rows; rows of `x` are whole lanes without
/// gaps.
#[inline(always)]
pub(super) unsafe fn sum_tile<V: Lanes, E: Element, const R: usize>(
    terms: &Terms,
    counts: [usize; R],
    x: (Source<E>, usize),
    acc: (*mut f32, usize),
    rescale: [f32; R],
) {
    let n_groups = x.1 / 16;
    let mut group = 0;
    while group < n_groups {
        // SAFETY: the caller's promise; `group` and the columns after it are below `n_groups`.
        unsafe {
            let acc = (acc.0.add(group * 16), acc.1);
            let at = group * 16;
            group += match V::COLS.min(n_groups - group) {
                1 => sum_cols::<V, E, R, 1>(terms, counts, x, at, acc, rescale),
                2 => sum_cols::<V, E, R, 2>(terms, counts, x, at, acc, rescale),
                3 => sum_cols::<V, E, R, 3>(terms, counts, x, at, acc, rescale),
                _ => sum_cols::<V, E, R, 4>(terms, counts, x, at, acc, rescale),
            };
        }
    }
}

#[inline(always)]
unsafe fn sum_cols<V: Lanes, E: Element, const R: usize, const C: usize>(
    terms: &Terms,
    counts: [usize; R],
    (x, x_stride): (Source<E>, usize),
    at: usize,
    (acc, acc_stride): (*mut f32, usize),
    rescale: [f32; R],
) -> usize {
    let mut sum = [[V::splat(0.0); C]; R];
    let mut shared = usize::MAX;
    let mut most = 0;
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..R {
            shared = shared.min(counts[r]);
            most = most.max(counts[r]);
            for c in 0..C {
                let old = V::load(acc.add(r * acc_stride + c * 16));
                sum[r][c] = old.mul(V::splat(rescale[r]));
            }
        }
        for t in 0..shared {
            let row: [V; C] = x.load::<V, R, C>(t * x_stride + at);
            for r in 0..R {
                let w = V::splat(*terms.weights.add(r * terms.row_stride + t * terms.stride));
                for c in 0..C {
                    sum[r][c] = w.mul_add(row[c], sum[r][c]);
                }
            }
        }
        // The causal staircase: terms that some rows of the tile do not have.
        for t in shared..most {
            for r in 0..R {
                if t < counts[r] {
                    let w = V::splat(*terms.weights.add(r * terms.row_stride + t * terms.stride));
                    let row: [V; C] = x.load::<V, R, C>(t * x_stride + at);
                    for c in 0..C {
                        sum[r][c] = w.mul_add(row[c], sum[r][c]);
                    }
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                sum[r][c].store(acc.add(r * acc_stride + c * 16));
            }
        }
    }
    C
}

#[inline(always)]
unsafe fn transpose_rows_on<V: Lanes>(
    rows: &[*const f32],
    n_cols: usize,
    dst: *mut f32,
    dst_stride: usize,
) {
    let (whole_rows, whole_cols) = (rows.len() / 16 * 16, n_cols / 16 * 16);
    // SAFETY: the caller's promise.
    unsafe {
        for r in (0..whole_rows).step_by(16) {
            for c in (0..whole_cols).step_by(16) {
                let mut square = [V::splat(0.0); 16];
                for i in 0..16 {
                    square[i] = V::load(rows[r + i].add(c));
                }
                let square = V::transpose(square);
                for i in 0..16 {
                    square[i].store(dst.add((c + i) * dst_stride + r));
                }
            }
        }
        for r in 0..rows.len() {
            let done = if r < whole_rows { whole_cols } else { 0 };
            for c in done..n_cols {
                *dst.add(c * dst_stride + r) = *rows[r].add(c);
            }
        }
    }
}
