//! Reads the text files under a folder as a training corpus, and says what it left out and why.
//!
//! The quality rules are those of DeepSeek-Coder (arXiv:2401.14196, section 2.1): mean line above
//! 100 characters, a line above 1000, fewer than 25 % alphabetic characters, XML headers outside
//! XSLT, JSON and YAML outside 50–5000 characters. Its rule for HTML (share of visible text) and
//! its compiler and model filters are not here. The walk is sorted, exact duplicates are dropped
//! (the first path stays), and a file is held out by a hash of its path alone, so adding files
//! does not move others between the sides.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::random::{hash_key, hash_text};
use crate::skipped::Skipped;

/// Separates the hash of the split from others with the same seed.
const SPLIT_STREAM: u64 = 0x0073_706c_6974; // "split"
/// Separates the order in which a byte budget is spent.
const BUDGET_STREAM: u64 = 0x6275_6467_6574; // "budget"

/// What to read.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceOptions {
    /// Extensions without the dot, compared without case; `None` takes every text file.
    pub extensions: Option<Vec<String>>,
    /// Larger files are skipped.
    pub max_file_bytes: u64,
    /// Stop at about so much text. Files are then chosen by a hash of their path, which samples
    /// the whole tree.
    pub max_total_bytes: Option<u64>,
    /// Share of files to hold out, 0 to 1.
    pub held_out_share: f64,
    /// Decides the split and the sample.
    pub seed: u64,
}

impl SourceOptions {
    /// Files with these extensions (none: every text file) up to 1 MiB, 2 % held out.
    pub fn with_extensions(extensions: &[&str]) -> Self {
        let extensions = match extensions {
            [] => None,
            some => Some(some.iter().map(ToString::to_string).collect()),
        };
        Self {
            extensions,
            max_file_bytes: 1 << 20,
            max_total_bytes: None,
            held_out_share: 0.02,
            seed: 0,
        }
    }
}

/// One text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path below the root, parts joined by `/`.
    pub path: String,
    /// The text without a byte order mark, else as it stands.
    pub text: String,
    /// On the held-out side.
    pub held_out: bool,
}

/// The files that were read, sorted by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTree {
    /// At least one file.
    pub files: Vec<SourceFile>,
    /// Files and folders left out although they were asked for.
    pub skipped: Skipped,
    /// Files of other extensions, which were not asked for.
    pub n_other_extension: u64,
}

impl SourceTree {
    /// Files to learn from.
    pub fn train(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| !file.held_out)
    }

    /// Files to measure on.
    pub fn held_out(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| file.held_out)
    }
}

/// Reads all fitting files under `root`.
///
/// Hidden files and folders (name starting with a dot) are passed over in silence; links to
/// folders are not followed, so no loop can arise. A file that cannot be used is counted in
/// `skipped`. If a share above 0 is to be held out and there are two files or more, both sides
/// have at least one.
///
/// Errors: `Read` if `root` cannot be listed, `WrongKind` if it is no folder, `NoFiles` if nothing
/// remains.
pub fn read_sources(root: &Path, options: &SourceOptions) -> Result<SourceTree, Error> {
    let broken = |source| Error::Read { path: root.to_path_buf(), source };
    if !fs::metadata(root).map_err(broken)?.is_dir() {
        return Err(Error::WrongKind { path: root.to_path_buf(), expected: "folder" });
    }
    fs::read_dir(root).map_err(broken)?;
    let mut skipped = Skipped::new("file");
    let (mut found, n_other_extension) = list_files(root, options, &mut skipped);
    if options.max_total_bytes.is_some() {
        found.sort_by_key(|(path, _)| hash_key(&[BUDGET_STREAM, options.seed, hash_text(path)]));
    }
    let mut files = Vec::new();
    let mut budget = options.max_total_bytes.unwrap_or(u64::MAX);
    for (path, place) in found {
        if budget == 0 {
            skipped.add("beyond the byte budget", path);
            continue;
        }
        match read_text(&place, &path, options.max_file_bytes) {
            Ok(text) => {
                budget = budget.saturating_sub(text.len() as u64);
                files.push(SourceFile { path, text, held_out: false });
            }
            Err(reason) => skipped.add(reason, path),
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    drop_duplicates(&mut files, &mut skipped);
    if files.is_empty() {
        return Err(Error::NoFiles { path: root.to_path_buf(), skipped, n_other_extension });
    }
    hold_out(&mut files, options);
    Ok(SourceTree { files, skipped, n_other_extension })
}

/// All files under `root` that were asked for, sorted by relative path, each with its real path;
/// and the number of those of other extensions.
fn list_files(
    root: &Path,
    options: &SourceOptions,
    skipped: &mut Skipped,
) -> (Vec<(String, PathBuf)>, u64) {
    let mut found = Vec::new();
    let mut n_other_extension = 0;
    let mut folders = vec![(String::new(), root.to_path_buf())];
    while let Some((prefix, folder)) = folders.pop() {
        let mut entries =
            match fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
                Ok(entries) => entries,
                Err(_) => {
                    skipped.add("unreadable folder", prefix);
                    continue;
                }
            };
        entries.sort_by_key(fs::DirEntry::file_name); // the order of reasons and places shows
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let Ok(kind) = entry.file_type() else {
                skipped.add("unreadable", path);
                continue;
            };
            if kind.is_dir() {
                folders.push((path, entry.path()));
            } else if !is_asked_for(&path, options) {
                n_other_extension += 1;
            } else {
                found.push((path, entry.path()));
            }
        }
    }
    found.sort();
    (found, n_other_extension)
}

fn is_asked_for(path: &str, options: &SourceOptions) -> bool {
    let Some(extensions) = &options.extensions else { return true };
    Path::new(path).extension().and_then(|found| found.to_str()).is_some_and(|found| {
        extensions.iter().any(|asked| asked.trim_start_matches('.').eq_ignore_ascii_case(found))
    })
}

/// The text of a file, or why it cannot be used.
fn read_text(place: &Path, path: &str, max_bytes: u64) -> Result<String, &'static str> {
    // Follows a link to a file. Anything else, a pipe above all, could block and is not opened.
    let kind = fs::metadata(place).map_err(|_| "unreadable")?;
    if kind.is_dir() {
        return Err("link to a folder");
    }
    if !kind.is_file() {
        return Err("not a regular file");
    }
    if kind.len() > max_bytes {
        return Err("too large");
    }
    let mut bytes = Vec::new();
    let file = File::open(place).map_err(|_| "unreadable")?;
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|_| "unreadable")?;
    if bytes.len() as u64 > max_bytes {
        return Err("too large"); // it grew since
    }
    text_of(bytes, path)
}

fn text_of(mut bytes: Vec<u8>, path: &str) -> Result<String, &'static str> {
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        bytes.drain(..3);
    }
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err("not UTF-8"); // UTF-16, whose NUL bytes are no sign of a binary
    }
    if bytes.contains(&0) {
        return Err("binary");
    }
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8")?;
    match low_quality(&text, path) {
        Some(reason) => Err(reason),
        None => Ok(text),
    }
}

/// Why a text is not worth learning from, if so, by the rules named above.
pub fn low_quality(text: &str, path: &str) -> Option<&'static str> {
    if text.trim().is_empty() {
        return Some("empty");
    }
    let (mut n_chars, mut n_alphabetic, mut n_lines, mut longest) = (0_usize, 0_usize, 0, 0);
    for line in text.lines() {
        let n = line.chars().count();
        n_lines += 1;
        n_chars += n;
        n_alphabetic += line.chars().filter(|c| c.is_alphabetic()).count();
        longest = longest.max(n);
    }
    let extension = Path::new(path).extension().and_then(|found| found.to_str()).unwrap_or("");
    let is_any = |known: &[&str]| known.iter().any(|known| known.eq_ignore_ascii_case(extension));
    if longest > 1000 || n_chars > 100 * n_lines {
        Some("minified or generated")
    } else if n_alphabetic * 4 < n_chars {
        Some("mostly not letters")
    } else if has_xml_header(text) && !is_any(&["xsl", "xslt"]) {
        Some("XML")
    } else if is_any(&["json", "yaml", "yml"]) && !(50..=5000).contains(&text.chars().count()) {
        Some("JSON or YAML of unfit size")
    } else {
        None
    }
}

fn has_xml_header(text: &str) -> bool {
    let head: String = text.chars().take(100).collect();
    head.contains("<?xml version=")
}

/// Keeps the first of files with equal text. Hashes only bring candidates together; the texts
/// themselves are compared.
fn drop_duplicates(files: &mut Vec<SourceFile>, skipped: &mut Skipped) {
    let mut by_hash: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut is_copy = vec![false; files.len()];
    for (idx, file) in files.iter().enumerate() {
        let same_hash = by_hash.entry(hash_text(&file.text)).or_default();
        if same_hash.iter().any(|&first| files[first].text == file.text) {
            is_copy[idx] = true;
            skipped.add("duplicate", file.path.as_str());
        } else {
            same_hash.push(idx);
        }
    }
    let mut flags = is_copy.into_iter();
    files.retain(|_| !flags.next().unwrap_or(false));
}

/// Marks about `held_out_share` of the files, each by the hash of its own path.
fn hold_out(files: &mut [SourceFile], options: &SourceOptions) {
    let share = options.held_out_share;
    let hash = |file: &SourceFile| hash_key(&[SPLIT_STREAM, options.seed, hash_text(&file.path)]);
    for file in files.iter_mut() {
        file.held_out = ((hash(file) >> 11) as f64) < share * (1_u64 << 53) as f64;
    }
    if share <= 0.0 || files.len() < 2 {
        return;
    }
    // Few files can all fall on one side; move the one nearest to the border.
    if files.iter().all(|file| !file.held_out) {
        if let Some(file) = files.iter_mut().min_by_key(|file| hash(file)) {
            file.held_out = true;
        }
    } else if files.iter().all(|file| file.held_out)
        && let Some(file) = files.iter_mut().max_by_key(|file| hash(file))
    {
        file.held_out = false;
    }
}

#[cfg(test)]
mod tests;
