//! Keys and values of new rows: into the cache, and attention over it, in one call.
//!
//! A decode step writes one token per sequence and then reads all that was written before. Keys lie
//! transposed, so a token lands on as many cache lines as a key has elements, all far away: whoever reads
//! them next writes them, on the way. Prompts are written first, in squares of sixteen tokens.

use super::cached::{CachedSegment, attend_fresh, forward_cached};
use super::dots::transpose_rows;
use super::paged::TokenWriter;
use super::{BLOCK_TOKENS, CacheType, Heads, PagedKv};
use crate::cpu;
use crate::threads;

/// Keys and values of the rows of `q`.
#[derive(Clone, Copy)]
pub struct NewTokens<'a> {
    /// [N, K, D]
    pub k: &'a [f32],
    /// [N, K, V]
    pub v: &'a [f32],
}

/// Writes the tokens of all segments to their places in the cache, and computes causal attention of
/// their rows as [`forward_cached`] does: the same bits.
///
/// Shapes: `q` [N, H, D], `out` [N, H, V]. Rows of no segment are left as they are.
///
/// Panics if a length does not fit, a block is missing, two segments have one row, or the cache is latent.
pub fn forward_new(
    heads: &Heads,
    cache: &mut PagedKv,
    segments: &[CachedSegment],
    new: NewTokens,
    q: &[f32],
    out: &mut [f32],
) {
    assert!(!cache.is_latent(), "latent rows are written as they are");
    match users_of(segments, cache.n_blocks()) {
        Users::Own => attend_fresh(heads, cache, segments, new, q, out),
        users => {
            write_for(users, cache, segments, new);
            forward_cached(heads, cache, segments, q, out);
        }
    }
}

/// Writes the tokens of all segments to their places in the cache, for who attends to them later.
///
/// Panics if a length does not fit, a block is missing, or the cache is latent.
pub fn write_new(cache: &mut PagedKv, segments: &[CachedSegment], new: NewTokens) {
    assert!(!cache.is_latent(), "latent rows are written as they are");
    write_for(users_of(segments, cache.n_blocks()), cache, segments, new);
}

fn write_for(users: Users, cache: &mut PagedKv, segments: &[CachedSegment], new: NewTokens) {
    match users {
        Users::Own | Users::Readers => write_segments(cache, segments, new),
        Users::Writers => {
            for segment in segments {
                write_segments(cache, std::slice::from_ref(segment), new);
            }
        }
    }
}

/// Who else has to do with the blocks that a segment writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Users {
    /// Nobody, and each segment has one row at most.
    Own,
    /// Others may read them.
    Readers,
    /// Others may write them.
    Writers,
}

fn users_of(segments: &[CachedSegment], n_blocks: usize) -> Users {
    let (mut readers, mut writers) = (vec![0u32; n_blocks], vec![0u32; n_blocks]);
    for segment in segments {
        let n_used = segment.n_blocks_used();
        assert!(segment.blocks.len() >= n_used, "{segment:?} needs {n_used} blocks");
        for (at, &block) in segment.blocks[..n_used].iter().enumerate() {
            let block = block as usize;
            assert!(block < n_blocks, "{segment:?}: block {block} is missing");
            readers[block] += 1;
            writers[block] += u32::from(at >= segment.past / BLOCK_TOKENS);
        }
    }
    let alone = |(readers, writers): (&u32, &u32)| *writers == 0 || *readers == 1;
    if writers.iter().any(|n| *n > 1) {
        Users::Writers
    } else if segments.iter().all(|s| s.rows.len() <= 1) && readers.iter().zip(&writers).all(alone)
    {
        Users::Own
    } else {
        Users::Readers
    }
}

/// Writes the tokens of segments none of which writes a block of another.
fn write_segments(cache: &mut PagedKv, segments: &[CachedSegment], new: NewTokens) {
    let (n_kv, qk_dim, v_dim) = (cache.n_kv_heads(), cache.qk_dim(), cache.v_dim());
    let n_rows = segments.iter().map(|segment| segment.rows.end).max().unwrap_or(0);
    assert!(new.k.len() >= n_rows * n_kv * qk_dim, "k [{n_rows}, K, D]");
    assert!(new.v.len() >= n_rows * n_kv * v_dim, "v [{n_rows}, K, V]");
    // Tokens of one block: its number, the first slot, the first row, and how many.
    let mut runs: Vec<(u32, usize, usize, usize)> = Vec::new();
    for segment in segments {
        let mut at = 0;
        while at < segment.rows.len() {
            let position = segment.past + at;
            let slot = position % BLOCK_TOKENS;
            let n = (BLOCK_TOKENS - slot).min(segment.rows.len() - at);
            runs.push((segment.blocks[position / BLOCK_TOKENS], slot, segment.rows.start + at, n));
            at += n;
        }
    }
    let (full, isa) = (cache.cache_type() == CacheType::F32, cpu::isa());
    let writer = cache.writer();
    let write = |task: usize| {
        let ((block, slot, row, n), head) = (runs[task / n_kv], task % n_kv);
        let key = |row: usize| &new.k[(row * n_kv + head) * qk_dim..][..qk_dim];
        let value = |row: usize| &new.v[(row * n_kv + head) * v_dim..][..v_dim];
        // SAFETY: runs lie in different blocks, or in different slots of one; the blocks exist, and the
        // block of keys has room for `n` more after `slot`.
        unsafe {
            if full && n >= 16 {
                let mut rows = [std::ptr::null(); BLOCK_TOKENS];
                for i in 0..n {
                    rows[i] = key(row + i).as_ptr();
                    writer.write_value(block, slot + i, head, value(row + i));
                }
                let keys = writer.keys_f32(block, head).add(slot);
                transpose_rows(isa, &rows[..n], qk_dim, keys, BLOCK_TOKENS);
            } else {
                for i in 0..n {
                    writer.write(block, slot + i, head, key(row + i), value(row + i));
                }
            }
        }
    };
    // Few tokens are not worth waking the other threads.
    if n_rows < 16 {
        (0..runs.len() * n_kv).for_each(write);
    } else {
        threads::run(runs.len() * n_kv, write);
    }
}

/// New tokens, one per segment, that are written by the task that reads them.
pub(super) struct Fresh<'a> {
    pub(super) new: NewTokens<'a>,
    pub(super) writer: TokenWriter,
}

impl Fresh<'_> {
    /// Writes one head of the token of `row`, the last of `n_keys`.
    ///
    /// # Safety
    /// `block` exists, and nobody else has to do with this head of it.
    pub(super) unsafe fn write(&self, block: u32, row: usize, n_keys: usize, head: usize) {
        let (n_kv, qk_dim, v_dim) = self.writer.dims();
        let at = row * n_kv + head;
        let k = &self.new.k[at * qk_dim..(at + 1) * qk_dim];
        let v = &self.new.v[at * v_dim..(at + 1) * v_dim];
        // SAFETY: the caller's promise.
        unsafe { self.writer.write(block, (n_keys - 1) % BLOCK_TOKENS, head, k, v) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;
    use std::ops::Range;

    const HEADS: Heads = Heads { n_heads: 4, n_kv_heads: 2, qk_dim: 19, v_dim: 33, scale: 0.3 };

    /// A cache of 12 blocks with something in each.
    fn cache(cache_type: CacheType) -> PagedKv {
        let Heads { n_kv_heads, qk_dim, v_dim, .. } = HEADS;
        let mut cache = PagedKv::new(n_kv_heads, qk_dim, v_dim).with_type(cache_type);
        cache.grow(12);
        for block in 0..12u32 {
            let places: Vec<(u32, u32)> = (0..64).map(|slot| (block, slot)).collect();
            let n = 64 * n_kv_heads;
            let (k, v) = (noise(7 + block as u64, n * qk_dim), noise(90 + block as u64, n * v_dim));
            cache.write_rows(&places, &k, &v);
        }
        cache
    }

    /// Row by row into the cache, then attention over it.
    fn plain(
        cache: &mut PagedKv,
        segments: &[CachedSegment],
        new: NewTokens,
        q: &[f32],
    ) -> Vec<f32> {
        let (k_width, v_width) = (HEADS.n_kv_heads * HEADS.qk_dim, HEADS.n_kv_heads * HEADS.v_dim);
        for segment in segments {
            for (i, row) in segment.rows.clone().enumerate() {
                let at = segment.past + i;
                let (k, v) =
                    (&new.k[row * k_width..][..k_width], &new.v[row * v_width..][..v_width]);
                cache.write(segment.blocks[at / BLOCK_TOKENS], at % BLOCK_TOKENS, k, v);
            }
        }
        let mut out = vec![0.0; q.len() / HEADS.qk_dim * HEADS.v_dim];
        forward_cached(&HEADS, cache, segments, q, &mut out);
        out
    }

    fn check(tables: &[(&[u32], usize, Range<usize>)], want: Users) {
        let segments: Vec<CachedSegment> = tables
            .iter()
            .map(|(blocks, past, rows)| CachedSegment { blocks, past: *past, rows: rows.clone() })
            .collect();
        assert_eq!(users_of(&segments, 12), want);
        let n = segments.iter().map(|s| s.rows.end).max().unwrap();
        let q = noise(1, n * HEADS.n_heads * HEADS.qk_dim);
        let k = noise(2, n * HEADS.n_kv_heads * HEADS.qk_dim);
        let v = noise(3, n * HEADS.n_kv_heads * HEADS.v_dim);
        let new = NewTokens { k: &k, v: &v };
        for cache_type in [CacheType::F32, CacheType::F16] {
            let (mut written, mut fused) = (cache(cache_type), cache(cache_type));
            let want = plain(&mut written, &segments, new, &q);
            let mut out = vec![0.0; want.len()];
            forward_new(&HEADS, &mut fused, &segments, new, &q, &mut out);
            assert_eq!(out, want);
            for block in 0..12 {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                written.export_block(block, &mut a);
                fused.export_block(block, &mut b);
                assert!(a == b, "block {block}, {cache_type:?}");
            }
        }
    }

    #[test]
    fn tokens_of_their_own_are_written_by_who_reads_them() {
        let tables: [(&[u32], usize, Range<usize>); 4] =
            [(&[0, 1], 64, 0..1), (&[0, 2, 3], 191, 1..2), (&[4], 0, 3..4), (&[5, 6], 90, 2..3)];
        check(&tables, Users::Own);
        // Long enough for several parts.
        check(&[(&[0, 1, 2, 3, 4, 5], 300, 0..1), (&[0, 1, 7], 170, 1..2)], Users::Own);
    }

    #[test]
    fn prompts_are_written_before_anybody_reads() {
        check(&[(&[0, 1, 2], 37, 0..70), (&[4], 0, 70..71)], Users::Readers);
        check(&[(&[0, 1], 64, 0..1), (&[0, 1, 2], 128, 1..2)], Users::Readers); // the second reads block 1
    }

    #[test]
    fn segments_that_write_one_block_do_so_in_turn() {
        check(&[(&[0, 1], 64, 0..1), (&[0, 1], 65, 1..2)], Users::Writers);
    }

    #[test]
    fn bits_are_the_same_on_every_thread_count() {
        let blocks: Vec<[u32; 2]> = (0..5).map(|i| [2 * i, 2 * i + 1]).collect();
        let segments: Vec<CachedSegment> = blocks
            .iter()
            .enumerate()
            .map(|(i, blocks)| CachedSegment { blocks, past: 60 + i, rows: 2 * i..2 * i + 1 })
            .collect();
        let q = noise(1, 10 * HEADS.n_heads * HEADS.qk_dim);
        let k = noise(2, 10 * HEADS.n_kv_heads * HEADS.qk_dim);
        let v = noise(3, 10 * HEADS.n_kv_heads * HEADS.v_dim);
        let mut results: Vec<Vec<f32>> = Vec::new();
        for n in [Some(1), None] {
            threads::limit_threads(n);
            let mut out = vec![0.0; 10 * HEADS.n_heads * HEADS.v_dim];
            let mut cache = cache(CacheType::F32);
            forward_new(&HEADS, &mut cache, &segments, NewTokens { k: &k, v: &v }, &q, &mut out);
            results.push(out);
        }
        threads::limit_threads(None);
        assert_eq!(results[0], results[1]);
    }
}
