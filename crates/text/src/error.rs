//! What can be wrong with a tokenizer file, a training request or a conversation.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why text could not be turned into tokens. `path` is `tokenizer.json` where bytes came from memory.
#[derive(Debug)]
pub enum Error {
    /// The system refused to read.
    Read { path: PathBuf, source: io::Error },
    /// The system refused to write.
    Write { path: PathBuf, source: io::Error },
    /// The file is not a `tokenizer.json`.
    Json { path: PathBuf, source: serde_json::Error },
    /// The file is JSON, but its parts contradict each other.
    Inconsistent { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    /// A kind of tokenizer this program does not have; `part` is the key in the file.
    Unsupported { path: PathBuf, part: &'static str, found: String, expected: &'static str },
    /// A regular expression of the file cannot be compiled.
    Pattern { path: PathBuf, pattern: String, source: Box<fancy_regex::Error> },
    /// An added token's id is not the one its place in the vocabulary gives it.
    TokenId { path: PathBuf, token: String, found: u32, expected: Option<u32> },
    /// An id far beyond any vocabulary.
    IdTooLarge { path: PathBuf, token: String, found: u32, limit: u32 },
    /// The vocabulary asked for does not even hold the bytes and the special tokens.
    VocabTooSmall { found: usize, minimum: usize },
    /// A special token is empty or given twice.
    SpecialToken { token: String },
    /// The tokenizer lacks a token that the chat format needs.
    MissingToken { token: &'static str },
    /// A conversation that the chat format cannot express; `index` counts messages from 0.
    Conversation { index: usize, found: &'static str, expected: &'static str },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Error::*;
        match self {
            Read { path, source } => {
                write!(f, "cannot read tokenizer `{}`: {source}", path.display())
            }
            Write { path, source } => {
                write!(f, "cannot write tokenizer `{}`: {source}", path.display())
            }
            Json { path, source } => write!(
                f,
                "`{}` is no tokenizer file: {source}\nhint: the file is incomplete, or it is not \
                 a `tokenizer.json`",
                path.display()
            ),
            Inconsistent { path, source } => {
                write!(f, "tokenizer `{}` contradicts itself: {source}", path.display())
            }
            Unsupported { path, part, found, expected } => write!(
                f,
                "tokenizer `{}`: `{part}` is {found}, expected {expected}\nhint: only byte-level \
                 bpe tokenizers can be used",
                path.display()
            ),
            Pattern { path, pattern, source } => {
                write!(f, "tokenizer `{}`: bad pattern `{pattern}`: {source}", path.display())
            }
            TokenId { path, token, found, expected } => {
                write!(f, "tokenizer `{}`: token `{token}` has id {found}", path.display())?;
                expected
                    .iter()
                    .try_for_each(|id| write!(f, ", its place in the vocabulary is {id}"))
            }
            IdTooLarge { path, token, found, limit } => write!(
                f,
                "tokenizer `{}`: token `{token}` has id {found}, at most {limit} is accepted",
                path.display()
            ),
            VocabTooSmall { found, minimum } => write!(
                f,
                "a vocabulary of {found} tokens is too small\nhint: bytes and special tokens \
                 alone need {minimum}"
            ),
            SpecialToken { token } => {
                write!(f, "special token `{token}` is empty or given twice")
            }
            MissingToken { token } => write!(
                f,
                "the tokenizer has no token `{token}`\nhint: this model was not made for this \
                 chat format"
            ),
            Conversation { index, found, expected } => {
                write!(f, "message {index} is {found}, expected {expected}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Read { source, .. } | Error::Write { source, .. } => Some(source),
            Error::Json { source, .. } => Some(source),
            Error::Inconsistent { source, .. } => Some(source.as_ref()),
            Error::Pattern { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
