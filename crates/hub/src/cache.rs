//! The folders of the cache, as `huggingface_hub` lays them out, and what is found in them.
//!
//! ```text
//! models--org--name/blobs/<hash>                      the bytes, once
//! models--org--name/refs/<branch or tag>              a commit, as text
//! models--org--name/snapshots/<commit>/<file>         a link to ../../blobs/<hash>
//! .locks/models--org--name/<hash>.lock                held while the blob is fetched
//! ```

use crate::error::{Error, Result};
use crate::name::{ModelName, Repo, Revision, is_hash, is_safe_path};
use crate::select::{self, Listed, is_safetensors, n_gguf_parts};
use crate::settings;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A commit is no longer than this, nor is a file that holds one.
const MAX_REF_BYTES: u64 = 256;
/// Longest index of shards that is read.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Files of a snapshot that are looked at, and folders within folders.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 8;

/// The folder in which downloads are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

/// What the cache holds of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing of that revision or choice.
    Nothing,
    /// Some of its files; these are among those that are missing.
    Part { dir: PathBuf, missing: Vec<String> },
    /// A directory with settings and all safetensors.
    Directory(PathBuf),
    /// A GGUF file, the first one if it has parts; all parts are there.
    Gguf(PathBuf),
}

impl Cache {
    /// The cache in this folder, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Cache {
        Cache { root: root.into() }
    }

    /// The cache that the environment names: `HF_HUB_CACHE`, else `$HF_HOME/hub`, else
    /// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
    ///
    /// Errors: [`Error::NoHome`].
    pub fn from_env() -> Result<Cache> {
        settings::cache_dir().map(Cache::at)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The snapshot of a revision, if any file of it was ever fetched. No connection is made.
    pub fn find(&self, repo: &Repo, revision: &Revision) -> Option<PathBuf> {
        let folder = self.of(repo);
        let from_ref = read_bounded(&folder.reference(revision), MAX_REF_BYTES);
        let commit = match &from_ref {
            Some(text) => std::str::from_utf8(text).ok()?.trim(),
            None => revision.as_str(), // perhaps a commit
        };
        let dir = is_hash(commit).then(|| folder.snapshot(commit))?;
        dir.is_dir().then_some(dir)
    }

    /// What is held of a model, so that nothing is fetched twice and no half model is opened.
    ///
    /// Errors: [`Error::Ambiguous`] if several GGUF models are held and none is chosen.
    pub fn held(&self, name: &ModelName) -> Result<Held> {
        let Some(dir) = self.find(&name.repo, &name.revision) else { return Ok(Held::Nothing) };
        let files = files_below(&dir);
        let has = |file: &str| files.iter().any(|(name, _)| name == file);
        let is_split = has(INDEX) || files.iter().any(|(name, _)| is_safetensors(name));
        if name.choice.is_none() && (is_split || has(CONFIG)) {
            let missing = missing(&dir, &files);
            return Ok(match missing.is_empty() {
                true => Held::Directory(dir),
                false => Held::Part { dir, missing },
            });
        }
        let parts = match select::one_gguf(name.repo.as_str(), name.choice.as_deref(), &files) {
            Ok(parts) => parts,
            Err(error @ Error::Ambiguous { .. }) => return Err(error),
            Err(_) => return Ok(Held::Nothing),
        };
        let n_missing = n_gguf_parts(&parts[0]).saturating_sub(parts.len());
        if n_missing > 0 {
            let missing = vec![format!("{n_missing} parts of {}", parts[0])];
            return Ok(Held::Part { dir, missing });
        }
        Ok(Held::Gguf(dir.join(&parts[0])))
    }

    pub(crate) fn of(&self, repo: &Repo) -> Folder {
        Folder {
            root: self.root.join(repo.folder()),
            locks: self.root.join(".locks").join(repo.folder()),
        }
    }
}

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";

/// Files without which the snapshot is no model.
fn missing(dir: &Path, files: &[Listed]) -> Vec<String> {
    let has = |file: &str| files.iter().any(|(name, _)| name == file);
    let mut missing = Vec::new();
    if !has(CONFIG) {
        missing.push(CONFIG.to_owned());
    }
    if has(INDEX) {
        // An index that cannot be read is the business of whoever opens the model.
        missing.extend(shards_of(&dir.join(INDEX)).into_iter().filter(|shard| !has(shard)));
    } else if !files.iter().any(|(name, _)| is_safetensors(name)) {
        missing.push("model.safetensors".to_owned());
    }
    missing
}

/// Whether the chosen files of a snapshot make a model: a directory without gaps, or all parts of a
/// GGUF.
pub(crate) fn is_whole(dir: &Path, files: &[Listed], chosen: &[String]) -> bool {
    match chosen.first() {
        Some(first) if first.to_ascii_lowercase().ends_with(".gguf") => {
            n_gguf_parts(first) <= chosen.len()
        }
        _ => missing(dir, files).is_empty(),
    }
}

fn shards_of(index: &Path) -> Vec<String> {
    let value = read_bounded(index, MAX_INDEX_BYTES)
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let Some(map) = value.as_ref().and_then(|value| value.get("weight_map")?.as_object()) else {
        return Vec::new();
    };
    let mut shards: Vec<String> =
        map.values().filter_map(|shard| shard.as_str().map(str::to_owned)).collect();
    shards.sort();
    shards.dedup();
    shards
}

/// Files whose bytes are really there, with paths below `dir` and `/` between parts.
pub(crate) fn files_below(dir: &Path) -> Vec<Listed> {
    let mut files = Vec::new();
    let mut folders = vec![(dir.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{prefix}{name}");
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((entry.path(), format!("{name}/"), depth + 1));
            } else if let Ok(found) = fs::metadata(entry.path())
                && found.is_file()
                && files.len() < MAX_FILES
            {
                files.push((name, Some(found.len())));
            }
        }
    }
    files.sort();
    files
}

fn read_bounded(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

/// The folder of one repository.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    locks: PathBuf,
}

impl Folder {
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn blob(&self, hash: &str) -> PathBuf {
        self.blobs().join(hash)
    }

    /// Where a blob grows until it is whole.
    pub(crate) fn partial(&self, hash: &str) -> PathBuf {
        self.blobs().join(format!("{hash}.incomplete"))
    }

    pub(crate) fn lock(&self, hash: &str) -> PathBuf {
        self.locks.join(format!("{hash}.lock"))
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    fn reference(&self, revision: &Revision) -> PathBuf {
        self.root.join("refs").join(revision.as_str())
    }

    /// Bytes of all blobs that are not whole yet.
    pub(crate) fn partial_bytes(&self) -> u64 {
        let entries = fs::read_dir(self.blobs()).into_iter().flatten().flatten();
        let partial = entries.filter(|e| e.path().extension().is_some_and(|x| x == "incomplete"));
        partial.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
    }

    /// Lets `file` of a snapshot be the blob `hash`.
    pub(crate) fn link(&self, commit: &str, file: &str, hash: &str) -> Result<()> {
        assert!(is_safe_path(file) && is_hash(commit) && is_hash(hash), "checked when it arrived");
        let snapshot = self.snapshot(commit);
        let pointer = snapshot.join(file);
        let parent = pointer.parent().expect("a snapshot is a folder");
        create_dir(parent)?;
        let doing = "make the link";
        let failed = |source| Error::Io { path: pointer.clone(), doing, source };
        // A folder of the snapshot that is a link elsewhere was not made by us.
        let inside = fs::canonicalize(parent).map_err(failed)?;
        if !inside.starts_with(fs::canonicalize(&snapshot).map_err(failed)?) {
            return Err(failed(io::Error::other(
                "its folder is a link that leads out of the cache",
            )));
        }
        if pointer.symlink_metadata().is_ok() {
            fs::remove_file(&pointer).map_err(failed)?; // its blob is gone
        }
        let up = "../".repeat(file.matches('/').count() + 2);
        match symlink(&format!("{up}blobs/{hash}"), &self.blob(hash), &pointer) {
            // Another process was faster; it links the same commit.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(failed),
        }
    }

    /// Lets a branch or tag be this commit. Readers see the old one or the new one.
    pub(crate) fn refer(&self, revision: &Revision, commit: &str) -> Result<()> {
        if revision.as_str() == commit {
            return Ok(());
        }
        let path = self.reference(revision);
        if read_bounded(&path, MAX_REF_BYTES).is_some_and(|old| old == commit.as_bytes()) {
            return Ok(());
        }
        create_dir(path.parent().expect("a reference stands in a folder"))?;
        let mut new = path.clone().into_os_string();
        new.push(format!(".{}.tmp", std::process::id()));
        let doing = "write";
        fs::write(&new, commit).and_then(|()| fs::rename(&new, &path)).map_err(|source| Error::Io {
            path,
            doing,
            source,
        })
    }
}

pub(crate) fn create_dir(path: &Path) -> Result<()> {
    let doing = "make the folder";
    fs::create_dir_all(path).map_err(|source| Error::Io { path: path.into(), doing, source })
}

#[cfg(unix)]
fn symlink(target: &str, _: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, pointer)
}

/// Where links need rights that people lack, a second name or a copy does.
#[cfg(not(unix))]
fn symlink(_: &str, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::hard_link(blob, pointer).or_else(|_| fs::copy(blob, pointer).map(drop))
}
