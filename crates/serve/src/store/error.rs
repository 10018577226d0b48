//! Everything that can go wrong between the store and its callers, with what to do about it.

use super::money::{Money, MoneyError};
use rusqlite::ErrorCode;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why the store did not do what it was asked.
#[derive(Debug)]
pub enum StoreError {
    /// The file or its folder cannot be made or opened.
    Unopenable { path: PathBuf, why: String },
    /// The bytes are not those of a database.
    Damaged { path: PathBuf, why: String },
    /// A database, but of another program.
    Foreign { path: PathBuf },
    /// Written by a newer program: versions of the tables.
    Newer { path: PathBuf, found: i64, known: i64 },
    /// Another process writes and does not stop.
    Busy { path: PathBuf },
    /// No room on the disk.
    Full { path: PathBuf },
    /// SQLite refuses for another reason.
    Sql { path: PathBuf, doing: &'static str, error: rusqlite::Error },
    /// The system gives no random bytes.
    NoRandom { why: String },
    /// A key cannot be called so.
    BadName { found: String },
    /// A key that is not revoked is called so.
    NameTaken { name: String },
    /// No key that is not revoked is called so.
    NoKey { name: String, others: Vec<String> },
    /// The sum is larger than what is kept without error.
    TooMuch { found: Money, limit: Money },
    /// The key keeps another currency.
    OtherCurrency { name: String, found: String, expected: String },
    /// A sum of money that cannot be understood.
    Money(MoneyError),
}

impl StoreError {
    /// Sorts what SQLite reports by what a person can do about it.
    pub(super) fn from_sql(error: rusqlite::Error, path: &Path, doing: &'static str) -> StoreError {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                StoreError::Damaged { path, why: error.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
            Some(ErrorCode::DiskFull) => StoreError::Full { path },
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                StoreError::Unopenable { path, why: error.to_string() }
            }
            _ => StoreError::Sql { path, doing, error },
        }
    }
}

/// Whether another process is in the way, so that a later try may succeed.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unopenable { path, why } => write!(
                f,
                "cannot open the store `{}`: {why}\nhint: choose a file in a folder that can be \
                 written",
                path.display()
            ),
            StoreError::Damaged { path, why } => write!(
                f,
                "the store `{}` is damaged: {why}\nhint: move the file away, or restore a copy of it",
                path.display()
            ),
            StoreError::Foreign { path } => write!(
                f,
                "`{}` is a database of another program\nhint: choose another file",
                path.display()
            ),
            StoreError::Newer { path, found, known } => write!(
                f,
                "the store `{}` was written by a newer program: its tables are version {found}, this \
                 program knows {known}\nhint: update this program, or choose another file",
                path.display()
            ),
            StoreError::Busy { path } => write!(
                f,
                "another process keeps the store `{}` locked\nhint: try again, or end that process",
                path.display()
            ),
            StoreError::Full { path } => {
                write!(f, "no room on the disk for the store `{}`", path.display())
            }
            StoreError::Sql { path, doing, error } => {
                write!(f, "cannot {doing} in the store `{}`: {error}", path.display())
            }
            StoreError::NoRandom { why } => write!(f, "the system gives no random bytes: {why}"),
            other => other.fmt_of_keys(f),
        }
    }
}

impl StoreError {
    /// What a person did with keys and sums.
    fn fmt_of_keys(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::BadName { found } => write!(
                f,
                "a key cannot be called {found:?}\nhint: 1 to 100 characters, none of them a control \
                 character, no space at the ends"
            ),
            StoreError::NameTaken { name } => write!(
                f,
                "there is a key `{name}` already\nhint: choose another name, or revoke that key first"
            ),
            StoreError::NoKey { name, others } if others.is_empty() => {
                write!(f, "there is no key `{name}`, nor any other\nhint: `fathom key add {name}`")
            }
            StoreError::NoKey { name, others } => {
                write!(f, "there is no key `{name}`\nhint: there are `{}`", others.join("`, `"))
            }
            StoreError::TooMuch { found, limit } => {
                write!(f, "the balance would be {}; the most is {}", found.exact(), limit.exact())
            }
            StoreError::OtherCurrency { name, found, expected } => {
                write!(f, "the key `{name}` keeps its balance in `{expected}`, not `{found}`")
            }
            StoreError::Money(error) => write!(f, "{error}"),
            _ => Ok(()), // the others are told above
        }
    }
}

impl std::error::Error for StoreError {}

impl From<MoneyError> for StoreError {
    fn from(error: MoneyError) -> StoreError {
        StoreError::Money(error)
    }
}
