//! Where the hub is, where the cache is, and who asks: the environment variables of
//! `huggingface_hub`, read the way it reads them.

use crate::cache::Cache;
use crate::error::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The public hub.
const PUBLIC_ENDPOINT: &str = "https://huggingface.co";
/// Bytes of a token file that are looked at.
const MAX_TOKEN_BYTES: u64 = 4096;

/// What all downloads of a process have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the hub, without a slash at the end.
    pub endpoint: String,
    /// Where downloads are kept.
    pub cache: Cache,
    /// Who asks; sent to the endpoint and to no other server.
    pub token: Option<Token>,
    /// No connection is made.
    pub offline: bool,
    /// Attempts after the first one that fail in a row before a file is given up.
    pub n_retries: u32,
    /// Pause before the second attempt; each further one takes twice as long, to 10 s.
    pub first_pause: Duration,
    /// Time without a byte after which a connection counts as cut.
    pub patience: Duration,
    /// Files that are fetched at once, at least one.
    pub n_parallel: usize,
}

impl Settings {
    /// As the environment says: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`, and
    /// what [`Cache::from_env`] reads.
    ///
    /// Errors: [`Error::NoHome`], [`Error::BadToken`], [`Error::BadSetting`], and
    /// [`Error::Io`] for a token file that cannot be read.
    pub fn from_env() -> Result<Settings> {
        Ok(Settings {
            endpoint: endpoint(variable("HF_ENDPOINT"))?,
            cache: Cache::from_env()?,
            token: token()?,
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .into_iter()
                .find_map(variable)
                .is_some_and(|value| is_yes(&value)),
            n_retries: 5,
            first_pause: Duration::from_millis(300),
            patience: Duration::from_secs(20),
            n_parallel: 3,
        })
    }
}

/// A secret. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Checks that the token can stand in a header; white space around it is left out.
    ///
    /// Errors: [`Error::BadToken`].
    pub fn new(text: &str) -> Result<Token> {
        let text = text.trim();
        let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        if good { Ok(Token(text.to_owned())) } else { Err(Error::BadToken) }
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The folder of the cache: `HF_HUB_CACHE`, else `$HF_HOME/hub`.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        Some(dir) => at_home(&dir),
        None => Ok(hf_home()?.join("hub")),
    }
}

/// `HF_HOME`, else `$XDG_CACHE_HOME/huggingface`, else `~/.cache/huggingface`.
fn hf_home() -> Result<PathBuf> {
    if let Some(dir) = variable("HF_HOME") {
        return at_home(&dir);
    }
    match variable("XDG_CACHE_HOME") {
        Some(dir) => Ok(at_home(&dir)?.join("huggingface")),
        None => Ok(home()?.join(".cache/huggingface")),
    }
}

fn home() -> Result<PathBuf> {
    std::env::home_dir().filter(|dir| !dir.as_os_str().is_empty()).ok_or(Error::NoHome)
}

/// A path in which `~` stands for the home folder.
fn at_home(path: &str) -> Result<PathBuf> {
    match path.strip_prefix('~') {
        Some("") => home(),
        Some(rest) if rest.starts_with('/') => Ok(home()?.join(&rest[1..])),
        _ => Ok(PathBuf::from(path)),
    }
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn is_yes(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.trim().to_ascii_lowercase().as_str())
}

fn endpoint(set: Option<String>) -> Result<String> {
    let Some(set) = set else { return Ok(PUBLIC_ENDPOINT.into()) };
    let address = set.trim().trim_end_matches('/');
    let is_http = address.starts_with("http://") || address.starts_with("https://");
    if !is_http || address.contains(['@', '?', '#', ' ']) {
        let expected = "an address such as `https://huggingface.co`";
        return Err(Error::BadSetting { name: "HF_ENDPOINT", found: set, expected });
    }
    Ok(address.to_owned())
}

fn token() -> Result<Option<Token>> {
    if let Some(text) = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")) {
        return Token::new(&text).map(Some);
    }
    let path = match variable("HF_TOKEN_PATH") {
        Some(path) => at_home(&path)?,
        // Without a home folder there is no token either; the cache has its own say.
        None => match hf_home() {
            Ok(home) => home.join("token"),
            Err(_) => return Ok(None),
        },
    };
    token_in(&path)
}

fn token_in(path: &Path) -> Result<Option<Token>> {
    use std::io::Read;
    let doing = "read the token in";
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { path: path.into(), doing, source }),
    };
    let mut text = String::new();
    file.take(MAX_TOKEN_BYTES).read_to_string(&mut text).map_err(|source| Error::Io {
        path: path.into(),
        doing,
        source,
    })?;
    if text.trim().is_empty() { Ok(None) } else { Token::new(&text).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_without_credentials() {
        assert_eq!(endpoint(None).unwrap(), PUBLIC_ENDPOINT);
        assert_eq!(endpoint(Some(" http://127.0.0.1:80/ ".into())).unwrap(), "http://127.0.0.1:80");
        for bad in ["huggingface.co", "ftp://x", "https://user:pass@x", "https://x?y"] {
            assert!(endpoint(Some(bad.into())).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_never_shows_itself() {
        let token = Token::new(" hf_secret\n").unwrap();
        assert_eq!(token.secret(), "hf_secret");
        assert!(!format!("{token:?}").contains("secret"));
        assert!(Token::new("two words").is_err() && Token::new("hf_\r\nHost: x").is_err());
    }
}
