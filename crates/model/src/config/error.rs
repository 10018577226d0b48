//! What can be wrong with a configuration, each case with the values that show it.

use std::fmt;

use crate::registry::ARCHITECTURES;

/// A configuration that cannot be read or cannot work.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigError {
    /// The text is not JSON.
    NotJson { line: usize, column: usize, reason: String },
    /// The document, or a nested part of it, is not an object.
    NotAnObject { field: String, found: String },
    /// A word that the architecture cannot do without.
    Missing { field: String, model_type: &'static str },
    /// A word with a value of another kind.
    WrongType { field: String, expected: &'static str, found: String },
    /// No architecture has this name.
    UnknownModelType { found: String },
    /// A recipe uses a word that no configuration has.
    UnknownWord { word: String, nearest: Option<&'static str> },
    /// A recipe sets a word that this architecture never reads.
    NoEffect { word: String, model_type: &'static str },
    /// A value that exists elsewhere but not here.
    Unsupported { field: String, found: String, hint: &'static str },
    /// A count outside the bounds that any real model keeps.
    OutOfRange { field: &'static str, value: u128, min: u128, max: u128 },
    /// A real number that no formula can use.
    BadNumber { field: &'static str, value: f64, expected: &'static str },
    /// A count that must be a multiple of another.
    NotDivisible {
        field: &'static str,
        value: usize,
        divisor_field: &'static str,
        divisor: usize,
        hint: &'static str,
    },
    /// A count larger than another allows.
    Exceeds {
        field: &'static str,
        value: usize,
        limit_field: &'static str,
        limit: usize,
        hint: &'static str,
    },
    /// Two words that must agree.
    Disagree {
        field: &'static str,
        value: String,
        other_field: &'static str,
        other: String,
        hint: &'static str,
    },
    /// A sequence that has more tokens than the model has positions.
    SequenceTooLong { n_tokens: usize, max_position_embeddings: usize },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { line, column, reason } => {
                write!(f, "not JSON at line {line}, column {column}: {reason}")
            }
            Self::NotAnObject { field, found } => {
                write!(f, "`{field}` must be an object of words and values, found {found}")
            }
            Self::Missing { field, model_type } => write!(
                f,
                "`{field}` is missing, and a `{model_type}` model needs it\n\
                 hint: add `{field}`; a preset close to what you want has a value for it"
            ),
            Self::WrongType { field, expected, found } => {
                write!(f, "`{field}` must be {expected}, found {found}")
            }
            Self::UnknownModelType { found } => {
                let known: Vec<&str> = ARCHITECTURES.iter().map(|a| a.model_type).collect();
                write!(f, "unknown `model_type` `{found}`\nhint: known are {}", known.join(", "))
            }
            Self::UnknownWord { word, nearest } => {
                write!(f, "unknown word `{word}`")?;
                match nearest {
                    Some(nearest) => write!(f, "\nhint: did you mean `{nearest}`?"),
                    None => write!(f, "\nhint: the words are those of a released config.json"),
                }
            }
            Self::NoEffect { word, model_type } => write!(
                f,
                "`{word}` has no effect in a `{model_type}` model\n\
                 hint: remove it, or choose a `model_type` that reads it"
            ),
            Self::Unsupported { field, found, hint } => {
                write!(f, "`{field}` = {found} is not supported\nhint: {hint}")
            }
            Self::OutOfRange { field, value, min, max } => {
                write!(f, "`{field}` must lie between {min} and {max}, found {value}")
            }
            Self::BadNumber { field, value, expected } => {
                write!(f, "`{field}` must be {expected}, found {value}")
            }
            Self::NotDivisible { field, value, divisor_field, divisor, hint } => write!(
                f,
                "`{field}` = {value} is not a multiple of {divisor_field} = {divisor}\nhint: {hint}"
            ),
            Self::Exceeds { field, value, limit_field, limit, hint } => write!(
                f,
                "`{field}` = {value} is above what {limit_field} = {limit} allows\nhint: {hint}"
            ),
            Self::Disagree { field, value, other_field, other, hint } => write!(
                f,
                "`{field}` = {value} does not go with `{other_field}` = {other}\nhint: {hint}"
            ),
            Self::SequenceTooLong { n_tokens, max_position_embeddings } => write!(
                f,
                "a sequence of {n_tokens} tokens is longer than \
                 `max_position_embeddings` = {max_position_embeddings}\n\
                 hint: shorten the sequence, or raise `max_position_embeddings` before training"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
