//! The last step of reading a block: bytes become f32, times a scale.
//!
//! Taking blocks apart is byte work that the compiler vectorises by itself. This step it sometimes
//! does not (on AVX-512 it was ten times slower), so each level spells it out. The arithmetic is the
//! same at all levels: one product, then perhaps one sum, never fused.

use crate::convert::f16_to_f32;

/// How one instruction set widens codes.
pub(super) trait Widen: Copy {
    /// `out = code·scale`, the codes being signed bytes. `N` is a multiple of 16.
    fn scale_signed<const N: usize>(self, codes: &[u8; N], scale: f32, out: &mut [f32; N]);

    /// `out = code·scale + offset`. `N` is a multiple of 16.
    fn scale_and_add<const N: usize>(
        self,
        codes: &[u8; N],
        scale: f32,
        offset: f32,
        out: &mut [f32; N],
    );

    /// Adds 16 to each code whose bit is set.
    fn add_fifth_bits(self, codes: [u8; 32], bits: &[u8; 4]) -> [u8; 32];

    /// The bytes of `table` that sixteen indices below 16 name.
    fn look_up(self, table: &[u8; 16], indices: &[u8; 16]) -> [u8; 16];

    /// The half-precision number with these bytes.
    fn half(self, bytes: &[u8; 2]) -> f32;
}

/// The definition.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Widen for Plain {
    #[inline(always)]
    fn scale_signed<const N: usize>(self, codes: &[u8; N], scale: f32, out: &mut [f32; N]) {
        for j in 0..N {
            out[j] = codes[j] as i8 as f32 * scale;
        }
    }

    #[inline(always)]
    fn scale_and_add<const N: usize>(
        self,
        codes: &[u8; N],
        scale: f32,
        offset: f32,
        out: &mut [f32; N],
    ) {
        for j in 0..N {
            out[j] = codes[j] as f32 * scale + offset;
        }
    }

    #[inline(always)]
    fn add_fifth_bits(self, mut codes: [u8; 32], bits: &[u8; 4]) -> [u8; 32] {
        let bits = u32::from_le_bytes(*bits);
        for j in 0..32 {
            codes[j] |= ((bits >> j & 1) << 4) as u8;
        }
        codes
    }

    #[inline(always)]
    fn look_up(self, table: &[u8; 16], indices: &[u8; 16]) -> [u8; 16] {
        let mut bytes = [0; 16];
        for j in 0..16 {
            bytes[j] = table[(indices[j] & 15) as usize];
        }
        bytes
    }

    #[inline(always)]
    fn half(self, bytes: &[u8; 2]) -> f32 {
        f16_to_f32(u16::from_le_bytes(*bytes))
    }
}

/// Defines a reader of blocks, `fn(bytes, out)`. The body turns one block (`&[u8; bytes]`) into
/// weights (`&mut [f32; weights]`); it is compiled for every level, with that level's [`Widen`].
///
/// Loops here and in the bodies count indices: adapters of iterators and arrays are functions of
/// their own, and one that is not inlined is compiled for the plainest CPU.
macro_rules! reader {
    ($name:ident, $n_bytes:literal => $n_weights:literal,
     |$block:ident, $out:ident, $widen:ident| $body:block) => {
        pub(super) fn $name(bytes: &[u8], out: &mut [f32]) {
            #[inline(always)]
            fn read(bytes: &[u8], out: &mut [f32], $widen: impl $crate::quant::widen::Widen) {
                let blocks = bytes.as_chunks::<$n_bytes>().0;
                let outs = out.as_chunks_mut::<$n_weights>().0;
                let n_blocks = if blocks.len() < outs.len() { blocks.len() } else { outs.len() };
                let mut i = 0;
                while i < n_blocks {
                    let ($block, $out) = (&blocks[i], &mut outs[i]);
                    $body
                    i += 1;
                }
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            fn avx512(bytes: &[u8], out: &mut [f32]) {
                read(bytes, out, $crate::quant::widen::x86::Avx512);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2(bytes: &[u8], out: &mut [f32]) {
                read(bytes, out, $crate::quant::widen::x86::Avx2);
            }

            match $crate::cpu::isa() {
                // SAFETY: `isa` names a level only if this CPU has all its features.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx512 => unsafe { avx512(bytes, out) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx2 => unsafe { avx2(bytes, out) },
                #[cfg(target_arch = "aarch64")]
                $crate::cpu::Isa::Neon => read(bytes, out, $crate::quant::widen::arm::Neon),
                _ => read(bytes, out, $crate::quant::widen::Plain),
            }
        }
    };
}
pub(super) use reader;

/// The levels of x86-64. Only `reader!` makes these values, inside a function of their level:
/// that is what makes the intrinsics sound here.
#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::Widen;

    #[derive(Clone, Copy)]
    pub(in crate::quant) struct Avx2;

    #[derive(Clone, Copy)]
    pub(in crate::quant) struct Avx512;

    impl Widen for Avx2 {
        #[inline(always)]
        fn scale_signed<const N: usize>(self, codes: &[u8; N], scale: f32, out: &mut [f32; N]) {
            for i in 0..N / 8 {
                // SAFETY: the level is at hand (see the module); step i stays within N places.
                unsafe {
                    let codes = _mm_loadl_epi64(codes.as_ptr().add(8 * i).cast());
                    let codes = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
                    let product = _mm256_mul_ps(codes, _mm256_set1_ps(scale));
                    _mm256_storeu_ps(out.as_mut_ptr().add(8 * i), product);
                }
            }
        }

        #[inline(always)]
        fn scale_and_add<const N: usize>(
            self,
            codes: &[u8; N],
            scale: f32,
            offset: f32,
            out: &mut [f32; N],
        ) {
            for i in 0..N / 8 {
                // SAFETY: as above.
                unsafe {
                    let codes = _mm_loadl_epi64(codes.as_ptr().add(8 * i).cast());
                    let codes = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes));
                    let product = _mm256_mul_ps(codes, _mm256_set1_ps(scale));
                    let sum = _mm256_add_ps(product, _mm256_set1_ps(offset));
                    _mm256_storeu_ps(out.as_mut_ptr().add(8 * i), sum);
                }
            }
        }

        #[inline(always)]
        fn add_fifth_bits(self, mut codes: [u8; 32], bits: &[u8; 4]) -> [u8; 32] {
            // SAFETY: the level is at hand; `codes` has 32 bytes.
            unsafe {
                // Byte k of the bits goes to codes 8k..8k + 8, each of which looks at its own bit.
                let bits = _mm256_set1_epi32(i32::from_le_bytes(*bits));
                let spread = _mm256_set_epi64x(
                    0x0303_0303_0303_0303,
                    0x0202_0202_0202_0202,
                    0x0101_0101_0101_0101,
                    0,
                );
                let own = _mm256_set1_epi64x(0x8040_2010_0804_0201u64 as i64);
                let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, spread), own);
                let set = _mm256_and_si256(_mm256_cmpeq_epi8(bits, own), _mm256_set1_epi8(16));
                let sum = _mm256_or_si256(set, _mm256_loadu_si256(codes.as_ptr().cast()));
                _mm256_storeu_si256(codes.as_mut_ptr().cast(), sum);
            }
            codes
        }

        #[inline(always)]
        fn look_up(self, table: &[u8; 16], indices: &[u8; 16]) -> [u8; 16] {
            let mut bytes = [0; 16];
            // SAFETY: the level is at hand; all three arrays have 16 bytes.
            unsafe {
                let table = _mm_loadu_si128(table.as_ptr().cast());
                let indices = _mm_loadu_si128(indices.as_ptr().cast());
                _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm_shuffle_epi8(table, indices));
            }
            bytes
        }

        #[inline(always)]
        fn half(self, bytes: &[u8; 2]) -> f32 {
            // SAFETY: the level is at hand.
            unsafe {
                // Left to itself, the compiler inserts the two bytes into what the register held, and a block waits
                // for the one before.
                let bits = u32::from(u16::from_le_bytes(*bytes));
                let half: __m128i;
                std::arch::asm!(
                    "vmovd {half}, {bits:e}",
                    half = lateout(xmm_reg) half,
                    bits = in(reg) bits,
                    options(pure, nomem, nostack, preserves_flags),
                );
                _mm_cvtss_f32(_mm_cvtph_ps(half))
            }
        }
    }

    impl Widen for Avx512 {
        #[inline(always)]
        fn scale_signed<const N: usize>(self, codes: &[u8; N], scale: f32, out: &mut [f32; N]) {
            for i in 0..N / 16 {
                // SAFETY: as above.
                unsafe {
                    let codes = _mm_loadu_si128(codes.as_ptr().add(16 * i).cast());
                    let codes = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes));
                    let product = _mm512_mul_ps(codes, _mm512_set1_ps(scale));
                    _mm512_storeu_ps(out.as_mut_ptr().add(16 * i), product);
                }
            }
        }

        #[inline(always)]
        fn scale_and_add<const N: usize>(
            self,
            codes: &[u8; N],
            scale: f32,
            offset: f32,
            out: &mut [f32; N],
        ) {
            for i in 0..N / 16 {
                // SAFETY: as above.
                unsafe {
                    let codes = _mm_loadu_si128(codes.as_ptr().add(16 * i).cast());
                    let codes = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
                    let product = _mm512_mul_ps(codes, _mm512_set1_ps(scale));
                    let sum = _mm512_add_ps(product, _mm512_set1_ps(offset));
                    _mm512_storeu_ps(out.as_mut_ptr().add(16 * i), sum);
                }
            }
        }

        #[inline(always)]
        fn add_fifth_bits(self, codes: [u8; 32], bits: &[u8; 4]) -> [u8; 32] {
            Avx2.add_fifth_bits(codes, bits)
        }

        #[inline(always)]
        fn look_up(self, table: &[u8; 16], indices: &[u8; 16]) -> [u8; 16] {
            Avx2.look_up(table, indices)
        }

        #[inline(always)]
        fn half(self, bytes: &[u8; 2]) -> f32 {
            Avx2.half(bytes)
        }
    }
}

/// The level of ARM, where every 64-bit CPU has it.
#[cfg(target_arch = "aarch64")]
pub(super) mod arm {
    use std::arch::aarch64::*;

    use super::Widen;
    use crate::neon::widen_half;

    #[derive(Clone, Copy)]
    pub(in crate::quant) struct Neon;

    impl Widen for Neon {
        #[inline(always)]
        fn scale_signed<const N: usize>(self, codes: &[u8; N], scale: f32, out: &mut [f32; N]) {
            for i in 0..N / 8 {
                // SAFETY: NEON is there; step i stays within N places.
                unsafe {
                    let codes = vmovl_s8(vld1_s8(codes.as_ptr().add(8 * i).cast()));
                    let low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes)));
                    let high = vcvtq_f32_s32(vmovl_high_s16(codes));
                    vst1q_f32(out.as_mut_ptr().add(8 * i), vmulq_n_f32(low, scale));
                    vst1q_f32(out.as_mut_ptr().add(8 * i + 4), vmulq_n_f32(high, scale));
                }
            }
        }

        #[inline(always)]
        fn scale_and_add<const N: usize>(
            self,
            codes: &[u8; N],
            scale: f32,
            offset: f32,
            out: &mut [f32; N],
        ) {
            for i in 0..N / 8 {
                // SAFETY: as above.
                unsafe {
                    let offset = vdupq_n_f32(offset);
                    let codes = vmovl_u8(vld1_u8(codes.as_ptr().add(8 * i)));
                    let low = vcvtq_f32_u32(vmovl_u16(vget_low_u16(codes)));
                    let high = vcvtq_f32_u32(vmovl_high_u16(codes));
                    let low = vaddq_f32(vmulq_n_f32(low, scale), offset);
                    vst1q_f32(out.as_mut_ptr().add(8 * i), low);
                    let high = vaddq_f32(vmulq_n_f32(high, scale), offset);
                    vst1q_f32(out.as_mut_ptr().add(8 * i + 4), high);
                }
            }
        }

        #[inline(always)]
        fn add_fifth_bits(self, mut codes: [u8; 32], bits: &[u8; 4]) -> [u8; 32] {
            const OWN: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
            for i in 0..2 {
                // SAFETY: as above; each code looks at its own bit of the byte that eight share.
                unsafe {
                    let bits = vcombine_u8(vdup_n_u8(bits[2 * i]), vdup_n_u8(bits[2 * i + 1]));
                    let set = vandq_u8(vtstq_u8(bits, vld1q_u8(OWN.as_ptr())), vdupq_n_u8(16));
                    let at = codes.as_mut_ptr().add(16 * i);
                    vst1q_u8(at, vorrq_u8(vld1q_u8(at), set));
                }
            }
            codes
        }

        #[inline(always)]
        fn look_up(self, table: &[u8; 16], indices: &[u8; 16]) -> [u8; 16] {
            let mut bytes = [0; 16];
            // SAFETY: NEON is there; all three arrays have 16 bytes.
            unsafe {
                let indices = vandq_u8(vld1q_u8(indices.as_ptr()), vdupq_n_u8(15));
                vst1q_u8(bytes.as_mut_ptr(), vqtbl1q_u8(vld1q_u8(table.as_ptr()), indices));
            }
            bytes
        }

        #[inline(always)]
        fn half(self, bytes: &[u8; 2]) -> f32 {
            widen_half(u16::from_le_bytes(*bytes))
        }
    }
}
