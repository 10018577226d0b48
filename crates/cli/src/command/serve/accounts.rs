//! Who may ask: the store of keys and conversations, and keys from a file or the environment.

use crate::failure::Failure;
use crate::store_path::default_store;
use fathom_serve::auth::{Keys, StaticKey, read_keys};
use fathom_serve::store::Store;
use std::path::{Path, PathBuf};

/// Names a key without a file.
const KEY_VARIABLE: &str = "FATHOM_API_KEY";

/// Opens the store, making its folder.
pub(super) fn store(typed: Option<PathBuf>) -> Result<Store, Failure> {
    let path = typed.map_or_else(default_store, Ok)?;
    Store::open(&path).map_err(|error| Failure::Failed(error.to_string()))
}

/// The keys of the file and of the environment; those of the store count in any case.
pub(super) fn keys(file: Option<&Path>) -> Result<Keys, Failure> {
    let mut statics = Vec::new();
    if let Some(path) = file {
        let failed = |error: String| Failure::Failed(format!("`{}`: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        statics.extend(read_keys(&text).map_err(|error| failed(error.to_string()))?);
    }
    if let Ok(key) = std::env::var(KEY_VARIABLE)
        && !key.is_empty()
    {
        let key = StaticKey::parse(&key);
        statics.push(key.map_err(|error| Failure::Failed(format!("`{KEY_VARIABLE}`: {error}")))?);
    }
    Ok(Keys { statics, from_store: true })
}
