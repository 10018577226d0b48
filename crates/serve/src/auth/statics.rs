//! Keys that the store does not know: from a file or the environment. Only their hashes stay in memory.

use crate::store::hash_of;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// What a line begins with that holds a hash in place of a key.
const HASHED: &str = "sha256:";

/// Shorter keys can be guessed.
const MIN_CHARS: usize = 8;

/// A key, known by its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticKey {
    hash: [u8; 32],
}

impl StaticKey {
    /// A key as it was typed, or `sha256:` and the 64 hexadecimal digits of its hash.
    ///
    /// Errors: it is too short, no single word, or no hash; what is wrong is told without the key.
    pub fn parse(text: &str) -> Result<StaticKey, KeyFileError> {
        let bad = |why| KeyFileError { line: None, why };
        if let Some(digits) = text.strip_prefix(HASHED) {
            return from_hex(digits).map(|hash| StaticKey { hash }).ok_or(bad(KeyFault::NoHash));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad(KeyFault::NotOneWord));
        }
        if text.chars().count() < MIN_CHARS {
            return Err(bad(KeyFault::TooShort));
        }
        Ok(StaticKey { hash: hash_of(text) })
    }

    /// Whose conversations and cached prompts it sees: the same after every start.
    pub fn owner(&self) -> u64 {
        let digest =
            Sha256::new().chain_update(b"owner of a key\0").chain_update(self.hash).finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        (u64::from_le_bytes(first) >> 1).max(1) // 0 is everybody
    }
}

/// The keys of a file: one per line; empty lines and those that begin with `#` mean nothing.
///
/// Errors: a line is no key, or there is none at all.
pub fn read_keys(text: &str) -> Result<Vec<StaticKey>, KeyFileError> {
    let mut keys = Vec::new();
    for (idx, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |error| KeyFileError { line: Some(idx + 1), ..error };
        keys.push(StaticKey::parse(line).map_err(at)?);
    }
    if keys.is_empty() { Err(KeyFileError { line: None, why: KeyFault::None }) } else { Ok(keys) }
}

/// The key with this hash. Looks at all, so that time does not tell which one it was.
pub(super) fn find<'a>(keys: &'a [StaticKey], hash: &[u8; 32]) -> Option<&'a StaticKey> {
    keys.iter().fold(None, |found, key| {
        let is_it = bool::from(key.hash.ct_eq(hash));
        if is_it { Some(key) } else { found }
    })
}

/// Why keys cannot be taken from a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFileError {
    /// From 1; none where it is about the whole.
    line: Option<usize>,
    why: KeyFault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyFault {
    TooShort,
    NotOneWord,
    NoHash,
    None,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        match self.why {
            KeyFault::TooShort => write!(f, "a key has at least {MIN_CHARS} characters"),
            KeyFault::NotOneWord => f.write_str("a key is one word\nhint: one key per line"),
            KeyFault::NoHash => write!(f, "`{HASHED}` is followed by 64 hexadecimal digits"),
            KeyFault::None => f.write_str("no key in it\nhint: one key per line"),
        }
    }
}

impl std::error::Error for KeyFileError {}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (idx, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * idx..2 * idx + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_keys_or_their_hashes() {
        let hash: String = hash_of("second-key").iter().map(|b| format!("{b:02X}")).collect();
        let text = format!("# ours\n\n  first-key \nsha256:{hash}\r\n");
        let keys = read_keys(&text).unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(find(&keys, &hash_of("first-key")), Some(&keys[0]));
        assert_eq!(find(&keys, &hash_of("second-key")), Some(&keys[1]));
        assert_eq!(find(&keys, &hash_of("third-key")), None);
        assert_ne!(keys[0].owner(), keys[1].owner());
        assert_eq!(StaticKey::parse("second-key").unwrap().owner(), keys[1].owner());
    }

    #[test]
    fn a_line_that_is_no_key_is_named_and_not_shown() {
        for (text, words) in [
            ("long-enough\nshort", "line 2: a key has at least 8"),
            ("two words here", "line 1: a key is one word"),
            ("sha256:abc", "line 1: `sha256:` is followed by"),
            ("# nothing\n", "no key in it"),
            ("", "no key in it"),
        ] {
            let told = read_keys(text).unwrap_err().to_string();
            assert!(told.starts_with(words), "{told}");
            assert!(!told.contains("short") && !told.contains("abc") && !told.contains("two"));
        }
    }
}
