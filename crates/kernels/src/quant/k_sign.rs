//! Blocks of 256 weights whose sub-blocks have a signed scale only: `q3_k`, `q6_k`.
//!
//! A weight is `d·scale·q`, sixteen weights to a scale.
//!
//! | format | bytes of a block |
//! |---|---|
//! | `q3_k` | 32 bytes of third bits, 64 × four 2-bit numbers, 12 bytes of 6-bit scales, d f16 |
//! | `q6_k` | 128 × two nibbles, 64 × four pairs of upper bits, 16 scales i8, d f16 |

use super::search::{self, Steps};
use super::widen::reader;
use super::{half_at, pairs, part, put_half, put_pairs};
use crate::lanes::per_isa;

reader!(from_q3_k, 110 => 256, |block, out, widen| {
    let d = half_at(block, 108);
    let mut scale_codes = unpack_3_k(block);
    for i in 0..16 {
        scale_codes[i] = scale_codes[i].wrapping_sub(32);
    }
    let mut scales = [0.0; 16];
    widen.scale_signed(&scale_codes, d, &mut scales);
    let high: &[u8; 32] = part(block, 0);
    let mut q = pairs(part(block, 32));
    for i in 0..8 {
        for j in 0..32 {
            // The third bit is set where the number is not negative.
            q[32 * i + j] = (q[32 * i + j] | (high[j] >> i & 1) << 2).wrapping_sub(4);
        }
    }
    let out = out.as_chunks_mut::<16>().0;
    for i in 0..16 {
        widen.scale_signed(part(&q, 16 * i), scales[i], &mut out[i]);
    }
});

reader!(from_q6_k, 210 => 256, |block, out, widen| {
    let d = half_at(block, 208);
    let mut q = six_bits(part(block, 0));
    for j in 0..256 {
        q[j] = q[j].wrapping_sub(32);
    }
    let out = out.as_chunks_mut::<16>().0;
    let mut scales = [0.0; 16];
    widen.scale_signed(part::<16>(block, 192), d, &mut scales);
    for i in 0..16 {
        widen.scale_signed(part(&q, 16 * i), scales[i], &mut out[i]);
    }
});

/// The 6-bit codes of a `q6_k` block: nibbles in 128 bytes, upper pairs in 64.
#[inline(always)]
pub(super) fn six_bits(packed: &[u8; 192]) -> [u8; 256] {
    let mut q = [0u8; 256];
    for i in 0..2 {
        let q = &mut q.as_chunks_mut::<128>().0[i];
        let low: &[u8; 64] = part(packed, 64 * i);
        let high: &[u8; 32] = part(packed, 128 + 32 * i);
        for j in 0..32 {
            let (first, second, top) = (low[j], low[32 + j], high[j]);
            q[j] = first & 15 | (top & 3) << 4;
            q[32 + j] = second & 15 | (top >> 2 & 3) << 4;
            q[64 + j] = first >> 4 | (top >> 4 & 3) << 4;
            q[96 + j] = second >> 4 | (top >> 6) << 4;
        }
    }
    q
}

/// The sixteen 6-bit scales of a `q3_k` block: low nibbles in 8 bytes, upper pairs in 4.
#[inline(always)]
pub(crate) fn unpack_3_k(block: &[u8; 110]) -> [u8; 16] {
    let packed: &[u8; 12] = part(block, 96);
    let mut scales = [0; 16];
    for i in 0..16 {
        let nibble = packed[i % 8] >> (i / 8 * 4) & 15;
        scales[i] = nibble | (packed[8 + i % 4] >> (i / 4 * 2) & 3) << 4;
    }
    scales
}

per_isa! {
    pub(super) fn to_q3_k(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<110>().0) {
            let code = |v: f32| search::nearest(v, -4.0, 3.0);
            let turned = search::turn::<16, 16>(x);
            let weights = search::importance(&turned);
            let scales = search::scales(&turned, &weights, &TARGETS_3, code);
            let d = put_half(block, 108, search::furthest(&scales) / -32.0);
            let bounds = [-32.0, 31.0];
            let scales = search::scale_codes(&turned, &weights, scales, d, bounds, code);
            block[96..108].copy_from_slice(&pack_3_k(&scales.map(|c| (c as i32 + 32) as u8)));
            let q = codes(x, d, &scales, -4.0, 3.0);
            for j in 0..32 {
                let mut bits = 0;
                for i in 0..8 {
                    bits |= (q[32 * i + j] >> 2) << i;
                }
                block[j] = bits;
            }
            put_pairs(&q.map(|q| q & 3), &mut block[32..96]);
        }
    }
}

per_isa! {
    pub(super) fn to_q6_k(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<210>().0) {
            let code = |v: f32| search::nearest(v, -32.0, 31.0);
            let turned = search::turn::<16, 16>(x);
            let weights = search::importance(&turned);
            let scales = search::scales(&turned, &weights, &TARGETS_6, code);
            let d = put_half(block, 208, search::furthest(&scales) / -128.0);
            let bounds = [-128.0, 127.0];
            let scales = search::scale_codes(&turned, &weights, scales, d, bounds, code);
            for i in 0..16 {
                block[192 + i] = scales[i] as i32 as u8;
            }
            let q = codes(x, d, &scales, -32.0, 31.0);
            for (i, q) in q.as_chunks::<128>().0.iter().enumerate() {
                for j in 0..32 {
                    let (a, b, c, d) = (q[j], q[32 + j], q[64 + j], q[96 + j]);
                    block[64 * i + j] = a & 15 | c << 4;
                    block[64 * i + 32 + j] = b & 15 | d << 4;
                    block[128 + 32 * i + j] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
                }
            }
        }
    }
}

/// Where the weight of largest magnitude of a sub-block may go, a negative number for one sign of
/// the scale and a positive one for the other.
const TARGETS_3: [Steps; 2] =
    [Steps { first: -5.0, step: 0.1, count: 20 }, Steps { first: 2.6, step: 0.1, count: 15 }];
const TARGETS_6: [Steps; 2] =
    [Steps { first: -32.9, step: 0.1, count: 19 }, Steps { first: 30.9, step: 0.1, count: 10 }];

/// The inverse of [`unpack_3_k`].
#[inline(always)]
fn pack_3_k(scales: &[u8; 16]) -> [u8; 12] {
    let mut packed = [0; 12];
    for i in 0..16 {
        packed[i % 8] |= (scales[i] & 15) << (i / 8 * 4);
        packed[8 + i % 4] |= (scales[i] >> 4) << (i / 4 * 2);
    }
    packed
}

/// The codes of the weights, counted from `low`.
#[inline(always)]
fn codes(x: &[f32; 256], d: f32, scales: &[f32; 16], low: f32, high: f32) -> [u8; 256] {
    let mut q = [0; 256];
    for (i, q) in q.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let per_scale = search::inverse(d * scales[i]);
        let x: &[f32; 16] = &x.as_chunks().0[i];
        for j in 0..16 {
            q[j] = (search::nearest(x[j] * per_scale, low, high) - low) as i32 as u8;
        }
    }
    q
}
