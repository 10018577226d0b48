//! The per-head products around attention over a latent cache (DeepSeek-V2, arXiv:2405.04434,
//! section 2.1.2): queries move into the latent space by W_UK, contexts out of it by W_UV.
//!
//! Both are rows of `kv_b_proj` [H · (Dn + Dv), r], read as they are stored: head h has Dn rows of W_UK,
//! then Dv rows of W_UV. Rows are widened into scratch: a few at a time for few rows of the pass, all of a head
//! for many. Where the file has the matrix in two parts, W_UK turned, the parts are read, and sixteen rows of them
//! at a time are turned back.
//!
//! **Bits.** An entry of a moved query is one chain of multiply-adds along Dn. An entry of the result is
//! sixteen chains over every sixteenth element of r, folded halves first. That holds for one row as for
//! many, and on any number of threads.
//!
//! Letters: N rows, H heads, r rank of the latent, Dn and Dr lengths of the two parts of a query, Dv
//! length of a value.

use super::dots::{Source, Terms, sum_tile, transpose_rows};
use super::lanes::{Lanes, Lines};
use super::paged::pad;
use super::tile::{per_isa, tile_rows};
use crate::convert::round_to_bf16;
use crate::cpu::{self, Isa};
use crate::stored::Matrix;
use crate::threads::{self, Shards};
use std::cell::RefCell;
use std::ops::Range;

/// Up to this many rows, weights are widened a few rows at a time and used at once.
const FEW_ROWS: usize = 8;
/// Rows of weights widened at a time for few rows: 32 KiB at rank 512.
const FEW_WEIGHTS: usize = 16;
/// Columns of W_UK at a time for few rows, where the file has it turned: 32 KiB at Dn 128.
const FEW_COLUMNS: usize = 64;
/// Rows that meet the weights of a head while they are in the second-level cache.
const ROWS_AT_ONCE: usize = 64;

/// Multiplications that are worth another thread.
const WORTH_SHARING: usize = 1 << 14;

/// `kv_b_proj` [H · (Dn + Dv), r].
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// In its stored format.
    Stored(&'a Matrix),
    /// In f32, row-major.
    Dense(&'a [f32]),
}

/// The weights of all heads, and their lengths.
#[derive(Clone, Copy)]
pub struct HeadWeights<'a> {
    /// The matrix.
    pub weights: Weights<'a>,
    /// H
    pub n_heads: usize,
    /// Dn
    pub d_nope: usize,
    /// Dv
    pub d_v: usize,
    /// r
    pub rank: usize,
    /// Inputs are rounded to bf16, and so are dense weights, as products of that precision do.
    pub bf16: bool,
}

#[derive(Default)]
struct Scratch {
    /// Widened rows, [n, r in whole lanes]
    weights: Lines,
    /// Inputs of one head, [n, their length]
    inputs: Lines,
    /// Moved queries of one head, [n, r in whole lanes]
    moved: Lines,
    /// Sixteen rows of W_UK turned, [16, Dn]
    turned: Lines,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Queries in the latent space: q [N, H, Dn + Dr], result [N, H, r + Dr]; the last Dr numbers stay.
///
/// Panics if a length does not fit.
pub fn absorb_queries(weights: &HeadWeights, d_rope: usize, q: &[f32], out: &mut [f32]) {
    let HeadWeights { n_heads, d_nope, rank, .. } = *weights;
    let (d_qk, d_latent, width) = (d_nope + d_rope, rank + d_rope, pad(rank));
    let n = weights.check(q, d_qk, out, d_latent);
    let (isa, out) = (cpu::isa(), Shards::new(out));
    // Terms and columns of W_UK that are widened at a time.
    let [n_terms, n_columns] = match (n <= FEW_ROWS, weights.parts()) {
        (true, None) => [FEW_WEIGHTS, width],
        (true, Some(_)) => [d_nope, FEW_COLUMNS],
        (false, _) => [d_nope, width],
    };
    threads::run_if(n * n_heads * d_nope * rank >= WORTH_SHARING, n_heads, |head| {
        SCRATCH.with_borrow_mut(|Scratch { weights: widened, inputs, moved, turned }| {
            for first in (0..n).step_by(ROWS_AT_ONCE) {
                let rows = first..(first + ROWS_AT_ONCE).min(n);
                let of = |row: usize| &q[(row * n_heads + head) * d_qk..][..d_qk];
                let x = weights.gather(rows.clone(), |row| &of(row)[..d_nope], inputs);
                let moved = &mut moved.room(rows.len() * width)[..rows.len() * width];
                moved.fill(0.0);
                let all = (n_terms, n_columns) == (d_nope, width);
                for (from, column) in pairs(d_nope, n_terms, width, n_columns) {
                    let terms = from..(from + n_terms).min(d_nope);
                    let columns = column..(column + n_columns).min(width);
                    let start = head * (d_nope + weights.d_v);
                    let as_it_lies = weights.lying(start + terms.start..start + terms.end);
                    let widened = as_it_lies.unwrap_or_else(|| {
                        let widened = widened.room(n_terms * n_columns);
                        if first == 0 || !all {
                            let (terms, columns) = (terms.clone(), columns.clone());
                            weights.widen_keys(isa, head, terms, columns, widened, turned);
                        }
                        widened
                    });
                    let widened = (widened.as_ptr(), columns.len());
                    // SAFETY: the shapes are those above.
                    unsafe {
                        let x = (x.as_ptr().add(from), d_nope);
                        let moved = (moved.as_mut_ptr().add(column), width);
                        add_products(isa, rows.len(), terms.len(), x, widened, moved);
                    }
                }
                for (row, moved) in rows.zip(moved.chunks_exact(width)) {
                    let at = (row * n_heads + head) * d_latent;
                    // SAFETY: heads of different tasks differ.
                    let out = unsafe { out.slice(at..at + d_latent) };
                    out[..rank].copy_from_slice(&moved[..rank]);
                    out[rank..].copy_from_slice(&of(row)[d_nope..]);
                }
            }
        });
    });
}

/// Contexts out of the latent space: context [N, H, r], result [N, H, Dv].
///
/// Panics if a length does not fit.
pub fn context_values(weights: &HeadWeights, context: &[f32], out: &mut [f32]) {
    let HeadWeights { n_heads, d_v, rank, .. } = *weights;
    let width = pad(rank);
    let n = weights.check(context, rank, out, d_v);
    let (isa, out) = (cpu::isa(), Shards::new(out));
    threads::run_if(n * n_heads * d_v * rank >= WORTH_SHARING, n_heads, |head| {
        SCRATCH.with_borrow_mut(|scratch| {
            let step = if n <= FEW_ROWS { FEW_WEIGHTS } else { d_v };
            for first in (0..n).step_by(ROWS_AT_ONCE) {
                let rows = first..(first + ROWS_AT_ONCE).min(n);
                let of = |row: usize| &context[(row * n_heads + head) * rank..][..rank];
                let x = weights.gather(rows.clone(), of, &mut scratch.inputs);
                for from in (0..d_v).step_by(step) {
                    let values = from..(from + step).min(d_v);
                    let start = head * (weights.d_nope + d_v) + weights.d_nope;
                    let as_it_lies = weights.lying(start + values.start..start + values.end);
                    let widened = as_it_lies.unwrap_or_else(|| {
                        let widened = scratch.weights.room(step * width);
                        if first == 0 || step < d_v {
                            weights.widen_values(head, values.clone(), widened);
                        }
                        widened
                    });
                    // SAFETY: heads of different tasks differ; the shapes are those above.
                    unsafe {
                        let at = (rows.start * n_heads + head) * d_v + from;
                        let out = (out.pointer(at), n_heads * d_v);
                        let counts = (rows.len(), values.len());
                        dot_rows(isa, counts, width, x.as_ptr(), widened.as_ptr(), out);
                    }
                }
            }
        });
    });
}

/// Steps through a matrix of `height` and `width`: all pairs of first row and first column.
fn pairs(
    height: usize,
    rows: usize,
    width: usize,
    columns: usize,
) -> impl Iterator<Item = (usize, usize)> {
    let across = move |row| (0..width).step_by(columns).map(move |column| (row, column));
    (0..height).step_by(rows).flat_map(across)
}

impl HeadWeights<'_> {
    /// Rows of the pass, after a check of all lengths.
    fn check(&self, x: &[f32], width: usize, out: &[f32], out_width: usize) -> usize {
        let HeadWeights { weights, n_heads, d_nope, d_v, rank, .. } = *self;
        let n_out = n_heads * (d_nope + d_v);
        match weights {
            Weights::Stored(matrix) => {
                assert_eq!((matrix.n_out, matrix.n_in), (n_out, rank), "kv_b_proj");
                if let Some([keys_t, values]) = matrix.parts() {
                    let found = [keys_t, values].map(|part| [part.n_out, part.n_in]);
                    assert_eq!(
                        found,
                        [[n_heads * rank, d_nope], [n_heads * d_v, rank]],
                        "its parts"
                    );
                }
            }
            Weights::Dense(values) => assert_eq!(values.len(), n_out * rank, "kv_b_proj"),
        }
        let n = x.len() / (n_heads * width);
        assert_eq!(x.len(), n * n_heads * width, "input [N, {n_heads}, {width}]");
        assert_eq!(out.len(), n * n_heads * out_width, "result [{n}, {n_heads}, {out_width}]");
        n
    }

    /// The parts that the file has the matrix in.
    fn parts(&self) -> Option<&[Matrix; 2]> {
        match self.weights {
            Weights::Stored(matrix) => matrix.parts(),
            Weights::Dense(_) => None,
        }
    }

    /// Some rows of the matrix where they lie, if they are f32 there, in whole lanes, and not to be rounded: small
    /// models would spend more on copies than on products.
    fn lying(&self, rows: Range<usize>) -> Option<&[f32]> {
        let values = match self.weights {
            Weights::Stored(matrix) if matrix.parts().is_none() => matrix.as_f32()?,
            Weights::Dense(values) if !self.bf16 => values,
            _ => return None,
        };
        let whole = pad(self.rank) == self.rank;
        whole.then(|| &values[rows.start * self.rank..rows.end * self.rank])
    }

    /// Some terms of W_UK of a head in f32, and some columns of them, whole lanes: out [terms, columns].
    /// All columns, unless the file has it turned.
    fn widen_keys(
        &self,
        isa: Isa,
        head: usize,
        terms: Range<usize>,
        columns: Range<usize>,
        out: &mut [f32],
        turned: &mut Lines,
    ) {
        let Some([keys_t, _]) = self.parts() else {
            let start = head * (self.d_nope + self.d_v);
            return self.widen(start + terms.start..start + terms.end, out);
        };
        let (n, width) = (self.d_nope, columns.len());
        let turned = turned.room(16 * n);
        for column in columns.clone().step_by(16) {
            let rows = column..(column + 16).min(self.rank);
            let first = head * self.rank;
            keys_t.rows_in_f32(first + rows.start..first + rows.end, &mut turned[..rows.len() * n]);
            let mut from = [turned.as_ptr(); 16];
            for (i, from) in from[..rows.len()].iter_mut().enumerate() {
                *from = from.wrapping_add(i * n);
            }
            let to = out[column - columns.start..].as_mut_ptr();
            assert!((n - 1) * width + 16 <= out.len() - (column - columns.start), "room for W_UK");
            // SAFETY: each row has Dn numbers; the last row of the result has sixteen more from there on.
            unsafe { transpose_rows(isa, &from, n, to, width) };
        }
    }

    /// Some rows of W_UV of a head in f32, each in whole lanes.
    fn widen_values(&self, head: usize, values: Range<usize>, out: &mut [f32]) {
        if let Some([_, stored]) = self.parts() {
            let rows = head * self.d_v + values.start..head * self.d_v + values.end;
            return self.widen_rows(Weights::Stored(stored), rows, out);
        }
        let start = head * (self.d_nope + self.d_v) + self.d_nope;
        self.widen(start + values.start..start + values.end, out);
    }

    /// Some rows of the matrix in f32, each in whole lanes.
    fn widen(&self, rows: Range<usize>, out: &mut [f32]) {
        self.widen_rows(self.weights, rows, out);
    }

    fn widen_rows(&self, weights: Weights, rows: Range<usize>, out: &mut [f32]) {
        if let Weights::Stored(matrix) = weights
            && pad(self.rank) == self.rank
        {
            return matrix.rows_in_f32(rows.clone(), &mut out[..rows.len() * self.rank]);
        }
        for (row, out) in rows.zip(out.chunks_exact_mut(pad(self.rank))) {
            let (out, rest) = out.split_at_mut(self.rank);
            match weights {
                Weights::Stored(matrix) => matrix.row(row, out),
                Weights::Dense(values) => {
                    out.copy_from_slice(&values[row * self.rank..][..self.rank]);
                    if self.bf16 {
                        round_to_bf16(out);
                    }
                }
            }
            rest.fill(0.0);
        }
    }

    /// The inputs of one head side by side, in whole lanes where they are not whole already.
    fn gather<'s, 'x>(
        &self,
        rows: Range<usize>,
        of: impl Fn(usize) -> &'x [f32],
        scratch: &'s mut Lines,
    ) -> &'s [f32] {
        // Queries are read one number at a time, contexts in lanes.
        let len = of(rows.start).len();
        let width = if len == self.rank { pad(len) } else { len };
        let inputs = scratch.room(rows.len() * width);
        for (row, input) in rows.clone().zip(inputs.chunks_exact_mut(width)) {
            let (input, rest) = input.split_at_mut(len);
            input.copy_from_slice(of(row));
            rest.fill(0.0);
        }
        let inputs = &mut inputs[..rows.len() * width];
        if self.bf16 {
            round_to_bf16(inputs);
        }
        inputs
    }
}

per_isa! {
    /// `out[i] += Σ_t x[i][t] · w[t]` over `n_terms` rows of `w`; all are matrices, each a pointer and the distance
    /// of its rows, and rows of `w` have no gaps.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn add_products = add_products_on(
        n: usize,
        n_terms: usize,
        x: (*const f32, usize),
        w: (*const f32, usize),
        out: (*mut f32, usize)
    )
}

#[inline(always)]
unsafe fn add_products_on<V: Lanes>(
    n: usize,
    n_terms: usize,
    (x, x_stride): (*const f32, usize),
    (w, width): (*const f32, usize),
    (out, stride): (*mut f32, usize),
) {
    let mut at = 0;
    // SAFETY: the caller's promise; tiles partition the rows.
    unsafe {
        while at < n {
            let terms = Terms { weights: x.add(at * x_stride), row_stride: x_stride, stride: 1 };
            let (w, out) = ((Source::alone(w), width), (out.add(at * stride), stride));
            let rows = tile_rows(n - at);
            match rows {
                1 => sum_tile::<V, f32, 1>(&terms, [n_terms; 1], w, out, [1.0; 1]),
                2 => sum_tile::<V, f32, 2>(&terms, [n_terms; 2], w, out, [1.0; 2]),
                3 => sum_tile::<V, f32, 3>(&terms, [n_terms; 3], w, out, [1.0; 3]),
                4 => sum_tile::<V, f32, 4>(&terms, [n_terms; 4], w, out, [1.0; 4]),
                _ => sum_tile::<V, f32, 6>(&terms, [n_terms; 6], w, out, [1.0; 6]),
            }
            at += rows;
        }
    }
}

per_isa! {
    /// `out[i][j] = x[i] · w[j]` for `counts` rows of both, `width` long; `out` is a pointer and the
    /// distance of its rows.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn dot_rows = dot_rows_on(
        counts: (usize, usize), width: usize, x: *const f32, w: *const f32, out: (*mut f32, usize)
    )
}

#[inline(always)]
unsafe fn dot_rows_on<V: Lanes>(
    (n, n_weights): (usize, usize),
    width: usize,
    x: *const f32,
    w: *const f32,
    (out, stride): (*mut f32, usize),
) {
    // SAFETY: the caller's promise; tiles partition the result.
    unsafe {
        let mut j = 0;
        while j < n_weights {
            let whole = n_weights - j >= 4;
            let mut i = 0;
            while i < n {
                let (x, w) = (x.add(i * width), w.add(j * width));
                let out = (out.add(i * stride + j), stride);
                // Where registers are few, one row at a time.
                let rows = if V::COLS > 1 { n - i } else { 1 };
                i += match (rows, whole) {
                    (1, true) => dot_square::<V, 1, 4>(width, x, w, out),
                    (1, false) => dot_square::<V, 1, 1>(width, x, w, out),
                    (2, true) => dot_square::<V, 2, 4>(width, x, w, out),
                    (2, false) => dot_square::<V, 2, 1>(width, x, w, out),
                    (3, true) => dot_square::<V, 3, 4>(width, x, w, out),
                    (3, false) => dot_square::<V, 3, 1>(width, x, w, out),
                    (_, true) => dot_square::<V, 4, 4>(width, x, w, out),
                    (_, false) => dot_square::<V, 4, 1>(width, x, w, out),
                };
            }
            j += if whole { 4 } else { 1 };
        }
    }
}

/// `R` rows of x with `C` rows of w. Returns `R`.
#[inline(always)]
unsafe fn dot_square<V: Lanes, const R: usize, const C: usize>(
    width: usize,
    x: *const f32,
    w: *const f32,
    (out, stride): (*mut f32, usize),
) -> usize {
    let mut sum = [[V::splat(0.0); C]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for k in (0..width).step_by(16) {
            let mut row = [V::splat(0.0); C];
            for c in 0..C {
                row[c] = V::load(w.add(c * width + k));
            }
            for r in 0..R {
                let x = V::load(x.add(r * width + k));
                for c in 0..C {
                    sum[r][c] = x.mul_add(row[c], sum[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                *out.add(r * stride + c) = sum[r][c].sum();
            }
        }
    }
    R
}
