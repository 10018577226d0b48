//! 4-bit indices into sixteen values spaced more densely near zero: `iq4_nl`, `iq4_xs`.
//!
//! | format | bytes of a block | weight |
//! |---|---|---|
//! | `iq4_nl` | d f16, 16 × two nibbles | `d·VALUES[q]`, 32 weights |
//! | `iq4_xs` | d f16, 8 upper pairs, 8 lower nibbles of scales, 128 × two nibbles | `d·(scale − 32)·VALUES[q]`, 8 × 32 weights |

use super::search::{self, Steps};
use super::{half_at, part, put_half};
use crate::lanes::per_isa;

/// The sixteen values, as ggml fixed them.
const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

per_isa! {
    pub(super) fn from_iq4_nl(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<18>().0.iter().zip(out.as_chunks_mut::<32>().0) {
            let d = half_at(block, 0);
            look_up(d, part(block, 2), out);
        }
    }
}

per_isa! {
    pub(super) fn from_iq4_xs(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<136>().0.iter().zip(out.as_chunks_mut::<256>().0) {
            let d = half_at(block, 0);
            let high = u16::from_le_bytes([block[2], block[3]]);
            for (i, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let low = block[4 + i / 2] >> (i % 2 * 4) & 15;
                let scale = low as i32 | ((high >> (2 * i) & 3) << 4) as i32;
                look_up(d * (scale - 32) as f32, part(block, 8 + 16 * i), out);
            }
        }
    }
}

#[inline(always)]
fn look_up(d: f32, q: &[u8; 16], out: &mut [f32; 32]) {
    let mut values = [0.0; 16];
    for (value, &v) in values.iter_mut().zip(&VALUES) {
        *value = d * v as f32;
    }
    for j in 0..16 {
        out[j] = values[(q[j] & 15) as usize];
        out[j + 16] = values[(q[j] >> 4) as usize];
    }
}

per_isa! {
    pub(super) fn to_iq4_nl(x: &[f32], out: &mut [u8]) {
        // Eight blocks at a time, the last few filled up with zeros.
        for (x, out) in x.chunks(256).zip(out.chunks_mut(8 * 18)) {
            let turned = search::turn::<8, 32>(x);
            let weights = search::importance(&turned);
            let scales = search::scales(&turned, &weights, &TARGETS, stored_value);
            let blocks = x.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<18>().0);
            for ((x, block), scale) in blocks.zip(scales) {
                let d = put_half(block, 0, scale);
                put_codes(x, d, &mut block[2..]);
            }
        }
    }
}

per_isa! {
    pub(super) fn to_iq4_xs(x: &[f32], out: &mut [u8]) {
        for (x, block) in x.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<136>().0) {
            let turned = search::turn::<8, 32>(x);
            let weights = search::importance(&turned);
            let scales = search::scales(&turned, &weights, &TARGETS, stored_value);
            let d = put_half(block, 0, search::furthest(&scales) / -32.0);
            let bounds = [-32.0, 31.0];
            let scales = search::scale_codes(&turned, &weights, scales, d, bounds, stored_value);
            let (mut high, mut low) = (0u16, [0u8; 4]);
            for (i, scale) in scales.iter().enumerate() {
                let code = (*scale as i32 + 32) as u8;
                low[i / 2] |= (code & 15) << (i % 2 * 4);
                high |= (code as u16 >> 4) << (2 * i);
                put_codes(&x.as_chunks().0[i], d * scale, &mut block[8 + 16 * i..][..16]);
            }
            block[2..4].copy_from_slice(&high.to_le_bytes());
            block[4..8].copy_from_slice(&low);
        }
    }
}

/// Where the weight of largest magnitude of a sub-block may go, either sign of the scale.
const TARGETS: [Steps; 2] =
    [Steps { first: -134.0, step: 1.0, count: 15 }, Steps { first: 106.0, step: 1.0, count: 15 }];

/// The nearest of [`VALUES`], the upper one of two as near.
#[inline(always)]
fn stored_value(v: f32) -> f32 {
    let mut value = VALUES[0] as f32;
    for pair in VALUES.windows(2) {
        let (below, above) = (pair[0] as f32, pair[1] as f32);
        value = if v >= (below + above) * 0.5 { above } else { value };
    }
    value
}

/// The index of the nearest of [`VALUES`].
#[inline(always)]
fn stored_index(v: f32) -> u8 {
    let mut index = 0;
    for pair in VALUES.windows(2) {
        index += (v >= (pair[0] as f32 + pair[1] as f32) * 0.5) as u8;
    }
    index
}

#[inline(always)]
fn put_codes(x: &[f32; 32], scale: f32, out: &mut [u8]) {
    let per_scale = search::inverse(scale);
    for j in 0..16 {
        out[j] = stored_index(x[j] * per_scale) | stored_index(x[j + 16] * per_scale) << 4;
    }
}
