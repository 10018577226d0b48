//! Read-only bytes of a file, memory-mapped. The only `unsafe` of this crate is here and in `large_pages`.

#[cfg(target_os = "linux")]
mod large_pages;

use std::fs::{self, File};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::OnceLock;

use fathom_kernels::stored::Bytes;

use crate::{Error, Result};

/// The bytes of a file (mapped) or of a buffer.
pub(crate) enum FileBytes {
    Mapped(Mapped),
    Owned(Vec<u8>),
}

/// A mapped file.
pub(crate) struct Mapped {
    map: memmap2::Mmap,
    /// Set as soon as some of it may be a copy, which must not be given back to the system.
    copied: OnceLock<()>,
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
        Ok(FileBytes::Mapped(Mapped { map: mapped, copied: OnceLock::new() }))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(mapped) => &mapped.map,
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
        if let FileBytes::Mapped(Mapped { map, .. }) = self {
            // A hint: where the system declines it, the pages are read when they are touched.
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
    }

    #[cfg(target_os = "linux")]
    fn prepare(&self, range: Range<usize>) {
        if let FileBytes::Mapped(Mapped { map, .. }) = self {
            // Files that are not in the page cache yet come into it in large pages, where the file system
            // can; memory is read faster through those. An older system (before Linux 5.14) declines the
            // second, and pages are entered when they are touched.
            let _ = map.advise(memmap2::Advice::HugePage);
            let _ = map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
        }
    }

    #[cfg(target_os = "linux")]
    fn copy(&self) -> std::io::Result<()> {
        let FileBytes::Mapped(mapped) = self else { return Ok(()) };
        if mapped.copied.set(()).is_err() {
            return Ok(());
        }
        // SAFETY: a mapping of a file, which lives as long as `self`.
        #[allow(unsafe_code)]
        let moved = unsafe { large_pages::move_into(&mapped.map) };
        moved.map_err(std::io::Error::from)
    }

    #[cfg(unix)]
    fn release(&self, range: Range<usize>) {
        if let FileBytes::Mapped(Mapped { map, copied }) = self
            && copied.get().is_none()
        {
            // SAFETY: the mapping is of a file, not copied, and never written, so that a page taken away comes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_bytes_are_those_of_the_file() {
        let path = std::env::temp_dir().join(format!("fathom-copied-{}", std::process::id()));
        let bytes: Vec<u8> = (0..(37usize << 20) + 12_345).map(|i| ((i * i) >> 7) as u8).collect();
        fs::write(&path, &bytes).expect("a file of our own");
        let file = FileBytes::open(&path).expect("it is there");
        fs::remove_file(&path).expect("it was ours");
        let reader = || assert!(file.bytes() == bytes);
        std::thread::scope(|scope| {
            scope.spawn(reader); // while it is copied
            file.copy().expect("there is memory for it");
        });
        file.copy().expect("nothing is left to do");
        file.release(0..bytes.len());
        reader();
    }
}
