//! The two products over latent rows: queries with rows, and weights with the beginnings of rows.
//!
//! Rows are widened into the first-level cache in small pieces, one piece ahead of the one that is multiplied and
//! between its multiply-adds: there the loads of the cache and the widening cost nothing but their share of the
//! ports. Every multiply-add takes one number of a row from memory, so a piece is read number by number.

use super::BLOCK_TOKENS;
use super::lanes::{Element, Lanes};
use super::latent_tile::LatentBlock;
use super::running::Running;
use crate::memory::fetch_far;
use std::mem::MaybeUninit;

/// Columns of a piece of rows in a product with queries.
const COLUMNS: usize = 32;
/// Numbers of the queries, over all lanes, that stay in the first-level cache while the rows of a block
/// pass: 16 KiB.
const QUERY_NUMBERS: usize = 4096;

/// Memory that is read next, fetched a line at a time between the products.
pub(super) struct Fetch {
    next: *const u8,
    end: *const u8,
}

impl Fetch {
    pub(super) fn new(next: *const u8, n_bytes: usize) -> Self {
        Fetch { next, end: next.wrapping_add(n_bytes) }
    }

    #[inline(always)]
    fn line(&mut self) {
        if self.next < self.end {
            fetch_far(self.next);
            self.next = self.next.wrapping_add(64);
        }
    }
}

/// Two pieces of rows in f32, [rows, columns] each: one is multiplied while the other is made. A load waits for
/// stores before it whose addresses end in the same twelve bits, so a piece that is read in the order of its
/// columns must not lie 4 KiB from the other: N is small, or rows are read in the order they are made.
#[repr(align(64))]
struct Pieces<const N: usize>(MaybeUninit<[[f32; N]; 2]>);

impl<const N: usize> Pieces<N> {
    fn new() -> Self {
        Pieces(MaybeUninit::uninit())
    }

    fn both(&mut self) -> [*mut f32; 2] {
        let first: *mut f32 = self.0.as_mut_ptr().cast();
        [first, first.wrapping_add(N)]
    }
}

/// The piece that is made: what is widened, the distance of its rows, and where it goes.
struct Coming<E> {
    from: *const E,
    stride: usize,
    /// Columns, whole lanes.
    width: usize,
    to: *mut f32,
}

impl<E: Element> Coming<E> {
    /// Widens row `i`; rows of the piece are `WIDTH` long.
    #[inline(always)]
    unsafe fn row<V: Lanes, const WIDTH: usize>(&self, i: usize) {
        for k in (0..WIDTH).step_by(16) {
            if WIDTH == 16 || k < self.width {
                // SAFETY: the caller's promise.
                unsafe {
                    let x: V = E::load(self.from.add(i * self.stride + k));
                    x.store(self.to.add(i * WIDTH + k));
                }
            }
        }
    }
}

/// Products of all queries with the rows that any of them sees: `G` groups of lanes and `T` rows in
/// registers. Safety: the block is as documented.
#[inline(always)]
pub(super) unsafe fn score_rows<V: Lanes, E: Element, const G: usize, const T: usize>(
    block: &LatentBlock,
    rows: *const E,
    fetch: &mut Fetch,
) {
    let lanes = block.lanes;
    let step = QUERY_NUMBERS / lanes;
    let mut pieces = Pieces::<{ 16 * COLUMNS }>::new();
    let [mut piece, mut other] = pieces.both();
    // SAFETY: the caller's promise, here and below; BLOCK_TOKENS is a multiple of T.
    let coming = |t: usize, first: usize, to: *mut f32| unsafe {
        let width = COLUMNS.min(block.stride - first);
        Coming { from: rows.add(t * block.stride + first), stride: block.stride, width, to }
    };
    for i in 0..T {
        unsafe { coming(0, 0, piece).row::<V, COLUMNS>(i) };
    }
    for start in (0..block.qk_dim).step_by(step) {
        let end = (start + step).min(block.qk_dim);
        for lane in (0..lanes).step_by(16 * G) {
            for t in (0..block.most).step_by(T) {
                // SAFETY: as above.
                unsafe {
                    let scores = block.scores.add(t * lanes + lane);
                    let mut acc = [[V::splat(0.0); G]; T];
                    if start > 0 {
                        acc = load_tile(scores, lanes);
                    }
                    for first in (start..end).step_by(COLUMNS) {
                        // The piece after this one; after the last, the first again.
                        let (row, column) = match () {
                            _ if first + COLUMNS < end => (t, first + COLUMNS),
                            _ if t + T < block.most => (t + T, start),
                            _ if lane + 16 * G < lanes => (0, start),
                            _ => (0, end % block.qk_dim),
                        };
                        let q_t = block.q_t.add(first * lanes + lane);
                        let width = COLUMNS.min(end - first);
                        let next = coming(row, column, other);
                        let piece_now = (piece.cast_const(), width);
                        score_piece(&mut acc, (q_t, lanes), piece_now, next, fetch);
                        (piece, other) = (other, piece);
                    }
                    store_tile(acc, scores, lanes);
                }
            }
        }
    }
}

/// Takes a piece, and its width, into the products with `q_t` [width, lanes]. Safety: as above.
#[inline(always)]
unsafe fn score_piece<V: Lanes, E: Element, const G: usize, const T: usize>(
    acc: &mut [[V; G]; T],
    (q_t, lanes): (*const f32, usize),
    (piece, width): (*const f32, usize),
    coming: Coming<E>,
    fetch: &mut Fetch,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for i in 0..T {
            coming.row::<V, COLUMNS>(i);
            if i % (4 / size_of::<E>()) == 0 {
                fetch.line();
            }
            if width == COLUMNS {
                for j in 0..COLUMNS / T {
                    let d = i * (COLUMNS / T) + j;
                    score_column(acc, q_t.add(d * lanes), piece.add(d));
                }
            }
        }
        if width < COLUMNS {
            for d in 0..width {
                score_column(acc, q_t.add(d * lanes), piece.add(d));
            }
        }
    }
}

/// The same address, which the compiler takes for another: it is then kept in a register, and loads from it take no
/// index. A multiply-add with an indexed load is two operations in the front end, not one.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // the address is not followed
fn kept<T>(at: *const T) -> *const T {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: does nothing.
    let at = unsafe {
        let mut at = at;
        std::arch::asm!("/* {0} */", inout(reg) at, options(pure, nomem, nostack, preserves_flags));
        at
    };
    at
}

/// One column of a piece, from its first row on, with the numbers of the queries that meet it.
#[inline(always)]
unsafe fn score_column<V: Lanes, const G: usize, const T: usize>(
    acc: &mut [[V; G]; T],
    q_t: *const f32,
    column: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let column = kept(column);
        let mut q = [V::splat(0.0); G];
        for g in 0..G {
            q[g] = V::load(q_t.add(g * 16));
        }
        for i in 0..T {
            let x = V::splat(*column.add(i * COLUMNS));
            for g in 0..G {
                acc[i][g] = x.mul_add(q[g], acc[i][g]);
            }
        }
    }
}

/// Adds the weighted rows to the sums: `G` groups of lanes and `T` components in registers.
/// Safety: the block and the state are as documented.
#[inline(always)]
pub(super) unsafe fn sum_rows<V: Lanes, E: Element, const G: usize, const T: usize>(
    block: &LatentBlock,
    rows: *const E,
    rescale: *const f32,
    state: Running,
    fetch: &mut Fetch,
) {
    let mut pieces = Pieces::<{ 16 * BLOCK_TOKENS }>::new();
    let [mut piece, mut other] = pieces.both();
    // SAFETY: the caller's promise, here and below; `v_pad` is whole lanes, and T divides sixteen.
    let coming = |v: usize, to: *mut f32| Coming {
        from: unsafe { rows.add(v) },
        stride: block.stride,
        width: 16,
        to,
    };
    for t in 0..block.most {
        unsafe { coming(0, piece).row::<V, 16>(t) };
    }
    for lane in (0..block.lanes).step_by(16 * G) {
        for v in (0..block.v_pad).step_by(16) {
            let next = coming((v + 16) % block.v_pad, other);
            for i in (0..16).step_by(T) {
                // SAFETY: as above.
                unsafe {
                    let columns = (piece.add(i).cast_const(), v + i);
                    sum_columns::<V, E, G, T>(block, columns, lane, rescale, state, &next, fetch);
                }
            }
            (piece, other) = (other, piece);
        }
    }
}

/// [`sum_rows`] for `T` components: a piece from the first of them on, and its number. Safety: as there.
#[inline(always)]
unsafe fn sum_columns<V: Lanes, E: Element, const G: usize, const T: usize>(
    block: &LatentBlock,
    (piece, v): (*const f32, usize),
    lane: usize,
    rescale: *const f32,
    state: Running,
    coming: &Coming<E>,
    fetch: &mut Fetch,
) {
    let lanes = block.lanes;
    // SAFETY: the caller's promise.
    unsafe {
        let acc = state.acc.add(v * lanes + lane);
        let mut sum: [[V; G]; T] = load_tile(acc, lanes);
        for g in 0..G {
            let rescale = V::load(rescale.add(lane + g * 16));
            for i in 0..T {
                sum[i][g] = sum[i][g].mul(rescale);
            }
        }
        // The components of a piece share the work of making the next one.
        let is_mine = |t: usize| t % (16 / T) == v % 16 / T;
        for t in 0..block.shared {
            let w: [V; G] = weights(block, t, lane);
            let row = kept(piece.add(t * 16));
            for i in 0..T {
                let x = V::splat(*row.add(i));
                for g in 0..G {
                    sum[i][g] = w[g].mul_add(x, sum[i][g]);
                }
            }
            if is_mine(t) {
                coming.row::<V, 16>(t);
            }
            if t % (6 * G / size_of::<E>()) == 0 {
                fetch.line();
            }
        }
        // The causal staircase: rows that some queries do not see.
        for t in block.shared..block.most {
            let w: [V; G] = weights(block, t, lane);
            for g in 0..G {
                let counts = V::load(block.counts.add(lane + g * 16));
                for i in 0..T {
                    let x = V::splat(*piece.add(t * 16 + i));
                    let more = w[g].mul_add(x, sum[i][g]);
                    sum[i][g] = counts.above(t as f32, more, sum[i][g]);
                }
            }
            if is_mine(t) {
                coming.row::<V, 16>(t);
            }
        }
        store_tile(sum, acc, lanes);
    }
}

#[inline(always)]
unsafe fn weights<V: Lanes, const G: usize>(block: &LatentBlock, t: usize, lane: usize) -> [V; G] {
    let mut w = [V::splat(0.0); G];
    for g in 0..G {
        // SAFETY: the caller's promise.
        w[g] = unsafe { V::load(block.scores.add(t * block.lanes + lane + g * 16)) };
    }
    w
}

/// `T` rows of `G` groups of lanes, `stride` apart.
#[inline(always)]
unsafe fn load_tile<V: Lanes, const G: usize, const T: usize>(
    from: *const f32,
    stride: usize,
) -> [[V; G]; T] {
    let mut tile = [[V::splat(0.0); G]; T];
    for i in 0..T {
        for g in 0..G {
            // SAFETY: the caller's promise.
            tile[i][g] = unsafe { V::load(from.add(i * stride + g * 16)) };
        }
    }
    tile
}

#[inline(always)]
unsafe fn store_tile<V: Lanes, const G: usize, const T: usize>(
    tile: [[V; G]; T],
    to: *mut f32,
    stride: usize,
) {
    for i in 0..T {
        for g in 0..G {
            // SAFETY: the caller's promise.
            unsafe { tile[i][g].store(to.add(i * stride + g * 16)) };
        }
    }
}
