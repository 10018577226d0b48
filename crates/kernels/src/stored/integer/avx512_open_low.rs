//! Opening blocks of two and three bits, and `iq4_xs`, with AVX-512.
#![cfg(target_arch = "x86_64")]

use super::avx512_open::{Rows, high, low, put};
use super::avx512_scales::{iq4_xs_scales, q2_k_scales, q3_k_scales};
use super::opened::{Opened, PanelRows};
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
        iq4_xs_scales(opened, all.four_words(0));
        for b in 0..8 {
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
        q2_k_scales(opened, all.four_words(0), all.words(68)[3]);
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
        q3_k_scales(opened, all.four_words(94));
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
pub(super) fn two_bits(words: __m512i, pair: usize) -> __m512i {
    let shifted = _mm512_srl_epi16(words, _mm_cvtsi32_si128(2 * pair as i32));
    _mm512_and_si512(shifted, _mm512_set1_epi8(3))
}
