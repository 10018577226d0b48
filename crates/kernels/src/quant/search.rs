//! Which scale (and minimum) of a sub-block loses least when its weights become few-bit codes.
//!
//! The loss is the weighted squared error; a weight counts `rms + |x|`, its sub-block's rms, for
//! large weights meet large activations no less often than small ones. A handful of ways to spread
//! the codes over the range is tried; for each the least-squares scale follows in closed form (the
//! idea of ggml's quantizers). Where we go further: after the scales themselves are rounded, each
//! is tried one step away too.
//!
//! Letters: L sub-blocks of E weights. A block is turned on its side, `[E][L]`, so that the lanes
//! of a register are sub-blocks: sums need no folding, and every instruction set gives equal bits.

/// Sub-blocks on their side: element `e` of sub-block `l` is `[e][l]`.
pub(super) type Turned<const L: usize, const E: usize> = [[f32; L]; E];

/// Ranges below this are zeros to us: their scales would vanish in half precision anyway.
const VANISHING: f32 = 1e-20;

/// Numbers to try: `first + i·step` for `i < count`.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub first: f32,
    pub step: f32,
    pub count: usize,
}

impl Steps {
    #[inline(always)]
    fn values(self) -> impl Iterator<Item = f32> {
        (0..self.count).map(move |i| self.first + i as f32 * self.step)
    }
}

/// Turns `x`, L sub-blocks of E, on its side.
#[inline(always)]
pub(super) fn turn<const L: usize, const E: usize>(x: &[f32]) -> Turned<L, E> {
    let mut turned = [[0.0; L]; E];
    for (l, sub) in x.as_chunks::<E>().0.iter().enumerate().take(L) {
        for e in 0..E {
            turned[e][l] = sub[e];
        }
    }
    turned
}

/// How much the error of each weight counts: `rms + |x|`.
#[inline(always)]
pub(super) fn importance<const L: usize, const E: usize>(x: &Turned<L, E>) -> Turned<L, E> {
    let mut rms = [0.0f32; L];
    for x in x {
        for l in 0..L {
            rms[l] += x[l] * x[l];
        }
    }
    for rms in &mut rms {
        *rms = (*rms / E as f32).sqrt();
    }
    let mut weights = *x;
    for weights in &mut weights {
        for l in 0..L {
            weights[l] = rms[l] + weights[l].abs();
        }
    }
    weights
}

/// The nearest whole number within `low..=high`, as f32; `low` for NaN.
#[inline(always)]
pub(super) fn nearest(v: f32, low: f32, high: f32) -> f32 {
    const ALIGN: f32 = 12_582_912.0; // 1.5·2^23: the sum keeps no fraction
    let v = if v > low { v } else { low };
    let v = if v < high { v } else { high };
    (v + ALIGN) - ALIGN
}

/// `1 / x`, or 0 where that is no use.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    if x.abs() > VANISHING { 1.0 / x } else { 0.0 }
}

/// The element of largest magnitude of each sub-block, with its sign.
#[inline(always)]
pub(super) fn extremes<const L: usize, const E: usize>(x: &Turned<L, E>) -> [f32; L] {
    let mut extreme = [0.0f32; L];
    for x in x {
        for l in 0..L {
            extreme[l] = if x[l].abs() > extreme[l].abs() { x[l] } else { extreme[l] };
        }
    }
    extreme
}

/// The scale of each sub-block for weights `scale·code(x / scale)`.
///
/// `code` maps a number to the nearest one that can be stored; `steps` are the stored numbers that
/// the element of largest magnitude is sent to (not rounded, sign included).
#[inline(always)]
pub(super) fn scales<const L: usize, const E: usize>(
    x: &Turned<L, E>,
    weights: &Turned<L, E>,
    steps: &[Steps],
    code: impl Fn(f32) -> f32,
) -> [f32; L] {
    let inverses = extremes(x).map(inverse);
    let (mut best, mut scales) = ([0.0f32; L], [0.0f32; L]);
    for target in steps.iter().flat_map(|steps| steps.values()) {
        let (mut xq, mut qq) = ([0.0f32; L], [0.0f32; L]);
        for (x, w) in x.iter().zip(weights) {
            for l in 0..L {
                let q = code(x[l] * (inverses[l] * target));
                xq[l] += w[l] * x[l] * q;
                qq[l] += w[l] * q * q;
            }
        }
        for l in 0..L {
            // The loss is Σwx² − gain.
            let scale = if qq[l] > 0.0 { xq[l] / qq[l] } else { 0.0 };
            let gain = scale * xq[l];
            scales[l] = if gain > best[l] { scale } else { scales[l] };
            best[l] = if gain > best[l] { gain } else { best[l] };
        }
    }
    scales
}

/// Rounds `scales` to whole multiples of `d`, `low..=high`, each moved by one where that loses less.
#[inline(always)]
pub(super) fn scale_codes<const L: usize, const E: usize>(
    x: &Turned<L, E>,
    weights: &Turned<L, E>,
    scales: [f32; L],
    d: f32,
    [low, high]: [f32; 2],
    code: impl Fn(f32) -> f32,
) -> [f32; L] {
    let step = inverse(d);
    let middle = scales.map(|scale| nearest(scale * step, low, high));
    let (mut best, mut codes) = ([f32::INFINITY; L], middle);
    for shift in [0.0, -1.0, 1.0] {
        let tried = middle.map(|code| nearest(code + shift, low, high));
        let (scale, per_scale) = (tried.map(|c| d * c), tried.map(|c| inverse(d * c)));
        let mut loss = [0.0f32; L];
        for (x, w) in x.iter().zip(weights) {
            for l in 0..L {
                let error = scale[l] * code(x[l] * per_scale[l]) - x[l];
                loss[l] += w[l] * error * error;
            }
        }
        for l in 0..L {
            codes[l] = if loss[l] < best[l] { tried[l] } else { codes[l] };
            best[l] = if loss[l] < best[l] { loss[l] } else { best[l] };
        }
    }
    codes
}

/// Scale and minimum of each sub-block for weights `scale·q − min`, `q` in `0..=top`, `min ≥ 0`.
///
/// `steps` are the code that the range of a sub-block is spread over, less `top`.
#[inline(always)]
pub(super) fn scales_and_mins<const L: usize, const E: usize>(
    x: &Turned<L, E>,
    weights: &Turned<L, E>,
    top: f32,
    steps: Steps,
) -> ([f32; L], [f32; L]) {
    let (mut low, mut high) = ([0.0f32; L], x[0]);
    let (mut sum_w, mut sum_x) = ([0.0f32; L], [0.0f32; L]);
    for (x, w) in x.iter().zip(weights) {
        for l in 0..L {
            low[l] = if x[l] < low[l] { x[l] } else { low[l] };
            high[l] = if x[l] > high[l] { x[l] } else { high[l] };
            sum_w[l] += w[l];
            sum_x[l] += w[l] * x[l];
        }
    }
    let mut per_range = [0.0f32; L];
    let (mut scales, mut mins) = ([0.0f32; L], [0.0f32; L]);
    for l in 0..L {
        per_range[l] = inverse(high[l] - low[l]);
        scales[l] = if per_range[l] > 0.0 { (high[l] - low[l]) / top } else { 0.0 };
        mins[l] = -low[l];
    }
    let mut best = min_loss(x, weights, &scales, &mins, top);
    for spread in steps.values() {
        let (mut q1, mut q2, mut xq) = ([0.0f32; L], [0.0f32; L], [0.0f32; L]);
        for (x, w) in x.iter().zip(weights) {
            for l in 0..L {
                let q = nearest((x[l] - low[l]) * (per_range[l] * (top + spread)), 0.0, top);
                q1[l] += w[l] * q;
                q2[l] += w[l] * q * q;
                xq[l] += w[l] * q * x[l];
            }
        }
        let (mut scale, mut min) = ([0.0f32; L], [0.0f32; L]);
        for l in 0..L {
            let det = sum_w[l] * q2[l] - q1[l] * q1[l];
            let per_det = if det > 0.0 { 1.0 / det } else { 0.0 };
            scale[l] = (sum_w[l] * xq[l] - sum_x[l] * q1[l]) * per_det;
            min[l] = (q1[l] * xq[l] - q2[l] * sum_x[l]) * per_det;
            // A positive minimum cannot be stored: then the line through zero is the best.
            let alone = if q2[l] > 0.0 { xq[l] / q2[l] } else { 0.0 };
            scale[l] = if min[l] < 0.0 { alone } else { scale[l] };
            min[l] = if min[l] < 0.0 { 0.0 } else { min[l] };
        }
        let loss = min_loss(x, weights, &scale, &min, top);
        for l in 0..L {
            let better = loss[l] < best[l] && scale[l] > 0.0;
            scales[l] = if better { scale[l] } else { scales[l] };
            mins[l] = if better { min[l] } else { mins[l] };
            best[l] = if better { loss[l] } else { best[l] };
        }
    }
    (scales, mins)
}

/// Rounds scales and minima to multiples of `d` and `dmin`, `0..=high`, the pair of neighbours
/// that loses least.
#[inline(always)]
pub(super) fn scale_and_min_codes<const L: usize, const E: usize>(
    x: &Turned<L, E>,
    weights: &Turned<L, E>,
    (scales, mins): ([f32; L], [f32; L]),
    [d, dmin]: [f32; 2],
    [high, top]: [f32; 2],
) -> ([f32; L], [f32; L]) {
    let (per_d, per_dmin) = (inverse(d), inverse(dmin));
    let middle = scales.map(|scale| nearest(scale * per_d, 0.0, high));
    let middle_min = mins.map(|min| nearest(min * per_dmin, 0.0, high));
    let (mut best, mut codes, mut min_codes) = ([f32::INFINITY; L], middle, middle_min);
    for (shift, shift_min) in NEIGHBOURS {
        let tried = middle.map(|code| nearest(code + shift, 0.0, high));
        let tried_min = middle_min.map(|code| nearest(code + shift_min, 0.0, high));
        let loss = min_loss(x, weights, &tried.map(|c| d * c), &tried_min.map(|c| dmin * c), top);
        for l in 0..L {
            let better = loss[l] < best[l];
            codes[l] = if better { tried[l] } else { codes[l] };
            min_codes[l] = if better { tried_min[l] } else { min_codes[l] };
            best[l] = if better { loss[l] } else { best[l] };
        }
    }
    (codes, min_codes)
}

/// Steps of a (scale, minimum) pair, the nearest first.
const NEIGHBOURS: [(f32, f32); 9] = [
    (0.0, 0.0),
    (-1.0, 0.0),
    (1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (-1.0, -1.0),
    (-1.0, 1.0),
    (1.0, -1.0),
    (1.0, 1.0),
];

/// The loss of each sub-block under `scale·q − min` with the best codes.
#[inline(always)]
fn min_loss<const L: usize, const E: usize>(
    x: &Turned<L, E>,
    weights: &Turned<L, E>,
    scale: &[f32; L],
    min: &[f32; L],
    top: f32,
) -> [f32; L] {
    let per_scale = scale.map(inverse);
    let mut loss = [0.0f32; L];
    for (x, w) in x.iter().zip(weights) {
        for l in 0..L {
            let q = nearest((x[l] + min[l]) * per_scale[l], 0.0, top);
            let error = scale[l] * q - min[l] - x[l];
            loss[l] += w[l] * error * error;
        }
    }
    loss
}

/// The largest of a few numbers, 0 at least; NaN is passed over.
#[inline(always)]
pub(super) fn largest<const L: usize>(x: &[f32; L]) -> f32 {
    x.iter().fold(0.0, |best, &x| if x > best { x } else { best })
}

/// The number of largest magnitude, with its sign; NaN is passed over.
#[inline(always)]
pub(super) fn furthest<const L: usize>(x: &[f32; L]) -> f32 {
    x.iter().fold(0.0, |best: f32, &x| if x.abs() > best.abs() { x } else { best })
}
