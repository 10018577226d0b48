//! Read-only bytes of a file, memory-mapped. The only `unsafe` of this crate is here.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::Path;

use crate::{Error, Result};

/// The bytes of a file (mapped) or of a buffer.
pub(crate) enum FileBytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl FileBytes {
    /// Maps `path`. Fails on anything that is not a regular file (a pipe would block for ever).
    pub(crate) fn open(path: &Path) -> Result<FileBytes> {
        let fail = |source| Error::Read { path: path.to_owned(), source };
        if !fs::metadata(path).map_err(fail)?.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.len() == 0 {
            return Ok(FileBytes::Owned(Vec::new())); // an empty mapping is refused by the system
        }
        // SAFETY: the mapping is private to us and read-only. The remaining hazard is another
        // process that shortens or rewrites this very file while it is mapped. Our own writers
        // never do: they write a new file and rename it, which leaves the mapped one intact.
        #[allow(unsafe_code)]
        let mapped = unsafe { memmap2::Mmap::map(&file) }.map_err(fail)?;
        Ok(FileBytes::Mapped(mapped))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(map) => map,
            FileBytes::Owned(bytes) => bytes,
        }
    }
}
