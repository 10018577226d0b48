//! Opening blocks with AVX-512: sixteen bytes of each of sixteen rows become four registers whose
//! lanes are rows, then codes are cut out of whole registers.
#![cfg(target_arch = "x86_64")]

use super::avx512_open_low;
use super::avx512_scales::{head, q4_k_scales, q6_k_scales};
use super::opened::{AHEAD_PER_BYTE, Opened, PANEL, PanelRows};
use crate::quant::{Coding, Format, IQ4_VALUES};
use std::arch::x86_64::*;

/// Rows that are turned at a time.
pub(super) const FOUR: usize = 4;

/// Opens a chunk. Safety: as [`Opened::open`]; the CPU has AVX-512 F, BW and DQ.
pub(super) unsafe fn open(opened: &mut Opened, format: Format, coding: Coding, rows: &PanelRows) {
    // SAFETY: the caller's promise.
    unsafe {
        match format {
            _ if rows.n_rows < PANEL => opened.open(format, coding, rows),
            Format::Q8_0 => q8_0(opened, rows),
            Format::Q4_0 => small_nibbles::<18, 2, false>(opened, rows),
            Format::Q4_1 => small_nibbles::<20, 4, true>(opened, rows),
            Format::Iq4Nl => iq4_nl(opened, rows),
            Format::Q5_0 => small_fifths::<22, 2, false>(opened, rows),
            Format::Q5_1 => small_fifths::<24, 4, true>(opened, rows),
            Format::Q4K => q4_k::<false>(opened, rows),
            Format::Q5K => q4_k::<true>(opened, rows),
            Format::Q6K => q6_k(opened, rows),
            Format::Q2K => avx512_open_low::q2_k(opened, rows),
            Format::Q3K => avx512_open_low::q3_k(opened, rows),
            Format::Iq4Xs => avx512_open_low::iq4_xs(opened, rows),
            _ => opened.open(format, coding, rows),
        }
    }
}

/// Sixteen rows at equal distances.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    bytes: *const u8,
    stride: usize,
    ahead: *const u8,
    ahead_stride: usize,
}

impl Rows {
    pub(super) fn new(rows: &PanelRows) -> Self {
        let ahead_stride = rows.ahead_row_bytes;
        Rows { bytes: rows.bytes, stride: rows.row_bytes, ahead: rows.ahead, ahead_stride }
    }

    /// As [`Rows::words`]; as many bytes of what is read next are fetched.
    ///
    /// Memory is slow to start, and sixteen short runs do not make the processor fetch ahead by itself.
    /// Four long ones do, a quarter of the rows each. An address that does not exist is ignored.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    pub(super) unsafe fn four_words(&self, at: usize) -> [__m512i; 4] {
        let ahead = self.ahead.wrapping_add(AHEAD_PER_BYTE * at);
        for quarter in 0..4 {
            let line = ahead.wrapping_add(quarter * PANEL / 4 * self.ahead_stride);
            _mm_prefetch::<_MM_HINT_T1>(line.cast());
        }
        // SAFETY: the caller's promise.
        unsafe { self.words(at) }
    }

    /// Bytes `at..at + 16` of every row: four words, lanes are rows. Safety: they exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    pub(super) unsafe fn words(&self, at: usize) -> [__m512i; 4] {
        let mut quads = [_mm512_setzero_si512(); 4];
        for a in 0..4 {
            // SAFETY: the caller's promise.
            unsafe {
                let first = self.bytes.add(a * self.stride + at);
                let part = [
                    first,
                    first.add(4 * self.stride),
                    first.add(8 * self.stride),
                    first.add(12 * self.stride),
                ];
                let quad = _mm512_castsi128_si512(_mm_loadu_si128(part[0].cast()));
                let quad = _mm512_inserti32x4::<1>(quad, _mm_loadu_si128(part[1].cast()));
                let quad = _mm512_inserti32x4::<2>(quad, _mm_loadu_si128(part[2].cast()));
                quads[a] = _mm512_inserti32x4::<3>(quad, _mm_loadu_si128(part[3].cast()));
            }
        }
        turn(quads)
    }
}

/// Words of four rows, 4 × 4 of them in every 16 bytes: register `d` has word `d` of all four.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn turn(rows: [__m512i; FOUR]) -> [__m512i; FOUR] {
    let low01 = _mm512_unpacklo_epi32(rows[0], rows[1]);
    let high01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
    let low23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
    let high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
    [
        _mm512_unpacklo_epi64(low01, low23),
        _mm512_unpackhi_epi64(low01, low23),
        _mm512_unpacklo_epi64(high01, high23),
        _mm512_unpackhi_epi64(high01, high23),
    ]
}

/// The half-precision numbers in the low halves of the lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn halves(words: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn put(place: &mut [u8; 4 * PANEL], codes: __m512i) {
    // SAFETY: a place is as long as a register, and aligned as one.
    unsafe { _mm512_store_si512(place.as_mut_ptr().cast(), codes) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn put_floats(place: &mut [f32; PANEL], values: __m512) {
    // SAFETY: as above.
    unsafe { _mm512_store_ps(place.as_mut_ptr(), values) };
}

/// Low nibbles of all bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn low(words: __m512i) -> __m512i {
    _mm512_and_si512(words, _mm512_set1_epi8(15))
}

/// High nibbles of all bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn high(words: __m512i) -> __m512i {
    low(_mm512_srli_epi16::<4>(words))
}

/// Safety: as [`open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn q8_0(opened: &mut Opened, rows: &PanelRows) {
    let sign = _mm512_set1_epi8(-128);
    // SAFETY: every block has 34 bytes.
    unsafe {
        let all = Rows::new(rows);
        for b in 0..rows.len / 32 {
            head::<false>(opened, b, all.words(34 * b)[0]);
            for q in 0..2 {
                let words = all.four_words(34 * b + 2 + 16 * q);
                for w in 0..4 {
                    let codes = _mm512_xor_si512(words[w], sign);
                    put(&mut opened.codes[8 * b + 4 * q + w], codes);
                }
            }
        }
    }
}

/// `q4_0` and `q4_1`: `SIZE` bytes a block, nibbles from byte `AT` on. Safety: as [`open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn small_nibbles<const SIZE: usize, const AT: usize, const MINS: bool>(
    opened: &mut Opened,
    rows: &PanelRows,
) {
    // SAFETY: every block has `SIZE` bytes.
    unsafe {
        let all = Rows::new(rows);
        for b in 0..rows.len / 32 {
            head::<MINS>(opened, b, all.words(SIZE * b)[0]);
            let words = all.four_words(SIZE * b + AT);
            for w in 0..4 {
                put(&mut opened.codes[8 * b + w], low(words[w]));
                put(&mut opened.codes[8 * b + 4 + w], high(words[w]));
            }
        }
    }
}

/// Safety: as [`open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn iq4_nl(opened: &mut Opened, rows: &PanelRows) {
    // SAFETY: every block has 18 bytes; the table has 16.
    unsafe {
        let all = Rows::new(rows);
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(IQ4_VALUES.as_ptr().cast()));
        let table = _mm512_xor_si512(table, _mm512_set1_epi8(-128));
        for b in 0..rows.len / 32 {
            head::<false>(opened, b, all.words(18 * b)[0]);
            let words = all.four_words(18 * b + 2);
            for w in 0..4 {
                let (low, high) = (low(words[w]), high(words[w]));
                put(&mut opened.codes[8 * b + w], _mm512_shuffle_epi8(table, low));
                put(&mut opened.codes[8 * b + 4 + w], _mm512_shuffle_epi8(table, high));
            }
        }
    }
}

/// `q5_0` and `q5_1`: `SIZE` bytes a block, fifth bits at byte `AT`, nibbles behind them.
/// Safety: as [`open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn small_fifths<const SIZE: usize, const AT: usize, const MINS: bool>(
    opened: &mut Opened,
    rows: &PanelRows,
) {
    let sixteen = _mm512_set1_epi8(16);
    // SAFETY: every block has `SIZE` bytes.
    unsafe {
        let all = Rows::new(rows);
        for b in 0..rows.len / 32 {
            let [first, second, ..] = all.words(SIZE * b);
            head::<MINS>(opened, b, first);
            let bits = if AT == 4 {
                second
            } else {
                _mm512_or_si512(_mm512_srli_epi32::<16>(first), _mm512_slli_epi32::<16>(second))
            };
            let words = all.four_words(SIZE * b + AT + 4);
            for g in 0..8 {
                let nibbles = if g < 4 { low(words[g]) } else { high(words[g - 4]) };
                // All bytes of a lane see the byte of bits that holds theirs; each tests its own.
                let byte = _mm512_set1_epi32(0x0101_0101 * (g / 2) as i32);
                let lanes = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
                let seen = _mm512_shuffle_epi8(bits, _mm512_add_epi8(byte, lanes));
                let own = if g % 2 == 0 { 0x0804_0201u32 } else { 0x8040_2010 };
                let set = _mm512_test_epi8_mask(seen, _mm512_set1_epi32(own as i32));
                let codes = _mm512_mask_add_epi8(nibbles, set, nibbles, sixteen);
                put(&mut opened.codes[8 * b + g], codes);
            }
        }
    }
}

/// `q4_k` and, with fifth bits, `q5_k`. Safety: as [`open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn q4_k<const FIFTHS: bool>(opened: &mut Opened, rows: &PanelRows) {
    // SAFETY: the block has 144 or 176 bytes.
    unsafe {
        let all = Rows::new(rows);
        q4_k_scales(opened, all.four_words(0));
        let mut bits = [_mm512_setzero_si512(); 8];
        if FIFTHS {
            for q in 0..2 {
                bits[4 * q..4 * q + 4].copy_from_slice(&all.four_words(16 + 16 * q));
            }
        }
        let nibbles = if FIFTHS { 48 } else { 16 };
        for pair in 0..4 {
            let shift = _mm_cvtsi32_si128(2 * pair as i32);
            for q in 0..2 {
                let words = all.four_words(nibbles + 32 * pair + 16 * q);
                for w in 0..4 {
                    let (mut first, mut second) = (low(words[w]), high(words[w]));
                    if FIFTHS {
                        let bits = _mm512_srl_epi16(bits[4 * q + w], shift);
                        first = _mm512_or_si512(first, fifth(_mm512_slli_epi16::<4>(bits)));
                        second = _mm512_or_si512(second, fifth(_mm512_slli_epi16::<3>(bits)));
                    }
                    put(&mut opened.codes[16 * pair + 4 * q + w], first);
                    put(&mut opened.codes[16 * pair + 8 + 4 * q + w], second);
                }
            }
        }
    }
}

/// The fifth bit of all bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn fifth(words: __m512i) -> __m512i {
    _mm512_and_si512(words, _mm512_set1_epi8(16))
}

/// Safety: as [`open`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn q6_k(opened: &mut Opened, rows: &PanelRows) {
    // SAFETY: the block has 210 bytes; the last read ends with it.
    unsafe {
        let all = Rows::new(rows);
        q6_k_scales(opened, all.four_words(192), all.words(194)[3]);
        for half in 0..2 {
            for q in 0..2 {
                let first = all.four_words(64 * half + 16 * q);
                let second = all.four_words(64 * half + 32 + 16 * q);
                let top = all.four_words(128 + 32 * half + 16 * q);
                for w in 0..4 {
                    let top = top[w];
                    let at = 32 * half + 4 * q + w;
                    let upper = _mm512_slli_epi16::<4>(top);
                    put(&mut opened.codes[at], six(first[w], upper));
                    let upper = _mm512_slli_epi16::<2>(top);
                    put(&mut opened.codes[at + 8], six(second[w], upper));
                    put(&mut opened.codes[at + 16], six(_mm512_srli_epi16::<4>(first[w]), top));
                    let upper = _mm512_srli_epi16::<2>(top);
                    put(&mut opened.codes[at + 24], six(_mm512_srli_epi16::<4>(second[w]), upper));
                }
            }
        }
    }
}

/// Bits 0..4 of the bytes of `nibbles` and bits 4..6 of those of `upper`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn six(nibbles: __m512i, upper: __m512i) -> __m512i {
    // a ? b : c, bit by bit.
    let both = _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi8(15), nibbles, upper);
    _mm512_and_si512(both, _mm512_set1_epi8(0x3f))
}
