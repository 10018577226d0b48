//! What a download tells whoever watches it.

use std::time::Duration;

/// Something that happened. Files are counted from 0 in the order of [`Event::Planned`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What will be fetched, before the first byte: names with bytes where the server tells them,
    /// and the bytes of files that are there already.
    Planned { commit: String, files: Vec<(String, Option<u64>)>, bytes_present: u64 },
    /// A file is being fetched and `done` bytes of its `n_bytes` are here.
    /// `done` can fall: a server that cannot go on in the middle starts over.
    At { file: usize, done: u64, n_bytes: u64 },
    /// A file is complete and checked.
    Done { file: usize },
    /// An attempt failed and another one comes after a pause.
    Retry { file: usize, why: String, pause: Duration },
    /// Another process is fetching the same file; this one waits for it.
    Waiting { file: usize },
}

/// Whoever watches a download. Both functions are called from the thread that called
/// [`crate::pull`].
pub trait Progress {
    /// Is told what happened.
    fn event(&mut self, event: &Event);

    /// Whether the download shall end; asked several times a second.
    fn wants_stop(&self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Debug)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn event(&mut self, _: &Event) {}
}
