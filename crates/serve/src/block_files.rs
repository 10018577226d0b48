//! Cached prefixes on disk: a directory with a file per block, within a limit of bytes.
//!
//! Files are written by a thread of their own, so that the engine never waits for a disk; if it falls
//! behind, blocks are dropped, which costs time later and nothing else. No failure is the caller's:
//! each kind is reported once, and what cannot be read was not there.
//!
//! A file is there whole or not at all (temporary name, rename). It is not synced: who reads it checks
//! a checksum. Files hold what prompts left behind in the model, so nobody but the user may read them.
//! The file's time is that of its last use, which orders files again when the directory is opened.

#[cfg(test)]
mod tests;

use fathom_engine::service::BlockStore;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Bytes that may wait for the disk.
const QUEUE_BYTES: usize = 128 << 20;
/// Uses that may wait for the disk; more are not written down.
const QUEUE_USES: usize = 4096;
/// Leftovers of this age belong to no program that still writes.
const STALE: Duration = Duration::from_secs(3600);

/// Hears what goes wrong, once per kind.
pub type Log = Box<dyn Fn(&str) + Send>;

/// A directory of saved blocks. Dropped, it leaves what was not written yet.
pub struct BlockFiles {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// What both threads see.
struct Shared {
    directory: PathBuf,
    limit_bytes: u64,
    max_queue_bytes: usize,
    state: Mutex<State>,
    /// Something was put into the queue, or taken out of it.
    changed: Condvar,
    reports: Mutex<Reports>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u128, Entry>,
    /// Files, the longest unused first.
    by_use: BTreeSet<(u64, u128)>,
    n_bytes: u64,
    /// Counts uses.
    now: u64,
    /// Blocks to be written; the first may be on its way.
    queue: VecDeque<(u128, Arc<[u8]>)>,
    queue_bytes: usize,
    /// Uses to be written down.
    uses: VecDeque<(u128, SystemTime)>,
    /// Whether the writer is at work.
    writes: bool,
    closes: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    n_bytes: u64,
    used: u64,
}

struct Reports {
    log: Log,
    made: BTreeSet<&'static str>,
}

/// What the writer does next.
enum Work {
    Write(u128, Arc<[u8]>),
    Use(u128, SystemTime),
    Remove(u128),
}

impl BlockFiles {
    /// Opens a directory, or makes it, for its owner only. Files of earlier programs are found again;
    /// what is not ours is left alone. `log` hears of failures, once per kind.
    ///
    /// Errors: the directory cannot be made or listed, or the thread cannot be started.
    pub fn open(directory: &Path, limit_bytes: u64, log: Log) -> io::Result<BlockFiles> {
        BlockFiles::with_queue(directory, limit_bytes, QUEUE_BYTES, log)
    }

    fn with_queue(
        directory: &Path,
        limit_bytes: u64,
        max_queue_bytes: usize,
        log: Log,
    ) -> io::Result<BlockFiles> {
        make_private(directory)?;
        let shared = Arc::new(Shared {
            directory: directory.to_path_buf(),
            limit_bytes,
            max_queue_bytes,
            state: Mutex::new(list(directory)?),
            changed: Condvar::new(),
            reports: Mutex::new(Reports { log, made: BTreeSet::new() }),
        });
        let for_writer = shared.clone();
        let thread = std::thread::Builder::new().name("block-files".to_owned());
        let writer = thread.spawn(move || for_writer.write_until_closed())?;
        Ok(BlockFiles { shared, writer: Some(writer) })
    }
}

impl BlockStore for BlockFiles {
    fn load(&mut self, key: u128) -> Option<Vec<u8>> {
        let n_bytes = {
            let mut state = self.shared.state();
            if let Some((_, bytes)) = state.queue.iter().find(|(other, _)| *other == key) {
                return Some(bytes.to_vec());
            }
            state.note_use(key);
            state.files.get(&key)?.n_bytes
        };
        self.shared.changed.notify_all();
        match read_whole(&self.shared.path(key), n_bytes) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.shared.report("read", &error);
                self.forget(key);
                None
            }
        }
    }

    /// Asking counts as a use.
    fn holds(&mut self, key: u128) -> bool {
        let mut state = self.shared.state();
        state.note_use(key);
        state.has(key)
    }

    fn save(&mut self, key: u128, bytes: &[u8]) {
        let mut state = self.shared.state();
        let waits = !state.queue.is_empty();
        let is_full = waits && state.queue_bytes + bytes.len() > self.shared.max_queue_bytes;
        if is_full || state.has(key) || bytes.len() as u64 > self.shared.limit_bytes {
            return;
        }
        state.queue_bytes += bytes.len();
        state.queue.push_back((key, bytes.into()));
        drop(state);
        self.shared.changed.notify_all();
    }

    fn forget(&mut self, key: u128) {
        let known = self.shared.state().drop_file(key);
        if known {
            self.shared.remove(key);
        }
    }

    fn capacity_bytes(&self) -> u64 {
        self.shared.limit_bytes
    }

    fn settle(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        self.shared.changed.notify_all();
        let mut state = self.shared.state();
        while !state.is_idle() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for BlockFiles {
    fn drop(&mut self) {
        self.shared.state().closes = true;
        self.shared.changed.notify_all();
        if let Some(writer) = self.writer.take() {
            // It has reported all that it could; a panic of its own would be a bug, not a reason to
            // have another one here.
            let _ = writer.join();
        }
    }
}

impl Shared {
    /// The life of the writer.
    fn write_until_closed(&self) {
        while let Some(work) = self.next() {
            match work {
                Work::Remove(key) => self.remove(key),
                Work::Use(key, time) => {
                    // The file may be gone by now, and its time matters little.
                    let file = OpenOptions::new().write(true).open(self.path(key));
                    let _ = file.and_then(|file| file.set_modified(time));
                }
                Work::Write(key, bytes) => self.write(key, &bytes),
            }
            self.changed.notify_all();
        }
    }

    /// Waits for work; none once the store closes.
    fn next(&self) -> Option<Work> {
        let mut state = self.state();
        state.writes = false;
        loop {
            if state.closes {
                return None;
            }
            if let Some(work) = state.work(self.limit_bytes) {
                state.writes = true;
                return Some(work);
            }
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes the first block of the queue and takes it out.
    fn write(&self, key: u128, bytes: &[u8]) {
        let written = write_private(&self.directory, &self.path(key), bytes);
        let mut state = self.state();
        state.queue.pop_front();
        state.queue_bytes -= bytes.len();
        match written {
            Ok(()) => state.add(key, bytes.len() as u64),
            Err(error) => {
                drop(state);
                self.report("write", &error);
            }
        }
    }

    fn remove(&self, key: u128) {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.report("remove", &error),
            _ => {}
        }
    }

    fn path(&self, key: u128) -> PathBuf {
        self.directory.join(format!("{key:032x}.kv"))
    }

    /// Tells of a failure, if none of its kind was told before.
    fn report(&self, kind: &'static str, error: &io::Error) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.made.insert(kind) {
            let directory = self.directory.display();
            (reports.log)(&format!(
                "cannot {kind} a cached prefix in `{directory}`: {error}\n\
                 hint: answers are not affected; more such failures are not reported"
            ));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is to be done first. Room is made before it is needed.
    fn work(&mut self, limit_bytes: u64) -> Option<Work> {
        let wanted = self.queue.front().map_or(0, |(_, bytes)| bytes.len() as u64);
        if self.n_bytes + wanted > limit_bytes
            && let Some(&(_, oldest)) = self.by_use.first()
        {
            self.drop_file(oldest);
            return Some(Work::Remove(oldest));
        }
        if let Some((key, bytes)) = self.queue.front() {
            return Some(Work::Write(*key, bytes.clone()));
        }
        self.uses.pop_front().map(|(key, time)| Work::Use(key, time))
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.uses.is_empty() && !self.writes
    }

    fn has(&self, key: u128) -> bool {
        self.files.contains_key(&key) || self.queue.iter().any(|(other, _)| *other == key)
    }

    fn note_use(&mut self, key: u128) {
        let Some(entry) = self.files.get_mut(&key) else { return };
        self.now += 1;
        self.by_use.remove(&(entry.used, key));
        entry.used = self.now;
        self.by_use.insert((entry.used, key));
        if self.uses.len() < QUEUE_USES {
            self.uses.push_back((key, SystemTime::now()));
        }
    }

    /// A file, used last of all.
    fn add(&mut self, key: u128, n_bytes: u64) {
        self.drop_file(key);
        self.now += 1;
        self.files.insert(key, Entry { n_bytes, used: self.now });
        self.by_use.insert((self.now, key));
        self.n_bytes += n_bytes;
    }

    /// Takes a file out of the index. Says whether it was there.
    fn drop_file(&mut self, key: u128) -> bool {
        let Some(entry) = self.files.remove(&key) else { return false };
        self.by_use.remove(&(entry.used, key));
        self.n_bytes -= entry.n_bytes;
        true
    }
}

/// The files of earlier programs, in the order of their last use. Leftovers of writes that were cut
/// off are removed.
fn list(directory: &Path) -> io::Result<State> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        // What cannot be asked about, or vanishes meanwhile, is not ours to report.
        let Ok(entry) = entry else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        let name = entry.file_name();
        let (Some(name), true) = (name.to_str(), metadata.is_file()) else { continue };
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if let Some(key) = key_of(name, "", ".kv") {
            found.push((modified, key, metadata.len()));
        } else if is_temporary(name) && modified.elapsed().is_ok_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
    found.sort_unstable();
    let mut state = State::default();
    found.into_iter().for_each(|(_, key, n_bytes)| state.add(key, n_bytes));
    Ok(state)
}

/// The key in a file's name. Only names that are written so are ours.
fn key_of(name: &str, before: &str, after: &str) -> Option<u128> {
    let digits = name.strip_prefix(before)?.strip_suffix(after)?;
    let ours = digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ours.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

/// Whether a name is that of a file being written, see [`write_private`].
fn is_temporary(name: &str) -> bool {
    let split = name.strip_suffix(".tmp").and_then(|name| name.split_once('-'));
    split.is_some_and(|(key, id)| {
        key_of(key, ".", "").is_some() && id.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A file that must have `n_bytes`.
fn read_whole(path: &Path, n_bytes: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // The size is the one that was listed or written, and may have changed since.
    let mut bytes = Vec::new();
    file.take(n_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == n_bytes {
        true => Ok(bytes),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "its length has changed")),
    }
}

/// Writes a file that is there whole or not at all, for its owner only.
fn write_private(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // Another server may write the same block into the same directory.
    let temporary = directory.join(format!(".{stem}-{}.tmp", std::process::id()));
    let written = fill(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn fill(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(path) {
        // Left over by a program that was killed while it wrote.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)?
        }
        other => other?,
    };
    file.write_all(bytes)?;
    // The file system's own clock is coarser than ours.
    file.set_modified(SystemTime::now())
}

/// Makes a directory for its owner only. One that exists is left as it is.
fn make_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
