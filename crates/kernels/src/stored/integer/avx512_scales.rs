//! Scales and minima of sixteen rows, with AVX-512: what opened codes and codes in place are multiplied with.
#![cfg(target_arch = "x86_64")]

use super::avx512_open::{halves, high, low, put_floats};
use super::avx512_open_low::two_bits;
use super::opened::{Opened, PANEL};
use std::arch::x86_64::*;

/// The scale and, with `MINS`, the minimum that begin a small block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn head<const MINS: bool>(opened: &mut Opened, b: usize, words: __m512i) {
    put_floats(&mut opened.scales[b], halves(words));
    if MINS {
        put_floats(&mut opened.mins[b], halves(_mm512_srli_epi32::<16>(words)));
    }
}

/// Eight 6-bit scales and minima under two halves: the first sixteen bytes of a `q4_k` block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn q4_k_scales(
    opened: &mut Opened,
    [halves_of_both, first, second, rest]: [__m512i; 4],
) {
    let d = halves(halves_of_both);
    let dmin = halves(_mm512_srli_epi32::<16>(halves_of_both));
    let dmin = _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0));
    let six = _mm512_set1_epi8(0x3f);
    let upper = _mm512_set1_epi8(0x30);
    let first_upper = _mm512_and_si512(_mm512_srli_epi32::<2>(first), upper);
    let second_upper = _mm512_and_si512(_mm512_srli_epi32::<2>(second), upper);
    let scales = [_mm512_and_si512(first, six), _mm512_or_si512(low(rest), first_upper)];
    let mins = [_mm512_and_si512(second, six), _mm512_or_si512(high(rest), second_upper)];
    for half in 0..2 {
        spread_unsigned(&mut opened.scales, 4 * half, scales[half], d);
        spread_unsigned(&mut opened.mins, 4 * half, mins[half], dmin);
    }
}

/// Sixteen scales of 8 bits, and the end of a block, `d` last. Of `q6_k`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn q6_k_scales(opened: &mut Opened, scales: [__m512i; 4], end: __m512i) {
    let d = halves(_mm512_srli_epi32::<16>(end));
    for w in 0..4 {
        let bytes = scales[w];
        let fields = [
            _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(bytes)),
            _mm512_srai_epi32::<24>(_mm512_slli_epi32::<16>(bytes)),
            _mm512_srai_epi32::<24>(_mm512_slli_epi32::<8>(bytes)),
            _mm512_srai_epi32::<24>(bytes),
        ];
        for i in 0..4 {
            let scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(fields[i]));
            put_floats(&mut opened.scales[4 * w + i], scale);
        }
    }
}

/// Sixteen scales and minima of 4 bits, and the halves above them. Of `q2_k`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn q2_k_scales(opened: &mut Opened, scales: [__m512i; 4], both: __m512i) {
    let d = halves(both);
    let dmin = _mm512_xor_ps(halves(_mm512_srli_epi32::<16>(both)), _mm512_set1_ps(-0.0));
    for w in 0..4 {
        spread(&mut opened.scales, 4 * w, low(scales[w]), 0, d);
        spread(&mut opened.mins, 4 * w, high(scales[w]), 0, dmin);
    }
}

/// Sixteen scales of 6 bits: the end of a block, two bytes of codes, twelve of scales, two of `d`. Of `q3_k`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn q3_k_scales(opened: &mut Opened, end: [__m512i; 4]) {
    let d = halves(_mm512_srli_epi32::<16>(end[3]));
    let mut shifted = [_mm512_setzero_si512(); 3];
    for i in 0..3 {
        let next = _mm512_slli_epi32::<16>(end[i + 1]);
        shifted[i] = _mm512_or_si512(_mm512_srli_epi32::<16>(end[i]), next);
    }
    let [first, second, upper] = shifted;
    let lower = [low(first), low(second), high(first), high(second)];
    for w in 0..4 {
        let upper = _mm512_slli_epi16::<4>(two_bits(upper, w));
        spread(&mut opened.scales, 4 * w, _mm512_or_si512(lower[w], upper), 32, d);
    }
}

/// Eight scales of 6 bits behind `d`: how a block of `iq4_xs` begins.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn iq4_xs_scales(opened: &mut Opened, [first, nibbles, ..]: [__m512i; 4]) {
    let d = halves(first);
    let upper = _mm512_srli_epi32::<16>(first);
    for b in 0..8 {
        let (four, two) = (_mm_cvtsi32_si128(4 * b as i32), _mm_cvtsi32_si128(2 * b as i32));
        let lower = _mm512_and_si512(_mm512_srl_epi32(nibbles, four), _mm512_set1_epi32(15));
        let upper = _mm512_and_si512(_mm512_srl_epi32(upper, two), _mm512_set1_epi32(3));
        let scale = _mm512_or_si512(lower, _mm512_slli_epi32::<4>(upper));
        let scale = _mm512_sub_epi32(scale, _mm512_set1_epi32(32));
        put_floats(&mut opened.scales[b], _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale)));
    }
}

/// The four bytes of every lane times `factor`, as rows `at..at + 4` of `out`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
fn spread_unsigned(out: &mut [[f32; PANEL]; 16], at: usize, bytes: __m512i, factor: __m512) {
    let byte = _mm512_set1_epi32(0xff);
    let fields = [
        _mm512_and_si512(bytes, byte),
        _mm512_and_si512(_mm512_srli_epi32::<8>(bytes), byte),
        _mm512_and_si512(_mm512_srli_epi32::<16>(bytes), byte),
        _mm512_srli_epi32::<24>(bytes),
    ];
    for i in 0..4 {
        put_floats(&mut out[at + i], _mm512_mul_ps(factor, _mm512_cvtepi32_ps(fields[i])));
    }
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
