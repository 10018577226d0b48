//! What a file may be called and what it may hold.

use super::Finding;
use super::lexer;
use std::path::Path;

/// Extensions of the texts that are held to the rules.
const TEXT: &[&str] = &["css", "html", "js", "md", "py", "rs", "sh", "toml"];

/// Extensions of the texts that count as source: they have a length limit.
const SOURCE: &[&str] = &["css", "html", "js", "py", "rs", "sh"];

/// The hard limit on the lines of a source file; past 600 a file should have a reason.
const MAX_LINES: usize = 1000;

/// Names that say nothing about what a file holds.
const BANNED_NAMES: &[&str] =
    &["base", "common", "core", "helpers", "manager", "misc", "types", "utils"];

/// Where `unsafe` may stand: how paths of files begin.
const UNSAFE_HOMES: &[&str] =
    &["crates/kernels/", "crates/checkpoint/src/mapped_file", "crates/sandbox/"];

/// Crates whose root file need not forbid `unsafe`.
const UNSAFE_CRATES: &[&str] = &["crates/kernels/", "crates/checkpoint/", "crates/sandbox/"];

/// Places of one workshop that mean nothing to a reader, and whether a test may name them.
/// Written in halves so that this file keeps its own rule.
const FOREIGN: &[(&str, bool)] =
    &[(concat!("/wo", "rk/"), false), (concat!("../sha", "red"), true)];

/// Whether the file at `path` is a text that the rules know.
pub fn is_text(path: &Path) -> bool {
    let known = |extension: &std::ffi::OsStr| TEXT.iter().any(|known| extension == *known);
    path.extension().is_some_and(known) || path.ends_with(".ci/run")
}

/// Appends what is wrong with the file at `path` (relative, with `/`) that holds `text`.
pub fn check_file(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut complain = |line: usize, message: String| {
        findings.push(Finding { path: path.to_owned(), line, message });
    };
    let (stem, extension) = stem_and_extension(path);
    if BANNED_NAMES.contains(&stem) {
        complain(0, format!("a file named `{stem}` says nothing; name it after what it holds"));
    }
    let n_lines = text.lines().count();
    if SOURCE.contains(&extension) && n_lines > MAX_LINES {
        complain(0, format!("{n_lines} lines; the limit is {MAX_LINES}, split the file"));
    }
    check_foreign_places(path, text, &mut complain);
    if extension == "rs" {
        check_rust(path, text, &mut complain);
    } else {
        check_todo(text, &mut complain);
    }
}

fn check_rust(path: &str, text: &str, complain: &mut impl FnMut(usize, String)) {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    if !first.starts_with("//!") {
        complain(1, "the file must start with a `//!` sentence that says what it is".to_owned());
    }
    let split = lexer::split(text);
    if !UNSAFE_HOMES.iter().any(|home| path.starts_with(home)) {
        for (line, _) in words(&split.code, "unsafe") {
            complain(
                line,
                "`unsafe` outside its homes (kernels, checkpoint's mmap, sandbox)".into(),
            );
        }
    }
    if is_crate_root(path)
        && !UNSAFE_CRATES.iter().any(|home| path.starts_with(home))
        && !split.code.contains("#![forbid(unsafe_code)]")
    {
        complain(0, "the crate must start with `#![forbid(unsafe_code)]`".to_owned());
    }
    check_todo(&split.comments, complain);
    for (line, name) in module_names(&split.code) {
        if BANNED_NAMES.contains(&name) {
            complain(line, format!("a module named `{name}` says nothing; name what it holds"));
        }
    }
}

/// A note of work to do names its topic, so that the notes of one topic can be found together.
fn check_todo(text: &str, complain: &mut impl FnMut(usize, String)) {
    for marker in [concat!("TO", "DO"), concat!("FIX", "ME")] {
        for (line, rest) in words(text, marker) {
            let topic = rest.strip_prefix('(').and_then(|rest| rest.split_once("):"));
            if marker.starts_with('F') || topic.is_none_or(|(topic, _)| topic.trim().is_empty()) {
                let note = concat!("TO", "DO(topic):");
                complain(
                    line,
                    format!("`{marker}` without a topic; write `{note} what is missing`"),
                );
            }
        }
    }
}

fn check_foreign_places(path: &str, text: &str, complain: &mut impl FnMut(usize, String)) {
    let is_test = path
        .split('/')
        .any(|part| part == "tests" || part.ends_with("tests.rs") || part == "testing.rs");
    // Unit tests stand at the end of a file, below this mark.
    let tests_from = if path.ends_with(".rs") { text.find("#[cfg(test)]") } else { None };
    for (place, tests_may) in FOREIGN {
        for (at, _) in text.match_indices(place) {
            let in_test = is_test || tests_from.is_some_and(|from| at > from);
            // The start of a path only: `net/work/` is something else.
            let part_of_longer = place.starts_with('/')
                && text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-".contains(c));
            let allowed = *tests_may && in_test;
            if !part_of_longer && !allowed {
                complain(line_of(text, at), format!("`{place}` means nothing to a reader"));
            }
        }
    }
}

fn is_crate_root(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["crates", _, "src", file] | ["xtask", "src", file] => {
            *file == "main.rs" || *file == "lib.rs"
        }
        ["crates", _, "src", "bin", ..] => true,
        _ => false,
    }
}

fn stem_and_extension(path: &str) -> (&str, &str) {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').unwrap_or((name, ""))
}

/// Line and following text of every place where `word` stands as a whole word.
fn words<'a>(text: &'a str, word: &str) -> Vec<(usize, &'a str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .filter(|(at, _)| {
            !text[..*at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
        })
        .map(|(at, _)| (line_of(text, at), &text[at + word.len()..]))
        .collect()
}

/// Line and name of every `mod name`.
fn module_names(code: &str) -> Vec<(usize, &str)> {
    words(code, "mod")
        .into_iter()
        .map(|(line, rest)| {
            let rest = rest.trim_start();
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (line, &rest[..end])
        })
        .collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<usize> {
        let mut findings = Vec::new();
        check_file(path, text, &mut findings);
        findings.into_iter().map(|finding| finding.line).collect()
    }

    const FINE: [usize; 0] = [];

    #[test]
    fn a_plain_file_passes() {
        assert_eq!(complaints("crates/text/src/bpe.rs", "//! Pairs.\nfn f() {}\n"), FINE);
    }

    #[test]
    fn a_rust_file_starts_by_saying_what_it_is() {
        assert_eq!(complaints("crates/text/src/bpe.rs", "fn f() {}\n"), [1]);
        assert_eq!(complaints("crates/text/src/bpe.rs", "\n//! Pairs.\n"), FINE);
    }

    #[test]
    fn unsafe_stays_in_its_homes_but_may_be_talked_about() {
        let text = "//! X.\n// unsafe here\nconst A: &str = \"unsafe\";\nunsafe fn f() {}\n";
        assert_eq!(complaints("crates/tensor/src/x.rs", text), [4]);
        assert_eq!(complaints("crates/checkpoint/src/header.rs", text), [4]);
        assert_eq!(complaints("crates/checkpoint/src/mapped_file.rs", text), FINE);
        assert_eq!(complaints("crates/kernels/src/x.rs", text), FINE);
    }

    #[test]
    fn crate_roots_forbid_unsafe() {
        assert_eq!(complaints("crates/text/src/lib.rs", "//! X.\n"), [0]);
        assert_eq!(complaints("crates/text/src/bin/x.rs", "//! X.\n"), [0]);
        assert_eq!(complaints("crates/kernels/src/lib.rs", "//! X.\n"), FINE);
        assert_eq!(complaints("xtask/src/lib.rs", "//! X.\n#![forbid(unsafe_code)]\n"), FINE);
        // Saying it in a comment is not doing it.
        assert_eq!(complaints("xtask/src/lib.rs", "//! X.\n//#![forbid(unsafe_code)]\n"), [0]);
    }

    #[test]
    fn names_say_something() {
        assert_eq!(complaints("crates/text/src/utils.rs", "//! X.\n"), [0]);
        assert_eq!(complaints("bench/common.py", ""), [0]);
        assert_eq!(complaints("crates/text/src/x.rs", "//! X.\nmod helpers {}\n"), [2]);
    }

    #[test]
    fn files_have_a_limit() {
        let lines = |n: usize| format!("//! X.\n{}", "\n".repeat(n - 1));
        assert_eq!(complaints("crates/text/src/x.rs", &lines(MAX_LINES)), FINE);
        assert_eq!(complaints("crates/text/src/x.rs", &lines(MAX_LINES + 1)), [0]);
        assert_eq!(complaints("docs/LOG.md", &"\n".repeat(2000)), FINE);
    }

    #[test]
    fn work_to_do_names_its_topic() {
        let (note, fix) = (concat!("TO", "DO"), concat!("FIX", "ME"));
        let text = format!("//! X.\n// {note}: a\n// {note}(moe): b\n// {fix} c\n// {note}(): d\n");
        assert_eq!(complaints("crates/text/src/x.rs", &text), [2, 5, 4]);
        assert_eq!(complaints("bench/x.py", &format!("# {note} a\n")), [1]);
        // Not a note: part of a longer word, or in a string.
        let text = format!("//! {note}_LIST\nconst A: &str = \"{note}\";\n");
        assert_eq!(complaints("crates/text/src/x.rs", &text), FINE);
    }

    #[test]
    fn foreign_places_are_named_in_tests_at_most() {
        let (nowhere, beside) = (concat!("/wo", "rk/"), concat!("../sha", "red"));
        assert_eq!(complaints("docs/x.md", &format!("see {nowhere}main")), [1]);
        assert_eq!(complaints("docs/x.md", &format!("see net{nowhere}main")), FINE);
        assert_eq!(complaints("docs/x.md", &format!("\nsee {beside}/a")), [2]);
        let unit = format!("//! X.\n#[cfg(test)]\nmod tests {{ const A: &str = \"{beside}\"; }}\n");
        assert_eq!(complaints("crates/text/src/x.rs", &unit), FINE);
        let integration = format!("//! X.\nconst A: &str = \"{beside}\";\n");
        assert_eq!(complaints("crates/text/tests/it/golden.rs", &integration), FINE);
        assert_eq!(complaints("crates/text/src/golden.rs", &integration), [2]);
        let hidden = format!("//! X.\nconst A: &str = \"{nowhere}\";\n");
        assert_eq!(complaints("crates/text/tests/it/golden.rs", &hidden), [2]);
    }
}
