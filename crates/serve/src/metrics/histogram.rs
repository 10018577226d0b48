//! A histogram of seconds that many threads write at once.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bounds for what takes from milliseconds to half an hour.
pub(super) const SLOW: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
    1800.0,
];

/// Bounds for the time between two tokens.
pub(super) const QUICK: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [f64],
    /// How many fell into each bucket alone; the last is for what lies above all bounds.
    counts: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

/// A histogram at one moment: counts up to each bound, then of all.
#[derive(Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) up_to: Vec<(f64, u64)>,
    pub(super) n: u64,
    pub(super) sum_s: f64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum_ns: AtomicU64::new(0) }
    }

    /// Counts a time. What is no time counts as none.
    pub(super) fn observe(&self, seconds: f64) {
        let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }

    /// The total is the sum of what was read, so that the last bucket always equals it.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut n = 0;
        let mut up_to = Vec::with_capacity(self.bounds.len());
        for (idx, count) in self.counts.iter().enumerate() {
            n += count.load(Ordering::Relaxed);
            if let Some(bound) = self.bounds.get(idx) {
                up_to.push((*bound, n));
            }
        }
        Snapshot { up_to, n, sum_s: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9 }
    }
}
