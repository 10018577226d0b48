//! Activations rounded to FP8 in groups, as FP8 checkpoints were trained and are served
//! (DeepSeek-V3, arXiv:2412.19437, section 3.3; `inference/kernel.py`).

use super::fp8::ScaleKind;
use crate::convert::{e4m3_to_f32, f32_to_e4m3};
use crate::threads::run_chunks;

/// Channels that share a scale; the last group of a row may be shorter.
pub const ACTIVATION_GROUP: usize = 128;
/// Largest E4M3 number.
const MAX: f32 = 448.0;
/// The least magnitude a scale is made for.
const FLOOR: f32 = 1e-4;

/// Rounds rows of `width` in place to what E4M3 codes under the scale of their group stand for.
///
/// Scale: `max(|x|, 1e-4) / 448`, or the next power of two.
pub fn round_activations(x: &mut [f32], width: usize, kind: ScaleKind) {
    run_chunks(x, width.max(1), |_, row| {
        for group in row.chunks_mut(ACTIVATION_GROUP) {
            let largest = group.iter().fold(FLOOR, |max, x| max.max(x.abs()));
            let scale = match kind {
                ScaleKind::F32 => largest / MAX,
                ScaleKind::PowerOfTwo => (largest / MAX).log2().ceil().exp2(),
            };
            for x in group {
                *x = e4m3_to_f32(f32_to_e4m3(*x / scale)) * scale;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_scales_of_their_own() {
        let mut x = vec![448.0f32; 130];
        (x[1], x[128], x[129]) = (3.3, 0.5, 0.0);
        round_activations(&mut x, 130, ScaleKind::F32);
        assert_eq!((x[0], x[1]), (448.0, 3.25));
        assert!((x[128] - 0.5).abs() < 1e-6 && x[129] == 0.0, "{} {}", x[128], x[129]);
    }

    #[test]
    fn power_of_two_scales_round_up() {
        let mut x = [500.0f32, 1.0];
        round_activations(&mut x, 2, ScaleKind::PowerOfTwo); // scale 2: 250 lies between 240 and 256
        assert_eq!(x, [512.0, 1.0]);
    }
}
