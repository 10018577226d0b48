//! The definition in plain Rust, and AVX2: a few rows of W are widened into scratch, a chunk at a time,
//! and multiplied as f32.

use super::input::{Input, padded, pair_up};
use super::scratch::with_weights;
use super::{BLOCK, K_CHUNK, scaled};
use crate::quant;
use crate::stored::{Matrix, Tile, variant};
use std::ops::Range;

/// Rows of W widened at a time: a multiple of every tile's width.
const ROWS: usize = 12;
/// Distance of widened rows: not a power of two, so that they fall into different cache sets.
const STRIDE: usize = K_CHUNK + 16;

/// Safety: as [`super::block`].
pub(super) unsafe fn block(input: Input<'_>, matrix: &Matrix, rows: Range<usize>, out: *mut f32) {
    let scaled_len = matrix.scales().map_or(0, |_| input.values.len());
    with_weights(ROWS * STRIDE + K_CHUNK + scaled_len, |scratch| {
        let (scaled_x, scratch) = scratch.split_at_mut(scaled_len);
        let mut rest = rows.clone();
        while !rest.is_empty() {
            let run = scaled::run(matrix, rest.clone());
            rest.start = run.end;
            let x = match (scaled::of_row(matrix, run.start), matrix.scales()) {
                (Some(values), Some(scales)) => {
                    let columns = scales.block[1];
                    scaled::any_columns(input.values, matrix.n_in, values, columns, scaled_x);
                    &*scaled_x
                }
                _ => input.values,
            };
            // SAFETY: the caller's promise.
            unsafe {
                multiply(x, input.m, matrix, run.clone(), out.add(run.start - rows.start), scratch)
            };
        }
    });
}

/// Rows of W that stand under the same scales, without them. Safety: as [`super::block`].
unsafe fn multiply(
    x: &[f32],
    m: usize,
    matrix: &Matrix,
    rows: Range<usize>,
    out: *mut f32,
    scratch: &mut [f32],
) {
    let (n_in, n_out) = (matrix.n_in, matrix.n_out);
    let variant = variant();
    let (widened, natural) = scratch.split_at_mut(ROWS * STRIDE);
    for first in rows.clone().step_by(ROWS) {
        let n = ROWS.min(rows.end - first);
        for k0 in (0..n_in).step_by(K_CHUNK) {
            let ks = k0..(k0 + K_CHUNK).min(n_in);
            let k = ks.len().next_multiple_of(BLOCK);
            for (j, out) in widened.chunks_exact_mut(STRIDE).take(n).enumerate() {
                let natural = &mut natural[..ks.len()];
                let size = matrix.format.block_bytes();
                let from = (first + j) * n_in + k0;
                let bytes = &matrix.bytes()[from * size..(from + ks.len()) * size];
                quant::dequantize(matrix.format, bytes, natural);
                pair_up(natural, &mut out[..k]);
            }
            for j in (0..n).step_by(variant.n) {
                for i in (0..m).step_by(variant.m) {
                    // SAFETY: these rows of x and of the scratch exist; the result is ours.
                    unsafe {
                        (variant.tile)(&Tile {
                            x: x.as_ptr().add(i * padded(n_in) + k0),
                            x_stride: padded(n_in),
                            w: widened.as_ptr().add(j * STRIDE),
                            w_stride: STRIDE,
                            k,
                            m: variant.m.min(m - i),
                            n: variant.n.min(n - j),
                            out: out.add(i * n_out + first - rows.start + j),
                            out_stride: n_out,
                            first: k0 == 0,
                        });
                    }
                }
            }
        }
    }
}
