//! Formats without blocks: f32, half precision, bfloat16, E4M3 codes.

use crate::convert::{bf16_to_f32, e4m3_to_f32, f16_to_f32, f32_to_bf16, f32_to_e4m3, f32_to_f16};
use crate::cpu::{self, Isa};
use crate::lanes::per_isa;

/// Defines both ways between f32 and a format of `N` bytes per weight.
macro_rules! plain_format {
    ($from:ident, $to:ident, $n:literal, |$b:ident| $widen:expr, |$x:ident| $narrow:expr) => {
        per_isa! {
            pub(super) fn $from(bytes: &[u8], out: &mut [f32]) {
                for (out, &$b) in out.iter_mut().zip(bytes.as_chunks::<$n>().0) {
                    *out = $widen;
                }
            }
        }
        per_isa! {
            pub(super) fn $to(x: &[f32], out: &mut [u8]) {
                for (out, &$x) in out.as_chunks_mut::<$n>().0.iter_mut().zip(x) {
                    *out = $narrow;
                }
            }
        }
    };
}

plain_format!(from_f32, to_f32, 4, |b| f32::from_le_bytes(b), |x| x.to_le_bytes());
plain_format!(widen_f16, to_f16, 2, |b| f16_to_f32(u16::from_le_bytes(b)), |x| f32_to_f16(x)
    .to_le_bytes());
plain_format!(from_bf16, to_bf16, 2, |b| bf16_to_f32(u16::from_le_bytes(b)), |x| f32_to_bf16(x)
    .to_le_bytes());
plain_format!(widen_e4m3, to_e4m3, 1, |b| e4m3_to_f32(b[0]), |x| [f32_to_e4m3(x)]);

/// A signalling NaN may come out quiet.
pub(super) fn from_f16(bytes: &[u8], out: &mut [f32]) {
    let n = match cpu::isa() {
        // SAFETY: `isa` names a level only if this CPU has all its features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::f16_avx512(bytes, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::f16_avx2(bytes, out) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => arm::f16(bytes, out),
        _ => 0,
    };
    widen_f16(&bytes[2 * n..], &mut out[n..]);
}

/// The sign and payload of a NaN may differ between levels.
pub(super) fn from_e4m3(bytes: &[u8], out: &mut [f32]) {
    let n = match cpu::isa() {
        // SAFETY: `isa` names a level only if this CPU has all its features.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::e4m3_avx512(bytes, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::e4m3_avx2(bytes, out) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => arm::e4m3(bytes, out),
        _ => 0,
    };
    widen_e4m3(&bytes[n..], &mut out[n..]);
}

/// E4M3 in the places of half precision is 2^-8 of its value, subnormals included; only the NaN
/// needs its exponent filled up.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const SHIFTED: f32 = 256.0;

/// Half precision by the instruction made for it. Each function widens whole registers and returns
/// how many weights that were.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::SHIFTED;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
    pub(super) fn f16_avx512(bytes: &[u8], out: &mut [f32]) -> usize {
        let n = (bytes.len() / 2).min(out.len()) / 16;
        for i in 0..n {
            // SAFETY: step i < n stays within both slices.
            unsafe {
                let halves = _mm256_loadu_si256(bytes.as_ptr().add(32 * i).cast());
                _mm512_storeu_ps(out.as_mut_ptr().add(16 * i), _mm512_cvtph_ps(halves));
            }
        }
        n * 16
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn f16_avx2(bytes: &[u8], out: &mut [f32]) -> usize {
        let n = (bytes.len() / 2).min(out.len()) / 8;
        for i in 0..n {
            // SAFETY: step i < n stays within both slices.
            unsafe {
                let halves = _mm_loadu_si128(bytes.as_ptr().add(16 * i).cast());
                _mm256_storeu_ps(out.as_mut_ptr().add(8 * i), _mm256_cvtph_ps(halves));
            }
        }
        n * 8
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
    pub(super) fn e4m3_avx512(bytes: &[u8], out: &mut [f32]) -> usize {
        let n = bytes.len().min(out.len()) / 16;
        let nan = _mm256_set1_epi16(0x3f80);
        for i in 0..n {
            // SAFETY: step i < n stays within both slices.
            unsafe {
                let codes = _mm_loadu_si128(bytes.as_ptr().add(16 * i).cast());
                let shifted = _mm256_slli_epi16::<7>(_mm256_cvtepi8_epi16(codes));
                let is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(shifted, nan), nan);
                let halves = _mm256_or_si256(
                    _mm256_and_si256(shifted, _mm256_set1_epi16(0xbf80u16 as i16)),
                    _mm256_and_si256(is_nan, _mm256_set1_epi16(0x7c00)),
                );
                let values = _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(SHIFTED));
                _mm512_storeu_ps(out.as_mut_ptr().add(16 * i), values);
            }
        }
        n * 16
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn e4m3_avx2(bytes: &[u8], out: &mut [f32]) -> usize {
        let n = bytes.len().min(out.len()) / 8;
        let nan = _mm_set1_epi16(0x3f80);
        for i in 0..n {
            // SAFETY: step i < n stays within both slices.
            unsafe {
                let codes = _mm_loadl_epi64(bytes.as_ptr().add(8 * i).cast());
                let shifted = _mm_slli_epi16::<7>(_mm_cvtepi8_epi16(codes));
                let is_nan = _mm_cmpeq_epi16(_mm_and_si128(shifted, nan), nan);
                let halves = _mm_or_si128(
                    _mm_and_si128(shifted, _mm_set1_epi16(0xbf80u16 as i16)),
                    _mm_and_si128(is_nan, _mm_set1_epi16(0x7c00)),
                );
                let values = _mm256_mul_ps(_mm256_cvtph_ps(halves), _mm256_set1_ps(SHIFTED));
                _mm256_storeu_ps(out.as_mut_ptr().add(8 * i), values);
            }
        }
        n * 8
    }
}

/// The same on ARM, where every 64-bit CPU widens half precision.
#[cfg(target_arch = "aarch64")]
mod arm {
    use super::SHIFTED;
    use crate::neon::{e4m3_halves, widen_halves, widen_high_halves};
    use std::arch::aarch64::*;

    pub(super) fn f16(bytes: &[u8], out: &mut [f32]) -> usize {
        let n = (bytes.len() / 2).min(out.len()) / 8;
        for i in 0..n {
            // SAFETY: step i < n stays within both slices.
            unsafe {
                let halves = vreinterpretq_u16_u8(vld1q_u8(bytes.as_ptr().add(16 * i)));
                let to = out.as_mut_ptr().add(8 * i);
                vst1q_f32(to, widen_halves(vget_low_u16(halves)));
                vst1q_f32(to.add(4), widen_high_halves(halves));
            }
        }
        n * 8
    }

    pub(super) fn e4m3(bytes: &[u8], out: &mut [f32]) -> usize {
        let n = bytes.len().min(out.len()) / 8;
        for i in 0..n {
            // SAFETY: step i < n stays within both slices.
            unsafe {
                let codes = vmovl_s8(vld1_s8(bytes.as_ptr().add(8 * i).cast()));
                let halves = e4m3_halves(vreinterpretq_u16_s16(vshlq_n_s16::<7>(codes)));
                let to = out.as_mut_ptr().add(8 * i);
                let low = widen_halves(vget_low_u16(halves));
                vst1q_f32(to, vmulq_n_f32(low, SHIFTED));
                vst1q_f32(to.add(4), vmulq_n_f32(widen_high_halves(halves), SHIFTED));
            }
        }
        n * 8
    }
}
