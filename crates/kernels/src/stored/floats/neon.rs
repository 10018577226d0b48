//! Few rows of x times floating weights in NEON: weights pass through registers once, lanes are chains.
//!
//! Some rows of W are read side by side, as they lie. More rows of x go the way of the definition, through scratch.

use super::input::{Input, padded};
use super::scratch::with_weights;
use super::{BLOCK, CHAINS, K_CHUNK, PAIRED, scaled};
use crate::lanes::fold;
use crate::memory::fetch_far;
use crate::neon::{e4m3_halves, widen_halves, widen_high_halves};
use crate::quant::Format;
use crate::stored::Matrix;
use std::arch::aarch64::*;
use std::ops::Range;

/// Most rows of x that are multiplied straight from registers: beyond, widening them again and again takes longer
/// than the way through scratch.
pub(super) const FEW: usize = 8;
/// Most rows of x that a tile takes.
const M: usize = 3;
/// Most rows of W side by side.
const MOST_ROWS: usize = 4;
/// Registers of a sum.
const PARTS: usize = CHAINS / 4;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Even elements of [`PAIRED`], then odd ones.
type Pairs = [[float32x4_t; PARTS]; 2];

/// Safety: as [`super::block`].
pub(super) unsafe fn few(input: Input<'_>, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    let run = match matrix.format {
        Format::F32 => run::<F32>,
        Format::F16 => run::<F16>,
        Format::Bf16 => run::<Bf16>,
        Format::F8E4M3 => run::<Fp8>,
        other => panic!("`{}` has no floating weights", other.name()),
    };
    let Some(scales) = matrix.scales() else {
        // SAFETY: the caller's promise.
        return unsafe { run(input.values, input.m, matrix, rows, out) };
    };
    with_weights(input.values.len(), |x| {
        let mut rest = rows.clone();
        while !rest.is_empty() {
            let same = scaled::run(matrix, rest.clone());
            rest.start = same.end;
            if let Some(values) = scaled::of_row(matrix, same.start) {
                scaled::any_columns(input.values, matrix.n_in, values, scales.block[1], x);
            }
            // SAFETY: the caller's promise.
            unsafe {
                let out = out.add(same.start - rows.start);
                run(x, input.m, matrix, same, out);
            }
        }
    });
}

/// Rows of W side by side for so many rows of x. Sums take four registers each of 32, widened weights eight.
const fn side_by_side(m: usize) -> usize {
    match m {
        1 => MOST_ROWS,
        2 => 2,
        _ => 1,
    }
}

/// All rows of x times some rows of W. Safety: as [`super::block`].
unsafe fn run<W: Weights>(x: &[f32], m: usize, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    let (n_in, n_out) = (matrix.n_in, matrix.n_out);
    let n_tiles = m.div_ceil(M);
    let step = side_by_side(m.div_ceil(n_tiles));
    let row_bytes = n_in * W::BYTES;
    let bytes = &matrix.bytes()[rows.start * row_bytes..rows.end * row_bytes];
    for first in (0..rows.len()).step_by(step) {
        let n = step.min(rows.len() - first);
        for k0 in (0..n_in).step_by(K_CHUNK) {
            let k = K_CHUNK.min(n_in - k0);
            for tile in 0..n_tiles {
                let (start, end) = (tile * m / n_tiles, (tile + 1) * m / n_tiles);
                let mut j = 0;
                while j < n {
                    // Rows that are left over go one by one.
                    let together = if n - j < side_by_side(end - start) {
                        1
                    } else {
                        side_by_side(end - start)
                    };
                    // SAFETY: the caller's promise; these rows exist.
                    unsafe {
                        let job = Job {
                            x: x.as_ptr().add(start * padded(n_in) + k0),
                            x_stride: padded(n_in),
                            w: bytes.as_ptr().add((first + j) * row_bytes + k0 * W::BYTES),
                            row_bytes,
                            k,
                            out: out.add(start * n_out + first + j),
                            out_stride: n_out,
                            first: k0 == 0,
                            ahead: if tile == 0 { step * row_bytes } else { 0 },
                        };
                        match (end - start, together) {
                            (1, 1) => tile_of::<W, 1, 1>(&job),
                            (1, _) => tile_of::<W, 1, { side_by_side(1) }>(&job),
                            (2, 1) => tile_of::<W, 2, 1>(&job),
                            (2, _) => tile_of::<W, 2, { side_by_side(2) }>(&job),
                            _ => tile_of::<W, 3, { side_by_side(3) }>(&job),
                        }
                    }
                    j += together;
                }
            }
        }
    }
}

/// Some rows of x times some rows of W, over a chunk.
struct Job {
    x: *const f32,
    x_stride: usize,
    w: *const u8,
    row_bytes: usize,
    /// Elements of the chunk.
    k: usize,
    out: *mut f32,
    out_stride: usize,
    /// Whether sums start here, or go on from what the result holds.
    first: bool,
    /// Distance in bytes of what will be read next; 0 where it was asked for.
    ahead: usize,
}

/// Safety: as [`super::block`].
unsafe fn tile_of<W: Weights, const M: usize, const N: usize>(job: &Job) {
    // SAFETY: the caller's promise; x is padded with zeros to whole blocks.
    unsafe {
        let mut sums = [[[vdupq_n_f32(0.0); PARTS]; N]; M];
        let whole = job.k / PAIRED;
        for at in 0..whole {
            for j in 0..N {
                let w = job.w.add(j * job.row_bytes + at * PAIRED * W::BYTES);
                for line in (0..PAIRED * W::BYTES).step_by(LINE) {
                    fetch_far(w.wrapping_add(job.ahead + line));
                }
                step::<W, M, N>(job, w, at, j, &mut sums);
            }
        }
        // Rows count as padded with zeros to whole blocks.
        for at in whole..job.k.next_multiple_of(BLOCK) / PAIRED {
            let n = (job.k - (at * PAIRED).min(job.k)).min(PAIRED);
            for j in 0..N {
                let mut last = [0u8; 4 * PAIRED];
                let w = job.w.wrapping_add(j * job.row_bytes + at * PAIRED * W::BYTES);
                std::ptr::copy_nonoverlapping(w, last.as_mut_ptr(), n * W::BYTES);
                step::<W, M, N>(job, last.as_ptr(), at, j, &mut sums);
            }
        }
        for i in 0..M {
            for j in 0..N {
                let mut chains = [0.0f32; CHAINS];
                for part in 0..PARTS {
                    vst1q_f32(chains.as_mut_ptr().add(4 * part), sums[i][j][part]);
                }
                let (out, sum) = (job.out.add(i * job.out_stride + j), fold(chains));
                *out = if job.first { sum } else { *out + sum };
            }
        }
    }
}

/// [`PAIRED`] weights of row `j`, which meet those of x from `at · PAIRED` on. Safety: as [`tile_of`].
#[inline(always)]
unsafe fn step<W: Weights, const M: usize, const N: usize>(
    job: &Job,
    w: *const u8,
    at: usize,
    j: usize,
    sums: &mut [[[float32x4_t; PARTS]; N]; M],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let w = W::load(w);
        for odd in 0..2 {
            for part in 0..PARTS {
                for i in 0..M {
                    let x = job.x.add(i * job.x_stride + at * PAIRED + odd * CHAINS + 4 * part);
                    sums[i][j][part] = vfmaq_f32(sums[i][j][part], vld1q_f32(x), w[odd][part]);
                }
            }
        }
    }
}

/// A format that [`PAIRED`] weights of are read at a time.
trait Weights {
    /// Bytes of a weight.
    const BYTES: usize;

    /// Safety: the weights exist.
    unsafe fn load(at: *const u8) -> Pairs;
}

struct F32;

impl Weights for F32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Pairs {
        // SAFETY: the caller's promise.
        unsafe {
            let mut w = [[vdupq_n_f32(0.0); PARTS]; 2];
            for part in 0..PARTS {
                let eight = vld2q_f32(at.add(32 * part).cast());
                (w[0][part], w[1][part]) = (eight.0, eight.1);
            }
            w
        }
    }
}

struct F16;

impl Weights for F16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Pairs {
        // SAFETY: the caller's promise.
        unsafe {
            let mut w = [[vdupq_n_f32(0.0); PARTS]; 2];
            for half in 0..2 {
                let sixteen = vld2q_u16(at.add(32 * half).cast());
                w[0][2 * half] = widen_halves(vget_low_u16(sixteen.0));
                w[0][2 * half + 1] = widen_high_halves(sixteen.0);
                w[1][2 * half] = widen_halves(vget_low_u16(sixteen.1));
                w[1][2 * half + 1] = widen_high_halves(sixteen.1);
            }
            w
        }
    }
}

struct Bf16;

impl Weights for Bf16 {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Pairs {
        // SAFETY: the caller's promise.
        unsafe {
            let mut w = [[vdupq_n_f32(0.0); PARTS]; 2];
            for part in 0..PARTS {
                let pairs = vreinterpretq_u32_u8(vld1q_u8(at.add(16 * part)));
                let odd = vandq_u32(pairs, vdupq_n_u32(0xffff_0000));
                w[0][part] = vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs));
                w[1][part] = vreinterpretq_f32_u32(odd);
            }
            w
        }
    }
}

struct Fp8;

impl Weights for Fp8 {
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Pairs {
        // SAFETY: the caller's promise.
        unsafe {
            let mut w = [[vdupq_n_f32(0.0); PARTS]; 2];
            for half in 0..2 {
                let pairs = vreinterpretq_s16_u8(vld1q_u8(at.add(16 * half)));
                let upper = [vshlq_n_s16::<8>(pairs), pairs];
                for odd in 0..2 {
                    let shifted = vreinterpretq_u16_s16(vshrq_n_s16::<1>(upper[odd]));
                    let halves = e4m3_halves(shifted);
                    let low = widen_halves(vget_low_u16(halves));
                    w[odd][2 * half] = vmulq_n_f32(low, 256.0);
                    w[odd][2 * half + 1] = vmulq_n_f32(widen_high_halves(halves), 256.0);
                }
            }
            w
        }
    }
}
