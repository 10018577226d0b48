//! Few rows of x: weights pass through registers once, lanes are chains.
//!
//! Memory is the limit here, so the rows of W are read as they lie, some of them side by side (enough
//! sums in flight to hide the latency of an addition), and what comes next is asked for ahead of time.

use super::pack::tail;
use super::weights::{Bf16, F16, F32, Fp8, Fp8Table, Weights, load};
use super::{Kind, Source, chunks};
use crate::stored::floats::input::padded;
use crate::stored::floats::{BLOCK, K_CHUNK};
use std::arch::x86_64::*;
use std::ops::Range;

/// Most rows of x that a pass over W takes.
const M: usize = 8;
/// Most rows of W side by side.
const MOST_ROWS: usize = 4;
/// Bytes of x up to which rows of W are read from end to end. More of x would not stay in the first-level
/// cache from one row of W to the next; chunks of it do.
const NEAR: usize = 48 << 10;

/// Rows of W side by side for so many rows of x.
const fn side_by_side(m: usize) -> usize {
    match m {
        1..=4 => 4,
        _ => 2,
    }
}

/// A run of rows of W and what they are multiplied with.
pub(super) struct Task<'a> {
    /// `[m, padded]`, in pairs.
    pub x: &'a [f32],
    pub m: usize,
    pub source: Source<'a>,
    pub rows: Range<usize>,
    pub out: *mut f32,
}

impl Task<'_> {
    /// Safety: `out` is the first result of the first row of x, and ours.
    pub(super) unsafe fn run(&self) {
        let n_in = self.source.n_in;
        let step = side_by_side(self.m.div_ceil(self.m.div_ceil(M)));
        let near = size_of_val(self.x) <= NEAR || self.m <= 2;
        let chunks = chunks(n_in).map(|ks| if near { 0..n_in } else { ks });
        for ks in chunks.take(if near { 1 } else { usize::MAX }) {
            for row in self.rows.clone().step_by(step) {
                // SAFETY: the caller's promise.
                unsafe { self.group(row..(row + step).min(self.rows.end), step, &ks) };
            }
        }
    }

    /// All rows of x times rows of W that stand side by side. Safety: as [`Task::run`].
    #[inline(always)]
    unsafe fn group(&self, group: Range<usize>, step: usize, ks: &Range<usize>) {
        let Source { kind, n_in, n_out, weight_bytes, .. } = self.source;
        let mut rows = [std::ptr::null(); MOST_ROWS];
        for (at, row) in rows.iter_mut().zip(group.clone()) {
            *at = self.source.row(row, ks);
        }
        let n_tiles = self.m.div_ceil(M);
        for tile in 0..n_tiles {
            let xs = tile * self.m / n_tiles..(tile + 1) * self.m / n_tiles;
            // SAFETY: these rows of x exist; the result is ours.
            unsafe {
                let mut job = Job {
                    x: self.x.as_ptr().add(xs.start * padded(n_in) + ks.start),
                    x_stride: padded(n_in),
                    k: ks.len(),
                    out: self.out.add(xs.start * n_out + group.start - self.rows.start),
                    out_stride: n_out,
                    first: ks.start == 0,
                    ahead: step * n_in * weight_bytes,
                };
                if group.len() == side_by_side(xs.len()) {
                    multiply(kind, xs.len(), group.len(), &job, rows.as_ptr());
                } else {
                    for row in &rows[..group.len()] {
                        multiply(kind, xs.len(), 1, &job, row);
                        job.out = job.out.add(1);
                    }
                }
            }
        }
    }
}

/// Some rows of x times some rows of W, from the start of a chunk on.
struct Job {
    x: *const f32,
    x_stride: usize,
    k: usize,
    out: *mut f32,
    out_stride: usize,
    /// Whether sums start here, or go on from what the result holds.
    first: bool,
    /// Distance in bytes of what will be read next.
    ahead: usize,
}

/// Picks the kernel: of one row of W, or as many as stand side by side.
///
/// Safety: `rows` points at `n` rows of the kind; as [`Task::run`].
unsafe fn multiply(kind: Kind, m: usize, n: usize, job: &Job, rows: *const *const u8) {
    macro_rules! sized {
        ($call:ident $(, $w:ty)?) => {
            match (m, n) {
                (1, 1) => $call::<$($w,)? 1, 1>(job, rows),
                (2, 1) => $call::<$($w,)? 2, 1>(job, rows),
                (3, 1) => $call::<$($w,)? 3, 1>(job, rows),
                (4, 1) => $call::<$($w,)? 4, 1>(job, rows),
                (5, 1) => $call::<$($w,)? 5, 1>(job, rows),
                (6, 1) => $call::<$($w,)? 6, 1>(job, rows),
                (7, 1) => $call::<$($w,)? 7, 1>(job, rows),
                (8, 1) => $call::<$($w,)? 8, 1>(job, rows),
                (1, _) => $call::<$($w,)? 1, { side_by_side(1) }>(job, rows),
                (2, _) => $call::<$($w,)? 2, { side_by_side(2) }>(job, rows),
                (3, _) => $call::<$($w,)? 3, { side_by_side(3) }>(job, rows),
                (4, _) => $call::<$($w,)? 4, { side_by_side(4) }>(job, rows),
                (5, _) => $call::<$($w,)? 5, { side_by_side(5) }>(job, rows),
                (6, _) => $call::<$($w,)? 6, { side_by_side(6) }>(job, rows),
                (7, _) => $call::<$($w,)? 7, { side_by_side(7) }>(job, rows),
                _ => $call::<$($w,)? 8, { side_by_side(8) }>(job, rows),
            }
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            Kind::F32 => sized!(sums, F32),
            Kind::F16 => sized!(sums, F16),
            Kind::Bf16 => sized!(sums, Bf16),
            Kind::Fp8 => sized!(sums, Fp8),
            Kind::Fp8Table => sized!(sums_by_table),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
unsafe fn sums<W: Weights, const M: usize, const N: usize>(job: &Job, rows: *const *const u8) {
    // SAFETY: the caller's promise.
    unsafe { tile::<W, M, N>(job, &*rows.cast()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx2,fma,f16c")]
unsafe fn sums_by_table<const M: usize, const N: usize>(job: &Job, rows: *const *const u8) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Fp8Table, M, N>(job, &*rows.cast()) }
}

#[inline(always)]
unsafe fn tile<W: Weights, const M: usize, const N: usize>(job: &Job, rows: &[*const u8; N]) {
    const BLOCKS: usize = K_CHUNK / BLOCK;
    let (whole, rest) = (job.k / BLOCK, job.k % BLOCK);
    // SAFETY: rows hold `k` elements; x is padded to whole blocks.
    unsafe {
        let mut from = 0;
        while from * BLOCK < job.k {
            let mut sums = [[_mm512_setzero_ps(); N]; M];
            for block in from..whole.min(from + BLOCKS) {
                step::<W, M, N>(job, rows, block, block, &mut sums);
            }
            if whole < from + BLOCKS && rest > 0 {
                let mut last = [[0u8; 4 * BLOCK]; N];
                let mut tails = *rows;
                for j in 0..N {
                    tails[j] = tail::<W>(rows[j], whole, rest, &mut last[j]);
                }
                step::<W, M, N>(job, &tails, 0, whole, &mut sums);
            }
            for i in 0..M {
                put(&sums[i], job.out.add(i * job.out_stride), job.first && from == 0);
            }
            from += BLOCKS;
        }
    }
}

/// Block `block` of the rows, which meets block `x_block` of x. Safety: as [`tile`].
#[inline(always)]
unsafe fn step<W: Weights, const M: usize, const N: usize>(
    job: &Job,
    rows: &[*const u8; N],
    block: usize,
    x_block: usize,
    sums: &mut [[__m512; N]; M],
) {
    // SAFETY: the caller's promise; asking ahead touches nothing.
    unsafe {
        let mut from = x_block * BLOCK;
        // Rows of W in pairs: each element of x that is read meets two weights.
        for j in (0..N).step_by(2) {
            let two = j + 1 < N;
            let mut w = [[_mm512_setzero_ps(); 4]; 2];
            for (r, w) in w.iter_mut().enumerate().take(1 + two as usize) {
                let row = rows[j + r];
                for line in 0..W::BYTES {
                    let at = block * BLOCK * W::BYTES + 64 * line + job.ahead;
                    _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(at).cast());
                }
                *w = load::<W>(row, block);
            }
            if M > 1 {
                // The compiler must not keep all of x in registers: there are not enough of them.
                std::arch::asm!("/* {} */", inout(reg) from, options(pure, nomem, nostack));
            }
            for u in 0..4 {
                for i in 0..M {
                    let x = _mm512_loadu_ps(job.x.add(from + i * job.x_stride + 16 * u));
                    sums[i][j] = _mm512_fmadd_ps(x, w[0][u], sums[i][j]);
                    if two {
                        sums[i][j + 1] = _mm512_fmadd_ps(x, w[1][u], sums[i][j + 1]);
                    }
                }
            }
        }
    }
}

/// Folds the sums of neighbours and writes them. Safety: `out` is good for them.
#[inline(always)]
unsafe fn put<const N: usize>(sums: &[__m512; N], out: *mut f32, first: bool) {
    // SAFETY: the caller's promise; masked lanes are not touched.
    unsafe {
        for j in (0..N).step_by(4) {
            let mut four = [_mm512_setzero_ps(); 4];
            let n = 4.min(N - j);
            four[..n].copy_from_slice(&sums[j..j + n]);
            let mut folded = fold4(four);
            let mask = ((1u32 << n) - 1) as __mmask8;
            let out = out.add(j);
            if !first {
                folded = _mm_add_ps(_mm_maskz_loadu_ps(mask, out), folded);
            }
            _mm_mask_storeu_ps(out, mask, folded);
        }
    }
}

/// Folds four registers, each in the order of the definition.
#[inline(always)]
unsafe fn fold4([a, b, c, d]: [__m512; 4]) -> __m128 {
    // SAFETY: the level is at hand.
    unsafe {
        let low = _mm512_shuffle_f32x4::<0x44>(a, b);
        let ab = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0xee>(a, b));
        let low = _mm512_shuffle_f32x4::<0x44>(c, d);
        let cd = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0xee>(c, d));
        // Eight sums of each are left, in two quarters.
        let even = _mm512_shuffle_f32x4::<0x88>(ab, cd);
        let x = _mm512_add_ps(even, _mm512_shuffle_f32x4::<0xdd>(ab, cd));
        // Four of each, in one quarter.
        let x = _mm512_add_ps(x, _mm512_permute_ps::<0b11_10_11_10>(x));
        let x = _mm512_add_ps(x, _mm512_movehdup_ps(x));
        let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, x))
    }
}
