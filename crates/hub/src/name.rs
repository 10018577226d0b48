//! Names: of repositories, revisions and files, checked before they become paths or addresses.

use crate::error::{Error, Result};
use std::fmt;

/// Longest name of a repository, as the hub has it.
const MAX_REPO_CHARS: usize = 96;
/// Longest path of a file.
const MAX_FILE_BYTES: usize = 1024;
/// Longest part of such a path; file systems take no more.
const MAX_PART_BYTES: usize = 250;

/// A repository of models: `organisation/name`, or a bare `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo(String);

impl Repo {
    /// Checks a name.
    ///
    /// Errors: [`Error::BadRepo`].
    pub fn new(text: &str) -> Result<Repo> {
        let good = text.len() <= MAX_REPO_CHARS
            && text.matches('/').count() <= 1
            && text.split('/').all(is_repo_part)
            && !text.contains("--") // the cache writes `/` so
            && !text.contains("..");
        if good { Ok(Repo(text.to_owned())) } else { Err(Error::BadRepo { found: text.into() }) }
    }

    /// The name as it was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that the cache keeps it in.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_repo_part(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    /// Checks a name; branches may hold slashes.
    ///
    /// Errors: [`Error::BadRevision`].
    pub fn new(text: &str) -> Result<Revision> {
        let good = is_safe_path(text) && !text.contains(['?', '#', '%', ' ', ':', '@']);
        if good {
            Ok(Revision(text.to_owned()))
        } else {
            Err(Error::BadRevision { found: text.into() })
        }
    }

    /// The name as it was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Revision {
    fn default() -> Self {
        Revision("main".into())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model on a hub as people write it: `organisation/name[@revision][:choice]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// The repository.
    pub repo: Repo,
    /// The revision; `main` where none is written.
    pub revision: Revision,
    /// Which GGUF of the repository: a file name, or a part of one such as `Q4_K_M`.
    pub choice: Option<String>,
}

impl ModelName {
    /// Reads a name.
    ///
    /// Errors: [`Error::BadRepo`], [`Error::BadRevision`].
    pub fn parse(text: &str) -> Result<ModelName> {
        let (rest, choice) = match text.split_once(':') {
            Some((rest, choice)) if is_safe_path(choice) => (rest, Some(choice.to_owned())),
            Some(_) => return Err(Error::BadRepo { found: text.into() }),
            None => (text, None),
        };
        let (repo, revision) = match rest.split_once('@') {
            Some((repo, revision)) => (Repo::new(repo)?, Revision::new(revision)?),
            None => (Repo::new(rest)?, Revision::default()),
        };
        Ok(ModelName { repo, revision, choice })
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repo)?;
        if self.revision != Revision::default() {
            write!(f, "@{}", self.revision)?;
        }
        self.choice.iter().try_for_each(|choice| write!(f, ":{choice}"))
    }
}

/// Whether `path` stays below the folder it is put in, on every system.
pub(crate) fn is_safe_path(path: &str) -> bool {
    path.len() <= MAX_FILE_BYTES
        && !path.contains(|c: char| c == '\\' || c.is_control())
        && path.split('/').all(|part| {
            !part.is_empty() && part != "." && part != ".." && part.len() <= MAX_PART_BYTES
        })
        && !path.split('/').next().is_some_and(|part| part.ends_with(':')) // `C:/…`
}

/// Whether `text` can name a blob or a snapshot: hexadecimal, or what other servers use as hashes.
pub(crate) fn is_hash(text: &str) -> bool {
    (8..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// `text` as a part of an address: what is not plain is written `%XX`; slashes only if `keep_slash`.
pub(crate) fn escape(text: &str, keep_slash: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || (keep_slash && byte == b'/') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_are_read_whole() {
        let name = ModelName::parse("deepseek-ai/DeepSeek-R1@v1.0:Q4_K_M").unwrap();
        assert_eq!(name.repo.as_str(), "deepseek-ai/DeepSeek-R1");
        assert_eq!(name.revision.as_str(), "v1.0");
        assert_eq!(name.choice.as_deref(), Some("Q4_K_M"));
        assert_eq!(name.to_string(), "deepseek-ai/DeepSeek-R1@v1.0:Q4_K_M");
        assert_eq!(name.repo.folder(), "models--deepseek-ai--DeepSeek-R1");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let bad = ["", "a/b/c", "../x", "a/..", "a/", "/a", "a b/c", "a--b/c", "a/b@", "a/b:../x"];
        for name in bad {
            assert!(ModelName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn file_names_that_would_leave_the_folder_are_unsafe() {
        let bad =
            ["", "/etc/passwd", "../x", "a/../b", "a//b", "a\\b", "C:/x", "./a", "a\0b", "a\n"];
        for name in bad {
            assert!(!is_safe_path(name), "{name:?}");
        }
        assert!(!is_safe_path(&"x".repeat(251)));
        for name in ["config.json", "UD-Q4/model-00001-of-00002.gguf", "..config", "模型.gguf"] {
            assert!(is_safe_path(name), "{name:?}");
        }
    }

    #[test]
    fn addresses_hold_nothing_that_could_be_misread() {
        assert_eq!(escape("a b?#/é", true), "a%20b%3F%23/%C3%A9");
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
