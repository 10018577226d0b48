//! Codes of four rows of every format, where they lie, for [`super::avx512_row`].
#![cfg(target_arch = "x86_64")]

use super::Direct;
use super::avx512_open::{FOUR, Rows, low, six, turn};
use super::avx512_row::{M, Stored, Turned, panel};
use super::avx512_row_small::{Blocks, Iq4Nl, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, nibbles, values};
use super::avx512_scales::{iq4_xs_scales, q2_k_scales, q3_k_scales, q4_k_scales, q6_k_scales};
use super::opened::{Opened, PanelRows};
use crate::quant::Format;
use std::arch::x86_64::*;

/// The kernel of `format`, if `m` rows of x are few enough: opening pays for two where there are two scales in a
/// group and little to read.
pub(super) fn direct(format: Format, m: usize) -> Option<Direct> {
    Some(match format {
        _ if m > M => return None,
        Format::Q2K | Format::Q3K if m > 1 => return None,
        Format::Q8_0 => panel::<Blocks<Q8_0, 34, false>>,
        Format::Q4_0 => panel::<Blocks<Q4_0, 18, false>>,
        Format::Q4_1 => panel::<Blocks<Q4_1, 20, true>>,
        Format::Q5_0 => panel::<Blocks<Q5_0, 22, false>>,
        Format::Q5_1 => panel::<Blocks<Q5_1, 24, true>>,
        Format::Iq4Nl => panel::<Blocks<Iq4Nl, 18, false>>,
        Format::Q2K => panel::<Q2K>,
        Format::Q3K => panel::<Q3K>,
        Format::Q4K => panel::<Q4K>,
        Format::Q5K => panel::<Q5K>,
        Format::Q6K => panel::<Q6K>,
        Format::Iq4Xs => panel::<Iq4Xs>,
        Format::F32 | Format::F16 | Format::Bf16 | Format::F8E4M3 => return None,
    })
}

/// 64 bytes of four rows, turned. Safety: they exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn words(first: *const u8, row_bytes: usize) -> [__m512i; FOUR] {
    let mut rows = [_mm512_setzero_si512(); FOUR];
    for r in 0..FOUR {
        // SAFETY: the caller's promise.
        rows[r] = unsafe { _mm512_loadu_si512(first.add(r * row_bytes).cast()) };
    }
    turn(rows)
}

/// 32 bytes of four rows, twice, turned. Safety: they exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn words_twice(first: *const u8, row_bytes: usize) -> [__m512i; FOUR] {
    let mut rows = [_mm512_setzero_si512(); FOUR];
    for r in 0..FOUR {
        // SAFETY: the caller's promise.
        let half = unsafe { _mm256_loadu_si256(first.add(r * row_bytes).cast()) };
        rows[r] = _mm512_broadcast_i64x4(half);
    }
    turn(rows)
}

/// Bit `from[0]` of all bytes of the first half moved to bit `to`, bit `from[1]` of the second; with the bits
/// around it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn move_bits(words: __m512i, from: [usize; 2], to: usize) -> __m512i {
    let by = |from: usize| ((32 + to - from) % 32) as i32;
    let first = _mm512_set1_epi32(by(from[0]));
    _mm512_rolv_epi32(words, _mm512_mask_set1_epi32(first, 0xff00, by(from[1])))
}

/// The bits `mask` of one, the other bits of the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn select(mask: i8, one: __m512i, other: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi8(mask), one, other)
}

struct Q4K;

impl Stored for Q4K {
    const FORMAT: Format = Format::Q4K;
    const GROUPS: [[usize; 2]; 2] = [[0, 2], [1, 3]];
    const SHIFT: u32 = 4;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn scales(opened: &mut Opened, rows: &PanelRows, step: usize) {
        if step > 0 {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { q4_k_scales(opened, Rows::new(rows).words(0)) };
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn codes(first: *const u8, row_bytes: usize, step: usize) -> Turned {
        // SAFETY: the caller's promise.
        let words = unsafe { words(first.add(16 + 64 * step), row_bytes) };
        let mut turned = [words; 2];
        for d in 0..FOUR {
            turned[0][d] = low(words[d]);
            turned[1][d] = _mm512_andnot_si512(_mm512_set1_epi8(15), words[d]);
        }
        turned
    }
}

struct Q5K;

impl Stored for Q5K {
    const FORMAT: Format = Format::Q5K;
    const GROUPS: [[usize; 2]; 2] = [[0, 2], [1, 3]];

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn scales(opened: &mut Opened, rows: &PanelRows, step: usize) {
        if step > 0 {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { q4_k_scales(opened, Rows::new(rows).words(0)) };
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn codes(first: *const u8, row_bytes: usize, step: usize) -> Turned {
        // SAFETY: the caller's promise.
        let (words, bits) = unsafe {
            (words(first.add(48 + 64 * step), row_bytes), words_twice(first.add(16), row_bytes))
        };
        let mut turned = [words; 2];
        let five = _mm512_set1_epi8(31);
        for d in 0..FOUR {
            let fifth = move_bits(bits[d], [4 * step, 4 * step + 2], 4);
            turned[0][d] = _mm512_and_si512(select(15, words[d], fifth), five);
            let fifth = move_bits(bits[d], [4 * step + 1, 4 * step + 3], 4);
            let nibbles = _mm512_srli_epi16::<4>(words[d]);
            turned[1][d] = _mm512_and_si512(select(15, nibbles, fifth), five);
        }
        turned
    }
}

struct Q6K;

impl Stored for Q6K {
    const FORMAT: Format = Format::Q6K;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn scales(opened: &mut Opened, rows: &PanelRows, step: usize) {
        if step > 0 {
            return;
        }
        let rows = Rows::new(rows);
        // SAFETY: the caller's promise; the last read ends with the block.
        unsafe { q6_k_scales(opened, rows.words(192), rows.words(194)[3]) };
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn codes(first: *const u8, row_bytes: usize, step: usize) -> Turned {
        // SAFETY: the caller's promise.
        let (words, top) = unsafe {
            (
                words(first.add(64 * step), row_bytes),
                words_twice(first.add(128 + 32 * step), row_bytes),
            )
        };
        let mut turned = [words; 2];
        for d in 0..FOUR {
            turned[0][d] = six(words[d], move_bits(top[d], [0, 2], 4));
            let nibbles = _mm512_srli_epi16::<4>(words[d]);
            turned[1][d] = six(nibbles, move_bits(top[d], [4, 6], 4));
        }
        turned
    }
}

struct Q2K;

impl Stored for Q2K {
    const FORMAT: Format = Format::Q2K;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn scales(opened: &mut Opened, rows: &PanelRows, step: usize) {
        if step > 0 {
            return;
        }
        let rows = Rows::new(rows);
        // SAFETY: the caller's promise; the last read ends with the block.
        unsafe { q2_k_scales(opened, rows.words(0), rows.words(68)[3]) };
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn codes(first: *const u8, row_bytes: usize, step: usize) -> Turned {
        // SAFETY: the caller's promise.
        let words = unsafe { words_twice(first.add(16 + 32 * step), row_bytes) };
        two_bits_of(words)
    }
}

/// The four pairs of bits of all bytes, each a group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn two_bits_of(words: [__m512i; FOUR]) -> Turned {
    let mut turned = [words; 2];
    for d in 0..FOUR {
        for s in 0..2 {
            let moved = move_bits(words[d], [4 * s, 4 * s + 2], 0);
            turned[s][d] = _mm512_and_si512(moved, _mm512_set1_epi8(3));
        }
    }
    turned
}

struct Q3K;

impl Stored for Q3K {
    const FORMAT: Format = Format::Q3K;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn scales(opened: &mut Opened, rows: &PanelRows, step: usize) {
        if step > 0 {
            return;
        }
        // SAFETY: the caller's promise; the last read ends with the block.
        unsafe { q3_k_scales(opened, Rows::new(rows).words(94)) };
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn codes(first: *const u8, row_bytes: usize, step: usize) -> Turned {
        // SAFETY: the caller's promise.
        let (words, bits) = unsafe {
            (words_twice(first.add(32 + 32 * step), row_bytes), words_twice(first, row_bytes))
        };
        let mut turned = two_bits_of(words);
        for d in 0..FOUR {
            for s in 0..2 {
                let from = 4 * step + 2 * s;
                let third = move_bits(bits[d], [from, from + 1], 2);
                let third = _mm512_and_si512(third, _mm512_set1_epi8(4));
                turned[s][d] = _mm512_or_si512(turned[s][d], third);
            }
        }
        turned
    }
}

struct Iq4Xs;

impl Stored for Iq4Xs {
    const FORMAT: Format = Format::Iq4Xs;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn scales(opened: &mut Opened, rows: &PanelRows, step: usize) {
        if step > 0 {
            return;
        }
        // SAFETY: the caller's promise.
        unsafe { iq4_xs_scales(opened, Rows::new(rows).words(0)) };
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn codes(first: *const u8, row_bytes: usize, step: usize) -> Turned {
        let mut turned = [[_mm512_setzero_si512(); FOUR]; 2];
        for s in 0..2 {
            let mut rows = [_mm512_setzero_si512(); FOUR];
            for r in 0..FOUR {
                let at = first.wrapping_add(r * row_bytes + 8 + 64 * step + 32 * s);
                // SAFETY: the caller's promise.
                rows[r] = unsafe { values(nibbles(at, 16)) };
            }
            turned[s] = turn(rows);
        }
        turned
    }
}
