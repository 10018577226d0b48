//! Sixteen f32 lanes in four NEON registers.
#![cfg(target_arch = "aarch64")]

use super::lanes::Lanes;
use crate::neon;
use std::arch::aarch64::*;

/// Lanes 0..4, 4..8, 8..12, 12..16.
#[derive(Clone, Copy)]
pub(super) struct Quad([float32x4_t; 4]);

impl Quad {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        let mut out = self.0;
        for i in 0..4 {
            out[i] = f(out[i], b.0[i]);
        }
        Quad(out)
    }

    /// One register, halves onto halves.
    #[inline(always)]
    fn fold(self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> float32x4_t {
        let [a, b, c, d] = self.0;
        f(f(a, c), f(b, d))
    }
}

/// In each lane `a` where it is larger, else `b`: what `maxps` does, and the definition.
#[inline(always)]
fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: as below.
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

// SAFETY of all blocks below: NEON is part of every 64-bit ARM CPU; pointers are the caller's promise.
impl Lanes for Quad {
    const FMA: bool = true;
    const COLS: usize = 1;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Quad(unsafe { [vdupq_n_f32(x); 4] })
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        let mut out = Self::splat(0.0);
        for i in 0..4 {
            out.0[i] = unsafe { vld1q_f32(at.add(4 * i)) };
        }
        out
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        for i in 0..4 {
            unsafe { vst1q_f32(at.add(4 * i), self.0[i]) };
        }
    }
    #[inline(always)]
    unsafe fn load_half(at: *const u16) -> Self {
        unsafe {
            let (a, b) = (vld1q_u16(at), vld1q_u16(at.add(8)));
            let low = |halves| neon::widen_halves(vget_low_u16(halves));
            Quad([low(a), neon::widen_high_halves(a), low(b), neon::widen_high_halves(b)])
        }
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        let mut out = c.0;
        for i in 0..4 {
            out[i] = unsafe { vfmaq_f32(out[i], self.0[i], b.0[i]) };
        }
        Quad(out)
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |x, y| unsafe { vmulq_f32(x, y) })
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |x, y| unsafe { vaddq_f32(x, y) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, larger)
    }
    #[inline(always)]
    fn first_or(self, n: usize, fill: Self) -> Self {
        const PLACES: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let mut out = self.0;
        for i in 0..4 {
            unsafe {
                let place = vld1q_u32(PLACES.as_ptr().add(4 * i));
                out[i] = vbslq_f32(vcltq_u32(place, vdupq_n_u32(n as u32)), out[i], fill.0[i]);
            }
        }
        Quad(out)
    }
    #[inline(always)]
    fn above(self, limit: f32, then: Self, otherwise: Self) -> Self {
        let mut out = otherwise.0;
        for i in 0..4 {
            unsafe {
                let is = vcgtq_f32(self.0[i], vdupq_n_f32(limit));
                out[i] = vbslq_f32(is, then.0[i], out[i]);
            }
        }
        Quad(out)
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let four = self.fold(|x, y| vaddq_f32(x, y));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe {
            let four = self.fold(larger);
            let (low, high) = (vget_low_f32(four), vget_high_f32(four));
            let two = vbsl_f32(vcgt_f32(low, high), low, high);
            let (a, b) = (vget_lane_f32::<0>(two), vget_lane_f32::<1>(two));
            if a > b { a } else { b }
        }
    }
    #[inline(always)]
    fn transpose(rows: [Self; 16]) -> [Self; 16] {
        let mut out = rows;
        for i in 0..4 {
            for j in 0..4 {
                let (mut square, r) = ([rows[0].0[0]; 4], 4 * i);
                for k in 0..4 {
                    square[k] = rows[r + k].0[j];
                }
                square = neon::transpose(square);
                for k in 0..4 {
                    out[4 * j + k].0[i] = square[k];
                }
            }
        }
        out
    }
}
