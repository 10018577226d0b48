//! The kinds of stage and the settings of each; the defaults are what a recipe may leave out.

use fathom_data::corpus::CorpusSettings;
use serde::{Deserialize, Serialize, Serializer};

use super::settings::{FollowMtp, Mix, Optimizer, RewardWeight, Tagged, Template};
use crate::schedule::Schedule;

/// One stage of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// Unique in the recipe; later stages, checkpoints and figures refer to it.
    pub name: String,
    /// What is done, with its settings.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a stage does; the `kind` key of a `[[stage]]` table picks the variant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Trains a byte-level BPE.
    Tokenizer(Tokenizer),
    /// Next-token (and multi-token) prediction from random weights.
    Pretrain(Pretrain),
    /// Supervised fine-tuning on answers.
    Sft(Sft),
    /// Reinforcement learning with group-relative advantages.
    Grpo(Grpo),
    /// Samples answers and keeps the good ones for a later `sft`.
    Rejection(Rejection),
    /// Measures models on held-out problems.
    Evaluate(Evaluate),
    /// Trains twice, with and without the bias update, and records the expert load.
    Ablation(Ablation),
}

impl Kind {
    /// Every kind by name, with the keys that have no default.
    pub const ALL: &'static [(&'static str, &'static [&'static str])] = &[
        ("tokenizer", &["vocab_size"]),
        ("pretrain", &["model", "steps", "batch_sequences", "sequence_tokens"]),
        ("sft", &["from", "data"]),
        ("grpo", &["from", "template", "steps", "rewards"]),
        ("rejection", &["from", "prompts"]),
        ("evaluate", &["models"]),
        ("ablation", &["model", "steps", "batch_sequences", "sequence_tokens"]),
    ];

    /// The time limit of a stage that can have one.
    pub fn minutes(&self) -> Option<f64> {
        match self {
            Kind::Pretrain(settings) => settings.minutes,
            Kind::Sft(settings) => settings.minutes,
            Kind::Grpo(settings) => settings.minutes,
            _ => None,
        }
    }

    /// The word in the recipe.
    pub fn name(&self) -> &'static str {
        let idx = match self {
            Kind::Tokenizer(_) => 0,
            Kind::Pretrain(_) => 1,
            Kind::Sft(_) => 2,
            Kind::Grpo(_) => 3,
            Kind::Rejection(_) => 4,
            Kind::Evaluate(_) => 5,
            Kind::Ablation(_) => 6,
        };
        Kind::ALL[idx].0
    }

    /// Whether the stage leaves a model that others can start from.
    pub fn makes_model(&self) -> bool {
        matches!(self, Kind::Pretrain(_) | Kind::Sft(_) | Kind::Grpo(_))
    }
}

/// Trains a byte-level BPE on a sample of the corpus.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokenizer {
    /// Number of tokens, special ones included; at least 256 bytes plus the special ones.
    pub vocab_size: usize,
    /// Documents of the corpus that are counted.
    pub corpus_documents: usize,
}

/// Pre-trains a model of `[models]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pretrain {
    /// Name of a table of `[models]`.
    pub model: String,
    /// `task-corpus`, or a folder of text or source files.
    pub data: String,
    /// Optimizer steps.
    pub steps: u64,
    /// Sequences in a batch.
    pub batch_sequences: usize,
    /// Tokens in a sequence.
    pub sequence_tokens: usize,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Shape of the learning rate.
    pub schedule: Schedule,
    /// Weight of the multi-token-prediction loss (V3: 0.3, later 0.1).
    pub mtp_weight: f64,
    /// Step of the routing bias towards an even load (V3: 0.001); 0 switches it off.
    pub bias_update_speed: f64,
    /// Weight of the sequence-wise balance loss (V3: 0.0001).
    pub balance_alpha: f64,
    /// Tokens see only their own document of a packed sequence.
    pub document_mask: bool,
    /// Share of documents turned into fill-in-the-middle form, 0..=1.
    pub fim_rate: f64,
    /// Ends after this many minutes of work in all, if set. Resumed with more, the stage goes on,
    /// unless a later stage has begun from its model. The schedule is that of all `steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Steps between measurements on held-out text; 0: only at the end.
    pub evaluate_every_steps: u64,
    /// Steps between checkpoints; 0: only at the end.
    pub checkpoint_every_steps: u64,
    /// What `task-corpus` is made of; unused with a folder.
    pub corpus: CorpusSettings,
}

/// Fine-tunes on answers; the loss covers the answer only.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sft {
    /// An earlier stage, or the path of a checkpoint.
    pub from: String,
    /// Passes over the data.
    pub epochs: u64,
    /// Tokens in a batch.
    pub batch_tokens: usize,
    /// Longer examples are dropped and counted.
    pub max_tokens: usize,
    /// Ends after this many minutes of work in all, if set, as in pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Steps between checkpoints; 0: only at the end.
    pub checkpoint_every_steps: u64,
    /// Step of the routing bias; 0 leaves it as pre-training set it.
    pub bias_update_speed: f64,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Shape of the learning rate.
    pub schedule: Schedule,
    /// How the MTP module follows, if the model has one.
    pub mtp: FollowMtp,
    /// Where the examples come from, in order.
    pub data: Vec<SftSource>,
}

/// One source of examples of an [`Sft`] stage; `kind` picks the variant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SftSource {
    /// Long, clean solutions written by the task itself.
    ColdStart(Count),
    /// Samples kept by an earlier `rejection` stage.
    Samples(StageSamples),
    /// Other kinds of prompt, answered by the task itself.
    General(Count),
    /// Worked answers of the task's own training file.
    Task(Count),
    /// Question and answer pairs of a file.
    Jsonl(FileExamples),
}

/// A number of generated examples.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Count {
    /// Examples; 0: all there are (an error where they are endless).
    pub count: usize,
}

/// Examples from an earlier stage.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageSamples {
    /// An earlier `rejection` stage.
    pub stage: String,
    /// Examples; 0: all there are.
    pub count: usize,
}

/// Examples from a file.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileExamples {
    /// JSONL file with `question` and `answer`.
    pub path: String,
    /// Examples; 0: all there are.
    pub count: usize,
}

/// Group-relative policy optimisation.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grpo {
    /// An earlier stage, or the path of a checkpoint.
    pub from: String,
    /// Wording around the question.
    pub template: Template,
    /// Rollout steps.
    pub steps: u64,
    /// Questions per step.
    pub prompts_per_step: usize,
    /// Answers per question, at least 2.
    pub group_size: usize,
    /// Optimizer updates per step: the questions are cut into so many parts.
    pub mini_batches: usize,
    /// Longer answers are cut.
    pub max_new_tokens: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Probability mass that sampling keeps.
    pub top_p: f64,
    /// The ratio is clipped below `1 - clip_low`.
    pub clip_low: f64,
    /// The ratio is clipped above `1 + clip_high`; R1 used 10.
    pub clip_high: f64,
    /// Weight of the KL term to the reference; 0 keeps no reference.
    pub kl_weight: f64,
    /// Steps after which the reference becomes the policy; 0: never.
    pub reference_reset_steps: u64,
    /// How token losses are averaged.
    pub loss: GrpoLoss,
    /// Divides advantages by the group's standard deviation.
    pub scale_by_std: bool,
    /// Step of the routing bias; 0 leaves it as pre-training set it.
    pub bias_update_speed: f64,
    /// Ends after this many minutes of work in all, if set, as in pre-training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Steps between sample transcripts; 0: none.
    pub samples_every_steps: u64,
    /// Steps between checkpoints; 0: only at the end.
    pub checkpoint_every_steps: u64,
    /// Shares of the kinds of prompt; empty: reasoning problems only.
    pub prompts: Mix,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Shape of the learning rate.
    pub schedule: Schedule,
    /// How the MTP module follows, if the model has one.
    pub mtp: FollowMtp,
    /// The rewards that are summed.
    pub rewards: Vec<RewardWeight>,
}

/// How the token losses of a group are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrpoLoss {
    /// Mean over the tokens of an answer, then over answers (DeepSeekMath).
    #[default]
    SequenceMean,
    /// Mean over all tokens.
    TokenMean,
    /// Sum over tokens divided by answers times the longest allowed answer.
    DrGrpo,
}

/// Samples answers and keeps correct ones in the question's language.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rejection {
    /// An earlier stage, or the path of a checkpoint.
    pub from: String,
    /// Wording around the question.
    pub template: Template,
    /// Questions.
    pub prompts: usize,
    /// Answers per question.
    pub samples_per_prompt: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Probability mass that sampling keeps.
    pub top_p: f64,
    /// Longer answers are cut (and so rejected).
    pub max_new_tokens: usize,
    /// Accepted answers kept per question.
    pub keep_per_prompt: usize,
    /// Least share of the reasoning in the question's language, 0..=1.
    pub language_min_share: f64,
    /// Examples of other kinds added beside.
    pub general_count: usize,
}

/// Measures models on the same held-out problems.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluate {
    /// Stages whose models are measured, in the order of the table.
    pub models: Vec<String>,
    /// Held-out problems.
    pub problems: usize,
    /// Answers per problem: k of pass@k and maj@k.
    pub samples_per_problem: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Probability mass that sampling keeps.
    pub top_p: f64,
    /// Longer answers are cut and counted as truncated.
    pub max_new_tokens: usize,
}

/// Shows what the bias update does to the load of the experts.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ablation {
    /// Name of a table of `[models]`.
    pub model: String,
    /// `task-corpus`, or a folder of text or source files.
    pub data: String,
    /// Optimizer steps of each of the two trainings.
    pub steps: u64,
    /// Sequences in a batch.
    pub batch_sequences: usize,
    /// Tokens in a sequence.
    pub sequence_tokens: usize,
    /// Step of the routing bias in the training that uses it.
    pub bias_update_speed: f64,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Shape of the learning rate.
    pub schedule: Schedule,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Tokenizer { vocab_size: 0, corpus_documents: 2000 }
    }
}

impl Default for Pretrain {
    fn default() -> Self {
        Pretrain {
            model: String::new(),
            data: "task-corpus".into(),
            steps: 0,
            batch_sequences: 0,
            sequence_tokens: 0,
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            mtp_weight: 0.3,
            bias_update_speed: 0.001,
            balance_alpha: 1e-4,
            document_mask: true,
            fim_rate: 0.0,
            minutes: None,
            evaluate_every_steps: 0,
            checkpoint_every_steps: 0,
            corpus: CorpusSettings::default(),
        }
    }
}

impl Default for Sft {
    fn default() -> Self {
        Sft {
            from: String::new(),
            epochs: 2,
            batch_tokens: 4096,
            max_tokens: 1024,
            minutes: None,
            checkpoint_every_steps: 0,
            bias_update_speed: 0.0,
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            mtp: FollowMtp::default(),
            data: Vec::new(),
        }
    }
}

impl Default for Count {
    fn default() -> Self {
        Count { count: 1000 }
    }
}

impl Default for Grpo {
    fn default() -> Self {
        Grpo {
            from: String::new(),
            template: Template::Chat,
            steps: 0,
            prompts_per_step: 32,
            group_size: 16,
            mini_batches: 1,
            max_new_tokens: 256,
            temperature: 1.0,
            top_p: 1.0,
            clip_low: 0.2,
            clip_high: 0.2,
            kl_weight: 0.001,
            reference_reset_steps: 400,
            loss: GrpoLoss::SequenceMean,
            scale_by_std: true,
            bias_update_speed: 0.0,
            minutes: None,
            samples_every_steps: 10,
            checkpoint_every_steps: 0,
            prompts: Mix::new(),
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            mtp: FollowMtp::default(),
            rewards: Vec::new(),
        }
    }
}

impl Default for Rejection {
    fn default() -> Self {
        Rejection {
            from: String::new(),
            template: Template::Chat,
            prompts: 0,
            samples_per_prompt: 4,
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 256,
            keep_per_prompt: 1,
            language_min_share: 0.9,
            general_count: 0,
        }
    }
}

impl Default for Evaluate {
    fn default() -> Self {
        Evaluate {
            models: Vec::new(),
            problems: 512,
            samples_per_problem: 8,
            temperature: 1.0,
            top_p: 1.0,
            max_new_tokens: 256,
        }
    }
}

impl Default for Ablation {
    fn default() -> Self {
        Ablation {
            model: String::new(),
            data: "task-corpus".into(),
            steps: 0,
            batch_sequences: 0,
            sequence_tokens: 0,
            bias_update_speed: 0.001,
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = self.name();
        match self {
            Kind::Tokenizer(settings) => Tagged { kind, settings }.serialize(serializer),
            Kind::Pretrain(settings) => Tagged { kind, settings }.serialize(serializer),
            Kind::Sft(settings) => Tagged { kind, settings }.serialize(serializer),
            Kind::Grpo(settings) => Tagged { kind, settings }.serialize(serializer),
            Kind::Rejection(settings) => Tagged { kind, settings }.serialize(serializer),
            Kind::Evaluate(settings) => Tagged { kind, settings }.serialize(serializer),
            Kind::Ablation(settings) => Tagged { kind, settings }.serialize(serializer),
        }
    }
}

impl Serialize for SftSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SftSource::ColdStart(s) => {
                Tagged { kind: "cold-start", settings: s }.serialize(serializer)
            }
            SftSource::Samples(s) => Tagged { kind: "samples", settings: s }.serialize(serializer),
            SftSource::General(s) => Tagged { kind: "general", settings: s }.serialize(serializer),
            SftSource::Task(s) => Tagged { kind: "task", settings: s }.serialize(serializer),
            SftSource::Jsonl(s) => Tagged { kind: "jsonl", settings: s }.serialize(serializer),
        }
    }
}
