//! One row of x, or a few, times sixteen rows of W straight from the stored bytes: nothing is opened.
//!
//! Opening pays where many rows of x meet a panel. For few, what it writes is read once. Here four rows of W
//! are turned in registers, 4 × 4 words in each of the four lanes of 16 bytes, and met by x: a lane of 16
//! bytes is then four rows, and columns of its own. These are added up, and sixteen rows put side by
//! side, when the dot products of 128 columns are done. What follows is what tiles do, in their order.
#![cfg(target_arch = "x86_64")]

use super::Place;
use super::avx512_open::FOUR;
use super::groups::{TO_INTEGER, TO_INTEGER_BITS};
use super::opened::{AHEAD_PER_BYTE, Opened, PANEL, PanelRows};
use super::rounded::{GROUP, GROUPS, HALF, HALVES, Piece, START_MIDDLES, Scale};
use crate::quant::{CHUNK, Coding, Format, coding};
use std::arch::x86_64::*;

/// Rows of x at most.
pub(super) const M: usize = 4;
/// Columns that are taken at a time: two registers of codes of every row.
const STEP: usize = super::DIRECT_STEP;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Codes of 128 columns of four rows, turned ([`super::avx512_open::turn`]).
pub(super) type Turned = [[__m512i; FOUR]; 2];

/// A format of stored weights.
pub(super) trait Stored {
    /// Which it is.
    const FORMAT: Format;
    /// How it codes weights.
    const CODING: Coding = match coding(Self::FORMAT) {
        Some(coding) => coding,
        None => panic!("a format without codes"),
    };
    /// Bytes of a row for [`CHUNK`] columns.
    const CHUNK_BYTES: usize = CHUNK / Self::FORMAT.block_len() * Self::FORMAT.block_bytes();
    /// Which of the four groups of a step lie in the first register and in the second.
    const GROUPS: [[usize; 2]; 2] = [[0, 1], [2, 3]];
    /// Codes of the second register are so many bits too far to the left.
    const SHIFT: u32 = 0;

    /// Scales and minima of step `step` of a chunk; of a large block, all with its first step.
    ///
    /// Safety: the rows hold it; the CPU has AVX-512 F, BW and DQ.
    unsafe fn scales(opened: &mut Opened, rows: &PanelRows, step: usize);

    /// Codes of step `step` of the chunk that begins at `first` in the first of four rows.
    ///
    /// Safety: as above.
    unsafe fn codes(first: *const u8, row_bytes: usize, step: usize) -> Turned;
}

/// As [`super::Direct`].
///
/// Safety: the rows of x and the sixteen of W exist, `x.len` is made of whole steps, and no one else touches
/// the places; the CPU has AVX-512 F, BW, DQ and VNNI.
pub(super) unsafe fn panel<F: Stored>(
    scratch: &mut Opened,
    x: Piece,
    m: usize,
    rows: PanelRows,
    to: Place,
) {
    debug_assert!(m <= M && rows.n_rows == PANEL && x.len.is_multiple_of(STEP));
    // SAFETY: the caller's promise.
    unsafe {
        match m {
            1 => sized::<F, 1>(scratch, x, rows, to),
            2 => sized::<F, 2>(scratch, x, rows, to),
            3 => sized::<F, 3>(scratch, x, rows, to),
            _ => sized::<F, M>(scratch, x, rows, to),
        }
    }
}

/// Safety: as [`panel`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
unsafe fn sized<F: Stored, const M: usize>(
    scratch: &mut Opened,
    x: Piece,
    mut rows: PanelRows,
    to: Place,
) {
    let mut sums = [_mm512_setzero_ps(); M];
    // SAFETY: the caller's promise.
    unsafe {
        for c in 0..x.len.div_ceil(CHUNK) {
            let x = x.chunk(c);
            for step in 0..x.len / STEP {
                F::scales(scratch, &rows, step);
                let dots = dots::<F, M>(&x, &rows, step);
                for i in 0..M {
                    let sum = &mut sums[i];
                    *sum = if F::CODING.group == GROUP {
                        add_groups::<F>(scratch, &x, i, step, whole::<F>(&dots[i]), *sum)
                    } else {
                        add_halves::<F>(scratch, &x, i, step, &dots[i], *sum)
                    };
                }
            }
            rows.bytes = rows.bytes.wrapping_add(F::CHUNK_BYTES);
            rows.ahead = rows.ahead.wrapping_add(AHEAD_PER_BYTE * F::CHUNK_BYTES);
        }
        for i in 0..M {
            _mm512_storeu_ps(to.row(i).start, sums[i]);
        }
    }
}

/// Sums of products for each register of codes and each four rows of W; a lane of 16 bytes is one of these,
/// its words are the rows. Safety: as [`panel`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
unsafe fn dots<F: Stored, const M: usize>(
    x: &Piece,
    rows: &PanelRows,
    step: usize,
) -> [[[__m512i; FOUR]; 2]; M] {
    let mut dots = [[[_mm512_setzero_si512(); FOUR]; 2]; M];
    // SAFETY: the caller's promise.
    unsafe {
        let mut xs = [[[_mm512_setzero_si512(); FOUR]; 2]; M];
        for i in 0..M {
            xs[i] = spread::<F>(x.codes.add(i * CHUNK + step * STEP));
        }
        for q in 0..PANEL / FOUR {
            let first = rows.bytes.add(q * FOUR * rows.row_bytes);
            fetch_quarter::<F>(rows, step, q, 0);
            let codes = F::codes(first, rows.row_bytes, step);
            fetch_quarter::<F>(rows, step, q, 1);
            for i in 0..M {
                for s in 0..2 {
                    let mut dot = _mm512_setzero_si512();
                    for d in 0..FOUR {
                        dot = _mm512_dpbusd_epi32(dot, codes[s][d], xs[i][s][d]);
                    }
                    dots[i][s][q] = dot;
                }
            }
        }
    }
    dots
}

/// A step of a row of x as turned codes meet it. Safety: it exists.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn spread<F: Stored>(codes: *const i8) -> [[__m512i; FOUR]; 2] {
    // SAFETY: the caller's promise.
    let (first, second) =
        unsafe { (_mm512_loadu_si512(codes.cast()), _mm512_loadu_si512(codes.add(64).cast())) };
    let both = match F::GROUPS {
        [[0, 1], _] => [first, second],
        _ => [
            _mm512_shuffle_i64x2::<0b01_00_01_00>(first, second),
            _mm512_shuffle_i64x2::<0b11_10_11_10>(first, second),
        ],
    };
    let mut xs = [[_mm512_setzero_si512(); FOUR]; 2];
    for s in 0..2 {
        xs[s] = [
            _mm512_shuffle_epi32::<0b00_00_00_00>(both[s]),
            _mm512_shuffle_epi32::<0b01_01_01_01>(both[s]),
            _mm512_shuffle_epi32::<0b10_10_10_10>(both[s]),
            _mm512_shuffle_epi32::<0b11_11_11_11>(both[s]),
        ];
    }
    xs
}

/// Fetches half (0 or 1) of a quarter of what is read next, as many lines as a step reads of four rows. Four long
/// runs keep memory busy where sixteen short ones do not. An address that does not exist is ignored.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn fetch_quarter<F: Stored>(rows: &PanelRows, step: usize, quarter: usize, half: usize) {
    let n_bytes = AHEAD_PER_BYTE * F::CHUNK_BYTES * STEP / CHUNK;
    let run = rows.ahead.wrapping_add(quarter * FOUR * rows.ahead_row_bytes + step * n_bytes);
    for line in (half..n_bytes.div_ceil(LINE)).step_by(2) {
        _mm_prefetch::<_MM_HINT_T1>(run.wrapping_add(line * LINE).cast());
    }
}

/// Groups whose halves lie in neighbouring lanes: sums of both, sixteen rows side by side.
#[inline]
#[target_feature(enable = "avx512f")]
fn whole<F: Stored>(dots: &[[__m512i; FOUR]; 2]) -> [__m512i; 4] {
    let mut groups = [_mm512_setzero_si512(); 4];
    for s in 0..2 {
        let [first, second, third, fourth] = dots[s];
        let eight = add_neighbours(first, second);
        let others = add_neighbours(third, fourth);
        let mut both = [
            _mm512_shuffle_i32x4::<0b10_00_10_00>(eight, others),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(eight, others),
        ];
        if s == 1 && F::SHIFT == 4 {
            both = [_mm512_srai_epi32::<4>(both[0]), _mm512_srai_epi32::<4>(both[1])];
        }
        let [a, b] = F::GROUPS[s];
        (groups[a], groups[b]) = (both[0], both[1]);
    }
    groups
}

/// The first two lanes of 16 bytes of one, added up, then those of the other; then the last two of both.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_neighbours(one: __m512i, other: __m512i) -> __m512i {
    _mm512_add_epi32(
        _mm512_shuffle_i32x4::<0b10_00_10_00>(one, other),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(one, other),
    )
}

/// Half groups, each a lane: sixteen rows side by side.
#[inline]
#[target_feature(enable = "avx512f")]
fn lanes([first, second, third, fourth]: [__m512i; FOUR]) -> [__m512i; 4] {
    let low = _mm512_shuffle_i32x4::<0b01_00_01_00>(first, second);
    let others_low = _mm512_shuffle_i32x4::<0b01_00_01_00>(third, fourth);
    let high = _mm512_shuffle_i32x4::<0b11_10_11_10>(first, second);
    let others_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(third, fourth);
    [
        _mm512_shuffle_i32x4::<0b10_00_10_00>(low, others_low),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(low, others_low),
        _mm512_shuffle_i32x4::<0b10_00_10_00>(high, others_high),
        _mm512_shuffle_i32x4::<0b11_01_11_01>(high, others_high),
    ]
}

/// A dot product counted from the middle, as the float so much above it. Safety: the start exists.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn from_middle<F: Stored>(dot: __m512i, start: *const i32) -> __m512 {
    let Coding { middle, group, .. } = F::CODING;
    let start_middle = START_MIDDLES[if group == GROUP { 0 } else { 1 }];
    // SAFETY: the caller's promise.
    let start = match middle {
        0 => TO_INTEGER_BITS,
        _ if middle == start_middle => unsafe { *start },
        _ => {
            let shift = (start_middle / middle).trailing_zeros();
            TO_INTEGER_BITS + ((unsafe { *start } - TO_INTEGER_BITS) >> shift)
        }
    };
    _mm512_castsi512_ps(_mm512_add_epi32(dot, _mm512_set1_epi32(start)))
}

/// The sum of a row of x and what four groups add to it. Safety: as [`panel`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn add_groups<F: Stored>(
    scratch: &Opened,
    x: &Piece,
    i: usize,
    step: usize,
    dots: [__m512i; 4],
    mut sum: __m512,
) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe {
        for g in 0..4 {
            let b = step * STEP / GROUP + g;
            let at = i * GROUPS + b;
            let dot = from_middle::<F>(dots[g], x.starts[0].add(at));
            let Scale { scale, excess } = *x.scales.add(at);
            let term = _mm512_fmsub_ps(dot, _mm512_set1_ps(scale), _mm512_set1_ps(excess));
            sum = _mm512_fmadd_ps(term, load(&scratch.scales, b), sum);
            if F::CODING.has_mins {
                let total = _mm512_set1_ps(*x.totals[0].add(at));
                sum = _mm512_fmadd_ps(load(&scratch.mins, b), total, sum);
            }
        }
    }
    sum
}

/// As [`add_groups`] for two scales in a group. Safety: as [`panel`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn add_halves<F: Stored>(
    scratch: &Opened,
    x: &Piece,
    i: usize,
    step: usize,
    dots: &[[__m512i; FOUR]; 2],
    mut sum: __m512,
) -> __m512 {
    let to_integer = _mm512_set1_ps(TO_INTEGER);
    // SAFETY: the caller's promise.
    unsafe {
        let dots = [lanes(dots[0]), lanes(dots[1])];
        for g in 0..4 {
            let b = step * STEP / GROUP + g;
            let at = i * HALVES + 2 * b;
            let first = from_middle::<F>(dots[g / 2][g % 2 * 2], x.starts[1].add(at));
            let second = from_middle::<F>(dots[g / 2][g % 2 * 2 + 1], x.starts[1].add(at + 1));
            let scales = [load(&scratch.scales, 2 * b), load(&scratch.scales, 2 * b + 1)];
            let excess = _mm512_mul_ps(scales[0], to_integer);
            let term = _mm512_fmsub_ps(first, scales[0], excess);
            let term = _mm512_fmadd_ps(_mm512_sub_ps(second, to_integer), scales[1], term);
            let scale = _mm512_set1_ps((*x.scales.add(i * GROUPS + b)).scale);
            sum = _mm512_fmadd_ps(term, scale, sum);
            if F::CODING.has_mins {
                for half in 0..2 {
                    let total = _mm512_set1_ps(*x.totals[1].add(at + half));
                    sum = _mm512_fmadd_ps(load(&scratch.mins, 2 * b + half), total, sum);
                }
            }
        }
    }
    sum
}

/// A register of what was opened. Safety: it exists.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(of: &[[f32; PANEL]; CHUNK / HALF], at: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_load_ps(of.as_ptr().add(at).cast()) }
}
