//! Weights of each format, from memory into registers.

use crate::stored::floats::BLOCK;
use std::arch::x86_64::*;

/// A format that [`BLOCK`] weights of are read at a time.
pub(super) trait Weights {
    /// Bytes of a weight.
    const BYTES: usize;
    /// Registers a block is read into. Two: each holds sixteen pairs, an even element in the lower half
    /// and the odd one after it in the upper half, both the upper halves of f32. Four: f32, even and odd
    /// elements of the first half of the block, then of the second.
    const UNITS: usize;

    /// Register `u` of a block. Safety: the row holds the block; the CPU has the level.
    unsafe fn unit(row: *const u8, block: usize, u: usize) -> __m512i;
}

/// Even and odd elements of pairs, as f32.
///
/// Safety: the CPU has AVX-512.
#[inline(always)]
pub(super) unsafe fn split(pairs: __m512i) -> [__m512; 2] {
    // SAFETY: the level is at hand.
    unsafe {
        let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000u32 as i32));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(odd)]
    }
}

/// A block of weights: even and odd elements of its first half, then of its second.
///
/// Safety: as [`Weights::unit`].
#[inline(always)]
pub(super) unsafe fn load<W: Weights>(row: *const u8, block: usize) -> [__m512; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut w = [_mm512_setzero_ps(); 4];
        for u in 0..W::UNITS {
            let unit = W::unit(row, block, u);
            if W::UNITS == 2 {
                [w[2 * u], w[2 * u + 1]] = split(unit);
            } else {
                w[u] = _mm512_castsi512_ps(unit);
            }
        }
        w
    }
}

#[inline(always)]
unsafe fn at<W: Weights>(row: *const u8, block: usize, register: usize) -> *const u8 {
    // SAFETY: the caller's promise.
    unsafe { row.add(block * BLOCK * W::BYTES + 64 * register) }
}

pub(super) struct F32;

impl Weights for F32 {
    const BYTES: usize = 4;
    const UNITS: usize = 4;

    #[inline(always)]
    unsafe fn unit(row: *const u8, block: usize, u: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let a = _mm512_loadu_si512(at::<F32>(row, block, u / 2 * 2).cast());
            let b = _mm512_loadu_si512(at::<F32>(row, block, u / 2 * 2 + 1).cast());
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            _mm512_permutex2var_epi32(a, if u.is_multiple_of(2) { even } else { odd }, b)
        }
    }
}

pub(super) struct F16;

/// Even 16-bit words, or odd ones.
const fn words(first: u16) -> [u16; 32] {
    let mut words = [0; 32];
    let mut i = 0;
    while i < 32 {
        words[i] = first + 2 * (i as u16 % 16);
        i += 1;
    }
    words
}

impl Weights for F16 {
    const BYTES: usize = 2;
    const UNITS: usize = 4;

    #[inline(always)]
    unsafe fn unit(row: *const u8, block: usize, u: usize) -> __m512i {
        static WORDS: [[u16; 32]; 2] = [words(0), words(1)];
        // SAFETY: the caller's promise.
        unsafe {
            let halves = _mm512_loadu_si512(at::<F16>(row, block, u / 2).cast());
            let order = _mm512_loadu_si512(WORDS[u % 2].as_ptr().cast());
            let halves = _mm512_castsi512_si256(_mm512_permutexvar_epi16(order, halves));
            _mm512_castps_si512(_mm512_cvtph_ps(halves))
        }
    }
}

pub(super) struct Bf16;

impl Weights for Bf16 {
    const BYTES: usize = 2;
    const UNITS: usize = 2;

    #[inline(always)]
    unsafe fn unit(row: *const u8, block: usize, u: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(at::<Bf16>(row, block, u).cast()) }
    }
}

/// E4M3 in the places of half precision: 2^-8 of its value, subnormals included; only the NaN needs its
/// exponent filled up.
pub(super) struct Fp8;

impl Weights for Fp8 {
    const BYTES: usize = 1;
    const UNITS: usize = 4;

    #[inline(always)]
    unsafe fn unit(row: *const u8, block: usize, u: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = _mm256_loadu_si256(row.add(block * BLOCK + 32 * (u / 2)).cast());
            let upper = if u.is_multiple_of(2) { _mm256_slli_epi16::<8>(codes) } else { codes };
            let shifted = _mm256_srai_epi16::<1>(upper);
            let nan = _mm256_set1_epi16(0x3f80);
            let is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(shifted, nan), nan);
            let halves = _mm256_or_si256(
                _mm256_and_si256(shifted, _mm256_set1_epi16(0xbf80u16 as i16)),
                _mm256_and_si256(is_nan, _mm256_set1_epi16(0x7c00)),
            );
            let values = _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(256.0));
            _mm512_castps_si512(values)
        }
    }
}

/// E4M3 by a table of its 128 magnitudes, all of them numbers of bfloat16: its lower and upper bytes are
/// looked up, the sign is put in, and bytes are interleaved to pairs.
pub(super) struct Fp8Table;

impl Weights for Fp8Table {
    const BYTES: usize = 1;
    const UNITS: usize = 2;

    #[inline(always)]
    unsafe fn unit(row: *const u8, block: usize, u: usize) -> __m512i {
        // SAFETY: the caller's promise; this format is chosen where the CPU has VBMI.
        unsafe {
            let codes = _mm512_loadu_si512(at::<Fp8Table>(row, block, 0).cast());
            // Interleaving works within 128 bits: the first half of the codes goes to their lower halves.
            let order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
            let codes = _mm512_permutexvar_epi64(order, codes);
            let lower = look_up(&TABLE[0], codes);
            let upper = look_up(&TABLE[1], codes);
            let sign = _mm512_set1_epi8(0x80u8 as i8);
            let upper = _mm512_ternarylogic_epi32::<{ OR_AND }>(upper, codes, sign);
            if u == 0 {
                _mm512_unpacklo_epi8(lower, upper)
            } else {
                _mm512_unpackhi_epi8(lower, upper)
            }
        }
    }
}

/// `a | (b & c)`
const OR_AND: i32 = 0xf8;

#[inline(always)]
unsafe fn look_up(table: &[u8; 128], codes: __m512i) -> __m512i {
    // SAFETY: the caller's promise; the table has two registers.
    unsafe {
        let first = _mm512_loadu_si512(table.as_ptr().cast());
        let second = _mm512_loadu_si512(table.as_ptr().add(64).cast());
        _mm512_permutex2var_epi8(first, codes, second)
    }
}

/// Lower and upper bytes of the magnitudes of E4M3 as bfloat16.
static TABLE: [[u8; 128]; 2] = {
    let mut table = [[0; 128]; 2];
    let mut code = 0;
    while code < 128 {
        let bits: u16 = match code {
            0 => 0,
            1..8 => {
                // A multiple of 2^-9.
                let power = (code as u16).ilog2() as u16;
                (127 - 9 + power) << 7 | (code as u16) << (7 - power) & 0x7f
            }
            127 => 0x7fc0,
            _ => ((127 - 7) << 7) + ((code as u16) << 4),
        };
        [table[0][code], table[1][code]] = bits.to_le_bytes();
        code += 1;
    }
    table
};
