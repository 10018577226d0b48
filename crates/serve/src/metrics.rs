//! What `/metrics` tells, in the text format of Prometheus (0.0.4). Counted in atomics: nobody waits.
//!
//! Labels come from fixed lists, never from a client: what is outside them is `other`, so no flood of
//! strange paths can grow this page.

mod histogram;
mod observe;
mod page;
mod process;

pub use observe::observe;

use crate::answer::Usage;
use histogram::{Histogram, QUICK, SLOW};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

/// What a path is called; prefixes such as `/v1` and `/beta` are left out.
const ROUTES: &[&str] = &[
    "/",
    "/anthropic/messages",
    "/anthropic/messages/count_tokens",
    "/api/conversations",
    "/api/info",
    "/assets",
    "/chat/completions",
    "/completions",
    "/detokenize",
    "/health",
    "/metrics",
    "/models",
    "/tokenize",
    "/user/balance",
    "other",
];

/// Statuses that are counted one by one; 0 stands for the others.
const STATUSES: &[u16] =
    &[200, 201, 204, 206, 304, 400, 401, 402, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503, 0];

/// Counters since the server started.
#[derive(Debug)]
pub struct Metrics {
    began: Instant,
    began_unix_s: f64,
    /// Answered requests, a row of [`STATUSES`] for each of [`ROUTES`].
    requests: Vec<AtomicU64>,
    request_seconds: Vec<Histogram>,
    n_in_flight: AtomicI64,
    first_token: Histogram,
    between_tokens: Histogram,
    queue_wait: Histogram,
    usage: [AtomicU64; 4],
}

impl Default for Metrics {
    fn default() -> Metrics {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Metrics {
            began: Instant::now(),
            began_unix_s: since_1970.unwrap_or_default().as_secs_f64(),
            requests: (0..ROUTES.len() * STATUSES.len()).map(|_| AtomicU64::new(0)).collect(),
            request_seconds: ROUTES.iter().map(|_| Histogram::new(SLOW)).collect(),
            n_in_flight: AtomicI64::new(0),
            first_token: Histogram::new(SLOW),
            between_tokens: Histogram::new(QUICK),
            queue_wait: Histogram::new(SLOW),
            usage: [const { AtomicU64::new(0) }; 4],
        }
    }
}

impl Metrics {
    /// A request is over, the last byte of its answer included. `route` may be its path.
    pub fn request(&self, route: &str, status: u16, seconds: f64) {
        let route = route_idx(route);
        let other = STATUSES.len() - 1;
        let status = STATUSES.iter().position(|known| *known == status).unwrap_or(other);
        self.requests[route * STATUSES.len() + status].fetch_add(1, Ordering::Relaxed);
        self.request_seconds[route].observe(seconds);
    }

    /// Seconds from a request to its first token.
    pub fn first_token(&self, seconds: f64) {
        self.first_token.observe(seconds);
    }

    /// Seconds from one token of an answer to the next.
    pub fn between_tokens(&self, seconds: f64) {
        self.between_tokens.observe(seconds);
    }

    /// Seconds that a job waited before its prompt was read.
    pub fn queue_wait(&self, seconds: f64) {
        self.queue_wait.observe(seconds);
    }

    /// What an answer took.
    pub fn usage(&self, usage: &Usage) {
        let n_miss = usage.prompt_tokens.saturating_sub(usage.prompt_cache_hit_tokens);
        let n_answer = usage.completion_tokens.saturating_sub(usage.reasoning_tokens);
        let counts = [usage.prompt_cache_hit_tokens, n_miss, usage.reasoning_tokens, n_answer];
        for (total, n) in self.usage.iter().zip(counts) {
            total.fetch_add(n as u64, Ordering::Relaxed);
        }
    }
}

/// Which of [`ROUTES`] a path belongs to.
fn route_idx(path: &str) -> usize {
    let is_messages = |rest: &str| rest.starts_with("/messages");
    let (is_anthropic, rest) = match path.strip_prefix("/anthropic") {
        Some(rest) => (true, rest),
        None => (path.strip_prefix("/v1").is_some_and(is_messages), path),
    };
    let rest = rest.strip_prefix("/beta").unwrap_or(rest);
    let rest = rest.strip_prefix("/v1").unwrap_or(rest);
    let is_known = |known: &str| {
        let wanted = if is_anthropic { known.strip_prefix("/anthropic") } else { Some(known) };
        wanted == Some(rest)
    };
    let nearest = || {
        let folders = ["/api/conversations", "/assets", "/models"];
        folders
            .into_iter()
            .find(|folder| rest.strip_prefix(folder).is_some_and(|below| below.starts_with('/')))
    };
    let exact = ROUTES.iter().position(|known| is_known(known));
    let found = exact
        .or_else(|| nearest().and_then(|folder| ROUTES.iter().position(|known| *known == folder)));
    found.unwrap_or(ROUTES.len() - 1)
}

#[cfg(test)]
mod tests;
