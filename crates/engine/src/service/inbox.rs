//! Where callers' threads and the engine's thread meet: jobs that have just come, and figures.
//!
//! Locks are held for moments only, never during a pass.

use super::front::ServiceSettings;
use super::job::{Refused, Stats};
use super::sequence::Sequence;
use fathom_model::cache::CacheSpec;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Ends of jobs from which the time until the next one is estimated.
const ENDS_KEPT: usize = 32;
/// Seconds after which a refused caller may come back, at least and at most.
const RETRY_S: [f64; 2] = [1.0, 60.0];

/// What both sides share.
pub(super) struct Inbox {
    state: Mutex<State>,
    arrival: Condvar,
}

struct State {
    arrived: Vec<Sequence>,
    /// Those that came, here and with the engine, and have not begun.
    n_waiting: usize,
    /// Jobs so far.
    n_jobs: u64,
    is_closed: bool,
    /// When jobs ended lately, behind an earlier one or the time when work began.
    ends: VecDeque<Instant>,
    stats: Stats,
}

impl Inbox {
    pub(super) fn new(settings: &ServiceSettings, spec: CacheSpec) -> Inbox {
        let stats = Stats {
            max_waiting: settings.max_waiting,
            n_blocks: settings.n_blocks,
            block_bytes: spec.block_bytes(),
            ..Stats::default()
        };
        let state = State {
            arrived: Vec::new(),
            n_waiting: 0,
            n_jobs: 0,
            is_closed: false,
            ends: VecDeque::with_capacity(ENDS_KEPT + 1),
            stats,
        };
        Inbox { state: Mutex::new(state), arrival: Condvar::new() }
    }

    /// Takes a job in and gives it its number.
    pub(super) fn put(&self, mut sequence: Sequence) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Refused::Stopped);
        }
        let n_waiting = state.n_waiting;
        if n_waiting >= state.stats.max_waiting {
            return Err(Refused::Full { n_waiting, retry_after_s: state.retry_after_s() });
        }
        // Time without work says nothing about the pace of work.
        if n_waiting == 0 && state.stats.n_running == 0 {
            state.ends.clear();
            state.ends.push_back(Instant::now());
        }
        sequence.id = state.n_jobs;
        state.n_jobs += 1;
        state.n_waiting += 1;
        state.arrived.push(sequence);
        drop(state);
        self.arrival.notify_one();
        Ok(())
    }

    /// The jobs that came since, for the engine; none once it is to stop. If it has nothing to do, this
    /// waits.
    pub(super) fn take(&self, is_idle: bool) -> Option<Vec<Sequence>> {
        let mut state = self.lock();
        while is_idle && state.arrived.is_empty() && !state.is_closed {
            state = self.arrival.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (!state.is_closed).then(|| std::mem::take(&mut state.arrived))
    }

    /// No more jobs.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.arrival.notify_all();
    }

    /// No more jobs; those that nobody has taken.
    pub(super) fn close_and_empty(&self) -> Vec<Sequence> {
        let mut state = self.lock();
        state.is_closed = true;
        state.n_waiting = 0;
        std::mem::take(&mut state.arrived)
    }

    /// `n_left` jobs left the queue: they began, or ended before. `n_ended` jobs ended, wherever.
    pub(super) fn note(&self, n_left: usize, n_ended: usize, stats: &Stats) {
        let mut state = self.lock();
        state.n_waiting = state.n_waiting.saturating_sub(n_left);
        let fixed = state.stats;
        state.stats = Stats {
            max_waiting: fixed.max_waiting,
            n_blocks: fixed.n_blocks,
            block_bytes: fixed.block_bytes,
            ..*stats
        };
        for _ in 0..n_ended.min(ENDS_KEPT) {
            state.ends.push_back(Instant::now());
        }
        let surplus = state.ends.len().saturating_sub(ENDS_KEPT);
        state.ends.drain(..surplus);
    }

    /// How things stand.
    pub(super) fn stats(&self) -> Stats {
        let state = self.lock();
        Stats { n_waiting: state.n_waiting, ..state.stats }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done if a holder panics: every change is one assignment after another.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Seconds until a place in the queue is likely to be free: one is for every job that ends.
    fn retry_after_s(&self) -> f64 {
        let [least, most] = RETRY_S;
        let Some(first) = self.ends.front() else { return least };
        let n_intervals = self.ends.len().saturating_sub(1).max(1);
        (first.elapsed().as_secs_f64() / n_intervals as f64).clamp(least, most)
    }
}
