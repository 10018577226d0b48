//! Settings that several kinds of stage share: precision, task, optimizer, mixes, templates.

use std::collections::BTreeMap;

use fathom_data::task::arithmetic::ProblemMix;
use serde::{Deserialize, Serialize, Serializer};

/// Shares of a mixture by name, each 0..=1; they are divided by their sum when used.
pub type Mix = BTreeMap<String, f64>;

/// The number format of matrix products; master weights and sums stay f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Inputs of products rounded to bf16, sums in f32.
    #[default]
    Bf16,
    /// Everything in f32.
    F32,
}

/// What the run learns to do; `kind` picks the variant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Arithmetic word problems made by the program itself, endless and seeded.
    Arithmetic(ProblemMix),
    /// Questions and answers from JSONL files, judged by the math checker.
    Questions(Questions),
    /// A folder of source files, split by file.
    Sources(Sources),
}

/// Settings of [`Task::Questions`].
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Questions {
    /// JSONL file with a question and a worked answer per line; required.
    pub train: String,
    /// JSONL file of held-out questions; empty: `held_out_share` of `train` is set aside.
    pub test: String,
    /// Share of `train` kept from training where `test` is empty.
    pub held_out_share: f64,
}

/// Settings of [`Task::Sources`].
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sources {
    /// Folder searched for files; required.
    pub folder: String,
    /// File name endings without the dot, such as `rs`; empty: every text file.
    pub extensions: Vec<String>,
    /// Share of the files kept from training.
    pub held_out_share: f64,
    /// Files larger than this are skipped.
    pub max_file_bytes: u64,
}

/// The wording around a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// The preamble of R1-Zero, for a base model that has seen no chat.
    R1Zero,
    /// The turns of the chat models.
    #[default]
    Chat,
}

/// AdamW with decoupled decay.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimizer {
    /// Peak of the learning rate; the schedule shapes it.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay (matrices only).
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 does not clip.
    pub grad_clip: f64,
    /// Number format of the moments.
    pub moments: Moments,
}

/// How the MTP module follows a model that goes on learning (`docs/mtp.md`). The model does not notice.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FollowMtp {
    /// Learning rate of the module, as a multiple of the stage's; 0 leaves the module as it is.
    pub rate_factor: f64,
    /// How many tokens it learns to guess, one from the other; at most [`MOST_MTP_TOKENS`].
    pub tokens: usize,
    /// Share of the sequences that it learns from, above 0.
    pub share: f64,
}

/// Most tokens that [`FollowMtp`] is taught to guess.
pub const MOST_MTP_TOKENS: usize = 4;

/// Number format of the AdamW moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moments {
    /// 32-bit moments.
    #[default]
    F32,
    /// 16-bit moments, as V3 keeps them.
    Bf16,
}

/// One reward of a GRPO stage and its weight in the sum.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RewardWeight {
    /// Name of the reward in the table of rewards.
    pub name: String,
    /// Factor in the weighted sum.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for Sources {
    fn default() -> Self {
        Sources {
            folder: String::new(),
            extensions: Vec::new(),
            held_out_share: 0.02,
            max_file_bytes: 1 << 20,
        }
    }
}

impl Default for Task {
    fn default() -> Self {
        Task::Arithmetic(ProblemMix::default())
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            grad_clip: 1.0,
            moments: Moments::F32,
        }
    }
}

impl Default for FollowMtp {
    fn default() -> Self {
        FollowMtp { rate_factor: 1.0, tokens: 2, share: 0.25 }
    }
}

/// A settings struct with its `kind` written beside its own keys, as recipes are read.
#[derive(Serialize)]
pub struct Tagged<'a, T: Serialize> {
    /// The word that picks the variant.
    pub kind: &'a str,
    /// The settings of that variant.
    #[serde(flatten)]
    pub settings: &'a T,
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Task::Arithmetic(s) => Tagged { kind: "arithmetic", settings: s }.serialize(serializer),
            Task::Questions(s) => Tagged { kind: "questions", settings: s }.serialize(serializer),
            Task::Sources(s) => Tagged { kind: "sources", settings: s }.serialize(serializer),
        }
    }
}
