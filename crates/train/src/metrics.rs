//! What a run records of itself: figures per step (`metrics.jsonl`) and sampled answers
//! (`samples.jsonl`).
//!
//! Neither holds a time of day or a speed: a run that was interrupted and resumed leaves the same
//! bytes as one that was not. Times go to `timing.jsonl`, in the same shape.

use std::collections::BTreeMap;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names of the figures that the report draws.
pub mod name {
    /// Mean training loss, in nats per token.
    pub const LOSS: &str = "loss";
    /// Loss of the multi-token-prediction module, in nats per token.
    pub const MTP_LOSS: &str = "mtp_loss";
    /// How often the module's likeliest token is the model's: one token ahead, and further.
    pub const MTP_ACCURACY: [&str; crate::recipe::MOST_MTP_TOKENS] =
        ["mtp_accuracy", "mtp_accuracy_2", "mtp_accuracy_3", "mtp_accuracy_4"];
    /// Loss on held-out text, in nats per token.
    pub const HELD_OUT_LOSS: &str = "held_out_loss";
    /// Held-out loss in bits per byte of text.
    pub const BITS_PER_BYTE: &str = "bits_per_byte";
    /// Mean weighted sum of rewards.
    pub const REWARD: &str = "reward";
    /// Share of correct answers among the rollouts.
    pub const ACCURACY: &str = "accuracy";
    /// Share of rollouts in the wanted form.
    pub const FORMAT: &str = "format";
    /// Mean tokens of a response.
    pub const RESPONSE_TOKENS: &str = "response_tokens";
    /// Share of the reasoning in the question's language.
    pub const LANGUAGE_CONSISTENCY: &str = "language_consistency";
    /// Share of responses that were cut at the limit.
    pub const TRUNCATED: &str = "truncated";
    /// Mean KL divergence to the reference, in nats per token.
    pub const KL: &str = "kl";
    /// Load of the busiest expert over the mean load, worst layer.
    pub const EXPERT_LOAD: &str = "expert_load_max_over_mean";
    /// The same of a training without the bias update (ablation).
    pub const EXPERT_LOAD_WITHOUT_BIAS: &str = "expert_load_max_over_mean_without_bias";
    /// Entropy of the policy, in nats per token.
    pub const ENTROPY: &str = "entropy";
    /// Global norm of the gradient before clipping.
    pub const GRAD_NORM: &str = "grad_norm";
    /// Learning rate.
    pub const LEARNING_RATE: &str = "learning_rate";
}

/// The figures of one step of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Name of the stage.
    pub stage: String,
    /// Step of the stage, from 1.
    pub step: u64,
    /// Figures by name, written in the order of their names. One that is not finite is written
    /// as `null` and absent when read.
    pub values: BTreeMap<String, f64>,
}

impl Record {
    /// A record of some figures.
    pub fn new(stage: &str, step: u64, values: &[(&str, f64)]) -> Self {
        let values = values.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        Record { stage: stage.to_owned(), step, values }
    }
}

/// One answer of a model, written for people to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The stage that wrote it: a GRPO stage, or an evaluation.
    pub stage: String,
    /// Step of that stage.
    pub step: u64,
    /// The stage whose model answered.
    pub model: String,
    /// The question as posed.
    pub question: String,
    /// The right answer, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// The answer, whole.
    pub response: String,
    /// Tokens of the answer.
    pub response_tokens: usize,
    /// Whether the answer is right, if that can be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<bool>,
    /// Sum of rewards, where there are rewards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len() + 2))?;
        map.serialize_entry("stage", &self.stage)?;
        map.serialize_entry("step", &self.step)?;
        for (name, value) in &self.values {
            map.serialize_entry(name, &value.is_finite().then_some(value))?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Record;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a record with `stage`, `step` and figures")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let (mut stage, mut step, mut values) = (None, None, BTreeMap::new());
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "stage" => stage = Some(map.next_value()?),
                        "step" => step = Some(map.next_value()?),
                        _ => {
                            if let Some(value) = map.next_value::<Option<f64>>()? {
                                values.insert(key, value);
                            }
                        }
                    }
                }
                let missing = <A::Error as serde::de::Error>::missing_field;
                Ok(Record {
                    stage: stage.ok_or_else(|| missing("stage"))?,
                    step: step.ok_or_else(|| missing("step"))?,
                    values,
                })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_is_one_flat_line_in_the_order_of_names() {
        let record = Record::new("base", 3, &[("loss", 0.1), ("accuracy", 1.0), ("kl", f64::NAN)]);
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(line, r#"{"stage":"base","step":3,"accuracy":1.0,"kl":null,"loss":0.1}"#);
        let back: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(back, Record::new("base", 3, &[("loss", 0.1), ("accuracy", 1.0)]));
    }

    #[test]
    fn every_finite_figure_is_read_back_to_the_bit() {
        for value in [0.1_f32 as f64, 1e-300, -0.0, 2.0_f64.powi(60), 1.0 / 3.0] {
            let line = serde_json::to_string(&Record::new("s", 1, &[("x", value)])).unwrap();
            let back: Record = serde_json::from_str(&line).unwrap();
            assert_eq!(back.values["x"].to_bits(), value.to_bits());
        }
    }
}
