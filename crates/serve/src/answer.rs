//! An answer on its way: tokens of the engine become reasoning, content and calls of tools.
//!
//! Every protocol tells the same story from it.

mod answering;
mod calls;
mod meter;
mod prompt;
mod reply;
mod start;

pub use answering::Answering;
pub use prompt::{Prompt, prompt, with_bos};
pub use start::{Answers, EXPLAIN_TOP, ask};

use crate::refusal::Refusal;

/// What a client is told next about one answer. Texts of one kind, joined, do not depend on load.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// The prompt is being read; `n_cached` of its tokens were known.
    Began {
        /// Tokens of the prompt that were cached.
        n_cached: usize,
    },
    /// The prompt with the scores of its tokens.
    Prompt(Vec<Scored>),
    /// More of the thinking.
    Reasoning {
        /// May be empty where tokens make no whole character.
        text: String,
        /// The tokens that it is made of, if scores are asked for.
        tokens: Vec<Scored>,
    },
    /// More of the answer.
    Content {
        /// May be empty where tokens make no whole character.
        text: String,
        /// The tokens that it is made of, if scores are asked for.
        tokens: Vec<Scored>,
    },
    /// A tool shall be called.
    CallBegin {
        /// Which call of this answer, from 0.
        index: usize,
        /// Unique.
        id: String,
        /// The function.
        name: String,
    },
    /// More of the JSON text of a call's arguments.
    CallArguments {
        /// Which call of this answer.
        index: usize,
        /// The text.
        text: String,
    },
    /// Nothing more will come.
    Done {
        /// Why.
        finish: FinishReason,
        /// The stop string that ended it, if one did.
        stop: Option<String>,
        /// What it cost.
        usage: Usage,
    },
    /// Nothing more will come, because something went wrong.
    Failed(Refusal),
}

/// A token with what is known about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// The token.
    pub id: u32,
    /// Its bytes, which may be a part of a character.
    pub bytes: Vec<u8>,
    /// Its log-probability.
    pub log_prob: Option<f32>,
    /// The likeliest tokens in its place, in order.
    pub top: Vec<(u32, Vec<u8>, f32)>,
    /// The experts it visited, `num_experts_per_tok` for each MoE layer in order; empty unless asked for.
    pub experts: Vec<u16>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done, or a stop string came.
    Stop,
    /// No tokens were left.
    Length,
    /// It calls tools.
    ToolCalls,
    /// The time was over, or the server stops.
    InsufficientResource,
}

impl FinishReason {
    /// The word of OpenAI and DeepSeek.
    pub fn word(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::InsufficientResource => "insufficient_system_resource",
        }
    }
}

/// Tokens of a request, or of one of its answers: of several answers to one prompt the first counts the
/// prompt, so that their sum is the request. Hits and misses together are the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, cached.
    pub prompt_cache_hit_tokens: usize,
    /// Tokens of all answers, thinking included.
    pub completion_tokens: usize,
    /// Of those, thinking.
    pub reasoning_tokens: usize,
}

impl Usage {
    /// Tokens of the prompt that had to be read.
    pub fn prompt_cache_miss_tokens(&self) -> usize {
        self.prompt_tokens - self.prompt_cache_hit_tokens
    }

    /// This and another together.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            prompt_cache_hit_tokens: self.prompt_cache_hit_tokens + other.prompt_cache_hit_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
            reasoning_tokens: self.reasoning_tokens + other.reasoning_tokens,
        }
    }

    /// All tokens.
    pub fn total_tokens(&self) -> usize {
        self.prompt_tokens + self.completion_tokens
    }
}

#[cfg(test)]
mod tests;
