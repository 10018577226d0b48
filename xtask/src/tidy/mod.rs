//! The tidy test: the rules of the house that the compiler does not know.
//!
//! Two kinds of rule: which room may depend on which ([`edges`]), and what a file may hold
//! ([`files`], with the help of [`lexer`]). Everything is read as text, so it needs no build.

pub mod edges;
pub mod files;
pub mod lexer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The root of the checkout this program was built from.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Folders at the root whose files are held to the rules, beside the files of the root itself.
/// A list of what is ours, because anything may lie in a checkout (runs, environments, editors).
const FOLDERS: &[&str] =
    &[".cargo", ".ci", "bench", "crates", "docs", "golden", "recipes", "xtask"];

/// Folders that are never ours, at any depth.
const SKIPPED: &[&str] = &["target", "__pycache__", "venv", ".venv", "node_modules"];

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path relative to the root, with `/` between its parts.
    pub path: String,
    /// Line, counted from 1; 0 when the finding is about the whole file.
    pub line: usize,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Reads the checkout at `root` and returns every broken rule, sorted by path and line.
///
/// Errors: a folder or file that cannot be read. A text file that is not UTF-8 is a finding.
pub fn check(root: &Path) -> io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in source_paths(root)? {
        let name = relative(root, &path);
        let Ok(text) = String::from_utf8(std::fs::read(&path)?) else {
            findings.push(Finding { path: name, line: 0, message: "not UTF-8 text".to_owned() });
            continue;
        };
        files::check_file(&name, &text, &mut findings);
        if name.ends_with("/Cargo.toml") {
            edges::check_manifest(&name, &text, &mut findings);
        }
    }
    findings.sort();
    Ok(findings)
}

/// Every text file that is ours, sorted.
fn source_paths(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_file() && files::is_text(&path) {
            paths.push(path);
        }
    }
    for folder in FOLDERS {
        let path = root.join(folder);
        if path.is_dir() {
            walk(&path, &mut paths)?;
        }
    }
    paths.sort();
    Ok(paths)
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // `file_type` does not follow links: a link out of the tree is not ours to judge.
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
            walk(&path, paths)?;
        } else if kind.is_file() && files::is_text(&path) {
            paths.push(path);
        }
    }
    Ok(())
}

fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    path.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let findings = check(Path::new(ROOT)).expect("the checkout can be read");
        let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(list.is_empty(), "broken rules:\n{}", list.join("\n"));
    }

    #[test]
    fn the_walk_sees_this_very_file_and_every_manifest() {
        let root = Path::new(ROOT);
        let names: Vec<String> = source_paths(root)
            .expect("the checkout can be read")
            .iter()
            .map(|path| relative(root, path))
            .collect();
        assert!(names.contains(&"xtask/src/tidy/mod.rs".to_owned()));
        assert!(names.contains(&"Cargo.toml".to_owned()));
        assert!(names.contains(&"crates/kernels/Cargo.toml".to_owned()));
        assert!(!names.iter().any(|name| name.starts_with("target/")));
    }
}
