//! FP8 weights with one scale per block of a matrix, as DeepSeek-V3 stores them.
//!
//! Source: DeepSeek-V3, arXiv:2412.19437, section 3.3.2; `weight_scale_inv` of its checkpoints is
//! the scale made here: weight = code · scale.

use crate::convert::{E4M3_MAX, f32_to_e4m3};
use crate::lanes::per_isa;

/// What the scales of FP8 blocks may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleKind {
    /// Any f32: the largest weight of a block becomes the largest code.
    F32,
    /// Powers of two, rounded up (`ue8m0`, DeepSeek-V3.1).
    PowerOfTwo,
}

/// Stores a matrix in E4M3 with a scale per block.
///
/// Shapes: `w` and the codes [N, K], the scales [⌈N / block 0⌉, ⌈K / block 1⌉]; the blocks at the
/// edges may be partial. A block of zeros has scale 1. Codes saturate and round to nearest even.
///
/// Panics if `w` is not `[n, k]` or a side of `block` is 0.
pub fn fp8_blocks(
    w: &[f32],
    n: usize,
    k: usize,
    block: [usize; 2],
    kind: ScaleKind,
) -> (Vec<u8>, Vec<f32>) {
    assert_eq!(Some(w.len()), n.checked_mul(k), "weights of [{n}, {k}]");
    assert!(block[0] > 0 && block[1] > 0, "blocks of {block:?}");
    let n_across = k.div_ceil(block[1]);
    let mut codes = vec![0; w.len()];
    let mut scales = Vec::with_capacity(n.div_ceil(block[0]) * n_across);
    if k == 0 {
        return (codes, scales);
    }
    for (band, codes) in w.chunks(block[0] * k).zip(codes.chunks_mut(block[0] * k)) {
        let first = scales.len();
        scales.resize(first + n_across, 0.0);
        let scales = &mut scales[first..];
        for row in band.chunks_exact(k) {
            for (largest, part) in scales.iter_mut().zip(row.chunks(block[1])) {
                *largest = largest.max(largest_magnitude(part));
            }
        }
        for scale in scales.iter_mut() {
            *scale = block_scale(*scale, kind);
        }
        for (row, codes) in band.chunks_exact(k).zip(codes.chunks_exact_mut(k)) {
            let parts = row.chunks(block[1]).zip(codes.chunks_mut(block[1]));
            for ((part, codes), &scale) in parts.zip(scales.iter()) {
                encode(part, scale, codes);
            }
        }
    }
    (codes, scales)
}

/// The scale of a block whose largest magnitude is `largest`.
fn block_scale(largest: f32, kind: ScaleKind) -> f32 {
    let scale = largest / E4M3_MAX;
    if scale == 0.0 {
        return 1.0;
    }
    match kind {
        ScaleKind::F32 => scale,
        ScaleKind::PowerOfTwo => {
            let bits = scale.to_bits();
            let exponent = (bits >> 23) + (bits & 0x7f_ffff != 0) as u32;
            // Below the normal numbers there is no such exponent; above, infinity is none.
            f32::from_bits(exponent.clamp(1, 254) << 23)
        }
    }
}

per_isa! {
    fn largest_magnitude(x: &[f32]) -> f32 {
        let mut largest = [0.0f32; 16];
        let (blocks, tail) = x.as_chunks::<16>();
        for block in blocks {
            for j in 0..16 {
                largest[j] = if block[j].abs() > largest[j] { block[j].abs() } else { largest[j] };
            }
        }
        tail.iter().map(|x| x.abs()).chain(largest).fold(0.0, f32::max)
    }
}

per_isa! {
    fn encode(x: &[f32], scale: f32, codes: &mut [u8]) {
        for (code, &x) in codes.iter_mut().zip(x) {
            *code = f32_to_e4m3(x / scale);
        }
    }
}
