//! Blocks of 256 weights whose sub-blocks have a scale and a minimum: `q2_k`, `q4_k`, `q5_k`.
//!
//! A weight is `d·scale·q − dmin·min`, with the scales and minima of the sub-blocks in few bits.
//!
//! | format | bytes of a block |
//! |---|---|
//! | `q2_k` | 16 × (scale, min) nibbles, 64 × four 2-bit numbers, d f16, dmin f16 |
//! | `q4_k` | d f16, dmin f16, 12 bytes of 6-bit scales and minima, 128 × two nibbles |
//! | `q5_k` | as `q4_k`, with 32 bytes of fifth bits before the nibbles |

use super::half_at;
use crate::lanes::per_isa;

per_isa! {
    pub(super) fn from_q2_k(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<84>().0.iter().zip(out.as_chunks_mut::<256>().0) {
            let (d, dmin) = (half_at(block, 80), half_at(block, 82));
            for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * (block[i] & 15) as f32;
                let min = dmin * (block[i] >> 4) as f32;
                let q: &[u8; 16] = part(block, 16 + i / 8 * 32 + i % 2 * 16);
                let shift = i / 2 % 4 * 2;
                for j in 0..16 {
                    out[j] = scale * (q[j] as i32 >> shift & 3) as f32 - min;
                }
            }
        }
    }
}

per_isa! {
    pub(super) fn from_q4_k(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<144>().0.iter().zip(out.as_chunks_mut::<256>().0) {
            let (scales, mins) = scaled(block);
            for (i, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                let q: &[u8; 32] = part(block, 16 + 32 * i);
                for j in 0..32 {
                    out[j] = scales[2 * i] * (q[j] & 15) as i32 as f32 - mins[2 * i];
                }
                for j in 0..32 {
                    out[32 + j] = scales[2 * i + 1] * (q[j] >> 4) as i32 as f32 - mins[2 * i + 1];
                }
            }
        }
    }
}

per_isa! {
    pub(super) fn from_q5_k(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<176>().0.iter().zip(out.as_chunks_mut::<256>().0) {
            let (scales, mins) = scaled(block);
            let high: &[u8; 32] = part(block, 16);
            for (i, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
                let q: &[u8; 32] = part(block, 48 + 32 * i);
                for j in 0..32 {
                    let top = high[j] as i32 >> (2 * i) & 1;
                    out[j] = scales[2 * i] * (q[j] as i32 & 15 | top << 4) as f32 - mins[2 * i];
                }
                for j in 0..32 {
                    let top = high[j] as i32 >> (2 * i + 1) & 1;
                    let q = q[j] as i32 >> 4 | top << 4;
                    out[32 + j] = scales[2 * i + 1] * q as f32 - mins[2 * i + 1];
                }
            }
        }
    }
}

#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..at + N].first_chunk().expect("the slice is as long as the array")
}

/// Scales and minima of the eight sub-blocks of `q4_k` and `q5_k`, times `d` and `dmin`.
#[inline(always)]
fn scaled(block: &[u8]) -> ([f32; 8], [f32; 8]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let (scales, mins) = unpack_6_bit(part(block, 4));
    let (mut scaled, mut mins_scaled) = ([0.0; 8], [0.0; 8]);
    for i in 0..8 {
        scaled[i] = d * scales[i] as i32 as f32;
        mins_scaled[i] = dmin * mins[i] as i32 as f32;
    }
    (scaled, mins_scaled)
}

/// Eight 6-bit scales and minima of 12 bytes. The first four of each lie in the low six bits of
/// bytes 0..4 and 4..8; the others take nibbles of bytes 8..12 and the two bits left over there.
#[inline(always)]
fn unpack_6_bit(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        scales[i] = packed[i] & 63;
        mins[i] = packed[4 + i] & 63;
        scales[4 + i] = packed[8 + i] & 15 | packed[i] >> 6 << 4;
        mins[4 + i] = packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4;
    }
    (scales, mins)
}

pub(super) fn to_q2_k(_x: &[f32], _out: &mut [u8]) {
    unimplemented!("being written")
}
pub(super) fn to_q4_k(_x: &[f32], _out: &mut [u8]) {
    unimplemented!("being written")
}
pub(super) fn to_q5_k(_x: &[f32], _out: &mut [u8]) {
    unimplemented!("being written")
}
