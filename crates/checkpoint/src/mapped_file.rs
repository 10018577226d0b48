//! Read-only bytes of a file, memory-mapped. The only `unsafe` of this crate is here.

use std::fs::{self, File};
use std::ops::{Deref, Range};
use std::path::Path;

use fathom_kernels::stored::Bytes;

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

impl Bytes for FileBytes {
    fn bytes(&self) -> &[u8] {
        self
    }

    #[cfg(unix)]
    fn will_need(&self, range: Range<usize>) {
        if let FileBytes::Mapped(map) = self {
            // A hint: where the system declines it, the pages are read when they are touched.
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
    }

    #[cfg(target_os = "linux")]
    fn prepare(&self, range: Range<usize>) {
        if let FileBytes::Mapped(map) = self {
            // Files that are not in the page cache yet come into it in large pages, where the file system
            // can; memory is read faster through those. An older system (before Linux 5.14) declines the
            // second, and pages are entered when they are touched.
            let _ = map.advise(memmap2::Advice::HugePage);
            let _ = map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
        }
    }

    #[cfg(unix)]
    fn release(&self, range: Range<usize>) {
        if let FileBytes::Mapped(map) = self {
            // SAFETY: the mapping is of a file and never written, so that a page taken away comes
            // back with the same bytes when it is touched.
            #[allow(unsafe_code)]
            let _ = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
        }
    }
}
