//! What can go wrong while data are read or packed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::skipped::Skipped;

/// The failures of this crate. A single bad file or row is no failure: it is skipped and counted.
#[derive(Debug)]
pub enum Error {
    /// A file or folder cannot be opened or read.
    Read { path: PathBuf, source: io::Error },
    /// A source folder was given as a file, or a file as a folder.
    WrongKind { path: PathBuf, expected: &'static str },
    /// The file is compressed in a form that is not read here.
    Compressed { path: PathBuf, form: &'static str },
    /// A data file has no byte in it, or nothing but blank lines.
    EmptyFile { path: PathBuf },
    /// A JSONL file has rows, and not one can be used. `keys` are those of its first object.
    NoRows { path: PathBuf, skipped: Skipped, keys: Vec<String> },
    /// A folder holds no file that can be used.
    NoFiles { path: PathBuf, skipped: Skipped, n_other_extension: u64 },
    /// The whole corpus is shorter than one training sequence.
    TooFewTokens { have: usize, need: usize },
    /// A batch was asked of no items at all, or of zero width.
    EmptyBatch { batch_sequences: usize, sequence_tokens: usize },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => {
                write!(f, "cannot read `{}`: {source}", path.display())
            }
            Self::WrongKind { path, expected } => {
                write!(f, "`{}` is not a {expected}", path.display())
            }
            Self::Compressed { path, form } => write!(
                f,
                "`{}` is compressed with {form}\nhint: unpack it first; plain and zstd files are read",
                path.display()
            ),
            Self::EmptyFile { path } => write!(f, "`{}` is empty", path.display()),
            Self::NoRows { path, skipped, keys } => {
                write!(f, "no usable row in `{}`: {skipped}", path.display())?;
                if let Some((reason, place)) = skipped.examples().first() {
                    write!(f, "\nhint: first skipped: {place}: {reason}")?;
                }
                if !keys.is_empty() {
                    write!(f, "; the rows have the fields `{}`", keys.join("`, `"))?;
                }
                Ok(())
            }
            Self::NoFiles { path, skipped, n_other_extension } => {
                write!(f, "no usable file under `{}`", path.display())?;
                if skipped.total() > 0 {
                    write!(f, ": {skipped}")?;
                }
                if *n_other_extension > 0 {
                    write!(
                        f,
                        "\nhint: {n_other_extension} files have another extension than asked for"
                    )?;
                }
                Ok(())
            }
            Self::TooFewTokens { have, need } => write!(
                f,
                "the corpus has {have} tokens, one sequence needs {need}\n\
                 hint: give more text or a shorter sequence"
            ),
            Self::EmptyBatch { batch_sequences, sequence_tokens } => write!(
                f,
                "a batch of {batch_sequences} sequences of {sequence_tokens} tokens holds nothing"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}
