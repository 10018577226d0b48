//! Hashes by which a hub names its files: SHA-256 of large ones, git's SHA-1 of small ones.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What the bytes of a file must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// SHA-256 of the bytes.
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the bytes, as git computes it.
    Git(String),
    /// The server names files in another way; the length alone is checked.
    Unknown,
}

impl Expected {
    /// What a name of a blob promises.
    pub(crate) fn of_etag(etag: &str) -> Expected {
        let is_hex = etag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match etag.len() {
            64 if is_hex => Expected::Sha256(etag.into()),
            40 if is_hex => Expected::Git(etag.into()),
            _ => Expected::Unknown,
        }
    }

    /// A hash to which nothing was added yet. `n_bytes` is the length of the whole file, which
    /// git's hash begins with.
    pub(crate) fn start(&self, n_bytes: u64) -> Running {
        match self {
            Expected::Sha256(_) => Running::Sha256(Sha256::new()),
            Expected::Git(_) => {
                let mut hash = Sha1::new();
                hash.update(format!("blob {n_bytes}\0"));
                Running::Git(hash)
            }
            Expected::Unknown => Running::None,
        }
    }

    /// `Err((expected, found))` if the bytes are not the promised ones.
    pub(crate) fn check(&self, running: Running) -> Result<(), (String, String)> {
        let (expected, found) = match (self, running) {
            (Expected::Sha256(expected), Running::Sha256(hash)) => {
                (expected, hex(&hash.finalize()))
            }
            (Expected::Git(expected), Running::Git(hash)) => (expected, hex(&hash.finalize())),
            _ => return Ok(()),
        };
        if *expected == found { Ok(()) } else { Err((expected.clone(), found)) }
    }
}

/// A hash that is being computed.
pub(crate) enum Running {
    Sha256(Sha256),
    Git(Sha1),
    None,
}

impl Running {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        match self {
            Running::Sha256(hash) => hash.update(bytes),
            Running::Git(hash) => hash.update(bytes),
            Running::None => {}
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(etag: &str, bytes: &[u8]) -> Result<(), (String, String)> {
        let expected = Expected::of_etag(etag);
        let mut running = expected.start(bytes.len() as u64);
        bytes.chunks(2).for_each(|chunk| running.add(chunk));
        expected.check(running)
    }

    #[test]
    fn both_kinds_of_names_are_checked() {
        // `printf hello | git hash-object --stdin` and `printf hello | sha256sum`
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(check(git, b"hello"), Ok(()));
        assert_eq!(check(sha256, b"hello"), Ok(()));
        assert!(check(git, b"hellO").is_err() && check(sha256, b"hellO").is_err());
        assert_eq!(check("some-other-name", b"anything"), Ok(()));
    }
}
