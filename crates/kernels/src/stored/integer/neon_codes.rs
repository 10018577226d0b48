//! The stored formats as [`super::neon_row`] reads them.
#![cfg(target_arch = "aarch64")]

use super::Direct;
use super::neon::dotprod;
use super::neon_row::{FEW, ROWS, Scales, Stored, panel, panel_dotprod};
use crate::neon::{transpose, widen_halves};
use crate::quant::{Format, IQ4_VALUES, scale_codes_of_xs, unpack_3_k, unpack_6_bit};
use std::arch::aarch64::*;

/// The kernel for `m` rows of x, if they are few.
pub(super) fn direct(format: Format, m: usize) -> Option<Direct> {
    macro_rules! of {
        ($f:ty) => {
            if dotprod() { panel_dotprod::<$f> as Direct } else { panel::<$f> as Direct }
        };
    }
    let direct = match format {
        Format::Q8_0 => of!(Q8_0),
        Format::Q4_0 => of!(Q4_0),
        Format::Q4_1 => of!(Q4_1),
        Format::Q5_0 => of!(Q5_0),
        Format::Q5_1 => of!(Q5_1),
        Format::Iq4Nl => of!(Iq4Nl),
        Format::Q2K => of!(Q2K),
        Format::Q3K => of!(Q3K),
        Format::Q4K => of!(Q4K),
        Format::Q5K => of!(Q5K),
        Format::Q6K => of!(Q6K),
        Format::Iq4Xs => of!(Iq4Xs),
        Format::F32 | Format::F16 | Format::Bf16 | Format::F8E4M3 => return None,
    };
    (m <= FEW).then_some(direct)
}

/// The half-precision numbers at byte `at` of four rows. Safety: they exist.
#[inline(always)]
unsafe fn halves(rows: &[*const u8; ROWS], at: usize) -> float32x4_t {
    // SAFETY: the caller's promise.
    unsafe {
        let half = |r: usize| rows[r].add(at).cast::<u16>();
        let halves = vld1_lane_u16::<0>(half(0), vdup_n_u16(0));
        let halves = vld1_lane_u16::<1>(half(1), halves);
        let halves = vld1_lane_u16::<2>(half(2), halves);
        widen_halves(vld1_lane_u16::<3>(half(3), halves))
    }
}

/// Scales, and minima `M` bytes further on, of small blocks of `BYTES`. Safety: the rows hold them.
#[inline(always)]
unsafe fn small_scales<const BYTES: usize, const MINS: bool>(
    rows: &[*const u8; ROWS],
    n_groups: usize,
    to: &mut Scales,
) {
    for g in 0..n_groups {
        // SAFETY: the caller's promise.
        unsafe {
            vst1q_f32(to.scales[g].as_mut_ptr(), halves(rows, BYTES * g));
            if MINS {
                vst1q_f32(to.mins[g].as_mut_ptr(), halves(rows, BYTES * g + 2));
            }
        }
    }
}

/// `by` times codes of four rows, of eight sub-blocks or, if `ALL`, of sixteen. Lanes are rows in `by` and in the
/// result.
#[inline(always)]
fn scaled<const ALL: bool>(codes: [int8x16_t; ROWS], by: float32x4_t, to: &mut [[f32; ROWS]; 16]) {
    put_four::<0>(&codes, by, to);
    put_four::<1>(&codes, by, to);
    if ALL {
        put_four::<2>(&codes, by, to);
        put_four::<3>(&codes, by, to);
    }
}

/// Sub-blocks `4 · Q` to `4 · Q + 4` of [`scaled`].
#[inline(always)]
fn put_four<const Q: usize>(
    codes: &[int8x16_t; ROWS],
    by: float32x4_t,
    to: &mut [[f32; ROWS]; 16],
) {
    // SAFETY: part of every 64-bit ARM CPU; Q is below four.
    unsafe {
        let mut four = [by; ROWS];
        for r in 0..ROWS {
            let eight =
                if Q < 2 { vmovl_s8(vget_low_s8(codes[r])) } else { vmovl_high_s8(codes[r]) };
            let words = if Q.is_multiple_of(2) {
                vmovl_s16(vget_low_s16(eight))
            } else {
                vmovl_high_s16(eight)
            };
            four[r] = vcvtq_f32_s32(words);
        }
        let four = transpose(four);
        for i in 0..4 {
            vst1q_f32(to[4 * Q + i].as_mut_ptr(), vmulq_f32(by, four[i]));
        }
    }
}

/// Codes below 128, less the middle.
#[inline(always)]
fn less<const MIDDLE: u8>(codes: [uint8x16_t; 2]) -> [int8x16_t; 2] {
    // SAFETY: part of every 64-bit ARM CPU.
    unsafe {
        let middle = vdupq_n_u8(MIDDLE);
        [
            vreinterpretq_s8_u8(vsubq_u8(codes[0], middle)),
            vreinterpretq_s8_u8(vsubq_u8(codes[1], middle)),
        ]
    }
}

/// Low nibbles of sixteen bytes, then high ones. Safety: the bytes exist.
#[inline(always)]
unsafe fn nibbles(at: *const u8) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let packed = vld1q_u8(at);
        [vandq_u8(packed, vdupq_n_u8(15)), vshrq_n_u8::<4>(packed)]
    }
}

/// Bits of 32 bytes from bit `shift` on; those above are left. Safety: the bytes exist.
#[inline(always)]
unsafe fn shifted(at: *const u8, shift: usize) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let shift = vdupq_n_s8(-(shift as i8));
        [vshlq_u8(vld1q_u8(at), shift), vshlq_u8(vld1q_u8(at.add(16)), shift)]
    }
}

/// `codes & mask`.
#[inline(always)]
fn masked<const MASK: u8>(codes: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    // SAFETY: part of every 64-bit ARM CPU.
    unsafe { [vandq_u8(codes[0], vdupq_n_u8(MASK)), vandq_u8(codes[1], vdupq_n_u8(MASK))] }
}

/// `low` below bit `N`, `high` from there on.
#[inline(always)]
fn joined<const N: i32>(low: [uint8x16_t; 2], high: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
    // SAFETY: part of every 64-bit ARM CPU.
    unsafe { [vsliq_n_u8::<N>(low[0], high[0]), vsliq_n_u8::<N>(low[1], high[1])] }
}

/// Nibbles at `at + 4` with the fifth bits at `at`. Safety: the bytes exist.
#[inline(always)]
unsafe fn fifths(at: *const u8) -> [uint8x16_t; 2] {
    const OWN: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: the caller's promise. Each code looks at its own bit of the byte that eight share.
    unsafe {
        let (own, mut codes) = (vld1q_u8(OWN.as_ptr()), nibbles(at.add(4)));
        for half in 0..2 {
            let bits =
                vcombine_u8(vld1_dup_u8(at.add(2 * half)), vld1_dup_u8(at.add(2 * half + 1)));
            let fifth = vandq_u8(vtstq_u8(bits, own), vdupq_n_u8(16));
            codes[half] = vorrq_u8(codes[half], fifth);
        }
        codes
    }
}

/// The values that 32 nibbles name. Safety: the bytes exist.
#[inline(always)]
unsafe fn named(at: *const u8) -> [int8x16_t; 2] {
    // SAFETY: the caller's promise; the table has sixteen bytes.
    unsafe {
        let (table, codes) = (vld1q_u8(IQ4_VALUES.as_ptr()), nibbles(at));
        [
            vreinterpretq_s8_u8(vqtbl1q_u8(table, codes[0])),
            vreinterpretq_s8_u8(vqtbl1q_u8(table, codes[1])),
        ]
    }
}

/// Sixteen bytes. Safety: they exist.
#[inline(always)]
unsafe fn bytes(at: *const u8) -> int8x16_t {
    // SAFETY: the caller's promise.
    unsafe { vld1q_s8(at.cast()) }
}

/// Eight bytes, and zeros. Safety: they exist.
#[inline(always)]
unsafe fn eight(at: *const u8) -> int8x16_t {
    // SAFETY: the caller's promise.
    unsafe { vcombine_s8(vld1_s8(at.cast()), vdup_n_s8(0)) }
}

macro_rules! small {
    ($name:ident, $format:expr, $bytes:literal, mins $mins:literal, |$at:ident| $codes:expr) => {
        struct $name;

        impl Stored for $name {
            const FORMAT: Format = $format;

            #[inline(always)]
            unsafe fn scales(rows: &[*const u8; ROWS], n_groups: usize, to: &mut Scales) {
                // SAFETY: the caller's promise.
                unsafe { small_scales::<$bytes, $mins>(rows, n_groups, to) }
            }

            #[inline(always)]
            unsafe fn codes(row: *const u8, g: usize) -> [int8x16_t; 2] {
                // SAFETY: the caller's promise.
                unsafe {
                    let $at = row.add($bytes * g);
                    $codes
                }
            }
        }
    };
}

small!(Q8_0, Format::Q8_0, 34, mins false, |at| [bytes(at.add(2)), bytes(at.add(18))]);
small!(Q4_0, Format::Q4_0, 18, mins false, |at| less::<8>(nibbles(at.add(2))));
small!(Q4_1, Format::Q4_1, 20, mins true, |at| less::<0>(nibbles(at.add(4))));
small!(Q5_0, Format::Q5_0, 22, mins false, |at| less::<16>(fifths(at.add(2))));
small!(Q5_1, Format::Q5_1, 24, mins true, |at| less::<0>(fifths(at.add(4))));
small!(Iq4Nl, Format::Iq4Nl, 18, mins false, |at| named(at.add(2)));

/// Scales and minima of `q4_k` and `q5_k`. Safety: the rows hold a block.
#[inline(always)]
unsafe fn six_bit_scales(rows: &[*const u8; ROWS], to: &mut Scales) {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut scales, mut mins) = ([vdupq_n_s8(0); ROWS], [vdupq_n_s8(0); ROWS]);
        for r in 0..ROWS {
            let [scale, min] = unpack_6_bit(&*rows[r].add(4).cast());
            (scales[r], mins[r]) = (eight(scale.as_ptr()), eight(min.as_ptr()));
        }
        scaled::<false>(scales, halves(rows, 0), &mut to.scales);
        scaled::<false>(mins, vnegq_f32(halves(rows, 2)), &mut to.mins);
    }
}

struct Q4K;

impl Stored for Q4K {
    const FORMAT: Format = Format::Q4K;

    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; ROWS], _: usize, to: &mut Scales) {
        // SAFETY: the caller's promise.
        unsafe { six_bit_scales(rows, to) }
    }

    #[inline(always)]
    unsafe fn codes(row: *const u8, g: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let at = row.add(16 + 32 * (g / 2));
            let packed = [vld1q_u8(at), vld1q_u8(at.add(16))];
            let codes = if g.is_multiple_of(2) {
                masked::<15>(packed)
            } else {
                [vshrq_n_u8::<4>(packed[0]), vshrq_n_u8::<4>(packed[1])]
            };
            less::<0>(codes)
        }
    }
}

struct Q5K;

impl Stored for Q5K {
    const FORMAT: Format = Format::Q5K;

    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; ROWS], _: usize, to: &mut Scales) {
        // SAFETY: the caller's promise.
        unsafe { six_bit_scales(rows, to) }
    }

    #[inline(always)]
    unsafe fn codes(row: *const u8, g: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let fifth = masked::<1>(shifted(row.add(16), g));
            less::<0>(joined::<4>(shifted(row.add(48 + 32 * (g / 2)), 4 * (g % 2)), fifth))
        }
    }
}

struct Q6K;

impl Stored for Q6K {
    const FORMAT: Format = Format::Q6K;

    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; ROWS], _: usize, to: &mut Scales) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut codes = [vdupq_n_s8(0); ROWS];
            for r in 0..ROWS {
                codes[r] = bytes(rows[r].add(192));
            }
            scaled::<true>(codes, halves(rows, 208), &mut to.scales);
        }
    }

    #[inline(always)]
    unsafe fn codes(row: *const u8, g: usize) -> [int8x16_t; 2] {
        let (side, part) = (g / 4, g % 4);
        // SAFETY: the caller's promise.
        unsafe {
            let low = shifted(row.add(64 * side + 32 * (part % 2)), part / 2 * 4);
            let high = masked::<3>(shifted(row.add(128 + 32 * side), 2 * part));
            less::<32>(joined::<4>(low, high))
        }
    }
}

/// Pairs of bits `g` of the 64 bytes at `at`. Safety: they exist.
#[inline(always)]
unsafe fn pairs(at: *const u8, g: usize) -> [uint8x16_t; 2] {
    // SAFETY: the caller's promise.
    unsafe { masked::<3>(shifted(at.add(32 * (g / 4)), 2 * (g % 4))) }
}

struct Q2K;

impl Stored for Q2K {
    const FORMAT: Format = Format::Q2K;

    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; ROWS], _: usize, to: &mut Scales) {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut scales, mut mins) = ([vdupq_n_s8(0); ROWS], [vdupq_n_s8(0); ROWS]);
            for r in 0..ROWS {
                let [low, high] = nibbles(rows[r]);
                (scales[r], mins[r]) = (vreinterpretq_s8_u8(low), vreinterpretq_s8_u8(high));
            }
            scaled::<true>(scales, halves(rows, 80), &mut to.scales);
            scaled::<true>(mins, vnegq_f32(halves(rows, 82)), &mut to.mins);
        }
    }

    #[inline(always)]
    unsafe fn codes(row: *const u8, g: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { less::<0>(pairs(row.add(16), g)) }
    }
}

struct Q3K;

impl Stored for Q3K {
    const FORMAT: Format = Format::Q3K;

    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; ROWS], _: usize, to: &mut Scales) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut scales = [vdupq_n_s8(0); ROWS];
            for r in 0..ROWS {
                let codes = unpack_3_k(&*rows[r].cast());
                scales[r] = vsubq_s8(bytes(codes.as_ptr()), vdupq_n_s8(32));
            }
            scaled::<true>(scales, halves(rows, 108), &mut to.scales);
        }
    }

    #[inline(always)]
    unsafe fn codes(row: *const u8, g: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let third = masked::<1>(shifted(row, g));
            less::<4>(joined::<2>(pairs(row.add(32), g), third))
        }
    }
}

struct Iq4Xs;

impl Stored for Iq4Xs {
    const FORMAT: Format = Format::Iq4Xs;

    #[inline(always)]
    unsafe fn scales(rows: &[*const u8; ROWS], _: usize, to: &mut Scales) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut scales = [vdupq_n_s8(0); ROWS];
            for r in 0..ROWS {
                let codes = scale_codes_of_xs(&*rows[r].cast());
                scales[r] = eight(codes.as_ptr().cast());
            }
            scaled::<false>(scales, halves(rows, 0), &mut to.scales);
        }
    }

    #[inline(always)]
    unsafe fn codes(row: *const u8, g: usize) -> [int8x16_t; 2] {
        // SAFETY: the caller's promise.
        unsafe { named(row.add(8 + 16 * g)) }
    }
}
