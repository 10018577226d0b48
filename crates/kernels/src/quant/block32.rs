//! Blocks of 32 weights under one scale: `q8_0`, `q4_0`, `q4_1`, `q5_0`, `q5_1`.
//!
//! | format | bytes of a block | weight |
//! |---|---|---|
//! | `q8_0` | scale f16, 32 × i8 | `q·d` |
//! | `q4_0` | scale f16, 16 × two nibbles | `(q − 8)·d` |
//! | `q4_1` | scale f16, minimum f16, 16 × two nibbles | `q·d + m` |
//! | `q5_0` | scale f16, 32 fifth bits, 16 × two nibbles | `(q − 16)·d` |
//! | `q5_1` | scale f16, minimum f16, 32 fifth bits, 16 × two nibbles | `q·d + m` |
//!
//! The low nibbles are the first sixteen weights. Rounding follows ggml's reference quantizers.

use super::widen::{Plain, Widen, reader};
use super::{part, put_half};
use crate::lanes::per_isa;

reader!(from_q8_0, 34 => 32, |block, out, widen| {
    widen.scale_signed(part::<32>(block, 2), widen.half(part(block, 0)), out);
});

reader!(from_q4_0, 18 => 32, |block, out, widen| {
    let q = less(8, nibbles(part(block, 2)));
    widen.scale_signed(&q, widen.half(part(block, 0)), out);
});

reader!(from_q4_1, 20 => 32, |block, out, widen| {
    let q = nibbles(part(block, 4));
    widen.scale_and_add(&q, widen.half(part(block, 0)), widen.half(part(block, 2)), out);
});

reader!(from_q5_0, 22 => 32, |block, out, widen| {
    let q = less(16, widen.add_fifth_bits(nibbles(part(block, 6)), part(block, 2)));
    widen.scale_signed(&q, widen.half(part(block, 0)), out);
});

reader!(from_q5_1, 24 => 32, |block, out, widen| {
    let q = widen.add_fifth_bits(nibbles(part(block, 8)), part(block, 4));
    widen.scale_and_add(&q, widen.half(part(block, 0)), widen.half(part(block, 2)), out);
});

#[inline(always)]
pub(super) fn nibbles(packed: &[u8; 16]) -> [u8; 32] {
    let mut q = [0; 32];
    for j in 0..16 {
        q[j] = packed[j] & 15;
        q[j + 16] = packed[j] >> 4;
    }
    q
}

/// 5-bit codes: nibbles and a bit each.
pub(super) fn with_fifth_bits(packed: &[u8; 16], bits: &[u8; 4]) -> [u8; 32] {
    Plain.add_fifth_bits(nibbles(packed), bits)
}

/// Codes counted from `middle`, as signed bytes.
#[inline(always)]
fn less(middle: u8, mut q: [u8; 32]) -> [u8; 32] {
    for j in 0..32 {
        q[j] = q[j].wrapping_sub(middle);
    }
    q
}

per_isa! {
    pub(super) fn to_q8_0(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<34>().0) {
            let mut largest = 0.0f32;
            for &x in x {
                largest = largest.max(x.abs());
            }
            let d = largest / 127.0;
            let inverse = reciprocal(d);
            put_half(block, 0, d);
            for j in 0..32 {
                block[2 + j] = round_away(x[j] * inverse) as i8 as u8;
            }
        }
    }
}

per_isa! {
    pub(super) fn to_q4_0(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<18>().0) {
            let d = furthest(x) / -8.0;
            put_half(block, 0, d);
            let q = codes(x, 0.0, reciprocal(d), 8.5, 15);
            put_nibbles(&q, &mut block[2..]);
        }
    }
}

per_isa! {
    pub(super) fn to_q5_0(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<22>().0) {
            let d = furthest(x) / -16.0;
            put_half(block, 0, d);
            let q = codes(x, 0.0, reciprocal(d), 16.5, 31);
            put_fifth_bits(&q, &mut block[2..6]);
            put_nibbles(&q, &mut block[6..]);
        }
    }
}

per_isa! {
    pub(super) fn to_q4_1(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<20>().0) {
            let (low, high) = range(x);
            let d = (high - low) / 15.0;
            put_half(block, 0, d);
            put_half(block, 2, low);
            put_nibbles(&codes(x, low, reciprocal(d), 0.5, 15), &mut block[4..]);
        }
    }
}

per_isa! {
    pub(super) fn to_q5_1(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<24>().0) {
            let (low, high) = range(x);
            let d = (high - low) / 31.0;
            put_half(block, 0, d);
            put_half(block, 2, low);
            let q = codes(x, low, reciprocal(d), 0.5, 31);
            put_fifth_bits(&q, &mut block[4..8]);
            put_nibbles(&q, &mut block[8..]);
        }
    }
}

/// `1 / d`, or 0 for a block of zeros.
#[inline(always)]
fn reciprocal(d: f32) -> f32 {
    if d != 0.0 { 1.0 / d } else { 0.0 }
}

/// Nearest integer in −127..=127, halves away from zero. (`f32::round` is a library call below SSE4.1.)
#[inline(always)]
fn round_away(x: f32) -> i32 {
    let x = x.clamp(-127.0, 127.0); // beyond only where the reciprocal overflowed
    let whole = x as i32;
    let rest = x - whole as f32;
    whole + (rest >= 0.5) as i32 - (rest <= -0.5) as i32
}

/// The first element of largest magnitude, with its sign.
#[inline(always)]
fn furthest(x: &[f32; 32]) -> f32 {
    let mut largest = 0.0f32;
    for &x in x {
        largest = largest.max(x.abs());
    }
    x.iter().copied().find(|x| x.abs() == largest).unwrap_or(0.0)
}

/// Smallest and largest element; NaN is passed over.
#[inline(always)]
fn range(x: &[f32; 32]) -> (f32, f32) {
    let (mut low, mut high) = (x[0], x[0]);
    for &x in x {
        low = if x < low { x } else { low };
        high = if x > high { x } else { high };
    }
    (low, high)
}

/// `⌊(x − low)·inverse + shift⌋`, at most `top`.
#[inline(always)]
fn codes(x: &[f32; 32], low: f32, inverse: f32, shift: f32, top: i32) -> [u8; 32] {
    let mut q = [0; 32];
    for j in 0..32 {
        q[j] = (((x[j] - low) * inverse + shift) as i32).clamp(0, top) as u8;
    }
    q
}

#[inline(always)]
fn put_nibbles(q: &[u8; 32], out: &mut [u8]) {
    for j in 0..16 {
        out[j] = q[j] & 15 | q[j + 16] << 4;
    }
}

#[inline(always)]
fn put_fifth_bits(q: &[u8; 32], out: &mut [u8]) {
    let mut bits = 0u32;
    for (j, q) in q.iter().enumerate() {
        bits |= (*q as u32 >> 4) << j;
    }
    out.copy_from_slice(&bits.to_le_bytes());
}
