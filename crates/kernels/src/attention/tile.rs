//! The inner loops: a tile of query rows against one block of keys.
//!
//! Each loop is written once over [`Lanes`] and compiled per instruction-set level. What a
//! row computes depends on its own keys only: a score is one chain of multiply-adds along the head
//! dimension, a component of the output is one chain along the keys, and lanes past a row's last key
//! add exact zeros or are not visited. So neither the tile a row falls into nor its neighbours show
//! in its bits.

use super::BLOCK_TOKENS;
use super::lanes::{Lanes, Plain};
#[cfg(target_arch = "x86_64")]
use super::lanes::{Ymm2, Zmm};
use crate::cpu::Isa;
use crate::math::exp_f32;

/// Rows of a tile: with four columns of lanes, sixteen independent chains, enough to hide the
/// latency of a multiply-add.
pub(super) const TILE_ROWS: usize = 4;

/// Compiles a body for every level and picks one at run time.
macro_rules! per_isa {
    ($(#[$doc:meta])* fn $name:ident = $body:ident($($arg:ident: $kind:ty),* $(,)?)) => {
        $(#[$doc])*
        pub(super) unsafe fn $name(isa: Isa, $($arg: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
            unsafe fn avx512($($arg: $kind),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<Zmm>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $kind),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<Ymm2>($($arg),*) }
            }
            // SAFETY: the caller's promise; `isa` is a level that this CPU has.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2($($arg),*),
                    _ => $body::<Plain>($($arg),*),
                }
            }
        }
    };
}

pub(super) use per_isa;

/// One block of keys and values, packed.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// [qk_dim, BLOCK_TOKENS]
    pub(super) keys_t: *const f32,
    /// [BLOCK_TOKENS, v_pad]
    pub(super) values: *const f32,
    /// Logical position of the block's first key.
    pub(super) first_key: usize,
}

/// The lengths that all rows of a call share.
#[derive(Clone, Copy)]
pub(super) struct Dims {
    pub(super) qk_dim: usize,
    pub(super) v_dim: usize,
    pub(super) scale: f32,
}

impl Dims {
    /// `qk_dim` in whole lanes.
    pub(super) fn qk_pad(&self) -> usize {
        self.qk_dim.next_multiple_of(16)
    }
    /// `v_dim` in whole lanes.
    pub(super) fn v_pad(&self) -> usize {
        self.v_dim.next_multiple_of(16)
    }
}

/// One query row of one head.
#[derive(Clone, Copy)]
pub(super) struct Query {
    /// [qk_dim]
    pub(super) q: *const f32,
    /// It sees the logical keys `0..n_keys`.
    pub(super) n_keys: usize,
}

/// Running softmax of a list of queries, to be carried from block to block.
#[derive(Clone, Copy)]
pub(super) struct Running {
    /// Largest score so far, [n]
    pub(super) max: *mut f32,
    /// Sum of exponentials, spread over sixteen lanes, [n, 16]
    pub(super) sum: *mut f32,
    /// Weighted sum of values, [n, v_pad]
    pub(super) acc: *mut f32,
}

impl Running {
    /// The state of the queries from number `at` on.
    ///
    /// # Safety
    /// There must be that many.
    pub(super) unsafe fn from(self, at: usize, v_pad: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Running {
                max: self.max.add(at),
                sum: self.sum.add(at * 16),
                acc: self.acc.add(at * v_pad),
            }
        }
    }
}

per_isa! {
    /// Takes one block of keys into the running softmax of `queries`, each of which sees at least
    /// the block's first key.
    ///
    /// # Safety
    /// All pointers must reach as far as their documented shapes; `isa` must be available.
    fn attend_block = attend_block_on(dims: &Dims, block: &Block, queries: &[Query], state: Running)
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
    /// Ends the running softmax of the first query of `state`: writes its output, [v_dim], and the
    /// log of its sum of exponentials.
    ///
    /// # Safety
    /// The pointers must reach that far; `isa` must be available.
    fn finish_row = finish_row_on(dims: &Dims, state: Running, out: &mut [f32], lse: &mut f32)
}

#[inline(always)]
unsafe fn attend_block_on<V: Lanes>(dims: &Dims, block: &Block, queries: &[Query], state: Running) {
    let mut at = 0;
    // SAFETY: the caller's promise; tiles partition the queries.
    unsafe {
        while at < queries.len() {
            let tile = &queries[at..];
            let state = state.from(at, dims.v_pad());
            at += match tile.len() {
                1 => attend_tile::<V, 1>(dims, block, tile, state),
                2 => attend_tile::<V, 2>(dims, block, tile, state),
                3 => attend_tile::<V, 3>(dims, block, tile, state),
                _ => attend_tile::<V, TILE_ROWS>(dims, block, tile, state),
            };
        }
    }
}

/// Scores of a tile: aligned room for the weights of its rows.
#[repr(align(64))]
struct Weights<const R: usize>([[f32; BLOCK_TOKENS]; R]);

/// One step of the online softmax for `R` rows. Returns `R`.
#[inline(always)]
unsafe fn attend_tile<V: Lanes, const R: usize>(
    dims: &Dims,
    block: &Block,
    queries: &[Query],
    state: Running,
) -> usize {
    let mut q = [std::ptr::null(); R];
    let mut counts = [0; R];
    let mut n_groups = 0;
    for r in 0..R {
        q[r] = queries[r].q;
        counts[r] = (queries[r].n_keys - block.first_key).min(BLOCK_TOKENS);
        n_groups = n_groups.max(counts[r].div_ceil(16));
    }
    let mut weights = Weights([[0.0; BLOCK_TOKENS]; R]);
    let mut rescale = [1.0; R];
    // SAFETY: the caller's promise.
    unsafe {
        dot_tile::<V, R>(q, dims.qk_dim, block.keys_t, n_groups, weights.0.as_mut_ptr().cast());
        for r in 0..R {
            let row: *mut f32 = weights.0[r].as_mut_ptr();
            let mut largest = V::splat(f32::NEG_INFINITY);
            for g in 0..n_groups {
                let at = row.add(g * 16);
                let mut score = V::load(at).mul(V::splat(dims.scale));
                if counts[r] < (g + 1) * 16 {
                    let n = counts[r].saturating_sub(g * 16);
                    score = score.first_or(n, V::splat(f32::NEG_INFINITY));
                }
                score.store(at);
                largest = largest.max(score);
            }
            let old = *state.max.add(r);
            let largest = largest.largest();
            let new = if largest > old { largest } else { old };
            *state.max.add(r) = new;
            rescale[r] = exp_f32_on::<V>(old - new);
            let mut sum = V::load(state.sum.add(r * 16)).mul(V::splat(rescale[r]));
            for g in 0..n_groups {
                let at = row.add(g * 16);
                let weight = exp_lanes(V::load(at).add(V::splat(-new)));
                weight.store(at);
                sum = sum.add(weight);
            }
            sum.store(state.sum.add(r * 16));
        }
        let v_pad = dims.v_pad();
        sum_tile::<V, R>(
            &Terms { weights: weights.0.as_ptr().cast(), row_stride: BLOCK_TOKENS, stride: 1 },
            counts,
            (block.values, v_pad),
            (state.acc, v_pad),
            rescale,
        );
    }
    R
}

/// [`exp_f32`] as the level computes it.
#[inline(always)]
fn exp_f32_on<V: Lanes>(x: f32) -> f32 {
    if V::FMA { exp_f32::<true>(x) } else { exp_f32::<false>(x) }
}

/// [`exp_f32`] of sixteen lanes; the loop becomes straight vector code.
#[inline(always)]
pub(super) fn exp_lanes<V: Lanes>(x: V) -> V {
    let mut lanes = x.array();
    for i in 0..16 {
        lanes[i] = exp_f32_on::<V>(lanes[i]);
    }
    // SAFETY: `lanes` holds sixteen f32.
    unsafe { V::load(lanes.as_ptr()) }
}

/// `dst[r][j] = Σ_d rows[r][d] * cols[d][j]` for the first `n_groups` groups of sixteen `j`;
/// `cols` is [n, BLOCK_TOKENS], `dst` [R, BLOCK_TOKENS].
#[inline(always)]
pub(super) unsafe fn dot_tile<V: Lanes, const R: usize>(
    rows: [*const f32; R],
    n: usize,
    cols: *const f32,
    n_groups: usize,
    dst: *mut f32,
) {
    let mut group = 0;
    while group < n_groups {
        // SAFETY: the caller's promise; `group` and the columns after it are below `n_groups`.
        unsafe {
            let (cols, dst) = (cols.add(group * 16), dst.add(group * 16));
            group += match V::COLS.min(n_groups - group) {
                1 => dot_cols::<V, R, 1>(rows, n, cols, dst),
                2 => dot_cols::<V, R, 2>(rows, n, cols, dst),
                3 => dot_cols::<V, R, 3>(rows, n, cols, dst),
                _ => dot_cols::<V, R, 4>(rows, n, cols, dst),
            };
        }
    }
}

#[inline(always)]
unsafe fn dot_cols<V: Lanes, const R: usize, const C: usize>(
    rows: [*const f32; R],
    n: usize,
    cols: *const f32,
    dst: *mut f32,
) -> usize {
    let mut acc = [[V::splat(0.0); C]; R];
    // SAFETY: the caller's promise.
    unsafe {
        for d in 0..n {
            let mut col = [V::splat(0.0); C];
            for c in 0..C {
                col[c] = V::load(cols.add(d * BLOCK_TOKENS + c * 16));
            }
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
/// `x` and `acc` are matrices, each a pointer and the length of a row, whole lanes.
#[inline(always)]
pub(super) unsafe fn sum_tile<V: Lanes, const R: usize>(
    terms: &Terms,
    counts: [usize; R],
    x: (*const f32, usize),
    acc: (*mut f32, usize),
    rescale: [f32; R],
) {
    let n_groups = acc.1 / 16;
    let mut group = 0;
    while group < n_groups {
        // SAFETY: the caller's promise; `group` and the columns after it are below `n_groups`.
        unsafe {
            let (x, acc) = ((x.0.add(group * 16), x.1), (acc.0.add(group * 16), acc.1));
            group += match V::COLS.min(n_groups - group) {
                1 => sum_cols::<V, R, 1>(terms, counts, x, acc, rescale),
                2 => sum_cols::<V, R, 2>(terms, counts, x, acc, rescale),
                3 => sum_cols::<V, R, 3>(terms, counts, x, acc, rescale),
                _ => sum_cols::<V, R, 4>(terms, counts, x, acc, rescale),
            };
        }
    }
}

#[inline(always)]
unsafe fn sum_cols<V: Lanes, const R: usize, const C: usize>(
    terms: &Terms,
    counts: [usize; R],
    (x, x_stride): (*const f32, usize),
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
            let mut row = [V::splat(0.0); C];
            for c in 0..C {
                row[c] = V::load(x.add(t * x_stride + c * 16));
            }
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
                    for c in 0..C {
                        let row = V::load(x.add(t * x_stride + c * 16));
                        sum[r][c] = w.mul_add(row, sum[r][c]);
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
unsafe fn finish_row_on<V: Lanes>(dims: &Dims, state: Running, out: &mut [f32], lse: &mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = V::load(state.sum).sum();
        *lse = *state.max + sum.ln();
        let inverse = 1.0 / sum;
        let acc = std::slice::from_raw_parts(state.acc, dims.v_dim);
        for (x, &a) in out.iter_mut().zip(acc) {
            *x = a * inverse;
        }
    }
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
