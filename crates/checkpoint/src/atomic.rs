//! Writes that are there whole or not at all: temporary name, fsync, rename.
//!
//! A crash at any instant leaves the old content or the new one under the final name, and at
//! worst a hidden leftover (`.NAME.*.tmp`) beside it. A failed write removes its leftover.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Writes a file through `fill`. On any failure what stood at `path` before is untouched.
///
/// Errors: `Write`, naming `path`.
pub fn write_atomic(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    write_atomic_with(path, |out| fill(out).map_err(|source| write_error(path, source)))
}

/// [`write_atomic`] for a `fill` that has errors of its own.
pub(crate) fn write_atomic_with<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    // Process id and counter keep concurrent writers of one path apart; the last rename wins.
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = sibling(path, &format!("{}-{unique}.tmp", std::process::id()))?;
    let result = fill_and_rename(path, &temporary, fill);
    if result.is_err() {
        // The first error is the one to report; a leftover that cannot be removed is harmless.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn fill_and_rename<E: From<Error>>(
    path: &Path,
    temporary: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |source| write_error(path, source);
    let file = OpenOptions::new().write(true).create_new(true).open(temporary).map_err(fail)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    fill(&mut out)?;
    let file = out.into_inner().map_err(|e| fail(e.into_error()))?;
    file.sync_all().map_err(fail)?;
    fs::rename(temporary, path).map_err(fail)?;
    Ok(sync_parent(path)?)
}

/// Writes a directory: `fill` gets an empty directory under a temporary name to write into, which
/// then takes the name `final_dir`, replacing what was there.
///
/// `fill` may have any error type that ours converts into. On failure `final_dir` is untouched.
pub fn write_dir_atomic<E: From<Error>>(
    final_dir: impl AsRef<Path>,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let final_dir = final_dir.as_ref();
    let temporary = sibling(final_dir, "tmp")?;
    remove_dir_if_there(&temporary)?;
    fs::create_dir_all(&temporary).map_err(|source| write_error(&temporary, source))?;
    let result = fill(&temporary).and_then(|()| Ok(replace_dir(&temporary, final_dir)?));
    if result.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    result
}

/// Gives the finished directory `temporary` the name `final_dir`; both must have one parent.
///
/// Everything inside is flushed to the disk first. A directory that stood at `final_dir` steps
/// aside as `.NAME.old` and is deleted once the new one has its place; [`recover_dir`] repairs
/// the instant in between. Errors: `Write`.
pub fn replace_dir(temporary: impl AsRef<Path>, final_dir: impl AsRef<Path>) -> Result<()> {
    let (temporary, final_dir) = (temporary.as_ref(), final_dir.as_ref());
    let fail = |source| write_error(final_dir, source);
    sync_tree(temporary)?;
    let old = sibling(final_dir, "old")?;
    let had_one = final_dir.exists();
    if had_one {
        remove_dir_if_there(&old)?;
        fs::rename(final_dir, &old).map_err(fail)?;
    }
    if let Err(source) = fs::rename(temporary, final_dir) {
        if had_one {
            let _ = fs::rename(&old, final_dir);
        }
        return Err(fail(source));
    }
    sync_parent(final_dir)?;
    remove_dir_if_there(&old)
}

/// Finishes a [`replace_dir`] that was killed: brings back `.NAME.old` if `final_dir` is missing,
/// and removes leftovers otherwise. Does nothing where nothing was interrupted.
pub fn recover_dir(final_dir: impl AsRef<Path>) -> Result<()> {
    let final_dir = final_dir.as_ref();
    let old = sibling(final_dir, "old")?;
    if !final_dir.exists() && old.is_dir() {
        fs::rename(&old, final_dir).map_err(|source| write_error(final_dir, source))?;
        sync_parent(final_dir)?;
    }
    remove_dir_if_there(&old)?;
    remove_dir_if_there(&sibling(final_dir, "tmp")?)
}

/// `.NAME.suffix` beside `path`.
fn sibling(path: &Path, suffix: &str) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
        return Err(write_error(path, source));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(suffix);
    Ok(path.with_file_name(hidden))
}

fn remove_dir_if_there(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(write_error(dir, source)),
        _ => Ok(()),
    }
}

fn sync_tree(dir: &Path) -> Result<()> {
    let fail = |source| write_error(dir, source);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let kind = fs::symlink_metadata(&path).map_err(fail)?;
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            let file = File::open(&path).map_err(|source| write_error(&path, source))?;
            file.sync_all().map_err(|source| write_error(&path, source))?;
        }
    }
    sync_dir(dir)
}

fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes renames inside `dir` durable. Only Unix can open a directory for that.
fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        let synced = File::open(dir).and_then(|handle| handle.sync_all());
        synced.map_err(|source| write_error(dir, source))?;
    }
    Ok(())
}

fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write { path: path.to_owned(), source }
}
