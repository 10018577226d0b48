//! A file of JSON lines that only grows, and that a resumed run cuts back to where it goes on.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::run_dir::RunDirError;

/// An open JSON-lines file of records `T`.
#[derive(Debug)]
pub struct JsonLines<T> {
    path: PathBuf,
    file: File,
    record: PhantomData<fn(&T)>,
}

impl<T: Serialize + DeserializeOwned> JsonLines<T> {
    /// Opens or creates the file, cuts it before the first line that is torn or not to be kept,
    /// and returns it with the records before the cut.
    ///
    /// Errors: `File` if the file cannot be opened, read, or cut.
    pub fn open(
        path: impl Into<PathBuf>,
        keep: impl Fn(&T) -> bool,
    ) -> Result<(Self, Vec<T>), RunDirError> {
        let path = path.into();
        let fail = |doing| move |source| (doing, source);
        let open = || -> Result<(File, Vec<T>), (&'static str, std::io::Error)> {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .read(true)
                .open(&path)
                .map_err(fail("open"))?;
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut file, &mut bytes).map_err(fail("read"))?;
            let (kept, n_bytes) = read_prefix(&bytes, &keep);
            if n_bytes < bytes.len() {
                file.set_len(n_bytes as u64).map_err(fail("cut"))?;
            }
            Ok((file, kept))
        };
        match open() {
            Ok((file, kept)) => Ok((JsonLines { path, file, record: PhantomData }, kept)),
            Err((doing, source)) => Err(RunDirError::File { path, doing, source }),
        }
    }

    /// Appends one record; the line is with the system when this returns, if not yet on the disk.
    pub fn write(&mut self, record: &T) -> Result<(), RunDirError> {
        let mut line =
            serde_json::to_vec(record).map_err(|error| self.error("write", error.into()))?;
        line.push(b'\n');
        // One call for the whole line: a killed process leaves it whole or leaves none of it.
        self.file.write_all(&line).map_err(|source| self.error("write", source))
    }

    /// Waits until everything written is on the disk.
    pub fn sync(&self) -> Result<(), RunDirError> {
        self.file.sync_data().map_err(|source| self.error("write", source))
    }

    fn error(&self, doing: &'static str, source: std::io::Error) -> RunDirError {
        RunDirError::File { path: self.path.clone(), doing, source }
    }
}

/// Reads all whole records of a file; a torn last line is left out. No file: no records.
pub fn read_all<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, RunDirError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(read_prefix(&bytes, |_| true).0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RunDirError::File { path: path.to_owned(), doing: "read", source }),
    }
}

/// The records of the whole lines that are kept, and the number of bytes they take.
fn read_prefix<T: DeserializeOwned>(bytes: &[u8], keep: impl Fn(&T) -> bool) -> (Vec<T>, usize) {
    let mut records = Vec::new();
    let mut n_bytes = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            break;
        }
        match serde_json::from_slice::<T>(line) {
            Ok(record) if keep(&record) => records.push(record),
            _ => break,
        }
        n_bytes += line.len();
    }
    (records, n_bytes)
}
