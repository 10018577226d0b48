//! A whole model: list, choose, fetch a few files at once, and only then move the branch.

use crate::api::{self, Listing};
use crate::blob::{self, Fetched, Job};
use crate::cache::Folder;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::events::{Event, Progress};
use crate::name::{ModelName, Repo, Revision};
use crate::select::{self, Asked, Listed};
use crate::settings::Settings;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often the watcher is asked whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// What shall be fetched.
#[derive(Clone, Debug)]
pub struct Request {
    /// The repository.
    pub repo: Repo,
    /// The branch, tag or commit.
    pub revision: Revision,
    /// Which GGUF of several: a file name, or a part of one such as `Q4_K_M`.
    pub choice: Option<String>,
    /// Patterns of files to fetch in place of those of a model; `*` and `?` as in a shell, `*` over
    /// slashes too.
    pub include: Vec<String>,
    /// Patterns of files to leave out.
    pub exclude: Vec<String>,
}

impl From<ModelName> for Request {
    fn from(name: ModelName) -> Self {
        let ModelName { repo, revision, choice } = name;
        Request { repo, revision, choice, include: Vec::new(), exclude: Vec::new() }
    }
}

/// What is there now.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The snapshot.
    pub dir: PathBuf,
    /// The commit that the revision was.
    pub commit: String,
    /// The chosen files, settings first.
    pub files: Vec<PulledFile>,
    /// Bytes that came over the network, repeated ones included.
    pub bytes_downloaded: u64,
    /// Bytes that were on the disk before.
    pub bytes_reused: u64,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledFile {
    /// Path below the snapshot.
    pub name: String,
    /// Its length.
    pub n_bytes: u64,
}

/// Fetches what is missing of the chosen files into the cache, each one checked.
///
/// The branch in the cache moves when all files are there, so that whoever looks it up never finds
/// half a model. Stopping keeps what was fetched; the next call goes on from there.
///
/// Errors: any [`Error`]; [`Error::Stopped`] when `progress` wants it.
pub fn pull(settings: &Settings, request: &Request, progress: &mut dyn Progress) -> Result<Pulled> {
    if settings.offline {
        return from_cache(settings, request);
    }
    let client = Client::new(settings)?;
    let listing = list(settings, &client, request, progress)?;
    let listed: Vec<Listed> =
        listing.files.iter().map(|(name, file)| (name.clone(), file.n_bytes)).collect();
    let chosen = select::choose(asked(request), &listed)?;
    let folder = settings.cache.of(&request.repo);
    let snapshot = folder.snapshot(&listing.commit);
    let is_there = |name: &String| fs::metadata(snapshot.join(name)).is_ok_and(|f| f.is_file());
    let (present, missing): (Vec<String>, Vec<String>) = chosen.iter().cloned().partition(is_there);
    let bytes_present: u64 = present.iter().map(|name| length(&snapshot.join(name))).sum();

    let files: Vec<Listed> =
        missing.iter().map(|name| (name.clone(), listing.files[name].n_bytes)).collect();
    check_room(settings.cache.root(), &folder, &files)?;
    let commit = listing.commit.clone();
    progress.event(&Event::Planned { commit, files, bytes_present });
    let crew = Crew { settings, client: &client, folder: &folder, request, listing: &listing };
    let fetched = crew.fetch(&missing, progress)?;
    folder.refer(&request.revision, &listing.commit)?;
    Ok(Pulled {
        files: measured(&snapshot, chosen),
        dir: snapshot,
        commit: listing.commit,
        bytes_downloaded: fetched.downloaded,
        bytes_reused: fetched.reused + bytes_present,
    })
}

/// What the cache holds of the request, without a connection.
fn from_cache(settings: &Settings, request: &Request) -> Result<Pulled> {
    let Request { repo, revision, .. } = request;
    let offline = || Error::Offline { repo: repo.to_string(), revision: revision.to_string() };
    let dir = settings.cache.find(repo, revision).ok_or_else(offline)?;
    let held = crate::cache::files_below(&dir);
    let chosen = match select::choose(asked(request), &held) {
        Ok(chosen) => chosen,
        Err(error @ Error::Ambiguous { .. }) => return Err(error),
        Err(_) => return Err(offline()),
    };
    if request.include.is_empty() && !crate::cache::is_whole(&dir, &held, &chosen) {
        return Err(offline());
    }
    let commit = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let files = measured(&dir, chosen);
    let bytes_reused = files.iter().map(|file| file.n_bytes).sum();
    Ok(Pulled { dir, commit, files, bytes_downloaded: 0, bytes_reused })
}

fn asked(request: &Request) -> Asked<'_> {
    Asked {
        repo: request.repo.as_str(),
        choice: request.choice.as_deref(),
        include: &request.include,
        exclude: &request.exclude,
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

fn measured(dir: &Path, names: Vec<String>) -> Vec<PulledFile> {
    let measure = |name: String| PulledFile { n_bytes: length(&dir.join(&name)), name };
    names.into_iter().map(measure).collect()
}

/// The list of files, with as many attempts as a file gets.
fn list(
    settings: &Settings,
    client: &Client,
    request: &Request,
    progress: &dyn Progress,
) -> Result<Listing> {
    let mut n_failed = 0;
    loop {
        let error = match api::list(client, &request.repo, &request.revision) {
            Ok(listing) => return Ok(listing),
            Err(error) => error,
        };
        n_failed += 1;
        if !error.is_passing() || n_failed > settings.n_retries {
            return Err(error);
        }
        let mut left = blob::pause(&error, settings.first_pause, n_failed);
        while !left.is_zero() {
            if progress.wants_stop() {
                return Err(Error::Stopped);
            }
            let tick = left.min(TICK);
            std::thread::sleep(tick);
            left -= tick;
        }
    }
}

/// Refuses before the first byte what cannot end well. What is on the disk in part is not counted.
fn check_room(root: &Path, folder: &Folder, files: &[Listed]) -> Result<()> {
    let needed: u64 = files.iter().filter_map(|(_, bytes)| *bytes).sum();
    let needed = needed.saturating_sub(folder.partial_bytes());
    match free_bytes(root) {
        Some(free) if free < needed => Err(Error::DiskFull { path: root.into(), needed, free }),
        _ => Ok(()),
    }
}

/// Bytes that this user may still write where `path` is or will be.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let found = rustix::fs::statvfs(existing).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// The threads that fetch, and what they share.
struct Crew<'a> {
    settings: &'a Settings,
    client: &'a Client,
    folder: &'a Folder,
    request: &'a Request,
    listing: &'a Listing,
}

impl Crew<'_> {
    /// Fetches all files; the first error ends the others too.
    fn fetch(&self, files: &[String], progress: &mut dyn Progress) -> Result<Fetched> {
        let stop = AtomicBool::new(false);
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..files.len()).collect());
        let outcome: Mutex<Result<Fetched>> = Mutex::new(Ok(Fetched::default()));
        let (sender, events) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.settings.n_parallel.clamp(1, files.len().max(1)) {
                let (sender, queue, outcome, stop) = (sender.clone(), &queue, &outcome, &stop);
                scope.spawn(move || self.work(files, queue, outcome, stop, &sender));
            }
            drop(sender);
            loop {
                match events.recv_timeout(TICK) {
                    Ok(event) => progress.event(&event),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if progress.wants_stop() {
                    stop.store(true, Ordering::SeqCst);
                }
            }
        });
        outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(
        &self,
        files: &[String],
        queue: &Mutex<VecDeque<usize>>,
        outcome: &Mutex<Result<Fetched>>,
        stop: &AtomicBool,
        sender: &Sender<Event>,
    ) {
        // The receiver outlives all threads; if it did not, nobody would want to know.
        let report = |event: Event| drop(sender.send(event));
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(idx) = next else { return };
            let job = Job {
                client: self.client,
                folder: self.folder,
                repo: &self.request.repo,
                commit: &self.listing.commit,
                file: &files[idx],
                idx,
                listed: &self.listing.files[&files[idx]],
                n_retries: self.settings.n_retries,
                first_pause: self.settings.first_pause,
                stop,
                report: &report,
            };
            let result = job.run();
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *outcome, result) {
                (Ok(sum), Ok(fetched)) => {
                    sum.downloaded += fetched.downloaded;
                    sum.reused += fetched.reused;
                    report(Event::Done { file: idx });
                }
                (Ok(_), Err(error)) => {
                    *outcome = Err(error);
                    stop.store(true, Ordering::SeqCst);
                    return;
                }
                (Err(_), _) => return,
            }
        }
    }
}
