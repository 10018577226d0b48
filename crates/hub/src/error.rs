//! Everything that can go wrong between a hub and the disk, with what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What a function of this room returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a repository could not be fetched or found.
#[derive(Debug)]
pub enum Error {
    /// The name of a repository is not one.
    BadRepo { found: String },
    /// The name of a branch, tag or commit is not one.
    BadRevision { found: String },
    /// The token holds characters that no header may hold; the token is not shown.
    BadToken,
    /// An environment variable says something that cannot be followed.
    BadSetting { name: &'static str, found: String, expected: &'static str },
    /// No folder for the cache is named and there is no home folder.
    NoHome,
    /// `HF_HUB_OFFLINE` is set and the cache lacks what was asked for.
    Offline { repo: String, revision: String },
    /// The server knows no such repository, or hides it from whoever asks.
    NoRepo { repo: String, endpoint: String, had_token: bool },
    /// The repository has no such branch, tag or commit.
    NoRevision { repo: String, revision: String },
    /// The repository has no such file.
    NoFile { repo: String, file: String },
    /// The repository is open only to people who were let in.
    Gated { repo: String, endpoint: String, had_token: bool },
    /// The server refuses, and does not say why in words that are known.
    Refused { repo: String, endpoint: String, status: u16, had_token: bool },
    /// The server answered with a status that no request of ours expects.
    Status { url: String, status: u16, retry_after_s: Option<u64> },
    /// The name of the server cannot be looked up.
    NoHost { url: String },
    /// The connection could not be made, was cut, or stood still.
    Network { url: String, why: String },
    /// A redirect leads nowhere sensible.
    Redirect { url: String, target: String, why: &'static str },
    /// An answer that is not what the interface of the hub promises.
    BadAnswer { url: String, why: String },
    /// A file name that would leave the snapshot.
    HostileName { repo: String, name: String },
    /// A commit or hash that is no name for a file.
    HostileHash { file: String, found: String },
    /// The bytes are not those that the repository promises.
    Checksum { file: String, expected: String, found: String },
    /// More bytes than the repository promises.
    TooLong { file: String, expected: u64 },
    /// The repository changed while it was read.
    Changed { file: String, expected: String, found: String },
    /// Nothing that can be read as a model.
    NoWeights { repo: String, others: Vec<String> },
    /// Several GGUF models, of which one must be chosen: names and bytes.
    Ambiguous { repo: String, choices: Vec<(String, Option<u64>)> },
    /// No file of the repository is of the kind asked for.
    NothingMatches { repo: String, asked: String, names: Vec<String> },
    /// The disk lacks room.
    DiskFull { path: PathBuf, needed: u64, free: u64 },
    /// The system refused to read or write.
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    /// Whoever watches asked to stop; what was fetched is kept.
    Stopped,
}

impl Error {
    /// Whether a second attempt may well succeed.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Error::Network { .. } | Error::Changed { .. } => true,
            Error::Status { status, .. } => matches!(status, 408 | 416 | 425 | 429 | 500..),
            _ => false,
        }
    }
}

const SET_TOKEN: &str = "set HF_TOKEN to a token of an account that may read it (or write it with \
                         `hf auth login`)";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::BadRepo { found } => write!(
                f,
                "`{}` is no name of a repository\nhint: names look like \
                 `deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B`",
                shown(found)
            ),
            Error::BadRevision { found } => {
                write!(f, "`{}` is no name of a branch, tag or commit", shown(found))
            }
            Error::BadToken => write!(
                f,
                "the token holds characters that cannot be sent\nhint: it looks like `hf_…`, on \
                 one line; see HF_TOKEN and `$HF_HOME/token`"
            ),
            Error::BadSetting { name, found, expected } => {
                write!(f, "{name} must be {expected}: `{}`", shown(found))
            }
            Error::NoHome => write!(
                f,
                "there is no home folder to keep downloads in\nhint: set HF_HOME or HF_HUB_CACHE \
                 to a folder"
            ),
            Error::Offline { repo, revision } => write!(
                f,
                "`{repo}` ({revision}) is not in the cache, and HF_HUB_OFFLINE forbids to fetch \
                 it\nhint: unset HF_HUB_OFFLINE, or check HF_HOME and HF_HUB_CACHE"
            ),
            Error::NoRepo { repo, endpoint, had_token: false } => write!(
                f,
                "there is no public repository `{repo}` at {endpoint}\nhint: check the spelling; \
                 if it is private, {SET_TOKEN}"
            ),
            Error::NoRepo { repo, endpoint, had_token: true } => write!(
                f,
                "there is no repository `{repo}` at {endpoint} that your token may read\nhint: \
                 check the spelling and the account of the token"
            ),
            Error::NoRevision { repo, revision } => write!(
                f,
                "`{repo}` has no revision `{}`\nhint: leave it out for `main`",
                shown(revision)
            ),
            Error::NoFile { repo, file } => write!(f, "`{repo}` has no file `{}`", shown(file)),
            Error::Gated { repo, endpoint, had_token } => {
                write!(f, "`{repo}` is gated: its owner lets people in one by one\nhint: ")?;
                write!(f, "accept its terms at {endpoint}/{repo}")?;
                if !had_token { write!(f, ", then {SET_TOKEN}") } else { Ok(()) }
            }
            Error::Refused { repo, endpoint, status, had_token: true } => write!(
                f,
                "{endpoint} refuses your token for `{repo}`: status {status}\nhint: the token may \
                 have expired or lack the right to read; unset HF_TOKEN for a public repository"
            ),
            Error::Refused { repo, endpoint, status, had_token: false } => {
                write!(f, "{endpoint} refuses `{repo}`: status {status}\nhint: {SET_TOKEN}")
            }
            other => other.write_the_rest(f),
        }
    }
}

impl Error {
    /// What concerns the connection, the bytes, the choice and the disk.
    fn write_the_rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Status { url, status, .. } => {
                write!(f, "the server answered with status {status}: {}", shown(url))
            }
            Error::NoHost { url } => write!(
                f,
                "cannot find the server of {}\nhint: is this machine connected? HF_ENDPOINT names \
                 another server",
                shown(url)
            ),
            Error::Network { url, why } => {
                write!(f, "the connection failed: {}: {}", shown(url), shown(why))
            }
            Error::Redirect { url, target, why } => {
                write!(f, "{} redirects to `{}`: {why}", shown(url), shown(target))
            }
            Error::BadAnswer { url, why } => write!(
                f,
                "{} does not answer as a Hugging Face hub does: {}\nhint: check HF_ENDPOINT",
                shown(url),
                shown(why)
            ),
            Error::HostileName { repo, name } => {
                write!(f, "`{repo}` names a file that would leave its folder: `{}`", shown(name))
            }
            Error::HostileHash { file, found } => {
                write!(f, "the server gives `{}` as the hash of `{}`", shown(found), shown(file))
            }
            Error::Checksum { file, expected, found } => write!(
                f,
                "`{file}` arrived damaged and was removed: expected {expected}, found \
                 {found}\nhint: fetch it again; if it happens again, the server or something on \
                 the way changes the bytes"
            ),
            Error::TooLong { file, expected } => {
                write!(f, "the server sent more than the {expected} bytes of `{file}`")
            }
            Error::Changed { file, expected, found } => write!(
                f,
                "`{file}` changed on the server while it was fetched: {} became {}",
                shown(expected),
                shown(found)
            ),
            Error::NoWeights { repo, others } => {
                write!(f, "`{repo}` holds neither safetensors nor GGUF")?;
                if let Some(first) = others.first() {
                    write!(f, ", only such as `{}`", shown(first))?;
                }
                write!(f, "\nhint: look for a converted copy of it, or fetch files by --include")
            }
            Error::Ambiguous { repo, choices } => {
                write!(f, "`{repo}` holds {} GGUF models", choices.len())?;
                for (name, bytes) in choices {
                    write!(f, "\n  {}", shown(name))?;
                    if let Some(bytes) = bytes {
                        write!(f, "  {:.2} GB", *bytes as f64 / 1e9)?;
                    }
                }
                let first = choices.first().map_or("", |(name, _)| name.as_str());
                write!(f, "\nhint: choose one, such as `{repo}:{}`", shown(first))
            }
            Error::NothingMatches { repo, asked, names } => {
                write!(f, "no file of `{repo}` matches {}\nhint: it holds", shown(asked))?;
                for name in names.iter().take(N_NAMES_SHOWN) {
                    write!(f, " `{}`", shown(name))?;
                }
                match names.len().saturating_sub(N_NAMES_SHOWN) {
                    0 if names.is_empty() => write!(f, " nothing"),
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Error::DiskFull { path, needed, free } => write!(
                f,
                "{:.2} GB are needed and {:.2} GB are free in {}\nhint: make room, or set \
                 HF_HUB_CACHE to a folder on another disk",
                *needed as f64 / 1e9,
                *free as f64 / 1e9,
                path.display()
            ),
            Error::Io { path, doing, source } => {
                write!(f, "cannot {doing} {}: {source}", path.display())
            }
            Error::Stopped => write!(f, "stopped; what was fetched is kept"),
            _ => unreachable!("the caller writes all others"),
        }
    }
}

/// Names that an error shows at most.
const N_NAMES_SHOWN: usize = 12;
/// Characters of a server's text that an error shows at most.
const N_CHARS_SHOWN: usize = 200;

/// A server's text, unable to steer a terminal and short enough to read.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .take(N_CHARS_SHOWN)
        .collect()
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
