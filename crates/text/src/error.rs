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
    /// A merge of a token that the vocabulary lacks, or that gives one; `index` counts from 0.
    Merge { path: PathBuf, index: usize, left: String, right: String },
    /// A merge that is not two tokens with a space between.
    MergeForm { index: usize, merge: String },
    /// A GGUF names a way of cutting text that this program does not have.
    PreTokenizer { found: String },
    /// The way of cutting text has no name that a GGUF could hold.
    NoPreTokenizer,
    /// A vocabulary with more or fewer types than tokens.
    VocabularyLengths { tokens: usize, types: usize },
    /// A token type that does not exist, or a byte that is none.
    TokenType { id: u32, token: String, found: i32 },
    /// The begin, end or padding token is not in the vocabulary.
    IdOutside { which: &'static str, id: u32, n_tokens: usize },
    /// A key of `tokenizer_config.json`, or all of it, has the wrong kind of value.
    ConfigValue { path: PathBuf, key: &'static str, found: String, expected: &'static str },
    /// The vocabulary asked for does not even hold the bytes and the special tokens.
    VocabTooSmall { found: usize, minimum: usize },
    /// A special token is empty or given twice.
    SpecialToken { token: String },
    /// The tokenizer lacks a token that the chat format needs.
    MissingToken { token: &'static str },
    /// A conversation that the chat format cannot express; `index` counts messages from 0.
    Conversation { index: usize, found: &'static str, expected: &'static str },
    /// A chat template cannot be compiled, or failed while it was rendered.
    Template { path: String, line: Option<usize>, source: Box<minijinja::Error> },
    /// A chat template is longer than any real one, in bytes.
    TemplateSize { path: String, found: usize, limit: usize },
    /// A chat template refused the conversation, with `message`.
    Refused { path: String, message: String },
    /// A conversation holds so many private characters that none is left to guard it.
    MarksTaken,
    /// A model without the tokens of fill-in-the-middle.
    NoFim { token: &'static str },
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
            Merge { path, index, left, right } => write!(
                f,
                "tokenizer `{}` contradicts itself: merge {index} joins `{left}` and `{right}`, \
                 and the vocabulary lacks one of them or the result",
                path.display()
            ),
            MergeForm { index, merge } => {
                write!(f, "merge {index} is not two tokens with a space between: `{merge}`")
            }
            PreTokenizer { found } => write!(
                f,
                "there is no pre-tokenizer `{found}`\nhint: known are `{}`",
                crate::pretokenize::families::names()
            ),
            NoPreTokenizer => write!(
                f,
                "a gguf file cannot hold this tokenizer: its pre-tokenizer has no name\nhint: \
                 those of `{}` have one",
                crate::pretokenize::families::names()
            ),
            VocabularyLengths { tokens, types } => {
                write!(f, "the vocabulary has {tokens} tokens, but {types} token types")
            }
            TokenType { id, token, found } => {
                write!(f, "token {id}, `{token}`, cannot have the type {found}")
            }
            IdOutside { which, id, n_tokens } => {
                write!(f, "the {which} token has id {id}, but the vocabulary has {n_tokens} tokens")
            }
            ConfigValue { path, key, found, expected } => {
                write!(f, "tokenizer configuration `{}`: ", path.display())?;
                if !key.is_empty() {
                    write!(f, "`{key}` is ")?;
                }
                write!(f, "{found}, expected {expected}")
            }
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
            Template { path, line, source } => {
                write!(f, "chat template `{path}`")?;
                line.iter().try_for_each(|line| write!(f, ", line {line}"))?;
                write!(f, ": {}", source.kind())?;
                source.detail().iter().try_for_each(|detail| write!(f, ": {detail}"))?;
                let hint = match source.kind() {
                    minijinja::ErrorKind::OutOfFuel => {
                        "it takes more steps or writes more text than any honest template"
                    }
                    _ => "another format can be chosen by name, or text continued without one",
                };
                write!(f, "\nhint: {hint}")
            }
            TemplateSize { path, found, limit } => {
                write!(f, "chat template `{path}` has {found} bytes, at most {limit} are accepted")
            }
            Refused { path, message } => {
                write!(f, "chat template `{path}` refuses this conversation: {message}")
            }
            MarksTaken => write!(
                f,
                "the conversation uses every private character from U+F0000 to U+FFFFD, none is \
                 left to guard control tokens"
            ),
            NoFim { token } => write!(
                f,
                "this model cannot fill in the middle: its tokenizer has no `{token}`\nhint: \
                 Coder and Coder-V2 base models and V3 can"
            ),
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
            Error::Template { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
