//! Opening blocks of two and three bits, and `iq4_xs`, with AVX-512.
#![cfg(target_arch = "x86_64")]

use super::avx512_open::{Rows, halves, high, low, put, put_floats};
use super::opened::{Opened, PANEL, PanelRows};
use crate::quant::IQ4_VALUES;
use std::arch::x86_64::*;

/// Safety: as [`super::avx512_open::open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) unsafe fn iq4_xs(opened: &mut Opened, rows: &PanelRows) {
    // SAFETY: the block has 136 bytes; the table has 16.
    unsafe {
        let all = Rows::new(rows);
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(IQ4_VALUES.as_ptr().cast()));
        let table = _mm512_xor_si512(table, _mm512_set1_epi8(-128));
        let [first, nibbles, ..] = all.four_words(0);
        let d = halves(first);
        let upper = _mm512_srli_epi32::<16>(first);
        for b in 0..8 {
            let (four, two) = (_mm_cvtsi32_si128(4 * b as i32), _mm_cvtsi32_si128(2 * b as i32));
            let lower = _mm512_and_si512(_mm512_srl_epi32(nibbles, four), _mm512_set1_epi32(15));
            let upper = _mm512_and_si512(_mm512_srl_epi32(upper, two), _mm512_set1_epi32(3));
            let scale = _mm512_or_si512(lower, _mm512_slli_epi32::<4>(upper));
            let scale = _mm512_sub_epi32(scale, _mm512_set1_epi32(32));
            put_floats(&mut opened.scales[b], _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale)));
            let words = all.four_words(8 + 16 * b);
            for w in 0..4 {
                let (low, high) = (low(words[w]), high(words[w]));
                put(&mut opened.codes[8 * b + w], _mm512_shuffle_epi8(table, low));
                put(&mut opened.codes[8 * b + 4 + w], _mm512_shuffle_epi8(table, high));
            }
        }
    }
}

/// Safety: as [`super::avx512_open::open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) unsafe fn q2_k(opened: &mut Opened, rows: &PanelRows) {
    // SAFETY: the block has 84 bytes; the last read ends with it.
    unsafe {
        let all = Rows::new(rows);
        let both = all.words(68)[3];
        let d = halves(both);
        let dmin = _mm512_xor_ps(halves(_mm512_srli_epi32::<16>(both)), _mm512_set1_ps(-0.0));
        let scales = all.four_words(0);
        for w in 0..4 {
            spread(&mut opened.scales, 4 * w, low(scales[w]), 0, d);
            spread(&mut opened.mins, 4 * w, high(scales[w]), 0, dmin);
        }
        for half in 0..2 {
            for q in 0..2 {
                let words = all.four_words(16 + 32 * half + 16 * q);
                for pair in 0..4 {
                    for w in 0..4 {
                        let codes = two_bits(words[w], pair);
                        put(&mut opened.codes[32 * half + 8 * pair + 4 * q + w], codes);
                    }
                }
            }
        }
    }
}

/// Safety: as [`super::avx512_open::open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) unsafe fn q3_k(opened: &mut Opened, rows: &PanelRows) {
    // SAFETY: the block has 110 bytes; the last read ends with it.
    unsafe {
        let all = Rows::new(rows);
        // Two bytes of codes, twelve of scales, two of `d`.
        let tail = all.four_words(94);
        let d = halves(_mm512_srli_epi32::<16>(tail[3]));
        let shifted = |i: usize| {
            _mm512_or_si512(_mm512_srli_epi32::<16>(tail[i]), _mm512_slli_epi32::<16>(tail[i + 1]))
        };
        let (first, second, upper) = (shifted(0), shifted(1), shifted(2));
        let lower = [low(first), low(second), high(first), high(second)];
        for w in 0..4 {
            let upper = _mm512_slli_epi16::<4>(two_bits(upper, w));
            spread(&mut opened.scales, 4 * w, _mm512_or_si512(lower[w], upper), 32, d);
        }
        for q in 0..2 {
            let third_bits = all.four_words(16 * q);
            for half in 0..2 {
                let words = all.four_words(32 + 32 * half + 16 * q);
                for pair in 0..4 {
                    for w in 0..4 {
                        let mine = _mm512_set1_epi8(1 << (4 * half + pair));
                        let set = _mm512_test_epi8_mask(third_bits[w], mine);
                        let codes = two_bits(words[w], pair);
                        let codes = _mm512_mask_add_epi8(codes, set, codes, _mm512_set1_epi8(4));
                        put(&mut opened.codes[32 * half + 8 * pair + 4 * q + w], codes);
                    }
                }
            }
        }
    }
}

/// Pair `pair` of the bits of all bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn two_bits(words: __m512i, pair: usize) -> __m512i {
    let shifted = _mm512_srl_epi16(words, _mm_cvtsi32_si128(2 * pair as i32));
    _mm512_and_si512(shifted, _mm512_set1_epi8(3))
}

/// The four bytes of every lane, counted from `middle`, times `factor`, as rows `at..at + 4` of `out`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn spread(out: &mut [[f32; PANEL]; 16], at: usize, bytes: __m512i, middle: i32, factor: __m512) {
    let (byte, middle) = (_mm512_set1_epi32(0xff), _mm512_set1_epi32(middle));
    for i in 0..4 {
        let field = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(8 * i as i32));
        let field = _mm512_sub_epi32(_mm512_and_si512(field, byte), middle);
        put_floats(&mut out[at + i], _mm512_mul_ps(factor, _mm512_cvtepi32_ps(field)));
    }
}
