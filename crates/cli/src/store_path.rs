//! Where the server keeps its keys, accounts and conversations, if nothing else is said.

use crate::failure::Failure;
use std::ffi::OsString;
use std::path::PathBuf;

/// `$XDG_DATA_HOME/fathom/serve.sqlite`, else `~/.local/share/fathom/serve.sqlite`.
///
/// Errors: there is no home folder.
pub(crate) fn default_store() -> Result<PathBuf, Failure> {
    below(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")).ok_or_else(|| {
        Failure::hinted("there is no home folder to keep the store in", "name a file with --store")
    })
}

/// An XDG folder that is not absolute is to be ignored (XDG Base Directory Specification).
fn below(data_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let data_home = data_home.map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = home.filter(|home| !home.is_empty()).map(PathBuf::from);
    let dir = data_home.or_else(|| home.map(|home| home.join(".local/share")))?;
    Some(dir.join("fathom/serve.sqlite"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_in_the_folder_for_data() {
        let path = |data: Option<&str>, home: Option<&str>| {
            below(data.map(Into::into), home.map(Into::into))
        };
        let home = Some(PathBuf::from("/home/ann/.local/share/fathom/serve.sqlite"));
        assert_eq!(
            path(Some("/data"), Some("/home/ann")),
            Some("/data/fathom/serve.sqlite".into())
        );
        assert_eq!(path(None, Some("/home/ann")), home);
        assert_eq!(path(Some(""), Some("/home/ann")), home);
        assert_eq!(path(Some("relative"), Some("/home/ann")), home);
        assert_eq!(path(None, Some("")), None);
    }
}
