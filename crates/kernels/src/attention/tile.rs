//! The inner loop: a list of query rows against one block of keys, lanes being keys, then values.
//!
//! It is written once over [`Lanes`] and compiled per instruction-set level. What a row computes
//! depends on its own keys only: a score is one chain of multiply-adds along the head dimension, a
//! component of the output is one chain along the keys, and lanes past a row's last key add exact
//! zeros or are not visited. So neither the tile a row falls into nor its neighbours show in its bits.
//! Half-precision blocks are widened as they are read; all arithmetic is f32.

use super::BLOCK_TOKENS;
use super::dots::{Source, Terms, dot_tile, sum_tile};
use super::lanes::{Element, Lanes};
use super::running::Running;
use crate::cpu::Isa;
use crate::math::exp_f32;

/// Rows of a tile: with four columns of lanes, 24 chains in flight, and twelve multiply-adds for every
/// five loads.
const TILE_ROWS: usize = 6;
/// Queries whose scores are taken before their weighted sums: the keys of the block stay in the
/// first-level cache for all of them, then its values do.
const QUERIES_AT_ONCE: usize = 4 * TILE_ROWS;

/// Compiles a body for every level and picks one at run time.
macro_rules! per_isa {
    ($(#[$doc:meta])* fn $name:ident = $body:ident($($arg:ident: $kind:ty),* $(,)?)) => {
        $(#[$doc])*
        pub(super) unsafe fn $name(isa: Isa, $($arg: $kind),*) {
            use $crate::attention::lanes;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            unsafe fn avx512($($arg: $kind),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<lanes::Zmm>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $kind),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<lanes::Ymm2>($($arg),*) }
            }
            // SAFETY: the caller's promise; `isa` is a level that this CPU has.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => $body::<lanes::Quad>($($arg),*),
                    _ => $body::<lanes::Plain>($($arg),*),
                }
            }
        }
    };
}

pub(super) use per_isa;

/// One block of keys and values, packed.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) stored: Stored,
    /// Logical position of the block's first key.
    pub(super) first_key: usize,
}

/// The numbers of a block: keys [qk_dim, BLOCK_TOKENS], values [BLOCK_TOKENS, v_pad].
#[derive(Clone, Copy)]
pub(super) enum Stored {
    Full { keys_t: Source<f32>, values: Source<f32> },
    Half { keys_t: Source<u16>, values: Source<u16> },
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

per_isa! {
    /// Takes one block of keys into the running softmax of `queries`, each of which sees at least
    /// the block's first key.
    ///
    /// # Safety
    /// All pointers must reach as far as their documented shapes; `isa` must be available.
    fn attend_block = attend_block_on(dims: &Dims, block: &Block, queries: &[Query], state: Running)
}

#[inline(always)]
unsafe fn attend_block_on<V: Lanes>(dims: &Dims, block: &Block, queries: &[Query], state: Running) {
    let first = block.first_key;
    // SAFETY: the caller's promise.
    unsafe {
        match block.stored {
            Stored::Full { keys_t, values } => {
                attend_queries::<V, f32>(dims, (keys_t, values), first, queries, state)
            }
            Stored::Half { keys_t, values } => {
                attend_queries::<V, u16>(dims, (keys_t, values), first, queries, state)
            }
        }
    }
}

/// What passes from the scores of some queries to their weighted sums.
#[repr(align(64))]
struct Weights {
    weights: [[f32; BLOCK_TOKENS]; QUERIES_AT_ONCE],
    rescale: [f32; QUERIES_AT_ONCE],
}

#[inline(always)]
unsafe fn attend_queries<V: Lanes, E: Element>(
    dims: &Dims,
    (keys_t, values): (Source<E>, Source<E>),
    first_key: usize,
    queries: &[Query],
    state: Running,
) {
    let mut scratch = std::mem::MaybeUninit::<Weights>::uninit();
    let scratch = scratch.as_mut_ptr();
    for start in (0..queries.len()).step_by(QUERIES_AT_ONCE) {
        let end = (start + QUERIES_AT_ONCE).min(queries.len());
        let queries = &queries[start..end];
        // SAFETY: the caller's promise; the scores of a query are written before they are read.
        unsafe {
            let state = state.from(start, dims.v_pad());
            let weights: *mut f32 = (&raw mut (*scratch).weights).cast();
            let rescale: *mut f32 = (&raw mut (*scratch).rescale).cast();
            let mut at = 0;
            while at < queries.len() {
                let (tile, to) = (&queries[at..], weights.add(at * BLOCK_TOKENS));
                at += match tile_rows(tile.len()) {
                    1 => score_tile::<V, E, 1>(dims, keys_t, first_key, tile, to),
                    2 => score_tile::<V, E, 2>(dims, keys_t, first_key, tile, to),
                    3 => score_tile::<V, E, 3>(dims, keys_t, first_key, tile, to),
                    4 => score_tile::<V, E, 4>(dims, keys_t, first_key, tile, to),
                    _ => score_tile::<V, E, TILE_ROWS>(dims, keys_t, first_key, tile, to),
                };
            }
            for r in 0..queries.len() {
                let row = weights.add(r * BLOCK_TOKENS);
                let count = (queries[r].n_keys - first_key).min(BLOCK_TOKENS);
                *rescale.add(r) = weigh::<V>(dims.scale, row, count, state.from(r, dims.v_pad()));
            }
            let mut at = 0;
            while at < queries.len() {
                let (tile, state) = (&queries[at..], state.from(at, dims.v_pad()));
                let weights =
                    (weights.add(at * BLOCK_TOKENS).cast_const(), rescale.add(at).cast_const());
                at += match tile_rows(tile.len()) {
                    1 => value_tile::<V, E, 1>(dims, values, first_key, tile, weights, state),
                    2 => value_tile::<V, E, 2>(dims, values, first_key, tile, weights, state),
                    3 => value_tile::<V, E, 3>(dims, values, first_key, tile, weights, state),
                    4 => value_tile::<V, E, 4>(dims, values, first_key, tile, weights, state),
                    _ => {
                        value_tile::<V, E, TILE_ROWS>(dims, values, first_key, tile, weights, state)
                    }
                };
            }
        }
    }
}

/// Rows of the next tile where `left` are left: no tile of one row after a full one.
#[inline(always)]
pub(super) fn tile_rows(left: usize) -> usize {
    match left {
        0..=4 => left,
        5 => 3,
        7 | 8 => 4,
        _ => TILE_ROWS,
    }
}

/// Keys of the block that `R` queries see.
#[inline(always)]
fn counts<const R: usize>(queries: &[Query], first_key: usize) -> [usize; R] {
    let mut counts = [0; R];
    for r in 0..R {
        counts[r] = (queries[r].n_keys - first_key).min(BLOCK_TOKENS);
    }
    counts
}

/// Products of `R` queries with the keys that any of them sees. Returns `R`.
#[inline(always)]
unsafe fn score_tile<V: Lanes, E: Element, const R: usize>(
    dims: &Dims,
    keys_t: Source<E>,
    first_key: usize,
    queries: &[Query],
    scores: *mut f32,
) -> usize {
    let mut q = [std::ptr::null(); R];
    let mut most = 0;
    let counts = counts::<R>(queries, first_key);
    for r in 0..R {
        q[r] = queries[r].q;
        most = most.max(counts[r]);
    }
    // SAFETY: the caller's promise.
    unsafe { dot_tile::<V, E, R>(q, dims.qk_dim, keys_t, most.div_ceil(16), scores) };
    R
}

/// Turns the scores of one query into weights, takes its largest score and sum on, and returns the
/// factor on what was summed before. Keys past `count` weigh nothing.
#[inline(always)]
unsafe fn weigh<V: Lanes>(scale: f32, row: *mut f32, count: usize, state: Running) -> f32 {
    let n_groups = count.div_ceil(16);
    // SAFETY: the caller's promise.
    unsafe {
        let mut largest = V::splat(f32::NEG_INFINITY);
        for g in 0..n_groups {
            let at = row.add(g * 16);
            let mut score = V::load(at).mul(V::splat(scale));
            if count < (g + 1) * 16 {
                score = score.first_or(count - g * 16, V::splat(f32::NEG_INFINITY));
            }
            score.store(at);
            largest = largest.max(score);
        }
        let old = *state.max;
        let largest = largest.largest();
        let new = if largest > old { largest } else { old };
        *state.max = new;
        // The two answers that are known take no chain of twenty scalar operations.
        let rescale = if old == new {
            1.0
        } else if old == f32::NEG_INFINITY && new > old {
            0.0
        } else {
            exp_f32_on::<V>(old - new)
        };
        let mut sum = V::load(state.sum).mul(V::splat(rescale));
        for g in 0..n_groups {
            let at = row.add(g * 16);
            let weight = exp_lanes(V::load(at).add(V::splat(-new)));
            weight.store(at);
            sum = sum.add(weight);
        }
        sum.store(state.sum);
        rescale
    }
}

/// Adds the weighted values to the sums of `R` queries. Returns `R`.
#[inline(always)]
unsafe fn value_tile<V: Lanes, E: Element, const R: usize>(
    dims: &Dims,
    values: Source<E>,
    first_key: usize,
    queries: &[Query],
    (weights, rescale): (*const f32, *const f32),
    state: Running,
) -> usize {
    let v_pad = dims.v_pad();
    let terms = Terms { weights, row_stride: BLOCK_TOKENS, stride: 1 };
    let counts = counts::<R>(queries, first_key);
    // SAFETY: the caller's promise.
    unsafe {
        let rescale = *rescale.cast::<[f32; R]>();
        sum_tile::<V, E, R>(&terms, counts, (values, v_pad), (state.acc, v_pad), rescale);
    }
    R
}

/// [`exp_f32`] as the level computes it.
#[inline(always)]
pub(super) fn exp_f32_on<V: Lanes>(x: f32) -> f32 {
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
