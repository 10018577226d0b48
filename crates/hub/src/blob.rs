//! One file from the hub to the disk: resumed where it was cut, checked, and only then named.
//!
//! Bytes grow in `blobs/<hash>.incomplete`; the name says which file they belong to, so a file that
//! changes on the server begins anew by itself. A lock, the same that `huggingface_hub` takes,
//! keeps a second process from writing to it.

use crate::api::{self, Described, Metadata};
use crate::cache::{Folder, create_dir};
use crate::checksum::Running;
use crate::client::{Client, Method};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::name::Repo;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How often a lock or a wish to stop is looked at.
const TICK: Duration = Duration::from_millis(50);
/// Longest pause between attempts, unless the server asks for more.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A file to fetch.
pub(crate) struct Job<'a> {
    pub(crate) client: &'a Client,
    pub(crate) folder: &'a Folder,
    pub(crate) repo: &'a Repo,
    pub(crate) commit: &'a str,
    pub(crate) file: &'a str,
    /// Its place in the plan, for events.
    pub(crate) idx: usize,
    /// What the list says of it.
    pub(crate) listed: &'a Described,
    pub(crate) n_retries: u32,
    pub(crate) first_pause: Duration,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) report: &'a (dyn Fn(Event) + 'a),
}

/// What a job did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Bytes that came over the network, those of failed attempts included.
    pub(crate) downloaded: u64,
    /// Bytes that were on the disk before.
    pub(crate) reused: u64,
}

impl Job<'_> {
    /// Fetches the file and links it into its snapshot, with as many attempts as are allowed to
    /// fail in a row; an attempt that brings bytes counts as a success.
    pub(crate) fn run(&self) -> Result<Fetched> {
        let mut downloaded = 0;
        let mut reused = None;
        let mut n_failed = 0;
        loop {
            let before = downloaded;
            let error = match self.attempt(&mut downloaded, &mut reused) {
                Ok(()) => return Ok(Fetched { downloaded, reused: reused.unwrap_or(0) }),
                Err(error) => error,
            };
            // A name that was found a moment ago is a resolver that hiccups.
            let is_passing =
                error.is_passing() || (matches!(error, Error::NoHost { .. }) && before > 0);
            n_failed = if downloaded > before { 1 } else { n_failed + 1 };
            if !is_passing || n_failed > self.n_retries {
                return Err(error);
            }
            let pause = pause(&error, self.first_pause, n_failed);
            (self.report)(Event::Retry { file: self.idx, why: error.to_string(), pause });
            wait(pause, self.stop)?;
        }
    }

    fn attempt(&self, downloaded: &mut u64, reused: &mut Option<u64>) -> Result<()> {
        check_stop(self.stop)?;
        // Asked anew each time: the file may have changed, and signed addresses expire.
        let metadata = api::metadata(self.client, self.repo, self.commit, self.file, self.listed)?;
        create_dir(&self.folder.blobs())?;
        let _lock = self.lock(&metadata.etag)?;
        let blob = self.folder.blob(&metadata.etag);
        if let Ok(found) = fs::metadata(&blob) {
            reused.get_or_insert(found.len());
        } else {
            let mut partial = Partial::open(self, &metadata)?;
            reused.get_or_insert(partial.n_bytes);
            partial.fetch(downloaded)?;
            if partial.started_over {
                *reused = Some(0);
            }
            partial.finish(&blob)?;
        }
        self.folder.link(self.commit, self.file, &metadata.etag)
    }

    /// Waits until no other process fetches the same bytes. The lock ends with the value.
    fn lock(&self, etag: &str) -> Result<File> {
        let path = self.folder.lock(etag);
        create_dir(path.parent().expect("a lock stands in a folder"))?;
        let failed = |source| Error::Io { path: path.clone(), doing: "lock", source };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                // A file system without locks: checksums still refuse what two writers made.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(file);
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if !told {
                (self.report)(Event::Waiting { file: self.idx });
                told = true;
            }
            wait(TICK, self.stop)?;
        }
    }
}

/// A blob that is not whole yet.
struct Partial<'a> {
    job: &'a Job<'a>,
    metadata: &'a Metadata,
    file: File,
    hash: Running,
    /// Bytes in the file, all of them in the hash.
    n_bytes: u64,
    /// Whether bytes of an earlier attempt are among them.
    resumed: bool,
    started_over: bool,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier attempt left, if anything, and takes its bytes into the hash.
    fn open(job: &'a Job<'a>, metadata: &'a Metadata) -> Result<Partial<'a>> {
        let path = job.folder.partial(&metadata.etag);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| Error::Io { path, doing: "open", source })?;
        let hash = metadata.expected.start(metadata.n_bytes);
        let (n_bytes, resumed, started_over) = (0, false, false);
        let mut partial = Partial { job, metadata, file, hash, n_bytes, resumed, started_over };
        partial.read_what_is_there()?;
        Ok(partial)
    }

    fn read_what_is_there(&mut self) -> Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            check_stop(self.job.stop)?;
            let n = match self.file.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed("read", error)),
            };
            self.hash.add(&chunk[..n]);
            self.n_bytes += n as u64;
            self.tell();
        }
        self.resumed = self.n_bytes > 0;
        if self.n_bytes > self.metadata.n_bytes {
            self.start_over()?;
        }
        Ok(())
    }

    /// Brings the missing bytes and checks all of them. On an error the bytes stay, unless they
    /// are known to be wrong.
    fn fetch(&mut self, downloaded: &mut u64) -> Result<()> {
        if self.n_bytes < self.metadata.n_bytes {
            self.receive(downloaded)?;
        }
        let mut checked = self.check();
        if checked.is_err() && self.resumed {
            // Perhaps it was the old bytes that were damaged: once more, from the first one.
            self.start_over()?;
            self.receive(downloaded)?;
            checked = self.check();
        }
        if matches!(checked, Err(Error::Checksum { .. } | Error::TooLong { .. })) {
            self.remove();
        }
        checked
    }

    fn receive(&mut self, downloaded: &mut u64) -> Result<()> {
        let job = self.job;
        let url = api::file_url(job.client, job.repo, job.commit, job.file);
        let offset = (self.n_bytes > 0).then_some(self.n_bytes);
        let answer = job.client.ask(Method::Get, &url, offset)?;
        if answer.status() == 416 {
            self.start_over()?; // the next attempt asks for all of it
            return Err(answer.failed());
        }
        if !matches!(answer.status(), 200 | 206) {
            return Err(answer.failed());
        }
        let etag = &self.metadata.etag;
        if let Some(named) = answer.named().filter(|named| named != etag) {
            let (expected, found) = (etag.clone(), named.to_owned());
            return Err(Error::Changed { file: job.file.into(), expected, found });
        }
        if answer.status() == 200 && offset.is_some() {
            self.start_over()?; // it cannot begin in the middle
        } else if answer.status() == 206 && answer.range_start() != Some(self.n_bytes) {
            self.start_over()?;
            let why = "it sent another part than was asked for".into();
            return Err(Error::Network { url, why });
        }
        let (url, mut body) = answer.into_reader();
        let expected = self.metadata.n_bytes;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            check_stop(job.stop)?;
            let cut = |done: u64, why: String| {
                let why = format!("{why} after {done} of {expected} bytes");
                Error::Network { url: url.clone(), why }
            };
            let n = match body.read(&mut chunk) {
                Ok(0) if self.n_bytes < expected => {
                    return Err(cut(self.n_bytes, "cut".into()));
                }
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(cut(self.n_bytes, error.to_string())),
            };
            *downloaded += n as u64;
            if self.n_bytes + n as u64 > expected {
                self.remove();
                return Err(Error::TooLong { file: job.file.into(), expected });
            }
            self.file.write_all(&chunk[..n]).map_err(|error| self.failed("write", error))?;
            self.hash.add(&chunk[..n]);
            self.n_bytes += n as u64;
            self.tell();
        }
    }

    fn check(&mut self) -> Result<()> {
        let fresh = self.metadata.expected.start(self.metadata.n_bytes);
        let hash = std::mem::replace(&mut self.hash, fresh);
        let file = || self.job.file.to_owned();
        self.metadata.expected.check(hash).map_err(|(expected, found)| Error::Checksum {
            file: file(),
            expected,
            found,
        })
    }

    /// Gives the bytes their name. They are on the disk before the name is.
    fn finish(self, blob: &Path) -> Result<()> {
        self.file.sync_data().map_err(|error| self.failed("write", error))?;
        let path = self.job.folder.partial(&self.metadata.etag);
        fs::rename(&path, blob).map_err(|error| self.failed("rename", error))
    }

    fn start_over(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|error| self.failed("empty", error))?;
        self.hash = self.metadata.expected.start(self.metadata.n_bytes);
        self.n_bytes = 0;
        self.resumed = false;
        self.started_over = true;
        self.tell();
        Ok(())
    }

    fn remove(&self) {
        // What cannot be removed is refused by its checksum the next time.
        let _ = fs::remove_file(self.job.folder.partial(&self.metadata.etag));
    }

    fn tell(&self) {
        let (file, done, n_bytes) = (self.job.idx, self.n_bytes, self.metadata.n_bytes);
        (self.job.report)(Event::At { file, done, n_bytes });
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> Error {
        Error::Io { path: self.job.folder.partial(&self.metadata.etag), doing, source }
    }
}

/// The pause before the next attempt: doubled each time, or what the server asks for.
pub(crate) fn pause(error: &Error, first: Duration, n_failed: u32) -> Duration {
    let asked = match error {
        Error::Status { retry_after_s: Some(seconds), .. } => Duration::from_secs(*seconds),
        _ => Duration::ZERO,
    };
    asked.max(first.saturating_mul(1 << (n_failed - 1).min(10)).min(MAX_PAUSE))
}

/// Waits, but not for somebody who wants to stop.
pub(crate) fn wait(pause: Duration, stop: &AtomicBool) -> Result<()> {
    let start = Instant::now();
    loop {
        check_stop(stop)?;
        let left = pause.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
    }
}

fn check_stop(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::SeqCst) { Err(Error::Stopped) } else { Ok(()) }
}
