//! What is asked of the model, in no particular protocol. Routes make it, [`crate::answer`] obeys it.

use crate::served::Defaults;
use fathom_text::Conversation;
use serde_json::Value;
use std::collections::BTreeMap;

/// One request: one prompt, `n` answers.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is continued.
    pub prompt: PromptAsk,
    /// How tokens are chosen.
    pub sampling: SamplingAsk,
    /// Answers wanted, at least 1.
    pub n: usize,
    /// Most tokens of an answer; none: the default of the model.
    pub max_tokens: Option<usize>,
    /// Texts that end an answer, which are not part of it.
    pub stop: Vec<String>,
    /// How many likeliest tokens are reported beside each token; none: no log-probabilities.
    pub n_top_log_probs: Option<usize>,
    /// Whether the prompt's tokens are scored too.
    pub score_prompt: bool,
    /// Which experts each token visited, for the page.
    pub explain: bool,
}

/// What is continued.
#[derive(Clone, Debug)]
pub enum PromptAsk {
    /// The next turn of a conversation.
    Chat(ChatAsk),
    /// Text, whose control tokens count; BOS is put in front.
    Text(String),
    /// Tokens as they are.
    Ids(Vec<u32>),
    /// The text between two others.
    Fill {
        /// What stands before the hole.
        prefix: String,
        /// What stands behind it.
        suffix: String,
    },
}

/// The next turn of a conversation.
#[derive(Clone, Debug)]
pub struct ChatAsk {
    /// Messages, and the tools the model is told about.
    pub conversation: Conversation,
    /// Whether to think first; none: as the model does.
    pub thinking: Option<bool>,
    /// Whether the last message, the assistant's, is the beginning of the answer.
    pub prefix: bool,
    /// Whether and which tools are called.
    pub tool_choice: ToolChoice,
    /// Several calls may stand in one answer.
    pub parallel_tool_calls: bool,
    /// What the answer must look like.
    pub format: Format,
}

/// Whether and which tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// No tool; the model is not told of any.
    None,
    /// At least one.
    Required,
    /// This one.
    Named(String),
}

/// What the answer must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema(Value),
}

/// How tokens are chosen, where the request says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingAsk {
    /// 0 to 2.
    pub temperature: Option<f32>,
    /// Above 0, at most 1.
    pub top_p: Option<f32>,
    /// 0 is all.
    pub top_k: Option<usize>,
    /// 0 is all.
    pub min_p: Option<f32>,
    /// 1 does nothing.
    pub repetition_penalty: Option<f32>,
    /// From -2 to 2.
    pub frequency_penalty: f32,
    /// From -2 to 2.
    pub presence_penalty: f32,
    /// From -100 to 100 by token id.
    pub logit_bias: BTreeMap<u32, f32>,
    /// None: a new one for every request.
    pub seed: Option<u64>,
    /// Tokens that end an answer are all but impossible, so that answers have the length asked for.
    pub ignore_eos: bool,
}

impl SamplingAsk {
    /// Temperature, top-p and top-k with the model's defaults where the request says nothing.
    pub fn over(&self, defaults: &Defaults) -> (f32, f32, usize) {
        (
            self.temperature.unwrap_or(defaults.temperature),
            self.top_p.unwrap_or(defaults.top_p),
            self.top_k.unwrap_or(defaults.top_k),
        )
    }
}
