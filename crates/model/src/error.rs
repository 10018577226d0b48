//! What can be wrong with a model's files.

use crate::config::ConfigError;
use std::fmt;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug)]
pub enum Error {
    /// The configuration cannot work.
    Config(ConfigError),
    /// The configuration in a file cannot work.
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ConfigError,
    },
    /// A file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The weights cannot be read or written.
    Checkpoint(fathom_checkpoint::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => error.fmt(f),
            Error::ConfigFile { path, error } => write!(f, "`{}`: {error}", path.display()),
            Error::Read { path, source } => write!(f, "cannot read `{}`: {source}", path.display()),
            Error::Checkpoint(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<fathom_checkpoint::Error> for Error {
    fn from(error: fathom_checkpoint::Error) -> Self {
        Error::Checkpoint(error)
    }
}
