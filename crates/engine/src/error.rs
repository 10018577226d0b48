//! What can be wrong with a request, and with what a model computed for it.

use std::fmt;

/// Why no token can be drawn.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A setting outside its range.
    Setting {
        /// The field of `Sampling` or `ServiceSettings`.
        name: &'static str,
        /// What it was.
        value: f32,
        /// What it may be.
        allowed: &'static str,
    },
    /// A logit bias for a token that does not exist.
    BiasOutside {
        /// The token.
        id: u32,
        /// Tokens that can be drawn.
        vocab_limit: usize,
    },
    /// A prompt without a token.
    EmptyPrompt,
    /// A token of a prompt that does not exist.
    TokenOutside {
        /// The token.
        id: u32,
        /// Tokens that the model knows.
        vocab_size: usize,
    },
    /// The model computed a logit that is NaN or +∞.
    LogitNotFinite {
        /// The token.
        id: u32,
        /// The logit.
        value: f32,
    },
    /// A number of tokens to guess at a time that is 0 or too large.
    DraftTokens {
        /// What it was.
        value: usize,
    },
    /// Guesses of an MTP module were asked for, and the model has none, or its cache no layer for it.
    NoMtp,
    /// No token has a probability: there are none, or all logits are −∞.
    NothingToDraw,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Setting { name, value, allowed } => {
                write!(f, "`{name}` must be {allowed}, not {value}")
            }
            Error::BiasOutside { id, vocab_limit } => {
                write!(f, "`logit_bias` names token {id}, the vocabulary has {vocab_limit} tokens")
            }
            Error::EmptyPrompt => f.write_str("the prompt has no tokens"),
            Error::TokenOutside { id, vocab_size } => {
                write!(f, "the prompt holds token {id}, the model knows {vocab_size}")
            }
            Error::LogitNotFinite { id, value } => write!(
                f,
                "the model computed the logit {value} for token {id}\n\
                 hint: its weights may be damaged, or its numbers too large for the format chosen"
            ),
            Error::DraftTokens { value } => write!(
                f,
                "{value} tokens cannot be drafted at a time: from 1 to {}",
                crate::speculate::MAX_DRAFT_TOKENS
            ),
            Error::NoMtp => f.write_str(
                "the model was loaded without a multi-token-prediction module\n\
                 hint: draft by lookup, which needs none",
            ),
            Error::NothingToDraw => f.write_str("the model gives no token any probability"),
        }
    }
}

impl std::error::Error for Error {}
