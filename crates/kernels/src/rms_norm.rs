//! Root-mean-square norm: `y = x · rsqrt(mean(x²) + eps) · w`, row by row, all in f32.
//!
//! Letters: N rows, D width.

use crate::lanes::{dot, dot3, for_rows, per_isa, span};
use crate::matmul::Write;
use crate::threads::{self, Shards};

/// Rows per partial sum of the weight gradient: fixed, so that its bits do not depend on threads.
const GRAD_ROWS: usize = 64;

/// f32 of a cache line.
const LINE: usize = 16;

/// Normalises every row.
///
/// Shapes: `x`, `out` [N, D]; `w` [D]; `inv_rms` [N] receives `rsqrt(mean(x²) + eps)`, which
/// [`backward`] needs.
///
/// Panics if the shapes disagree.
pub fn forward(x: &[f32], w: &[f32], eps: f32, out: &mut [f32], inv_rms: &mut [f32]) {
    let (n, d) = (inv_rms.len(), w.len());
    assert!(x.len() == n * d && out.len() == n * d, "[{n}, {d}]: {}, {}", x.len(), out.len());
    let (out, inv_rms) = (Shards::new(out), Shards::new(inv_rms));
    for_rows(n, d, |rows| {
        let part = span(&rows, d);
        // SAFETY: row ranges of one loop do not overlap.
        let (out, inv_rms) = unsafe { (out.slice(part.clone()), inv_rms.slice(rows)) };
        forward_rows(&x[part], w, eps, out, inv_rms);
    });
}

/// The gradient: sets `dx` or adds to it, as `write` says; adds to `dw`.
///
/// Shapes: `x`, `dy`, `dx` [N, D]; `w`, `dw` [D]; `inv_rms` [N] as [`forward`] left it.
///
/// Panics if the shapes disagree.
pub fn backward(
    x: &[f32],
    w: &[f32],
    inv_rms: &[f32],
    dy: &[f32],
    (dx, write): (&mut [f32], Write),
    dw: &mut [f32],
) {
    let (n, d) = (inv_rms.len(), w.len());
    assert!(
        x.len() == n * d && dy.len() == n * d && dx.len() == n * d && dw.len() == d,
        "[{n}, {d}]: {}, {}, {}, {}",
        x.len(),
        dy.len(),
        dx.len(),
        dw.len()
    );
    let n_chunks = n.div_ceil(GRAD_ROWS);
    // From a cache line on: a load and a store per row and lane would straddle two.
    let mut memory = vec![0.0; n_chunks * d + LINE - 1];
    let start = memory.as_ptr().align_offset(4 * LINE).min(LINE - 1);
    let partial = &mut memory[start..start + n_chunks * d];
    let (dx, shards) = (Shards::new(dx), Shards::new(partial));
    let chunk = |i: usize| {
        let rows = i * GRAD_ROWS..((i + 1) * GRAD_ROWS).min(n);
        let part = span(&rows, d);
        // SAFETY: chunks of different numbers do not overlap.
        let (dx, dw) = unsafe { (dx.slice(part.clone()), shards.slice(i * d..(i + 1) * d)) };
        let add = write == Write::Add;
        backward_rows(&x[part.clone()], w, &inv_rms[rows], &dy[part], add, dx, dw);
    };
    threads::run(n_chunks, chunk);
    add_rows(&memory[start..start + n_chunks * d], dw);
}

per_isa! {
    fn forward_rows(x: &[f32], w: &[f32], eps: f32, out: &mut [f32], inv_rms: &mut [f32]) {
        let d = w.len();
        for i in 0..inv_rms.len() {
            let (x, out) = (&x[i * d..(i + 1) * d], &mut out[i * d..(i + 1) * d]);
            let mean = dot(x, x) / d as f32;
            let inv = 1.0 / (mean + eps).sqrt();
            inv_rms[i] = inv;
            for k in 0..d {
                out[k] = x[k] * inv * w[k];
            }
        }
    }
}

per_isa! {
    /// `dx = inv · (w·dy − x·inv² · mean(x·w·dy))`, `dw += dy · x · inv`.
    fn backward_rows(
        x: &[f32], w: &[f32], inv_rms: &[f32], dy: &[f32], add: bool, dx: &mut [f32],
        dw: &mut [f32],
    ) {
        let d = w.len();
        let dw = &mut dw[..d];
        for i in 0..inv_rms.len() {
            let (own, inv) = (i * d..(i + 1) * d, inv_rms[i]);
            let (x, dy, dx) = (&x[own.clone()], &dy[own.clone()], &mut dx[own]);
            let shrink = inv * inv * dot3(x, dy, w) / d as f32;
            if add {
                for k in 0..d {
                    dx[k] += inv * (w[k] * dy[k] - x[k] * shrink);
                    dw[k] += dy[k] * x[k] * inv;
                }
            } else {
                for k in 0..d {
                    dx[k] = inv * (w[k] * dy[k] - x[k] * shrink);
                    dw[k] += dy[k] * x[k] * inv;
                }
            }
        }
    }
}

per_isa! {
    /// Adds the rows of `partial` to `total`, in order.
    fn add_rows(partial: &[f32], total: &mut [f32]) {
        for row in partial.chunks_exact(total.len().max(1)) {
            for (total, &part) in total.iter_mut().zip(row) {
                *total += part;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot64, gradient, noise, same_bits_everywhere, widen};

    const SHAPES: [(usize, usize); 6] = [(0, 4), (1, 1), (3, 7), (5, 33), (2, 130), (67, 5)];
    const EPS: f32 = 1e-5;

    fn plain(x: &[f64], w: &[f64]) -> Vec<f64> {
        let d = w.len();
        let row = |x: &[f64]| {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / d as f64;
            let inv = 1.0 / (mean + EPS as f64).sqrt();
            x.iter().zip(w).map(|(x, w)| x * inv * w).collect::<Vec<_>>()
        };
        x.chunks_exact(d).flat_map(row).collect()
    }

    fn run(n: usize, d: usize) -> [Vec<f32>; 4] {
        let (x, w, dy) = (noise(1, n * d), noise(2, d), noise(3, n * d));
        let (mut out, mut inv, mut dx) = (vec![0.0; n * d], vec![0.0; n], vec![9.0; n * d]);
        let mut dw = vec![0.25; d];
        forward(&x, &w, EPS, &mut out, &mut inv);
        backward(&x, &w, &inv, &dy, (&mut dx, Write::Set), &mut dw);
        [out, inv, dx, dw]
    }

    #[test]
    fn forward_and_gradient_equal_the_definition() {
        for (n, d) in SHAPES {
            let (x, w, dy) = (noise(1, n * d), noise(2, d), noise(3, n * d));
            let [out, _, dx, mut dw] = run(n, d);
            assert_close(&out, &plain(&widen(&x), &widen(&w)), 1e-6, "out");
            let want = gradient(&x, |x| dot64(&plain(x, &widen(&w)), &dy));
            assert_close(&dx, &want, 2e-5, "dx");
            let want = gradient(&w, |w| dot64(&plain(&widen(&x), w), &dy));
            dw.iter_mut().for_each(|v| *v -= 0.25); // the gradient is added to what was there
            assert_close(&dw, &want, 2e-5, "dw");
        }
    }

    #[test]
    fn bits_are_the_same_on_every_level_and_thread_count() {
        for (n, d) in [(3, 7), (5, 33), (300, 257)] {
            same_bits_everywhere(|| run(n, d).concat());
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (n, d) = (200, 130);
        let (x, w) = (noise(1, n * d), noise(2, d));
        let [out, inv, ..] = run(n, d);
        for row in [0, 63, 64, 199] {
            let (mut one, mut inv_one) = (vec![0.0; d], [0.0]);
            forward(&x[row * d..(row + 1) * d], &w, EPS, &mut one, &mut inv_one);
            assert_eq!(one, out[row * d..(row + 1) * d]);
            assert_eq!(inv_one[0], inv[row]);
        }
    }
}
