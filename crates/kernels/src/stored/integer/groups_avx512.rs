//! Rounding groups to 8 bits with AVX-512. Left to itself the compiler works on sixteen groups side by
//! side, through gathers, and takes four times as long.
#![cfg(target_arch = "x86_64")]

use super::groups::{Groups, TO_INTEGER, scale, start};
use super::rounded::GROUP;
use std::arch::x86_64::*;

/// As [`super::groups::round_groups`]; the CPU has AVX-512 F, BW and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn round_groups(x: &[[f32; GROUP]], out: &Groups, step: usize) {
    let to_integer = _mm512_set1_ps(TO_INTEGER);
    let ones = _mm256_set1_epi8(1);
    for (g, x) in x.iter().enumerate() {
        // SAFETY: the caller's promise; a group is two registers.
        unsafe {
            let out = out.after(g * step);
            let (low, high) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
            // Compared as bits, so that what is not finite is the largest.
            let sizes = _mm512_max_epu32(
                _mm512_castps_si512(_mm512_abs_ps(low)),
                _mm512_castps_si512(_mm512_abs_ps(high)),
            );
            let largest = f32::from_bits(_mm512_reduce_max_epu32(sizes));
            let (scale, inverse) = scale(largest);
            let inverse = _mm512_set1_ps(inverse);
            let low = _mm512_add_ps(_mm512_mul_ps(low, inverse), to_integer);
            let high = _mm512_add_ps(_mm512_mul_ps(high, inverse), to_integer);
            let codes = _mm256_set_m128i(
                _mm512_cvtepi32_epi8(_mm512_castps_si512(high)),
                _mm512_cvtepi32_epi8(_mm512_castps_si512(low)),
            );
            _mm256_storeu_si256(out.codes.cast(), codes);
            // Fours of codes, then the four of each half, in every lane of the half.
            let pairs = _mm256_maddubs_epi16(ones, codes);
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            let eights = _mm256_add_epi32(fours, _mm256_shuffle_epi32::<0b10_11_00_01>(fours));
            let halves = _mm256_add_epi32(eights, _mm256_shuffle_epi32::<0b01_00_11_10>(eights));
            let sums = [_mm256_extract_epi32::<0>(halves), _mm256_extract_epi32::<4>(halves)];
            let both = sums[0] + sums[1];
            out.scales.write(scale);
            out.starts[0].write(start(0, both));
            out.totals[0].write(both as f32 * scale.scale);
            // Two by two by hand: `map` is not inlined here.
            out.starts[1].cast::<[i32; 2]>().write([start(1, sums[0]), start(1, sums[1])]);
            let totals = [sums[0] as f32 * scale.scale, sums[1] as f32 * scale.scale];
            out.totals[1].cast::<[f32; 2]>().write(totals);
        }
    }
}
