//! Codes of formats with blocks of 32 weights, where they lie, for [`super::avx512_row`]: columns in their order,
//! then four rows turned.
#![cfg(target_arch = "x86_64")]

use super::avx512_open::{FOUR, Rows, low, turn};
use super::avx512_row::{Stored, Turned};
use super::avx512_scales::head;
use super::opened::{Opened, PanelRows};
use crate::quant::{Format, IQ4_VALUES};
use std::arch::x86_64::*;

/// A format whose blocks, of 32 weights, are `SIZE` bytes each.
pub(super) trait Small {
    const FORMAT: Format;

    /// The codes of two blocks in their order. Safety: they exist; the CPU has AVX-512 F, BW and DQ.
    unsafe fn two_blocks(at: *const u8) -> __m512i;
}

/// Such a format as a [`Stored`] one.
pub(super) struct Blocks<F, const SIZE: usize, const MINS: bool>(std::marker::PhantomData<F>);

impl<F: Small, const SIZE: usize, const MINS: bool> Stored for Blocks<F, SIZE, MINS> {
    const FORMAT: Format = F::FORMAT;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn scales(opened: &mut Opened, rows: &PanelRows, step: usize) {
        const { assert!(SIZE == F::FORMAT.block_bytes() && MINS == Self::CODING.has_mins) };
        let rows = Rows::new(rows);
        for b in 4 * step..4 * step + 4 {
            // SAFETY: the caller's promise.
            head::<MINS>(opened, b, unsafe { rows.words(SIZE * b) }[0]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn codes(first: *const u8, row_bytes: usize, step: usize) -> Turned {
        let mut turned = [[_mm512_setzero_si512(); FOUR]; 2];
        for s in 0..2 {
            let mut rows = [_mm512_setzero_si512(); FOUR];
            for r in 0..FOUR {
                let at = first.wrapping_add(r * row_bytes + (4 * step + 2 * s) * SIZE);
                // SAFETY: the caller's promise.
                rows[r] = unsafe { F::two_blocks(at) };
            }
            turned[s] = turn(rows);
        }
        turned
    }
}

pub(super) struct Q8_0;

impl Small for Q8_0 {
    const FORMAT: Format = Format::Q8_0;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn two_blocks(at: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { bytes(at.add(2), 34) }
    }
}

pub(super) struct Q4_0;

impl Small for Q4_0 {
    const FORMAT: Format = Format::Q4_0;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn two_blocks(at: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { nibbles(at.add(2), 18) }
    }
}

pub(super) struct Q4_1;

impl Small for Q4_1 {
    const FORMAT: Format = Format::Q4_1;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn two_blocks(at: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { nibbles(at.add(4), 20) }
    }
}

pub(super) struct Q5_0;

impl Small for Q5_0 {
    const FORMAT: Format = Format::Q5_0;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn two_blocks(at: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { fifths(nibbles(at.add(6), 22), at.add(2), 22) }
    }
}

pub(super) struct Q5_1;

impl Small for Q5_1 {
    const FORMAT: Format = Format::Q5_1;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn two_blocks(at: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { fifths(nibbles(at.add(8), 24), at.add(4), 24) }
    }
}

pub(super) struct Iq4Nl;

impl Small for Iq4Nl {
    const FORMAT: Format = Format::Iq4Nl;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    unsafe fn two_blocks(at: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { values(nibbles(at.add(2), 18)) }
    }
}

/// 32 signed bytes, and 32 more `size` bytes on. Safety: they exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn bytes(at: *const u8, size: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let first = _mm512_castsi256_si512(_mm256_loadu_si256(at.cast()));
        let both = _mm512_inserti64x4::<1>(first, _mm256_loadu_si256(at.add(size).cast()));
        _mm512_xor_si512(both, _mm512_set1_epi8(-128))
    }
}

/// The nibbles of 16 bytes, low ones first, and of 16 more `size` bytes on. Safety: they exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) unsafe fn nibbles(at: *const u8, size: usize) -> __m512i {
    // SAFETY: the caller's promise.
    let (first, second) =
        unsafe { (_mm_loadu_si128(at.cast()), _mm_loadu_si128(at.add(size).cast())) };
    let both = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(first), 0xff00, second);
    low(_mm512_srlv_epi64(both, _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0)))
}

/// Adds fifth bits: 32 of them, and 32 more `size` bytes on. Safety: they exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
unsafe fn fifths(nibbles: __m512i, at: *const u8, size: usize) -> __m512i {
    // SAFETY: the caller's promise.
    let (first, second) =
        unsafe { (at.cast::<u32>().read_unaligned(), at.add(size).cast::<u32>().read_unaligned()) };
    let set = u64::from(first) | u64::from(second) << 32;
    _mm512_mask_add_epi8(nibbles, set, nibbles, _mm512_set1_epi8(16))
}

/// The values that nibbles name, and 128.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub(super) fn values(nibbles: __m512i) -> __m512i {
    // SAFETY: the table has 16 bytes.
    let table = unsafe { _mm_loadu_si128(IQ4_VALUES.as_ptr().cast()) };
    let table = _mm512_xor_si512(_mm512_broadcast_i32x4(table), _mm512_set1_epi8(-128));
    _mm512_shuffle_epi8(table, nibbles)
}
