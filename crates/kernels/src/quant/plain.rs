//! Formats without blocks: f32, half precision, bfloat16, E4M3 codes.

use crate::convert::{bf16_to_f32, e4m3_to_f32, f16_to_f32, f32_to_bf16, f32_to_e4m3, f32_to_f16};
use crate::lanes::per_isa;

/// Defines both ways between f32 and a format of `N` bytes per weight.
macro_rules! plain_format {
    ($from:ident, $to:ident, $n:literal, |$b:ident| $widen:expr, |$x:ident| $narrow:expr) => {
        per_isa! {
            pub(super) fn $from(bytes: &[u8], out: &mut [f32]) {
                for (out, &$b) in out.iter_mut().zip(bytes.as_chunks::<$n>().0) {
                    *out = $widen;
                }
            }
        }
        per_isa! {
            pub(super) fn $to(x: &[f32], out: &mut [u8]) {
                for (out, &$x) in out.as_chunks_mut::<$n>().0.iter_mut().zip(x) {
                    *out = $narrow;
                }
            }
        }
    };
}

plain_format!(from_f32, to_f32, 4, |b| f32::from_le_bytes(b), |x| x.to_le_bytes());
plain_format!(from_f16, to_f16, 2, |b| f16_to_f32(u16::from_le_bytes(b)), |x| f32_to_f16(x)
    .to_le_bytes());
plain_format!(from_bf16, to_bf16, 2, |b| bf16_to_f32(u16::from_le_bytes(b)), |x| f32_to_bf16(x)
    .to_le_bytes());
plain_format!(from_e4m3, to_e4m3, 1, |b| e4m3_to_f32(b[0]), |x| [f32_to_e4m3(x)]);
