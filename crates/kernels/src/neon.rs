//! What the NEON kernels share: instructions whose intrinsics the language does not offer yet.
#![cfg(target_arch = "aarch64")]

use std::arch::aarch64::*;
use std::arch::asm;

/// Four half-precision numbers, widened.
#[inline(always)]
pub(crate) fn widen_halves(halves: uint16x4_t) -> float32x4_t {
    let wide;
    // SAFETY: registers only; part of every 64-bit ARM CPU.
    unsafe {
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = lateout(vreg) wide, halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

/// The upper four of eight half-precision numbers, widened.
#[inline(always)]
pub(crate) fn widen_high_halves(halves: uint16x8_t) -> float32x4_t {
    let wide;
    // SAFETY: as above.
    unsafe {
        asm!(
            "fcvtl2 {wide:v}.4s, {halves:v}.8h",
            wide = lateout(vreg) wide, halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

/// A half-precision number by its bits, widened.
#[inline(always)]
pub(crate) fn widen_half(bits: u16) -> f32 {
    let wide;
    // SAFETY: as above.
    unsafe {
        asm!(
            "fmov {wide:s}, {bits:w}",
            "fcvt {wide:s}, {wide:h}",
            wide = lateout(vreg) wide, bits = in(reg) u32::from(bits),
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

/// Half precision of 2^-8 of the value of E4M3 codes, from their bits in place: sign in bit 15 and above, magnitude
/// in bits 7 to 13. A NaN gets its exponent filled up.
#[inline(always)]
pub(crate) fn e4m3_halves(shifted: uint16x8_t) -> uint16x8_t {
    // SAFETY: part of every 64-bit ARM CPU.
    unsafe {
        let nan = vdupq_n_u16(0x3f80);
        let is_nan = vceqq_u16(vandq_u16(shifted, nan), nan);
        let filled = vandq_u16(is_nan, vdupq_n_u16(0x7c00));
        vorrq_u16(vandq_u16(shifted, vdupq_n_u16(0xbf80)), filled)
    }
}

/// To each of four sums, four products of signed bytes: those of `w` with four of `x`, its word `LANE`.
///
/// Safety: the CPU has FEAT_DotProd, and the function this is inlined into enables `dotprod`.
#[inline(always)]
pub(crate) unsafe fn dot_lane<const LANE: usize>(
    mut sums: int32x4_t,
    w: int8x16_t,
    x: int8x16_t,
) -> int32x4_t {
    // SAFETY: the caller's promise; registers only.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// To each of four sums, four products of signed bytes, neighbours in `w` and in `x`. Safety: as [`dot_lane`].
#[inline(always)]
pub(crate) unsafe fn dot(mut sums: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's promise; registers only.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {w:v}.16b, {x:v}.16b",
            sums = inout(vreg) sums, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Transposes a 4 × 4 square of words.
#[inline(always)]
pub(crate) fn transpose(rows: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: part of every 64-bit ARM CPU.
    unsafe {
        let even = |a, b| vreinterpretq_f64_f32(vtrn1q_f32(a, b));
        let odd = |a, b| vreinterpretq_f64_f32(vtrn2q_f32(a, b));
        let (even01, odd01) = (even(rows[0], rows[1]), odd(rows[0], rows[1]));
        let (even23, odd23) = (even(rows[2], rows[3]), odd(rows[2], rows[3]));
        [
            vreinterpretq_f32_f64(vtrn1q_f64(even01, even23)),
            vreinterpretq_f32_f64(vtrn1q_f64(odd01, odd23)),
            vreinterpretq_f32_f64(vtrn2q_f64(even01, even23)),
            vreinterpretq_f32_f64(vtrn2q_f64(odd01, odd23)),
        ]
    }
}
