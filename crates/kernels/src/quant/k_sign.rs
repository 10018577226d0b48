//! Blocks of 256 weights whose sub-blocks have a signed scale only: `q3_k`, `q6_k`.
//!
//! A weight is `d·scale·q`, sixteen weights to a scale.
//!
//! | format | bytes of a block |
//! |---|---|
//! | `q3_k` | 32 bytes of third bits, 64 × four 2-bit numbers, 12 bytes of 6-bit scales, d f16 |
//! | `q6_k` | 128 × two nibbles, 64 × four pairs of upper bits, 16 scales i8, d f16 |

use super::half_at;
use crate::lanes::per_isa;

per_isa! {
    pub(super) fn from_q3_k(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<110>().0.iter().zip(out.as_chunks_mut::<256>().0) {
            let d = half_at(block, 108);
            let scales = unpack_3_k(block);
            for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * (scales[i] as i32 - 32) as f32;
                let high: &[u8; 16] = part(block, i % 2 * 16);
                let q: &[u8; 16] = part(block, 32 + i / 8 * 32 + i % 2 * 16);
                let shift = i / 2 % 4 * 2;
                for j in 0..16 {
                    let top = high[j] as i32 >> (i / 2) & 1; // set: the number is not negative
                    out[j] = scale * ((q[j] as i32 >> shift & 3 | top << 2) - 4) as f32;
                }
            }
        }
    }
}

per_isa! {
    pub(super) fn from_q6_k(bytes: &[u8], out: &mut [f32]) {
        for (block, out) in bytes.as_chunks::<210>().0.iter().zip(out.as_chunks_mut::<256>().0) {
            let d = half_at(block, 208);
            for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * (block[192 + i] as i8) as f32;
                let (half, quarter, odd) = (i / 8, i / 2 % 4, i % 2);
                let low: &[u8; 16] = part(block, half * 64 + quarter % 2 * 32 + odd * 16);
                let high: &[u8; 16] = part(block, 128 + half * 32 + odd * 16);
                for j in 0..16 {
                    let nibble = low[j] as i32 >> (quarter / 2 * 4) & 15;
                    let top = high[j] as i32 >> (quarter * 2) & 3;
                    out[j] = scale * ((nibble | top << 4) - 32) as f32;
                }
            }
        }
    }
}

#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..at + N].first_chunk().expect("the slice is as long as the array")
}

/// The sixteen 6-bit scales of a `q3_k` block: low nibbles in 8 bytes, upper pairs in 4.
#[inline(always)]
fn unpack_3_k(block: &[u8; 110]) -> [u8; 16] {
    let packed: &[u8; 12] = part(block, 96);
    let mut scales = [0; 16];
    for i in 0..16 {
        let nibble = packed[i % 8] >> (i / 8 * 4) & 15;
        scales[i] = nibble | (packed[8 + i % 4] >> (i / 4 * 2) & 3) << 4;
    }
    scales
}

pub(super) fn to_q3_k(_x: &[f32], _out: &mut [u8]) {
    unimplemented!("being written")
}
pub(super) fn to_q6_k(_x: &[f32], _out: &mut [u8]) {
    unimplemented!("being written")
}
