//! Products of rows with matrices in their stored format: `out = x · Wᵀ`. Nothing is repacked: memory
//! holds the stored bytes only, and a matrix that is mapped from a file is read where it lies.
//!
//! There are three ways, each with one order of sums for one row as for many, for any number of threads and
//! on every CPU level: floating weights (`floats`), rows rounded to 8 bits times integer codes
//! (`integer`), and, here, f32 rows times quantised weights. Here a task widens a few rows of W,
//! [`K_CHUNK`] elements at a time, into scratch that stays in cache, and multiplies them with all rows
//! of x. An element of the result is, for every chunk, sixteen chains `fma(x, w, …)` over every
//! sixteenth element, folded in one tree; chunks are added in order.

mod avx2;
mod avx512;
mod bytes;
mod floats;
mod integer;
mod matrix;
mod neon;
mod scalar;

pub use bytes::{Bytes, SharedBytes};
pub use integer::{Gated, Rounded, can_gate, gated_batch};
pub use matrix::{Matrix, MatrixError, Scales, encode};

use crate::cpu::{Isa, isa};
use crate::threads::{Shards, n_threads, run_if};
use std::cell::RefCell;
use std::ops::Range;

/// Elements of a row handled at a time: whole blocks of every format.
const K_CHUNK: usize = 1024;
/// Distance of widened rows in scratch: not a power of two, so that they fall into different cache sets.
const W_STRIDE: usize = K_CHUNK + 16;
/// Rows of W that a task takes: a multiple of every tile's width. Widened, they fill a tenth of a
/// second-level cache of 2 MiB.
const N_BLOCK: usize = 48;
/// Rows of x that meet the widened rows before the next ones do, to stay in the second-level cache.
const M_BLOCK: usize = 64;
/// Rows of W read side by side where there are few rows of x: enough sums in flight to hide the latency
/// of an addition, few enough streams for the prefetchers.
const STREAMS: usize = 4;
/// Multiplications that are worth another thread: half a microsecond of them.
const WORTH_SHARING: usize = 1 << 13;
/// Lanes of a sum.
const LANES: usize = 16;

/// The left operand of a product: rows of `n_in` elements.
#[derive(Clone)]
pub enum Rows<'a> {
    /// As they are, one after another.
    Exact(&'a [f32]),
    /// Some of the rows that were rounded to 8 bits: the product runs in integers.
    Rounded(&'a Rounded, Range<usize>),
}

impl Rows<'_> {
    /// Number of rows of `n_in` elements. Panics if the elements are no whole rows.
    fn count(&self, n_in: usize) -> usize {
        match self {
            Rows::Exact(x) => {
                let m = x.len().checked_div(n_in).unwrap_or(0);
                assert_eq!(x.len(), m * n_in, "rows of {n_in} elements");
                m
            }
            Rows::Rounded(x, rows) => {
                assert_eq!(x.n_in(), n_in, "elements of a row");
                assert!(rows.end <= x.n_rows(), "rows {rows:?} of {}", x.n_rows());
                rows.len()
            }
        }
    }
}

/// One product of a batch: `out [m, n_out] = x [m, n_in] · Wᵀ`.
pub struct Product<'a> {
    /// What W is multiplied with. Rounded rows need a quantised matrix ([`can_round`]).
    pub x: Rows<'a>,
    /// The matrix.
    pub matrix: &'a Matrix,
    /// The result.
    pub out: &'a mut [f32],
}

/// A tile of sums: `m` rows of x times `n` widened rows of W over `k` elements.
///
/// Safety: the pointers are good for that, and no one else touches the result meanwhile.
struct Tile {
    x: *const f32,
    x_stride: usize,
    w: *const f32,
    w_stride: usize,
    k: usize,
    m: usize,
    n: usize,
    out: *mut f32,
    out_stride: usize,
    /// Whether the sum starts here, or goes on from what the result holds.
    first: bool,
}

impl Tile {
    #[inline(always)]
    unsafe fn put(&self, i: usize, j: usize, sum: f32) {
        // SAFETY: the caller's promise.
        unsafe {
            let out = self.out.add(i * self.out_stride + j);
            *out = if self.first { sum } else { *out + sum };
        }
    }
}

thread_local! {
    static WIDENED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out [m, n_out] = x [m, n_in] · Wᵀ`.
///
/// Panics if the lengths do not fit.
pub fn matmul(x: &[f32], matrix: &Matrix, out: &mut [f32]) {
    matmul_batch(&mut [Product { x: Rows::Exact(x), matrix, out }]);
}

/// Whether rows may be rounded to 8 bits for products with `matrix`: its format has integer codes.
pub fn can_round(matrix: &Matrix) -> bool {
    integer::can(matrix.format)
}

/// All products of a batch as one parallel loop: projections of one input, or the experts of a layer.
///
/// Panics if the lengths of a product do not fit.
pub fn matmul_batch(products: &mut [Product<'_>]) {
    struct Shared<'a> {
        x: &'a Rows<'a>,
        m: usize,
        matrix: &'a Matrix,
        out: Shards<'a, f32>,
    }
    let mut tasks: Vec<(usize, Range<usize>)> = Vec::with_capacity(4 * products.len() + 16);
    let mut n_multiplied = 0;
    let mut shared = Vec::with_capacity(products.len());
    let inputs = floats::Inputs::new(products);
    let mut behind: usize = products.iter().map(|product| product.matrix.n_out).sum();
    for product in products {
        let Matrix { n_in, n_out, .. } = *product.matrix;
        behind -= n_out;
        let m = product.x.count(n_in);
        n_multiplied += m * n_in * n_out;
        assert_eq!(product.out.len(), m * n_out, "a result [{m}, {n_out}]");
        let at = shared.len();
        if let Rows::Rounded(..) = product.x {
            tasks.extend(integer::tasks(n_out, m, behind).map(|rows| (at, rows)));
        } else if let Some(input) = inputs.get(at) {
            tasks.extend(floats::tasks(&input, n_out, behind).map(|rows| (at, rows)));
        } else {
            let rows = |from: usize| from..(from + N_BLOCK).min(n_out);
            tasks.extend((0..n_out).step_by(N_BLOCK).map(|from| (at, rows(from))));
        }
        let out = Shards::new(&mut *product.out);
        shared.push(Shared { x: &product.x, m, matrix: product.matrix, out });
    }
    run_if(n_multiplied >= WORTH_SHARING, tasks.len(), |task| {
        let (at, rows) = &tasks[task];
        let Shared { x, m, matrix, out } = &shared[*at];
        // Tasks are dealt to the threads in turn.
        let (then, then_rows) = tasks.get(task + n_threads()).unwrap_or(&tasks[task]);
        let then = (shared[*then].matrix, then_rows.start);
        if *m > 0 {
            // SAFETY: tasks of one product write different columns of its result.
            unsafe {
                let out = out.pointer(rows.start);
                match (x, inputs.get(*at)) {
                    (_, Some(input)) => floats::block(input, matrix, rows.clone(), out),
                    (Rows::Exact(x), None) => block(x, *m, matrix, rows.clone(), out),
                    (Rows::Rounded(x, xs), None) => {
                        integer::block(x, xs.clone(), matrix, rows.clone(), then, out);
                    }
                }
            }
        }
    });
}

/// Rows of W that a task takes, of `n_out`, task by task: `least` of them or, where `behind` more rows follow in
/// other matrices of the batch, half of a thread's share of what is left, in multiples of `unit`.
fn cut_rows(
    n_out: usize,
    unit: usize,
    least: usize,
    behind: Option<usize>,
) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let left = n_out - from;
        let share = behind.map_or(0, |behind| (left + behind) / (2 * n_threads()));
        let rows = from..from + share.next_multiple_of(unit).max(least).min(left);
        from = rows.end;
        (left > 0).then_some(rows)
    })
}

/// The columns `rows` of the result, for all rows of x. Safety: `out` points at the first of them.
unsafe fn block(x: &[f32], m: usize, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    let variant = variant();
    WIDENED.with_borrow_mut(|scratch| {
        scratch.resize(N_BLOCK * W_STRIDE, 0.0);
        let mut task = Block { x, m, matrix, rows, out, variant, scratch };
        // SAFETY: the caller's promise.
        unsafe { if m <= variant.m { task.streamed() } else { task.blocked() } }
    });
}

/// A run of rows of W and what they are multiplied with.
struct Block<'a> {
    x: &'a [f32],
    m: usize,
    matrix: &'a Matrix,
    rows: Range<usize>,
    /// The first result of the first row of x.
    out: *mut f32,
    variant: Variant,
    scratch: &'a mut [f32],
}

impl Block<'_> {
    /// Few rows of x: W is read from end to end, as memory likes it, and each chunk is used while it is in
    /// the first-level cache. Safety: as [`block`].
    unsafe fn streamed(&mut self) {
        let n_in = self.matrix.n_in;
        let step = STREAMS.min(self.variant.n);
        for row in self.rows.clone().step_by(step) {
            let group = row..(row + step).min(self.rows.end);
            for k0 in (0..n_in).step_by(K_CHUNK) {
                let ks = k0..(k0 + K_CHUNK).min(n_in);
                for (row, out) in group.clone().zip(self.scratch.chunks_exact_mut(W_STRIDE)) {
                    self.matrix.dequantize(row, ks.clone(), out);
                }
                // SAFETY: the caller's promise.
                unsafe { self.tile(ks, 0, 0..self.m, group.clone()) };
            }
        }
    }

    /// Many rows of x: widened rows are used by all of them. Safety: as [`block`].
    unsafe fn blocked(&mut self) {
        let (n_in, Variant { m: tile_m, n: tile_n, .. }) = (self.matrix.n_in, self.variant);
        for k0 in (0..n_in).step_by(K_CHUNK) {
            let ks = k0..(k0 + K_CHUNK).min(n_in);
            for (row, out) in self.rows.clone().zip(self.scratch.chunks_exact_mut(W_STRIDE)) {
                self.matrix.dequantize(row, ks.clone(), out);
            }
            for m0 in (0..self.m).step_by(M_BLOCK) {
                let end = (m0 + M_BLOCK).min(self.m);
                for j in self.rows.clone().step_by(tile_n) {
                    for i in (m0..end).step_by(tile_m) {
                        let (xs, ws) =
                            (i..(i + tile_m).min(end), j..(j + tile_n).min(self.rows.end));
                        // SAFETY: the caller's promise.
                        unsafe { self.tile(ks.clone(), j - self.rows.start, xs, ws) };
                    }
                }
            }
        }
    }

    /// Rows `xs` times rows `ws`, which start at row `at` of the scratch. Safety: as [`block`].
    #[inline(always)]
    unsafe fn tile(&self, ks: Range<usize>, at: usize, xs: Range<usize>, ws: Range<usize>) {
        let Matrix { n_in, n_out, .. } = *self.matrix;
        // SAFETY: these rows of x and of the scratch exist; the result is ours.
        unsafe {
            (self.variant.tile)(&Tile {
                x: self.x.as_ptr().add(xs.start * n_in + ks.start),
                x_stride: n_in,
                w: self.scratch.as_ptr().add(at * W_STRIDE),
                w_stride: W_STRIDE,
                k: ks.len(),
                m: xs.len(),
                n: ws.len(),
                out: self.out.add(xs.start * n_out + (ws.start - self.rows.start)),
                out_stride: n_out,
                first: ks.start == 0,
            });
        }
    }
}

/// The tile of a CPU level, and its sizes.
#[derive(Clone, Copy)]
struct Variant {
    tile: unsafe fn(&Tile),
    m: usize,
    n: usize,
}

fn variant() -> Variant {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Variant { tile: avx512::tile, m: avx512::M, n: avx512::N },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Variant { tile: avx2::tile, m: avx2::M, n: avx2::N },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Variant { tile: neon::tile, m: neon::M, n: neon::N },
        _ => Variant { tile: scalar::tile, m: 1, n: 1 },
    }
}

#[cfg(test)]
mod tests;
