//! Rotary position embedding (arXiv:2104.09864): pairs of values turned by `position · frequency`.
//!
//! Frequencies are those of [`RopeSpec`]: plain, linearly interpolated, YaRN (arXiv:2309.00071) or
//! llama3. They are scaled at every length; there is no switch that depends on the sequence.
//!
//! Letters: N rows (tokens), D rotated values of a head.

use crate::lanes::{for_rows, per_isa, span};
use crate::threads::Shards;
use std::f64::consts::TAU;
use std::sync::OnceLock;

/// Which values form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `(x[i], x[i + D/2])`: Llama, Qwen2, DeepSeekMoE v1.
    HalfSplit,
    /// `(x[2i], x[2i + 1])`: the MLA models. The result stays in this order.
    Interleaved,
}

/// How the base frequencies are stretched to reach longer texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// `theta^(−2i/D)` as it is.
    None,
    /// Positions divided by `factor`.
    Linear { factor: f64 },
    /// High frequencies kept, low ones interpolated.
    Yarn(Yarn),
    /// As YaRN with the ramp over wavelengths.
    Llama3(Llama3),
}

/// Fields of `rope_scaling` with `type: yarn`, named as in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    pub original_max_position_embeddings: f64,
    /// 32 where the config is silent.
    pub beta_fast: f64,
    /// 1 where the config is silent.
    pub beta_slow: f64,
    /// 1 where the config is silent.
    pub mscale: f64,
    /// 0 where the config is silent.
    pub mscale_all_dim: f64,
}

/// Fields of `rope_scaling` with `rope_type: llama3`, named as in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3 {
    pub factor: f64,
    pub low_freq_factor: f64,
    pub high_freq_factor: f64,
    pub original_max_position_embeddings: f64,
}

/// What determines the rotation of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// D: rotated values per head, even.
    pub dim: usize,
    /// `rope_theta`
    pub theta: f64,
    pub scaling: Scaling,
}

/// Angles per position, and the two factors that come with YaRN.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequencies {
    /// [D/2] radians per position.
    pub inv_freq: Vec<f32>,
    /// Multiplies cos and sin; 1 in all released models.
    pub cos_sin_factor: f64,
    /// Multiplies the softmax scale of attention (the m² of YaRN); 1 without YaRN.
    pub softmax_factor: f64,
}

impl Yarn {
    /// The frequency indices between which the ramp from kept to interpolated runs.
    pub fn ramp(&self, dim: usize, theta: f64) -> (f64, f64) {
        // The index whose wavelength fits `turns` times into the original length.
        let index = |turns: f64| {
            let ratio = self.original_max_position_embeddings / (turns * TAU);
            dim as f64 * ratio.ln() / (2.0 * theta.ln())
        };
        let low = index(self.beta_fast).floor().max(0.0);
        let high = index(self.beta_slow).ceil().min(dim as f64 - 1.0);
        (low, high)
    }

    /// Attention grows by this factor (`0.1 · weight · ln(factor) + 1`), to offset the stretch.
    fn temperature(&self, weight: f64) -> f64 {
        if self.factor <= 1.0 { 1.0 } else { 0.1 * weight * self.factor.ln() + 1.0 }
    }
}

impl RopeSpec {
    /// Computes the frequencies in f64 and rounds them once.
    ///
    /// Panics if `dim` is odd.
    pub fn frequencies(&self) -> Frequencies {
        assert!(self.dim.is_multiple_of(2), "rotated width {} is odd", self.dim);
        let half = self.dim / 2;
        let base = |i: usize| self.theta.powf(-2.0 * i as f64 / self.dim as f64);
        let stretched: Vec<f64> = match self.scaling {
            Scaling::None => (0..half).map(base).collect(),
            Scaling::Linear { factor } => (0..half).map(|i| base(i) / factor).collect(),
            Scaling::Yarn(yarn) => {
                let (low, mut high) = yarn.ramp(self.dim, self.theta);
                if low == high {
                    high += 0.001; // the ramp would divide by zero
                }
                let blend = |i| {
                    let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    base(i) / yarn.factor * ramp + base(i) * (1.0 - ramp)
                };
                (0..half).map(blend).collect()
            }
            Scaling::Llama3(llama3) => (0..half).map(|i| llama3.stretch(base(i))).collect(),
        };
        let (cos_sin_factor, softmax_factor) = match self.scaling {
            Scaling::Yarn(yarn) => {
                let all = yarn.temperature(yarn.mscale_all_dim);
                (yarn.temperature(yarn.mscale) / all, all * all)
            }
            _ => (1.0, 1.0),
        };
        let inv_freq = stretched.into_iter().map(|f| f as f32).collect();
        Frequencies { inv_freq, cos_sin_factor, softmax_factor }
    }
}

impl Llama3 {
    fn stretch(&self, freq: f64) -> f64 {
        // Periods of this frequency in the original length.
        let turns = self.original_max_position_embeddings * freq / TAU;
        if turns > self.high_freq_factor {
            freq
        } else if turns < self.low_freq_factor {
            freq / self.factor
        } else {
            let kept =
                (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
            (1.0 - kept) * freq / self.factor + kept * freq
        }
    }
}

/// Positions per block of a table; a block is computed when a position in it is first met.
const BLOCK_POSITIONS: usize = 256;
/// Positions a table can hold, well above the 163 840 of the longest released model.
pub const MAX_POSITIONS: usize = 1 << 20;

/// Cosines and sines by position. Shared between threads; grows as positions are met.
pub struct RopeTable {
    frequencies: Frequencies,
    /// Per position: D/2 cosines, then D/2 sines.
    blocks: Box<[OnceLock<Box<[f32]>>]>,
}

impl RopeTable {
    /// An empty table.
    ///
    /// Panics if `spec.dim` is odd.
    pub fn new(spec: &RopeSpec) -> Self {
        let n_blocks = MAX_POSITIONS / BLOCK_POSITIONS;
        let blocks = (0..n_blocks).map(|_| OnceLock::new()).collect();
        RopeTable { frequencies: spec.frequencies(), blocks }
    }

    /// D: rotated values per head.
    pub fn dim(&self) -> usize {
        2 * self.frequencies.inv_freq.len()
    }

    /// The frequencies behind the table.
    pub fn frequencies(&self) -> &Frequencies {
        &self.frequencies
    }

    /// Cosines and sines at `position`, [D/2] each.
    ///
    /// Panics if `position` is not below [`MAX_POSITIONS`].
    pub fn at(&self, position: u32) -> (&[f32], &[f32]) {
        let position = position as usize;
        assert!(position < MAX_POSITIONS, "position {position} of at most {MAX_POSITIONS}");
        let block_idx = position / BLOCK_POSITIONS;
        let block = self.blocks[block_idx].get_or_init(|| self.block(block_idx));
        let row = &block[position % BLOCK_POSITIONS * self.dim()..][..self.dim()];
        row.split_at(self.dim() / 2)
    }

    fn block(&self, block_idx: usize) -> Box<[f32]> {
        let mut block = Vec::with_capacity(BLOCK_POSITIONS * self.dim());
        let factor = self.frequencies.cos_sin_factor;
        for position in block_idx * BLOCK_POSITIONS..(block_idx + 1) * BLOCK_POSITIONS {
            // The reference code forms the angle in f32; far out its rounding is visible.
            let angles = self.frequencies.inv_freq.iter().map(|f| (f * position as f32) as f64);
            block.extend(angles.clone().map(|a| (a.cos() * factor) as f32));
            block.extend(angles.map(|a| (a.sin() * factor) as f32));
        }
        block.into_boxed_slice()
    }
}

/// Where in a row the values to rotate are: D values at `offset` of each head.
#[derive(Clone, Copy, Debug)]
pub struct HeadSlices {
    /// Elements from one row to the next.
    pub row_stride: usize,
    pub n_heads: usize,
    /// Elements from one head to the next within a row.
    pub head_stride: usize,
    /// First rotated element within head 0; includes whatever stands before the heads in a row.
    pub offset: usize,
}

impl HeadSlices {
    /// Rows of exactly `n_heads` heads of `head_dim` values, rotated from `offset` on.
    pub fn packed(n_heads: usize, head_dim: usize, offset: usize) -> Self {
        HeadSlices { row_stride: n_heads * head_dim, n_heads, head_stride: head_dim, offset }
    }
}

/// Rotates the chosen values of every row of `x` in place, row i by `positions[i]`.
///
/// Shapes: `positions` [N], `x` [N, `heads.row_stride`].
///
/// Panics if the shapes disagree or the heads leave the row.
pub fn rotate(
    layout: Layout,
    table: &RopeTable,
    positions: &[u32],
    heads: HeadSlices,
    x: &mut [f32],
) {
    turn(layout, table, positions, heads, x, 1.0);
}

/// The transpose of [`rotate`]: turns the gradient of its result into that of its input, in place.
/// Also its inverse where the factor on cos and sin is 1.
pub fn rotate_back(
    layout: Layout,
    table: &RopeTable,
    positions: &[u32],
    heads: HeadSlices,
    x: &mut [f32],
) {
    turn(layout, table, positions, heads, x, -1.0);
}

fn turn(
    layout: Layout,
    table: &RopeTable,
    positions: &[u32],
    heads: HeadSlices,
    x: &mut [f32],
    sign: f32,
) {
    let (n, dim) = (positions.len(), table.dim());
    assert_eq!(x.len(), n * heads.row_stride, "{n} positions, rows of {}", heads.row_stride);
    if n == 0 || heads.n_heads == 0 || dim == 0 {
        return;
    }
    let end = (heads.n_heads - 1) * heads.head_stride + heads.offset + dim;
    assert!(end <= heads.row_stride, "{heads:?} with {dim} rotated values ends at {end}");
    let x = Shards::new(x);
    for_rows(n, 2 * heads.n_heads * dim, |rows| {
        // SAFETY: row ranges of one loop do not overlap.
        let part = unsafe { x.slice(span(&rows, heads.row_stride)) };
        for (x, &position) in part.chunks_exact_mut(heads.row_stride).zip(&positions[rows]) {
            let (cos, sin) = table.at(position);
            match layout {
                Layout::HalfSplit => turn_halves(x, heads, cos, sin, sign),
                Layout::Interleaved => turn_pairs(x, heads, cos, sin, sign),
            }
        }
    });
}

per_isa! {
    fn turn_halves(x: &mut [f32], heads: HeadSlices, cos: &[f32], sin: &[f32], sign: f32) {
        for head in 0..heads.n_heads {
            let at = head * heads.head_stride + heads.offset;
            let half = cos.len();
            let (low, high) = x[at..at + 2 * half].split_at_mut(half);
            let sin = &sin[..half];
            for i in 0..half {
                let (a, b, sin) = (low[i], high[i], sin[i] * sign);
                low[i] = a * cos[i] - b * sin;
                high[i] = b * cos[i] + a * sin;
            }
        }
    }
}

per_isa! {
    fn turn_pairs(x: &mut [f32], heads: HeadSlices, cos: &[f32], sin: &[f32], sign: f32) {
        for head in 0..heads.n_heads {
            let at = head * heads.head_stride + heads.offset;
            let (pairs, _) = x[at..at + 2 * cos.len()].as_chunks_mut::<2>();
            for (([a, b], &cos), &sin) in pairs.iter_mut().zip(cos).zip(sin) {
                let sin = sin * sign;
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests;
