//! Rotary embedding as plain data: which pairs, which frequencies, which factors.
//!
//! Sources: RoPE (arXiv:2104.09864), YaRN (arXiv:2309.00071) with the two `mscale` words of
//! DeepSeek-V2 (arXiv:2405.04434, section 3.1.4), linear scaling of DeepSeek-Coder
//! (arXiv:2401.14196, section 3.6), llama3 scaling as in `transformers`.
//! Legend: D rotated dimension, i = 0..D/2, base = `rope_theta`.

use std::f64::consts::PI;

/// Which elements of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// Pairs (x_i, x_{i + D/2}): Llama, Qwen2, DeepSeekMoE.
    HalfSplit,
    /// Pairs (x_{2i}, x_{2i+1}): every MLA checkpoint.
    Interleaved,
}

/// How frequencies are changed to reach further than the model was pre-trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Positions are divided by `factor`.
    Linear { factor: f64 },
    /// High frequencies stay, low ones are divided by `factor`, a ramp lies between.
    Yarn {
        factor: f64,
        original_max_position_embeddings: usize,
        beta_fast: f64,
        beta_slow: f64,
        mscale: f64,
        mscale_all_dim: f64,
    },
    /// As YaRN in spirit, with the ramp over wavelengths.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: usize,
    },
}

/// All that a rotary kernel must know.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Rotated elements per head, even.
    pub dim: usize,
    pub theta: f64,
    pub layout: RopeLayout,
    pub scaling: Option<RopeScaling>,
    /// Positions that a table has to hold.
    pub max_position_embeddings: usize,
}

/// YaRN's `0.1 m ln s + 1`, or 1 where nothing is stretched.
pub(crate) fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

impl RopeSpec {
    /// Radians per position for each pair, scaling applied at every length. Returns [D/2].
    pub fn inverse_frequencies(&self) -> Vec<f64> {
        let plain: Vec<f64> =
            (0..self.dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / self.dim as f64)).collect();
        match self.scaling {
            None => plain,
            Some(RopeScaling::Linear { factor }) => plain.iter().map(|f| f / factor).collect(),
            Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                ..
            }) => {
                let bounds = self.yarn_ramp(original_max_position_embeddings, beta_fast, beta_slow);
                plain.iter().enumerate().map(|(i, f)| yarn_blend(*f, i, factor, bounds)).collect()
            }
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            }) => {
                let original = original_max_position_embeddings as f64;
                plain
                    .iter()
                    .map(|f| {
                        let wavelength = 2.0 * PI / f;
                        let turns = original / wavelength;
                        if turns > high_freq_factor {
                            *f
                        } else if turns < low_freq_factor {
                            f / factor
                        } else {
                            let t =
                                (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                            (1.0 - t) * f / factor + t * f
                        }
                    })
                    .collect()
            }
        }
    }

    /// What cosines and sines are multiplied by; 1 unless YaRN's two `mscale` words differ.
    pub fn cos_sin_factor(&self) -> f64 {
        match self.scaling {
            Some(RopeScaling::Yarn { factor, mscale, mscale_all_dim, .. }) => {
                yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim)
            }
            _ => 1.0,
        }
    }

    /// First and last pair index of YaRN's ramp.
    fn yarn_ramp(&self, original: usize, beta_fast: f64, beta_slow: f64) -> (f64, f64) {
        let pair_with_turns = |turns: f64| {
            self.dim as f64 * (original as f64 / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
        };
        let low = pair_with_turns(beta_fast).floor().max(0.0);
        let high = pair_with_turns(beta_slow).ceil().min(self.dim as f64 - 1.0);
        (low, if low == high { high + 0.001 } else { high })
    }
}

fn yarn_blend(frequency: f64, pair_idx: usize, factor: f64, (low, high): (f64, f64)) -> f64 {
    let ramp = ((pair_idx as f64 - low) / (high - low)).clamp(0.0, 1.0);
    frequency / factor * ramp + frequency * (1.0 - ramp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(scaling: Option<RopeScaling>, dim: usize, theta: f64) -> RopeSpec {
        let layout = RopeLayout::Interleaved;
        RopeSpec { dim, theta, layout, scaling, max_position_embeddings: 4096 }
    }

    fn yarn(mscale: f64, mscale_all_dim: f64) -> Option<RopeScaling> {
        Some(RopeScaling::Yarn {
            factor: 40.0,
            original_max_position_embeddings: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
            mscale,
            mscale_all_dim,
        })
    }

    #[test]
    fn yarn_ramp_of_the_releases_runs_from_10_to_23() {
        let spec = spec(yarn(1.0, 1.0), 64, 10000.0);
        assert_eq!(spec.yarn_ramp(4096, 32.0, 1.0), (10.0, 23.0));
        let plain = RopeSpec { scaling: None, ..spec.clone() }.inverse_frequencies();
        let scaled = spec.inverse_frequencies();
        assert_eq!(scaled[..=10], plain[..=10]);
        assert!((scaled[23] - plain[23] / 40.0).abs() < 1e-15);
        assert!((scaled[31] - plain[31] / 40.0).abs() < 1e-15);
    }

    #[test]
    fn equal_mscales_leave_cosines_alone() {
        assert_eq!(spec(yarn(0.707, 0.707), 64, 10000.0).cos_sin_factor(), 1.0);
        let expected = (0.1 * 40f64.ln() + 1.0) / (0.0707 * 40f64.ln() + 1.0);
        let mixed = spec(yarn(1.0, 0.707), 64, 10000.0).cos_sin_factor();
        assert!((mixed - expected).abs() < 1e-12, "{mixed} {expected}");
    }

    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let scaling = Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        });
        let scaled = spec(scaling, 128, 500000.0).inverse_frequencies();
        let plain = spec(None, 128, 500000.0).inverse_frequencies();
        assert_eq!(scaled[0], plain[0]);
        assert_eq!(scaled[63], plain[63] / 8.0);
        assert!(scaled.iter().zip(&plain).all(|(s, p)| *s <= *p && *s >= p / 8.0));
    }

    /// Every branch against stored values, where that folder is at hand.
    #[test]
    fn frequencies_and_factors_equal_the_golden_ones() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden/objectives.json");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not here");
            return;
        };
        let close = |a: f64, b: f64, what: &str| {
            assert!((a - b).abs() <= 2e-8 * b.abs(), "{what}: {a} instead of {b}");
        };
        let all: serde_json::Value = serde_json::from_str(&text).expect("golden file is JSON");
        for list in ["yarn", "rope"] {
            for case in all[list].as_array().expect("a list of cases") {
                let dim = case["dim"].as_u64().expect("dim") as usize;
                let (theta, scaling) =
                    crate::config::parse::rope_words(case).expect("golden rope words are valid");
                let spec = spec(scaling, dim, theta);
                let expected = case["inv_freq"].as_array().expect("inv_freq");
                assert_eq!(expected.len(), dim / 2);
                for (ours, theirs) in spec.inverse_frequencies().iter().zip(expected) {
                    close(*ours, theirs.as_f64().expect("a number"), list);
                }
                if let Some(factor) = case["cos_sin_factor"].as_f64() {
                    close(spec.cos_sin_factor(), factor, "cos_sin_factor");
                }
                if let (Some(expected), Some(RopeScaling::Yarn { factor, mscale_all_dim, .. })) =
                    (case["softmax_factor"].as_f64(), spec.scaling)
                {
                    close(yarn_mscale(factor, mscale_all_dim).powi(2), expected, "softmax_factor");
                }
            }
        }
    }
}
