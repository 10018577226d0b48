//! Writing: data to stdout, everything else to stderr. Nothing here panics when a reader goes away.

use crate::failure::Failure;
use std::io::Write;

/// Writes data and makes sure it is out.
pub(crate) fn to_stdout(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a JSON value as one line.
pub(crate) fn json_to_stdout(value: &serde_json::Value) -> Result<(), Failure> {
    to_stdout(&format!("{value}\n"))
}

/// Writes to a person. A closed stderr is no reason to stop the work.
pub(crate) fn to_stderr(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// How this program was called, for commands that are printed to be typed.
pub(crate) fn program() -> String {
    if std::env::var_os("CARGO").is_some() && std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
        let release = if cfg!(debug_assertions) { "" } else { "--release " };
        return format!("cargo run {release}--");
    }
    let typed = std::env::args().next().unwrap_or_default();
    if typed.is_empty() { "fathom".into() } else { typed }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@~%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quoted("runs/r1-tiny"), "runs/r1-tiny");
        assert_eq!(quoted("my run"), "'my run'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
