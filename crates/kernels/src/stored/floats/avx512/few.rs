//! Few rows of x: weights pass through registers once, lanes are chains.
//!
//! Memory is the limit here, so the rows of W are read as they lie, some of them side by side (enough
//! sums in flight to hide the latency of an addition), and what comes next is asked for ahead of time.

use super::pack::tail;
use super::weights::{Bf16, F16, F32, Fp8, Fp8Table, Weights, load};
use super::{Kind, Row, Source, chunks};
use crate::stored::floats::input::{Input, padded};
use crate::stored::floats::{BLOCK, K_CHUNK};
use std::arch::x86_64::*;
use std::ops::Range;

/// Most rows of x that a pass over W takes.
const M: usize = 8;
/// Most rows of W side by side.
pub(super) const MOST_ROWS: usize = 8;
/// Rows of x up to which rows of W are read from end to end. Of more, a chunk of x would not stay in the
/// first-level cache from one row of W to the next.
const END_TO_END: usize = 2;

/// Rows of W side by side for so many rows of x.
const fn side_by_side(m: usize) -> usize {
    match m {
        1 => 4,
        2 => 4,
        3 => 4,
        4 => 4,
        5 | 6 => 4,
        _ => 2,
    }
}

/// A run of rows of W and what they are multiplied with.
pub(super) struct Task<'a> {
    pub input: Input<'a>,
    pub source: Source<'a>,
    pub rows: Range<usize>,
    pub out: *mut f32,
    /// Room for rows that must be widened.
    pub scratch: &'a mut [f32],
}

impl Task<'_> {
    /// Safety: `out` is the first result of the first row of x, and ours.
    pub(super) unsafe fn run(&mut self) {
        let (m, n_in) = (self.input.m, self.source.matrix.n_in);
        let n_tiles = m.div_ceil(M);
        let step = side_by_side(m.div_ceil(n_tiles));
        // SAFETY: the caller's promise.
        unsafe {
            if m <= END_TO_END {
                for row in self.rows.clone().step_by(step) {
                    for ks in chunks(n_in) {
                        self.group(row, step, n_tiles, ks);
                    }
                }
            } else {
                for ks in chunks(n_in) {
                    for row in self.rows.clone().step_by(step) {
                        self.group(row, step, n_tiles, ks.clone());
                    }
                }
            }
        }
    }

    /// All rows of x times `step` rows of W, or what is left of them. Safety: as [`Task::run`].
    #[inline(always)]
    unsafe fn group(&mut self, first: usize, step: usize, n_tiles: usize, ks: Range<usize>) {
        let matrix = self.source.matrix;
        let mut rows = [Row { at: std::ptr::null(), scales: std::ptr::null() }; MOST_ROWS];
        let n = step.min(self.rows.end - first);
        for j in 0..n {
            let room = match self.source.kind {
                Kind::Widened => &mut self.scratch[j * K_CHUNK..j * K_CHUNK + ks.len()],
                _ => &mut [],
            };
            rows[j] = self.source.row(first + j, &ks, room);
        }
        let m = self.input.m;
        for tile in 0..n_tiles {
            let xs = tile * m / n_tiles..(tile + 1) * m / n_tiles;
            // SAFETY: these rows of x exist; the result is ours.
            unsafe {
                let mut job = Job {
                    x: self.input.values.as_ptr().add(xs.start * padded(matrix.n_in) + ks.start),
                    x_stride: padded(matrix.n_in),
                    k: ks.len(),
                    out: self.out.add(xs.start * matrix.n_out + first - self.rows.start),
                    out_stride: matrix.n_out,
                    first: ks.start == 0,
                    ahead: step * matrix.n_in * self.source.kind.weight_bytes(),
                };
                if n == side_by_side(xs.len()) {
                    multiply(self.source.kind, xs.len(), n, &job, rows.as_ptr());
                } else {
                    for row in &rows[..n] {
                        multiply(self.source.kind, xs.len(), 1, &job, row);
                        job.out = job.out.add(1);
                    }
                }
            }
        }
    }
}

/// A chunk of some rows of x times some rows of W.
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
unsafe fn multiply(kind: Kind, m: usize, n: usize, job: &Job, rows: *const Row) {
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
            Kind::F32 | Kind::Widened => sized!(sums, F32),
            Kind::F16 => sized!(sums, F16),
            Kind::Bf16 => sized!(sums, Bf16),
            Kind::Fp8 => sized!(sums, Fp8),
            Kind::Fp8Table => sized!(sums_by_table),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
unsafe fn sums<W: Weights, const M: usize, const N: usize>(job: &Job, rows: *const Row) {
    // SAFETY: the caller's promise.
    unsafe { tile::<W, M, N>(job, &*rows.cast()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx2,fma,f16c")]
unsafe fn sums_by_table<const M: usize, const N: usize>(job: &Job, rows: *const Row) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Fp8Table, M, N>(job, &*rows.cast()) }
}

#[inline(always)]
unsafe fn tile<W: Weights, const M: usize, const N: usize>(job: &Job, rows: &[Row; N]) {
    let (whole, rest) = (job.k / BLOCK, job.k % BLOCK);
    // SAFETY: rows hold `k` elements; x is padded to whole blocks.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); N]; M];
        for block in 0..whole {
            step::<W, M, N>(job, rows, block, block, &mut sums);
        }
        if rest > 0 {
            let mut last = [[0u8; 4 * BLOCK]; N];
            let mut tails = *rows;
            for j in 0..N {
                tails[j] = tail::<W>(rows[j], whole, rest, &mut last[j]);
            }
            step::<W, M, N>(job, &tails, 0, whole, &mut sums);
        }
        for i in 0..M {
            put(&sums[i], job.out.add(i * job.out_stride), job.first);
        }
    }
}

/// Block `block` of the rows, which meets block `x_block` of x. Safety: as [`tile`].
#[inline(always)]
unsafe fn step<W: Weights, const M: usize, const N: usize>(
    job: &Job,
    rows: &[Row; N],
    block: usize,
    x_block: usize,
    sums: &mut [[__m512; N]; M],
) {
    // SAFETY: the caller's promise; asking ahead touches nothing.
    unsafe {
        let mut x = job.x.add(x_block * BLOCK);
        for j in 0..N {
            for line in 0..W::BYTES {
                let at = rows[j].at.wrapping_add(block * BLOCK * W::BYTES + 64 * line + job.ahead);
                _mm_prefetch::<_MM_HINT_T0>(at.cast());
            }
            let w = load::<W>(rows[j], block);
            if M > 1 {
                // The compiler must not keep all of x in registers: there are not enough of them.
                std::arch::asm!("/* {} */", inout(reg) x, options(pure, nomem, nostack));
            }
            for u in 0..4 {
                for i in 0..M {
                    let x = _mm512_loadu_ps(x.add(i * job.x_stride + 16 * u));
                    sums[i][j] = _mm512_fmadd_ps(x, w[u], sums[i][j]);
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
            for i in 0..4.min(N - j) {
                four[i] = sums[j + i];
            }
            let mut folded = fold4(four);
            let mask = ((1u32 << 4.min(N - j)) - 1) as __mmask8;
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
