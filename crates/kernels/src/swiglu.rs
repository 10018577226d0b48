//! SwiGLU: `out = silu(gate) · up`, with `silu(g) = g · sigmoid(g)`.
//!
//! Letters: N rows, F width of the hidden layer. The fused layout keeps gate and up of a row side
//! by side, `[N, 2F]`, the first F columns being the gate.

use crate::lanes::{for_rows, per_isa, span};
use crate::math::sigmoid;
use crate::threads::Shards;

/// An element costs about as much as this many plain ones.
const COST: usize = 4;

/// `out = silu(gate) · up`, over slices of equal length.
///
/// Panics if the lengths differ.
pub fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
    let n = gate.len();
    assert!(up.len() == n && out.len() == n, "lengths {n}, {}, {}", up.len(), out.len());
    let out = Shards::new(out);
    for_rows(n, COST, |range| {
        // SAFETY: ranges of one loop do not overlap.
        let out = unsafe { out.slice(range.clone()) };
        forward_part(&gate[range.clone()], &up[range], out);
    });
}

/// The gradient of [`forward`]; overwrites `dgate` and `dup`.
///
/// Panics if the lengths differ.
pub fn backward(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    let n = gate.len();
    assert!(
        [up.len(), dout.len(), dgate.len(), dup.len()] == [n; 4],
        "lengths {n}, {}, {}, {}, {}",
        up.len(),
        dout.len(),
        dgate.len(),
        dup.len()
    );
    let (dgate, dup) = (Shards::new(dgate), Shards::new(dup));
    for_rows(n, COST, |range| {
        // SAFETY: ranges of one loop do not overlap.
        let (dgate, dup) = unsafe { (dgate.slice(range.clone()), dup.slice(range.clone())) };
        backward_part(&gate[range.clone()], &up[range.clone()], &dout[range], dgate, dup);
    });
}

/// [`forward`] on the fused layout.
///
/// Shapes: `gate_up` [N, 2F], `out` [N, F], `f` = F.
///
/// Panics if the shapes disagree.
pub fn forward_fused(gate_up: &[f32], f: usize, out: &mut [f32]) {
    let n = n_rows(out.len(), f);
    assert_eq!(gate_up.len(), 2 * out.len(), "[{n}, 2·{f}] and [{n}, {f}]");
    let out = Shards::new(out);
    for_rows(n, COST * f, |rows| {
        // SAFETY: row ranges of one loop do not overlap.
        let out = unsafe { out.slice(span(&rows, f)) };
        for (out, gate_up) in
            out.chunks_exact_mut(f).zip(gate_up[span(&rows, 2 * f)].chunks_exact(2 * f))
        {
            let (gate, up) = gate_up.split_at(f);
            forward_part(gate, up, out);
        }
    });
}

/// The gradient of [`forward_fused`]; overwrites `dgate_up`.
///
/// Shapes: `gate_up`, `dgate_up` [N, 2F], `dout` [N, F], `f` = F.
///
/// Panics if the shapes disagree.
pub fn backward_fused(gate_up: &[f32], f: usize, dout: &[f32], dgate_up: &mut [f32]) {
    let n = n_rows(dout.len(), f);
    assert!(
        gate_up.len() == 2 * dout.len() && dgate_up.len() == gate_up.len(),
        "[{n}, 2·{f}] and [{n}, {f}]: {}, {}",
        gate_up.len(),
        dgate_up.len()
    );
    let dgate_up = Shards::new(dgate_up);
    for_rows(n, COST * f, |rows| {
        // SAFETY: row ranges of one loop do not overlap.
        let dgate_up = unsafe { dgate_up.slice(span(&rows, 2 * f)) };
        let inputs = gate_up[span(&rows, 2 * f)].chunks_exact(2 * f);
        let douts = dout[span(&rows, f)].chunks_exact(f);
        for ((gate_up, dout), grads) in inputs.zip(douts).zip(dgate_up.chunks_exact_mut(2 * f)) {
            let (gate, up) = gate_up.split_at(f);
            let (dgate, dup) = grads.split_at_mut(f);
            backward_part(gate, up, dout, dgate, dup);
        }
    });
}

fn n_rows(len: usize, width: usize) -> usize {
    assert!(width > 0 && len.is_multiple_of(width), "{len} elements in rows of {width}");
    len / width
}

per_isa! {
    /// [`forward`] on one thread.
    pub(crate) fn forward_part(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(gate) * up;
        }
    }
}

per_isa! {
    /// `silu'(g) = σ(g) · (1 + g · (1 − σ(g)))`
    fn backward_part(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let grads = dgate.iter_mut().zip(dup.iter_mut());
        for (((dgate, dup), &dout), (&gate, &up)) in grads.zip(dout).zip(gate.iter().zip(up)) {
            let sigma = sigmoid(gate);
            *dgate = dout * up * sigma * (1.0 + gate * (1.0 - sigma));
            *dup = dout * gate * sigma;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot64, gradient, noise, same_bits_everywhere, widen};

    fn plain(gate: &[f64], up: &[f64]) -> Vec<f64> {
        gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
    }

    fn gates(n: usize) -> Vec<f32> {
        noise(1, n).iter().map(|v| v * 9.0).collect()
    }

    #[test]
    fn forward_and_gradient_equal_the_definition() {
        for n in [1, 7, 33, 130] {
            let (gate, up, dout) = (gates(n), noise(2, n), noise(3, n));
            let (mut out, mut dgate, mut dup) = (vec![0.0; n], vec![9.0; n], vec![9.0; n]);
            forward(&gate, &up, &mut out);
            assert_close(&out, &plain(&widen(&gate), &widen(&up)), 1e-6, "out");
            backward(&gate, &up, &dout, &mut dgate, &mut dup);
            let want = gradient(&gate, |gate| dot64(&plain(gate, &widen(&up)), &dout));
            assert_close(&dgate, &want, 2e-6, "dgate");
            let want = gradient(&up, |up| dot64(&plain(&widen(&gate), up), &dout));
            assert_close(&dup, &want, 2e-6, "dup");
        }
    }

    #[test]
    fn fused_layout_equals_separate_layout() {
        for (n, f) in [(1, 1), (3, 7), (40, 130)] {
            let (gate, up, dout) = (gates(n * f), noise(2, n * f), noise(3, n * f));
            let fused: Vec<f32> = gate
                .chunks_exact(f)
                .zip(up.chunks_exact(f))
                .flat_map(|(g, u)| [g, u].concat())
                .collect();
            let (mut out, mut out_fused) = (vec![0.0; n * f], vec![0.0; n * f]);
            forward(&gate, &up, &mut out);
            forward_fused(&fused, f, &mut out_fused);
            assert_eq!(out, out_fused);
            let (mut dgate, mut dup) = (vec![0.0; n * f], vec![0.0; n * f]);
            let mut dfused = vec![0.0; 2 * n * f];
            backward(&gate, &up, &dout, &mut dgate, &mut dup);
            backward_fused(&fused, f, &dout, &mut dfused);
            for (row, grads) in dfused.chunks_exact(2 * f).enumerate() {
                assert_eq!(grads[..f], dgate[row * f..(row + 1) * f]);
                assert_eq!(grads[f..], dup[row * f..(row + 1) * f]);
            }
        }
    }

    #[test]
    fn extreme_gates_stay_finite() {
        let gate = [-1e4, -200.0, -88.0, 0.0, 88.0, 200.0, 1e4];
        let (mut out, mut dgate, mut dup) = ([9.0; 7], [9.0; 7], [9.0; 7]);
        forward(&gate, &[1.0; 7], &mut out);
        backward(&gate, &[1.0; 7], &[1.0; 7], &mut dgate, &mut dup);
        assert_eq!(out[6], 1e4);
        assert!(out[..3].iter().all(|v| v.abs() < 1e-30));
        assert!(dgate.iter().chain(&dup).all(|v| v.is_finite()));
    }

    #[test]
    fn bits_are_the_same_on_every_level_and_thread_count() {
        for f in [7, 33, 1001] {
            let (gate_up, dout) = (gates(2 * 40 * f), noise(2, 40 * f));
            same_bits_everywhere(|| {
                let (mut out, mut grads) = (vec![0.0; 40 * f], vec![0.0; 80 * f]);
                forward_fused(&gate_up, f, &mut out);
                backward_fused(&gate_up, f, &dout, &mut grads);
                [out, grads].concat()
            });
        }
    }
}
