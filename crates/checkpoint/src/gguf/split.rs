//! Models in several files: `NAME-00001-of-00003.gguf` and its siblings.
//!
//! The first file has the metadata; each says how many there are and which one it is
//! (`split.count`, `split.no` from 0 on) and how many tensors all have (`split.tensors.count`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::Problem;
use super::reader::{Gguf, Part};
use crate::mapped_file::FileBytes;
use crate::{Error, Result};

pub(super) const COUNT: &str = "split.count";
pub(super) const NO: &str = "split.no";
pub(super) const TENSORS: &str = "split.tensors.count";

/// How many files, if there are several.
pub(super) fn count(gguf: &Gguf) -> Result<Option<usize>> {
    Ok(gguf.count(COUNT)?.filter(|n| *n > 1))
}

/// Opens the siblings of `opened`, which may be any of the `n_files`.
pub(super) fn open_all(opened: Gguf, n_files: usize) -> Result<Gguf> {
    let (prefix, no) = match parse_name(opened.path()) {
        Some((prefix, no, of)) if of == n_files && (1..=of).contains(&no) => (prefix, no - 1),
        _ => return Err(opened.fail(Problem::SplitName { n_files: n_files as u64 })),
    };
    let mut opened = Some(opened);
    let mut whole: Option<Gguf> = None;
    for i in 0..n_files {
        let part = match opened.take() {
            Some(part) if i == no => part,
            kept => {
                opened = kept;
                let path = name(&prefix, i, n_files);
                if !path.exists() {
                    return Err(Error::MissingShard { path: first(&prefix, n_files), shard: path });
                }
                let bytes = Arc::new(FileBytes::open(&path)?);
                Gguf::parse(Part { path, bytes })?
            }
        };
        expect(&part, COUNT, n_files)?;
        expect(&part, NO, i)?;
        match whole.as_mut() {
            None => whole = Some(part),
            Some(whole) => whole.append(part)?,
        }
    }
    let whole = whole.expect("a split has at least two files");
    let n_tensors = whole.tensors().len();
    match whole.count(TENSORS)? {
        Some(found) if found != n_tensors => Err(whole.fail(Problem::Split {
            key: TENSORS,
            found: found as u64,
            expected: n_tensors as u64,
        })),
        _ => Ok(whole),
    }
}

fn expect(part: &Gguf, key: &'static str, expected: usize) -> Result<()> {
    let found = part.needed(key, part.count(key)?)?;
    if found != expected {
        let (found, expected) = (found as u64, expected as u64);
        return Err(part.fail(Problem::Split { key, found, expected }));
    }
    Ok(())
}

/// The path of file `i` from 0 on, as llama.cpp names it.
pub(super) fn name(prefix: &Path, i: usize, n_files: usize) -> PathBuf {
    let mut text = prefix.as_os_str().to_owned();
    text.push(format!("-{:05}-of-{n_files:05}.gguf", i + 1));
    PathBuf::from(text)
}

fn first(prefix: &Path, n_files: usize) -> PathBuf {
    name(prefix, 0, n_files)
}

/// Prefix, number from 1 on, and count of a path that [`name`] made.
fn parse_name(path: &Path) -> Option<(PathBuf, usize, usize)> {
    let text = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, of) = text.rsplit_once("-of-")?;
    let (stem, no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<usize>().ok()).flatten()
    };
    Some((path.with_file_name(stem), number(no)?, number(of)?))
}
