//! One pool of worker threads for all kernels, and the parallel loop they share.
//!
//! A loop is cut into tasks; idle threads claim task numbers from a counter. What a task computes
//! depends on its number only, so the result does not depend on the number of threads.
//! Workers spin briefly between loops, since a decode step runs hundreds of short ones, then park.

use crate::cpu::{self, Isa};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};

/// Spins before a worker parks: about 50 µs, longer than the gap between two kernels of a step.
const SPINS_BEFORE_PARK: u32 = 20_000;

struct Job {
    /// The loop body. Valid until `remaining` reaches zero: `run` does not return before.
    body: *const (dyn Fn(usize) + Sync),
    n_tasks: usize,
    /// Threads that may take part.
    limit: usize,
    /// Level forced by the thread that started the loop.
    forced_isa: Option<Isa>,
    next: AtomicUsize,
    remaining: AtomicUsize,
    panicked: AtomicBool,
}

// SAFETY: `body` points at a `Sync` closure that outlives the job (see `run`).
unsafe impl Send for Job {}
// SAFETY: as above; the other fields are atomics.
unsafe impl Sync for Job {}

struct Shared {
    epoch: AtomicUsize,
    job: Mutex<Option<Arc<Job>>>,
    wake: Condvar,
}

struct Pool {
    shared: Arc<Shared>,
    /// Held by the thread whose loop is running; a second caller runs its loop alone.
    busy: AtomicBool,
}

static N_THREADS: OnceLock<usize> = OnceLock::new();
static POOL: OnceLock<Pool> = OnceLock::new();

thread_local! {
    /// Threads that may take part in loops this thread starts.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Sets the number of threads, the caller included. Has no effect once a loop has run.
/// Returns whether it took effect.
pub fn set_threads(n: usize) -> bool {
    N_THREADS.set(n.max(1)).is_ok()
}

/// Number of threads that loops run on: `set_threads`, else `FATHOM_THREADS`, else one per core.
pub fn n_threads() -> usize {
    *N_THREADS.get_or_init(|| {
        std::env::var("FATHOM_THREADS")
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|&n: &usize| n > 0)
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
    })
}

/// Lets at most `n` threads take part in loops that the calling thread starts; `None` lifts the
/// limit. For tests that compare the bits of one thread and of many.
pub fn limit_threads(n: Option<usize>) {
    LIMIT.set(n.unwrap_or(usize::MAX).max(1));
}

/// Runs `body(0)`, …, `body(n_tasks - 1)`, each once, in any order, on all threads.
///
/// A loop inside a loop runs on the calling thread alone.
///
/// Panics if a task panics.
pub fn run(n_tasks: usize, body: impl Fn(usize) + Sync) {
    let alone = n_tasks <= 1 || n_threads() == 1 || LIMIT.get() == 1;
    if alone || INSIDE.with(|inside| inside.get()) {
        (0..n_tasks).for_each(body);
        return;
    }
    let pool = POOL.get_or_init(|| start(n_threads()));
    if pool.busy.swap(true, Ordering::Acquire) {
        (0..n_tasks).for_each(body);
        return;
    }
    let wide: &(dyn Fn(usize) + Sync) = &body;
    // SAFETY: only the lifetime is erased; this function returns after every task has ended.
    let body: *const (dyn Fn(usize) + Sync) = unsafe {
        std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(wide)
    };
    let job = Arc::new(Job {
        body,
        n_tasks,
        limit: LIMIT.get(),
        forced_isa: cpu::forced_isa(),
        next: AtomicUsize::new(0),
        remaining: AtomicUsize::new(n_tasks),
        panicked: AtomicBool::new(false),
    });
    {
        let mut slot = pool.shared.job.lock().unwrap_or_else(|e| e.into_inner());
        *slot = Some(job.clone());
        pool.shared.epoch.fetch_add(1, Ordering::Release);
        pool.shared.wake.notify_all();
    }
    work(&job);
    let mut spins = 0u32;
    while job.remaining.load(Ordering::Acquire) != 0 {
        spins += 1;
        if spins > SPINS_BEFORE_PARK {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
    pool.busy.store(false, Ordering::Release);
    assert!(!job.panicked.load(Ordering::Acquire), "a kernel task panicked");
}

/// Cuts `0..n` into ranges of at least `grain` (about four per thread) and runs `body` on each.
/// Only for work whose items do not depend on the cut.
pub fn run_ranges(n: usize, grain: usize, body: impl Fn(std::ops::Range<usize>) + Sync) {
    if n == 0 {
        return;
    }
    let n_tasks = (n / grain.max(1)).clamp(1, 4 * n_threads());
    let step = n.div_ceil(n_tasks);
    run(n.div_ceil(step), |i| body(i * step..((i + 1) * step).min(n)));
}

/// A mutable slice that parallel tasks write disjoint parts of.
pub struct Shards<'a, T> {
    ptr: *mut T,
    len: usize,
    _life: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: hands out `&mut [T]` under the contract of `slice`; `T: Send` moves between threads.
unsafe impl<T: Send> Send for Shards<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shards<'_, T> {}

impl<'a, T> Shards<'a, T> {
    /// Wraps a slice for the duration of a parallel loop.
    pub fn new(slice: &'a mut [T]) -> Self {
        Shards { ptr: slice.as_mut_ptr(), len: slice.len(), _life: std::marker::PhantomData }
    }

    /// The part `range` of the slice.
    ///
    /// # Safety
    /// No two tasks may hold overlapping ranges at the same time.
    ///
    /// Panics if the range leaves the slice.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, range: std::ops::Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: in bounds by the assert; disjointness is the caller's promise.
        unsafe {
            std::slice::from_raw_parts_mut(self.ptr.add(range.start), range.end - range.start)
        }
    }
}

impl<T> Shards<'_, T> {
    /// Address of element `at`, for writers whose parts interleave.
    ///
    /// # Safety
    /// No two tasks may touch the same element, and none may leave the slice.
    ///
    /// Panics if `at` is past the end.
    pub unsafe fn pointer(&self, at: usize) -> *mut T {
        assert!(at <= self.len, "{at} of {}", self.len);
        // SAFETY: in bounds by the assert.
        unsafe { self.ptr.add(at) }
    }
}

/// Runs `body(i, chunk_i)` over consecutive chunks of `chunk` elements, in parallel.
pub fn run_chunks<T: Send>(data: &mut [T], chunk: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    let len = data.len();
    let shards = Shards::new(data);
    run(len.div_ceil(chunk.max(1)), |i| {
        // SAFETY: chunks of different numbers do not overlap.
        body(i, unsafe { shards.slice(i * chunk..((i + 1) * chunk).min(len)) })
    });
}

fn start(n_threads: usize) -> Pool {
    let shared = Arc::new(Shared {
        epoch: AtomicUsize::new(0),
        job: Mutex::new(None),
        wake: Condvar::new(),
    });
    for worker_idx in 1..n_threads {
        let shared = shared.clone();
        std::thread::Builder::new()
            .name(format!("kernel-{worker_idx}"))
            .spawn(move || serve(&shared, worker_idx))
            .expect("the system refuses to start a worker thread");
    }
    Pool { shared, busy: AtomicBool::new(false) }
}

/// The life of a worker: wait for a job, take part in it, repeat.
fn serve(shared: &Shared, worker_idx: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.epoch.load(Ordering::Acquire) == seen && spins < SPINS_BEFORE_PARK {
            std::hint::spin_loop();
            spins += 1;
        }
        let job = {
            let mut slot = shared.job.lock().unwrap_or_else(|e| e.into_inner());
            while shared.epoch.load(Ordering::Acquire) == seen {
                slot = shared.wake.wait(slot).unwrap_or_else(|e| e.into_inner());
            }
            seen = shared.epoch.load(Ordering::Acquire);
            slot.clone()
        };
        if let Some(job) = job
            && worker_idx < job.limit
        {
            cpu::force_isa(job.forced_isa);
            work(&job);
        }
    }
}

/// Claims and runs tasks of `job` until none is left.
fn work(job: &Job) {
    INSIDE.with(|inside| inside.set(true));
    loop {
        let task = job.next.fetch_add(1, Ordering::Relaxed);
        if task >= job.n_tasks {
            break;
        }
        // SAFETY: `remaining` is still above zero, so `run` has not returned and `body` is alive.
        let body = unsafe { &*job.body };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(task))).is_err() {
            job.panicked.store(true, Ordering::Release);
        }
        job.remaining.fetch_sub(1, Ordering::Release);
    }
    INSIDE.with(|inside| inside.set(false));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for n in [0, 1, 2, 7, 1000] {
            let hits: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            run(n, |i| {
                hits[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1), "{n} tasks");
        }
    }

    #[test]
    fn loops_may_nest() {
        let total = AtomicUsize::new(0);
        run(8, |_| run(8, |_| _ = total.fetch_add(1, Ordering::Relaxed)));
        assert_eq!(total.load(Ordering::Relaxed), 64);
    }

    #[test]
    fn a_panicking_task_reaches_the_caller() {
        let caught = std::panic::catch_unwind(|| run(4, |i| assert!(i != 2)));
        assert!(caught.is_err());
        run(4, |_| ()); // the pool still works
    }

    #[test]
    fn chunks_cover_the_slice() {
        let mut data = vec![0usize; 103];
        run_chunks(&mut data, 10, |i, chunk| chunk.fill(i + 1));
        assert!(data.iter().enumerate().all(|(at, &v)| v == at / 10 + 1));
    }
}
