//! Blocks of 256 weights whose sub-blocks have a scale and a minimum: `q2_k`, `q4_k`, `q5_k`.
//!
//! A weight is `d·scale·q − dmin·min`, with the scales and minima of the sub-blocks in few bits.
//!
//! | format | bytes of a block |
//! |---|---|
//! | `q2_k` | 16 × (scale, min) nibbles, 64 × four 2-bit numbers, d f16, dmin f16 |
//! | `q4_k` | d f16, dmin f16, 12 bytes of 6-bit scales and minima, 128 × two nibbles |
//! | `q5_k` | as `q4_k`, with 32 bytes of fifth bits before the nibbles |

use super::search::{self, Steps};
use super::widen::{Widen, reader};
use super::{pairs, part, put_half, put_pairs};
use crate::lanes::per_isa;

reader!(from_q2_k, 84 => 256, |block, out, widen| {
    let (d, dmin) = (widen.half(part(block, 80)), widen.half(part(block, 82)));
    let q = pairs(part(block, 16));
    let (mut scale_codes, mut min_codes) = ([0; 16], [0; 16]);
    for i in 0..16 {
        scale_codes[i] = block[i] & 15;
        min_codes[i] = block[i] >> 4;
    }
    let (mut scales, mut mins) = ([0.0; 16], [0.0; 16]);
    widen.scale_signed(&scale_codes, d, &mut scales);
    widen.scale_signed(&min_codes, -dmin, &mut mins);
    let out = out.as_chunks_mut::<16>().0;
    for i in 0..16 {
        widen.scale_and_add(part(&q, 16 * i), scales[i], mins[i], &mut out[i]);
    }
});

reader!(from_q4_k, 144 => 256, |block, out, widen| {
    let (scales, mins) = scaled(block, widen);
    let q = nibbles(part(block, 16));
    let out = out.as_chunks_mut::<32>().0;
    for i in 0..8 {
        widen.scale_and_add(part(&q, 32 * i), scales[i], mins[i], &mut out[i]);
    }
});

reader!(from_q5_k, 176 => 256, |block, out, widen| {
    let (scales, mins) = scaled(block, widen);
    let high: &[u8; 32] = part(block, 16);
    let mut q = nibbles(part(block, 48));
    for i in 0..8 {
        for j in 0..32 {
            q[32 * i + j] |= (high[j] >> i & 1) << 4;
        }
    }
    let out = out.as_chunks_mut::<32>().0;
    for i in 0..8 {
        widen.scale_and_add(part(&q, 32 * i), scales[i], mins[i], &mut out[i]);
    }
});

/// The nibbles of 4-bit and 5-bit blocks: the low ones of 32 bytes first, then the high ones.
#[inline(always)]
pub(super) fn nibbles(packed: &[u8; 128]) -> [u8; 256] {
    let mut q = [0; 256];
    for i in 0..4 {
        for j in 0..32 {
            q[64 * i + j] = packed[32 * i + j] & 15;
            q[64 * i + 32 + j] = packed[32 * i + j] >> 4;
        }
    }
    q
}

/// Scales of the eight sub-blocks of `q4_k` and `q5_k`, and what is to be added: less their minima.
#[inline(always)]
fn scaled(block: &[u8], widen: impl Widen) -> ([f32; 16], [f32; 16]) {
    let (d, dmin) = (widen.half(part(block, 0)), widen.half(part(block, 2)));
    let [scales, mins] = unpack_6_bit(part(block, 4));
    let (mut scaled, mut offsets) = ([0.0; 16], [0.0; 16]);
    widen.scale_signed(&scales, d, &mut scaled);
    widen.scale_signed(&mins, -dmin, &mut offsets);
    (scaled, offsets)
}

/// Eight 6-bit scales and eight minima of 12 bytes, each followed by eight zeros. The first four of
/// each lie in the low six bits of bytes 0..4 and 4..8; the others take nibbles of bytes 8..12 and
/// the two bits left over there.
#[inline(always)]
pub(crate) fn unpack_6_bit(packed: &[u8; 12]) -> [[u8; 16]; 2] {
    let word = |at: usize| u32::from_le_bytes(*part(packed, at));
    let (low, low_mins, rest) = (word(0), word(4), word(8));
    let high = rest & 0x0f0f_0f0f | (low >> 6 & 0x0303_0303) << 4;
    let high_mins = rest >> 4 & 0x0f0f_0f0f | (low_mins >> 6 & 0x0303_0303) << 4;
    let eight =
        |low: u32, high: u32| ((low & 0x3f3f_3f3f) as u128 | (high as u128) << 32).to_le_bytes();
    [eight(low, high), eight(low_mins, high_mins)]
}

per_isa! {
    pub(super) fn to_q2_k(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<84>().0) {
            let turned = search::turn::<16, 16>(x);
            let weights = search::importance(&turned);
            let found = search::scales_and_mins(&turned, &weights, 3.0, SPREAD_2);
            let d = put_half(block, 80, search::largest(&found.0) / 15.0);
            let dmin = put_half(block, 82, search::largest(&found.1) / 15.0);
            let (scales, mins) =
                search::scale_and_min_codes(&turned, &weights, found, [d, dmin], [15.0, 3.0]);
            for i in 0..16 {
                block[i] = scales[i] as u8 | (mins[i] as u8) << 4;
            }
            let mut q = [0; 256];
            for (i, q) in q.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                codes(&x.as_chunks().0[i], d * scales[i], dmin * mins[i], 3.0, q);
            }
            put_pairs(&q, &mut block[16..80]);
        }
    }
}

per_isa! {
    pub(super) fn to_q4_k(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<144>().0) {
            let q = put_scales(x, 15.0, SPREAD_4, block);
            put_nibbles(&q, &mut block[16..]);
        }
    }
}

per_isa! {
    pub(super) fn to_q5_k(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<176>().0) {
            let q = put_scales(x, 31.0, SPREAD_5, block);
            for j in 0..32 {
                let mut bits = 0;
                for i in 0..8 {
                    bits |= q[32 * i + j] >> 4 << i;
                }
                block[16 + j] = bits;
            }
            put_nibbles(&q, &mut block[48..]);
        }
    }
}

/// What the range of a sub-block is spread over, beside the largest code.
const SPREAD_2: Steps = Steps { first: -0.5, step: 0.1, count: 16 };
const SPREAD_4: Steps = Steps { first: -1.0, step: 0.1, count: 21 };
const SPREAD_5: Steps = Steps { first: -0.5, step: 0.1, count: 16 };

/// Finds scales and minima of eight sub-blocks, stores them in the first 16 bytes, and returns the
/// codes of the weights.
#[inline(always)]
fn put_scales(x: &[f32; 256], top: f32, spread: Steps, block: &mut [u8]) -> [u8; 256] {
    let turned = search::turn::<8, 32>(x);
    let weights = search::importance(&turned);
    let found = search::scales_and_mins(&turned, &weights, top, spread);
    let d = put_half(block, 0, search::largest(&found.0) / 63.0);
    let dmin = put_half(block, 2, search::largest(&found.1) / 63.0);
    let (scales, mins) =
        search::scale_and_min_codes(&turned, &weights, found, [d, dmin], [63.0, top]);
    block[4..16].copy_from_slice(&pack_6_bit(&scales.map(|c| c as u8), &mins.map(|c| c as u8)));
    let mut q = [0; 256];
    for (i, q) in q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        codes(&x.as_chunks().0[i], d * scales[i], dmin * mins[i], top, q);
    }
    q
}

/// The inverse of [`unpack_6_bit`].
#[inline(always)]
fn pack_6_bit(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..4 {
        packed[i] = scales[i] | scales[4 + i] >> 4 << 6;
        packed[4 + i] = mins[i] | mins[4 + i] >> 4 << 6;
        packed[8 + i] = scales[4 + i] & 15 | mins[4 + i] << 4;
    }
    packed
}

#[inline(always)]
fn codes<const E: usize>(x: &[f32; E], scale: f32, min: f32, top: f32, q: &mut [u8; E]) {
    let per_scale = search::inverse(scale);
    for e in 0..E {
        q[e] = search::nearest((x[e] + min) * per_scale, 0.0, top) as i32 as u8;
    }
}

/// The low nibbles of 64 codes lie in 32 bytes, the first 32 below.
#[inline(always)]
fn put_nibbles(q: &[u8; 256], out: &mut [u8]) {
    for (q, out) in q.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for j in 0..32 {
            out[j] = q[j] & 15 | q[32 + j] << 4;
        }
    }
}
