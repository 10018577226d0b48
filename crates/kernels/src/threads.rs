//! One pool of worker threads for all kernels, and the parallel loop they share.
//!
//! A loop is cut into tasks, which are dealt to the threads in turn: of two threads one gets the even
//! tasks, the other the odd ones. So a thread that runs the same loop again meets the same weights, which its
//! own cache may still hold. Who has finished takes what others have left. What a task computes depends on its
//! number only, so the result does not depend on the number of threads.
//!
//! A token of a small model is dozens of loops of a few microseconds, so a loop is begun and ended by a handful
//! of atomic operations: nothing is allocated or locked, and the system is asked only if a worker sleeps.
//! Workers spin briefly between loops, then park.

use crate::cores::cores;
use crate::cpu::{self, Isa};
use std::cell::{Cell, UnsafeCell};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::Thread;

/// Spins before a worker parks, longer than the gap between two kernels of a step.
const SPINS_BEFORE_PARK: u32 = 20_000;
/// The same with more threads than cores: the task that is waited for may need the core of who waits.
const SPINS_WHEN_CROWDED: u32 = 200;

/// A loop that runs.
#[derive(Clone, Copy)]
struct Job {
    /// The loop body. Valid until all tasks have ended: `run` does not return before.
    body: *const (dyn Fn(usize) + Sync),
    n_tasks: usize,
    /// Threads that were dealt tasks; thread `i` has the tasks `i`, `i + n_dealt`, ….
    n_dealt: usize,
    /// Level forced by the thread that started the loop.
    forced_isa: Option<Isa>,
}

/// What was dealt to one thread. On cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Share {
    /// Tasks that nobody has claimed yet.
    left: AtomicUsize,
    /// Tasks that this thread has ended since the program started, its own and those of others.
    ended: AtomicUsize,
    /// The worker sleeps, or is about to.
    parked: AtomicBool,
    /// The worker; none of the caller's share.
    worker: OnceLock<Thread>,
}

struct Pool {
    /// Held by the thread whose loop is running; a second caller runs its loop alone.
    busy: AtomicBool,
    /// Written by the holder of `busy` while no task is left, read by who has claimed a task.
    job: UnsafeCell<Job>,
    /// One per thread, the caller's first.
    shares: Vec<Share>,
    panicked: AtomicBool,
    /// Spins before a thread that waits lets go of its core.
    spins: u32,
}

// SAFETY: `job` is written while no task can be claimed (see `Pool::start`), and its body is a `Sync`
// closure that outlives the job (see `run`).
unsafe impl Sync for Pool {}
// SAFETY: as above.
unsafe impl Send for Pool {}

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

/// Number of threads that loops run on: `set_threads`, else `FATHOM_THREADS`, else one per core (hyperthreads
/// share what these loops are short of: arithmetic and memory).
pub fn n_threads() -> usize {
    *N_THREADS.get_or_init(|| {
        std::env::var("FATHOM_THREADS")
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|&n: &usize| n > 0)
            .unwrap_or_else(|| cores().physical)
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
    let pool = pool();
    if pool.busy.swap(true, Ordering::Acquire) {
        (0..n_tasks).for_each(body);
        return;
    }
    let wide: &(dyn Fn(usize) + Sync) = &body;
    // SAFETY: only the lifetime is erased; this function returns after every task has ended.
    let body: *const (dyn Fn(usize) + Sync) = unsafe {
        std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(wide)
    };
    let n_dealt = n_tasks.min(pool.shares.len()).min(LIMIT.get());
    let ended_before = pool.n_ended();
    // SAFETY: this thread holds `busy`, and no task of an earlier loop is left.
    unsafe { pool.start(Job { body, n_tasks, n_dealt, forced_isa: cpu::forced_isa() }) };
    pool.work(0);
    let mut spins = 0u32;
    while pool.n_ended().wrapping_sub(ended_before) != n_tasks {
        spins += 1;
        if spins > pool.spins {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
    let panicked = pool.panicked.swap(false, Ordering::Relaxed);
    pool.busy.store(false, Ordering::Release);
    assert!(!panicked, "a kernel task panicked");
}

/// [`run`], or on the calling thread alone unless that is worth it.
pub(crate) fn run_if(worth_it: bool, n_tasks: usize, body: impl Fn(usize) + Sync) {
    if worth_it { run(n_tasks, body) } else { (0..n_tasks).for_each(body) }
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

/// The pool; its workers start with the first loop.
fn pool() -> &'static Pool {
    static STARTED: OnceLock<()> = OnceLock::new();
    let n_threads = n_threads();
    let pool = POOL.get_or_init(|| Pool::new(n_threads));
    STARTED.get_or_init(|| {
        for worker_idx in 1..n_threads {
            let worker = std::thread::Builder::new()
                .name(format!("kernel-{worker_idx}"))
                .spawn(move || pool.serve(worker_idx))
                .expect("the system refuses to start a worker thread");
            pool.shares[worker_idx].worker.get_or_init(|| worker.thread().clone());
        }
    });
    pool
}

impl Pool {
    fn new(n_threads: usize) -> Pool {
        let nothing: &'static (dyn Fn(usize) + Sync) = &|_| ();
        let job = Job { body: nothing, n_tasks: 0, n_dealt: 1, forced_isa: None };
        let crowded = n_threads > cores().logical;
        Pool {
            busy: AtomicBool::new(false),
            job: UnsafeCell::new(job),
            shares: (0..n_threads).map(|_| Share::default()).collect(),
            panicked: AtomicBool::new(false),
            spins: if crowded { SPINS_WHEN_CROWDED } else { SPINS_BEFORE_PARK },
        }
    }

    /// Deals the tasks of a loop to the threads.
    ///
    /// # Safety
    /// The caller holds `busy`, and all tasks of the loop before have ended: nobody can claim one, so nobody reads
    /// `job`.
    unsafe fn start(&self, job: Job) {
        // SAFETY: the caller's promise; claims of the new tasks come after the stores to `left`.
        unsafe { *self.job.get() = job };
        let dealt = &self.shares[..job.n_dealt];
        for (thread, share) in dealt.iter().enumerate().rev() {
            share.left.store((job.n_tasks - thread).div_ceil(job.n_dealt), Ordering::Release);
        }
        // Either this thread sees that a worker parks, or the worker sees its tasks.
        fence(Ordering::SeqCst);
        for share in dealt.iter().filter(|share| share.parked.load(Ordering::Relaxed)) {
            share.worker.get().inspect(|worker| worker.unpark());
        }
    }

    /// Tasks that have ended since the program started.
    fn n_ended(&self) -> usize {
        let of_each = self.shares.iter().map(|share| share.ended.load(Ordering::Acquire));
        of_each.fold(0, usize::wrapping_add)
    }

    /// The life of a worker: wait for tasks, run them, repeat.
    fn serve(&self, thread: usize) {
        let Share { left, parked, .. } = &self.shares[thread];
        let idle = || left.load(Ordering::Relaxed) == 0;
        loop {
            let mut spins = 0;
            while idle() && spins < self.spins {
                std::hint::spin_loop();
                spins += 1;
            }
            if idle() {
                parked.store(true, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                while idle() {
                    std::thread::park();
                }
                parked.store(false, Ordering::Relaxed);
            }
            self.work(thread);
        }
    }

    /// Claims and runs the tasks of `thread`, then those that others have left.
    fn work(&self, thread: usize) {
        INSIDE.with(|inside| inside.set(true));
        let mut n_done = 0;
        for of in (thread..self.shares.len()).chain(0..thread) {
            while let Some(left) = claim(&self.shares[of].left) {
                // SAFETY: a task was claimed and has not ended, so the job stays, and its body is alive.
                let job = unsafe { *self.job.get() };
                if n_done == 0 && thread > 0 {
                    cpu::force_isa(job.forced_isa);
                }
                let task = of + job.n_dealt * ((job.n_tasks - of).div_ceil(job.n_dealt) - left);
                // SAFETY: as above.
                let body = unsafe { &*job.body };
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(task))).is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
                n_done += 1;
            }
        }
        INSIDE.with(|inside| inside.set(false));
        if n_done > 0 {
            // What was written, and a panic, is seen by who sees the number. A counter for each thread: many
            // threads that add to one would wait for its line in turn.
            let ended = &self.shares[thread].ended;
            ended.store(ended.load(Ordering::Relaxed).wrapping_add(n_done), Ordering::Release);
        }
    }
}

/// Takes one of the tasks left; how many there were.
fn claim(left: &AtomicUsize) -> Option<usize> {
    let mut seen = left.load(Ordering::Relaxed);
    while seen > 0 {
        match left.compare_exchange_weak(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(seen),
            Err(now) => seen = now,
        }
    }
    None
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

    /// What a loop costs that does nothing: `cargo test --release -p fathom-kernels loop_speed -- --ignored
    /// --nocapture`, with `FATHOM_THREADS`.
    #[test]
    #[ignore = "a measurement"]
    fn loop_speed() {
        const LOOPS: u32 = 20_000;
        for n_tasks in [2, 4 * n_threads()] {
            let mut rounds: Vec<f64> = (0..9)
                .map(|_| {
                    let start = std::time::Instant::now();
                    (0..LOOPS).for_each(|_| run(n_tasks, |i| _ = std::hint::black_box(i)));
                    start.elapsed().as_secs_f64() / f64::from(LOOPS)
                })
                .collect();
            rounds.sort_by(f64::total_cmp);
            println!("{} threads, {n_tasks} tasks: {:.2} µs", n_threads(), rounds[4] * 1e6);
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
