//! Learning-rate schedules as pure functions of the step (DeepSeek LLM section 2.3, V3 section 4.2).
//!
//! All share a linear warm-up `peak · step / warmup_steps`. Shares and factors are relative to the
//! total number of steps and to the peak, so a recipe can be lengthened without touching them.

use serde::{Deserialize, Serialize, Serializer};

/// The shape of the learning rate over a stage; `kind` in a recipe picks the variant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The peak throughout.
    Constant(Constant),
    /// The peak, then fixed fractions of it (LLM, Coder, Math, MoE, V2).
    MultiStep(MultiStep),
    /// A half cosine from the peak to a fraction of it (Coder-V2, SFT stages).
    Cosine(Cosine),
    /// Warm-up, stable, decay: the schedule of V3.
    Wsd(Wsd),
}

/// Settings of [`Schedule::Constant`].
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Constant {
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
}

/// Settings of [`Schedule::MultiStep`].
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiStep {
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Shares of all steps at which the factor changes, rising.
    pub boundaries: Vec<f64>,
    /// Factors on the peak, one more than there are boundaries.
    pub factors: Vec<f64>,
}

/// Settings of [`Schedule::Cosine`].
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// The last rate, as a fraction of the peak.
    pub final_factor: f64,
}

/// Settings of [`Schedule::Wsd`]; what the three shares leave is spent at `final_factor`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wsd {
    /// Steps of linear warm-up (they count into the stable share).
    pub warmup_steps: u64,
    /// Share of all steps at the peak.
    pub stable_share: f64,
    /// Share of all steps of cosine decay.
    pub decay_share: f64,
    /// Share of all steps held at the end of the decay.
    pub hold_share: f64,
    /// The rate at the end of the decay, as a fraction of the peak.
    pub decay_factor: f64,
    /// The rate of the last steps, as a fraction of the peak.
    pub final_factor: f64,
}

impl Default for MultiStep {
    fn default() -> Self {
        MultiStep { warmup_steps: 0, boundaries: vec![0.8, 0.9], factors: vec![1.0, 0.316, 0.1] }
    }
}

impl Default for Cosine {
    fn default() -> Self {
        Cosine { warmup_steps: 0, final_factor: 0.1 }
    }
}

impl Default for Wsd {
    /// The proportions of V3: 10 T, 4.3 T, 333 B and 167 B of 14.8 T tokens.
    fn default() -> Self {
        Wsd {
            warmup_steps: 0,
            stable_share: 0.6757,
            decay_share: 0.2905,
            hold_share: 0.0225,
            decay_factor: 0.1,
            final_factor: 0.0332,
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule::Constant(Constant::default())
    }
}

impl Schedule {
    /// The learning rate at `step` of `total_steps`.
    ///
    /// Steps count from 0, where a warm-up gives 0; a loop whose first update should already move
    /// passes the number of the update, counted from 1. Steps past the end keep the last rate.
    pub fn learning_rate(&self, peak: f64, step: u64, total_steps: u64) -> f64 {
        let warmup_steps = self.warmup_steps();
        if step < warmup_steps {
            return peak * step as f64 / warmup_steps as f64;
        }
        match self {
            Schedule::Constant(_) => peak,
            Schedule::MultiStep(settings) => multi_step(settings, peak, step, total_steps),
            Schedule::Cosine(settings) => cosine(settings, peak, step, total_steps),
            Schedule::Wsd(settings) => wsd(settings, peak, step, total_steps),
        }
    }

    /// Steps of linear warm-up.
    pub fn warmup_steps(&self) -> u64 {
        match self {
            Schedule::Constant(settings) => settings.warmup_steps,
            Schedule::MultiStep(settings) => settings.warmup_steps,
            Schedule::Cosine(settings) => settings.warmup_steps,
            Schedule::Wsd(settings) => settings.warmup_steps,
        }
    }
}

fn multi_step(settings: &MultiStep, peak: f64, step: u64, total_steps: u64) -> f64 {
    let progress = share_of(step, total_steps);
    let n_passed = settings.boundaries.iter().filter(|&&b| progress >= b).count();
    peak * settings.factors[n_passed.min(settings.factors.len() - 1)]
}

fn cosine(settings: &Cosine, peak: f64, step: u64, total_steps: u64) -> f64 {
    let after = step - settings.warmup_steps;
    let length = total_steps.saturating_sub(settings.warmup_steps);
    fall(peak, peak * settings.final_factor, share_of(after, length))
}

fn wsd(settings: &Wsd, peak: f64, step: u64, total_steps: u64) -> f64 {
    let progress = share_of(step, total_steps);
    let decay_ends = settings.stable_share + settings.decay_share;
    if progress < settings.stable_share {
        peak
    } else if progress < decay_ends {
        let decayed = (progress - settings.stable_share) / settings.decay_share;
        fall(peak, peak * settings.decay_factor, decayed)
    } else if progress < decay_ends + settings.hold_share {
        peak * settings.decay_factor
    } else {
        peak * settings.final_factor
    }
}

/// Half a cosine from `high` at progress 0 to `low` at progress 1.
fn fall(high: f64, low: f64, progress: f64) -> f64 {
    low + 0.5 * (high - low) * (1.0 + (std::f64::consts::PI * progress).cos())
}

fn share_of(step: u64, total_steps: u64) -> f64 {
    if total_steps == 0 { 1.0 } else { (step as f64 / total_steps as f64).min(1.0) }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use crate::recipe::Tagged;
        match self {
            Schedule::Constant(s) => Tagged { kind: "constant", settings: s }.serialize(serializer),
            Schedule::MultiStep(s) => {
                Tagged { kind: "multi-step", settings: s }.serialize(serializer)
            }
            Schedule::Cosine(s) => Tagged { kind: "cosine", settings: s }.serialize(serializer),
            Schedule::Wsd(s) => Tagged { kind: "wsd", settings: s }.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_in_a_straight_line_and_meets_the_peak() {
        let schedule = Schedule::Constant(Constant { warmup_steps: 4 });
        let rates: Vec<f64> = (0..6).map(|s| schedule.learning_rate(8.0, s, 10)).collect();
        assert_eq!(rates, [0.0, 2.0, 4.0, 6.0, 8.0, 8.0]);
    }

    #[test]
    fn stage_without_steps_keeps_the_last_rate() {
        let schedule = Schedule::Cosine(Cosine { warmup_steps: 0, final_factor: 0.5 });
        assert_eq!(schedule.learning_rate(2.0, 3, 0), 1.0);
    }

    #[test]
    fn schedules_match_the_golden_values() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden/objectives.json");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not here");
            return;
        };
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cases = all["lr_schedule"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            check_golden(case);
        }
    }

    fn check_golden(case: &serde_json::Value) {
        let number = |key: &str| case[key].as_f64().unwrap();
        let peak = number("peak");
        let warmup_steps = case["warmup_steps"].as_u64().unwrap_or(0);
        let numbers = |key: &str| -> Vec<f64> {
            case[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let (schedule, total) = match case["kind"].as_str().unwrap() {
            "multi_step" => {
                let (boundaries, factors) = (numbers("boundaries"), numbers("factors"));
                let settings = MultiStep { warmup_steps, boundaries, factors };
                (Schedule::MultiStep(settings), number("total_steps"))
            }
            "cosine" => {
                let settings = Cosine { warmup_steps, final_factor: number("minimum") / peak };
                (Schedule::Cosine(settings), number("total_steps"))
            }
            "warmup_stable_decay" => {
                let parts =
                    ["constant_tokens", "decay_tokens", "after_decay_tokens", "last_tokens"];
                let total: f64 = parts.iter().map(|part| number(part)).sum();
                let settings = Wsd {
                    warmup_steps,
                    stable_share: number(parts[0]) / total,
                    decay_share: number(parts[1]) / total,
                    hold_share: number(parts[2]) / total,
                    decay_factor: number("after_decay") / peak,
                    final_factor: number("last") / peak,
                };
                (Schedule::Wsd(settings), total)
            }
            other => panic!("unknown golden schedule `{other}`"),
        };
        for point in case["points"].as_array().unwrap() {
            let (at, expected) = (point[0].as_f64().unwrap(), point[1].as_f64().unwrap());
            let found = schedule.learning_rate(peak, at as u64, total as u64);
            let error = (found - expected).abs();
            assert!(error <= 1e-6 * expected.max(1e-9), "{case:?} at {at}: {found} vs {expected}");
        }
    }
}
