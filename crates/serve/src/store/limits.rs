//! Limits of a key: requests and tokens per minute, and requests at the same time.
//!
//! Each of the first two is a bucket that a minute fills, kept as the one time at which it will be full
//! again (the generic cell rate algorithm). What is left in it is the distance of that time from now, so
//! nothing is ever counted up or swept away. Kept in memory: a restart fills every bucket.

use super::keys::KeyLimits;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// In how much time an empty bucket fills.
const MINUTE_NS: u64 = 60_000_000_000;

/// The buckets of all keys that have asked for something.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    keys: Mutex<BTreeMap<i64, Buckets>>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// When the bucket of requests will be full, in nanoseconds of the clock.
    requests_full_ns: u64,
    /// When the bucket of tokens will be full.
    tokens_full_ns: u64,
    /// Requests that were let in and are not over.
    n_running: u32,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Requests per minute.
    Requests { limit: u32, retry_after_s: u64 },
    /// Tokens per minute.
    Tokens { limit: u32, retry_after_s: u64 },
    /// Requests at the same time.
    Concurrent { limit: u32 },
}

impl Limited {
    /// Seconds after which another try may succeed, at least 1.
    pub fn retry_after_s(self) -> u64 {
        match self {
            Limited::Requests { retry_after_s, .. } | Limited::Tokens { retry_after_s, .. } => {
                retry_after_s
            }
            // Nobody knows how long the running ones will take.
            Limited::Concurrent { .. } => 1,
        }
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.retry_after_s();
        let s = if after == 1 { "" } else { "s" };
        match self {
            Limited::Requests { limit, .. } => write!(
                f,
                "this key may send {limit} requests per minute\nhint: try again in {after} second{s}"
            ),
            Limited::Tokens { limit, .. } => write!(
                f,
                "this key may use {limit} tokens per minute\nhint: try again in {after} second{s}"
            ),
            Limited::Concurrent { limit } => write!(
                f,
                "this key may have {limit} requests at the same time\nhint: try again when one of \
                 them is over"
            ),
        }
    }
}

/// A request that was let in; over when this is dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    key_id: i64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(buckets) = self.limiter.lock().get_mut(&self.key_id) {
            buckets.n_running = buckets.n_running.saturating_sub(1);
        }
    }
}

impl Limiter {
    /// Lets a request in, or says which limit is reached. A request that is refused costs nothing.
    pub(super) fn admit(
        self: &Arc<Self>,
        key_id: i64,
        limits: &KeyLimits,
        now: Duration,
    ) -> Result<Permit, Limited> {
        let now_ns = nanoseconds(now);
        let mut keys = self.lock();
        let buckets = keys.entry(key_id).or_default();
        if let Some(limit) = limits.concurrent
            && buckets.n_running >= limit
        {
            return Err(Limited::Concurrent { limit });
        }
        if let Some(limit) = limits.tokens_per_minute {
            // What an answer takes is known at its end, so one token is enough to begin.
            let wait_ns = until_room(buckets.tokens_full_ns, cost_ns(1, limit), now_ns);
            if wait_ns > 0 {
                return Err(Limited::Tokens { limit, retry_after_s: whole_seconds(wait_ns) });
            }
        }
        if let Some(limit) = limits.requests_per_minute {
            let cost = cost_ns(1, limit);
            let wait_ns = until_room(buckets.requests_full_ns, cost, now_ns);
            if wait_ns > 0 {
                return Err(Limited::Requests { limit, retry_after_s: whole_seconds(wait_ns) });
            }
            buckets.requests_full_ns = buckets.requests_full_ns.max(now_ns).saturating_add(cost);
        }
        buckets.n_running += 1;
        Ok(Permit { limiter: self.clone(), key_id })
    }

    /// Takes the tokens of an answer out of the bucket, which may then owe some.
    pub(super) fn spend(&self, key_id: i64, n_tokens: usize, limit: u32, now: Duration) {
        let mut keys = self.lock();
        let buckets = keys.entry(key_id).or_default();
        let full_ns = buckets.tokens_full_ns.max(nanoseconds(now));
        buckets.tokens_full_ns = full_ns.saturating_add(cost_ns(n_tokens as u64, limit));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Buckets>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds until a bucket that is full at `full_ns` has room for `cost_ns`; 0 is now.
fn until_room(full_ns: u64, cost_ns: u64, now_ns: u64) -> u64 {
    let taken_ns = full_ns.saturating_sub(now_ns);
    // A cost is rounded up, so a minute may be a few nanoseconds short for the last one.
    let minute_ns = MINUTE_NS.next_multiple_of(cost_ns.max(1));
    taken_ns.saturating_add(cost_ns).saturating_sub(minute_ns)
}

/// How long the bucket takes to fill by what `n` take out.
fn cost_ns(n: u64, limit: u32) -> u64 {
    let ns = u128::from(MINUTE_NS) * u128::from(n);
    u64::try_from(ns.div_ceil(u128::from(limit.max(1)))).unwrap_or(u64::MAX)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn whole_seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: Option<u32>, tokens: Option<u32>, concurrent: Option<u32>) -> KeyLimits {
        KeyLimits { requests_per_minute: requests, tokens_per_minute: tokens, concurrent }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_minute_holds_exactly_as_many_requests_as_allowed() {
        for limit in [1, 2, 3, 7, 60, 601] {
            let limiter = Arc::<Limiter>::default();
            let limits = limits(Some(limit), None, None);
            let now = ms(5);
            for _ in 0..limit {
                limiter.admit(1, &limits, now).unwrap();
            }
            let refused = limiter.admit(1, &limits, now).unwrap_err();
            let wait_s = refused.retry_after_s();
            assert!(wait_s >= 1 && wait_s <= 60 / u64::from(limit) + 1, "{limit}: {refused:?}");
            assert!(limiter.admit(2, &limits, now).is_ok(), "another key has its own bucket");
            // Waiting as long as it was told lets the request in.
            assert!(limiter.admit(1, &limits, now + Duration::from_secs(wait_s)).is_ok());
        }
    }

    #[test]
    fn a_bucket_fills_evenly_and_never_above_its_size() {
        let limiter = Arc::<Limiter>::default();
        let limits = limits(Some(60), None, None);
        let n_let_in = |from: Duration, n: u32| {
            (0..n).filter(|_| limiter.admit(1, &limits, from).is_ok()).count()
        };
        assert_eq!(n_let_in(ms(0), 100), 60);
        assert_eq!(n_let_in(ms(999), 10), 0);
        assert_eq!(n_let_in(ms(1000), 10), 1);
        assert_eq!(n_let_in(ms(4000), 10), 3);
        assert_eq!(n_let_in(ms(3_600_000), 100), 60, "an hour of rest saves up one minute only");
    }

    #[test]
    fn tokens_are_taken_at_the_end_and_may_be_owed() {
        let limiter = Arc::<Limiter>::default();
        let limits = limits(None, Some(1000), None);
        limiter.admit(1, &limits, ms(0)).unwrap();
        limiter.spend(1, 999, 1000, ms(0));
        limiter.admit(1, &limits, ms(0)).unwrap();
        limiter.spend(1, 501, 1000, ms(0));
        let refused = limiter.admit(1, &limits, ms(0)).unwrap_err();
        // 500 tokens are owed, and one is needed: 30.06 seconds.
        assert_eq!(refused, Limited::Tokens { limit: 1000, retry_after_s: 31 });
        assert!(limiter.admit(1, &limits, ms(30_059)).is_err());
        assert!(limiter.admit(1, &limits, ms(30_060)).is_ok());
    }

    #[test]
    fn a_request_that_is_over_makes_room() {
        let limiter = Arc::<Limiter>::default();
        let limits = limits(Some(100), None, Some(2));
        let first = limiter.admit(1, &limits, ms(0)).unwrap();
        let _second = limiter.admit(1, &limits, ms(0)).unwrap();
        for _ in 0..500 {
            // Refused for another reason, they take no requests from the minute.
            assert_eq!(
                limiter.admit(1, &limits, ms(0)).unwrap_err(),
                Limited::Concurrent { limit: 2 }
            );
        }
        drop(first);
        assert!(limiter.admit(1, &limits, ms(0)).is_ok());
    }

    #[test]
    fn the_largest_numbers_do_no_harm() {
        let limiter = Arc::<Limiter>::default();
        let limits = limits(Some(u32::MAX), Some(1), None);
        limiter.admit(1, &limits, Duration::MAX).unwrap();
        limiter.admit(2, &limits, ms(0)).unwrap();
        limiter.spend(2, usize::MAX, 1, ms(0));
        assert!(limiter.admit(2, &limits, ms(0)).unwrap_err().retry_after_s() > 60);
    }
}
