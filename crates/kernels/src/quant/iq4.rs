//! 4-bit indices into sixteen values spaced more densely near zero: `iq4_nl`, `iq4_xs`.
//!
//! | format | bytes of a block | weight |
//! |---|---|---|
//! | `iq4_nl` | d f16, 16 × two nibbles | `d·VALUES[q]`, 32 weights |
//! | `iq4_xs` | d f16, 8 upper pairs, 8 lower nibbles of scales, 128 × two nibbles | `d·(scale − 32)·VALUES[q]`, 8 × 32 weights |

use super::half_at;
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
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..at + N].first_chunk().expect("the slice is as long as the array")
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

pub(super) fn to_iq4_nl(_x: &[f32], _out: &mut [u8]) {
    unimplemented!("being written")
}
pub(super) fn to_iq4_xs(_x: &[f32], _out: &mut [u8]) {
    unimplemented!("being written")
}
