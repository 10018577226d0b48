//! 4-bit indices into sixteen values spaced more densely near zero: `iq4_nl`, `iq4_xs`.
//!
//! | format | bytes of a block | weight |
//! |---|---|---|
//! | `iq4_nl` | d f16, 16 × two nibbles | `d·VALUES[q]`, 32 weights |
//! | `iq4_xs` | d f16, 8 upper pairs, 8 lower nibbles of scales, 128 × two nibbles | `d·(scale − 32)·VALUES[q]`, 8 × 32 weights |

use super::search::{self, Steps};
use super::widen::{Widen, reader};
use super::{half_at, part, put_half};
use crate::lanes::per_isa;

/// The sixteen values, as ggml fixed them.
const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

reader!(from_iq4_nl, 18 => 32, |block, out, widen| {
    widen_nibbles(part(block, 2), half_at(block, 0), out, widen);
});

reader!(from_iq4_xs, 136 => 256, |block, out, widen| {
    let out = out.as_chunks_mut::<32>().0;
    for i in 0..8 {
        widen_nibbles(part(block, 8 + 16 * i), scale_of_xs(block, i), &mut out[i], widen);
    }
});

/// The scale of sub-block `i` of an `iq4_xs` block.
#[inline(always)]
pub(super) fn scale_of_xs(block: &[u8], i: usize) -> f32 {
    let high = u16::from_le_bytes([block[2], block[3]]);
    let low = block[4 + i / 2] >> (i % 2 * 4) & 15;
    let scale = low as i32 | ((high >> (2 * i) & 3) << 4) as i32;
    half_at(block, 0) * (scale - 32) as f32
}

/// The scales of an `iq4_xs` block without `d`: −32 to 31.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn scale_codes_of_xs(block: &[u8; 136]) -> [i8; 8] {
    let high = u16::from_le_bytes([block[2], block[3]]);
    let mut codes = [0; 8];
    for i in 0..8 {
        let low = block[4 + i / 2] >> (i % 2 * 4) & 15;
        codes[i] = (low | ((high >> (2 * i) & 3) << 4) as u8) as i8 - 32;
    }
    codes
}

/// 128 more than the values that 32 nibbles name.
pub(super) fn values(packed: &[u8; 16]) -> [u8; 32] {
    let mut values = [0; 32];
    for j in 0..16 {
        values[j] = VALUE_BYTES[(packed[j] & 15) as usize] ^ 0x80;
        values[16 + j] = VALUE_BYTES[(packed[j] >> 4) as usize] ^ 0x80;
    }
    values
}

#[inline(always)]
fn widen_nibbles(packed: &[u8; 16], scale: f32, out: &mut [f32; 32], widen: impl Widen) {
    let (mut low, mut high) = ([0; 16], [0; 16]);
    for j in 0..16 {
        low[j] = packed[j] & 15;
        high[j] = packed[j] >> 4;
    }
    let out = out.as_chunks_mut::<16>().0;
    widen.scale_signed(&widen.look_up(&VALUE_BYTES, &low), scale, &mut out[0]);
    widen.scale_signed(&widen.look_up(&VALUE_BYTES, &high), scale, &mut out[1]);
}

/// [`VALUES`] as bytes.
pub(crate) const VALUE_BYTES: [u8; 16] = {
    let mut bytes = [0; 16];
    let mut i = 0;
    while i < 16 {
        bytes[i] = VALUES[i] as u8;
        i += 1;
    }
    bytes
};

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
