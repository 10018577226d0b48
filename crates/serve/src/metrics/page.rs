//! The page itself: every family of numbers with its help and kind, in a fixed order.

use super::histogram::{Histogram, Snapshot};
use super::{Metrics, ROUTES, STATUSES, process};
use fathom_engine::service::Stats;
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// Kinds of tokens in the order of [`Metrics::usage`].
const USAGE: [&str; 4] = ["prompt_cache_hit", "prompt_cache_miss", "reasoning", "answer"];

impl Metrics {
    /// All numbers as text.
    pub fn render(&self, stats: &Stats) -> String {
        let mut page = Page::default();
        self.requests(&mut page);
        self.times(&mut page);
        jobs(&mut page, stats);
        cache(&mut page, stats);
        tokens(&mut page, stats);
        self.process(&mut page);
        page.text
    }

    fn requests(&self, page: &mut Page) {
        page.family("fathom_requests_total", "counter", "Requests answered.");
        for (idx, count) in self.requests.iter().enumerate() {
            let n = count.load(Ordering::Relaxed);
            let (route, status) = (ROUTES[idx / STATUSES.len()], STATUSES[idx % STATUSES.len()]);
            let status = if status == 0 { "other".to_owned() } else { status.to_string() };
            if n > 0 {
                page.count("fathom_requests_total", &[("route", route), ("status", &status)], n);
            }
        }
        let n_in_flight = self.n_in_flight.load(Ordering::Relaxed).max(0);
        page.gauge("fathom_requests_in_flight", "Requests being answered.", n_in_flight as f64);
        let name = "fathom_request_seconds";
        page.family(name, "histogram", "Seconds from a request to the last byte of its answer.");
        for (route, histogram) in ROUTES.iter().zip(&self.request_seconds) {
            let snapshot = histogram.snapshot();
            if snapshot.n > 0 {
                page.buckets(name, &[("route", route)], &snapshot);
            }
        }
    }

    fn times(&self, page: &mut Page) {
        page.histogram(
            "fathom_time_to_first_token_seconds",
            "Seconds from a request to the first token of its answer.",
            &self.first_token,
        );
        page.histogram(
            "fathom_inter_token_seconds",
            "Seconds from one token of an answer to the next.",
            &self.between_tokens,
        );
        page.histogram(
            "fathom_queue_wait_seconds",
            "Seconds that a job waited before its prompt was read.",
            &self.queue_wait,
        );
        let name = "fathom_usage_tokens_total";
        page.family(name, "counter", "Tokens of finished answers, as `usage` tells them.");
        for (kind, total) in USAGE.iter().zip(&self.usage) {
            page.count(name, &[("kind", kind)], total.load(Ordering::Relaxed));
        }
    }

    fn process(&self, page: &mut Page) {
        if let Some(bytes) = process::resident_bytes() {
            let help = "Memory of the process, the mapped weights that were read included.";
            page.gauge("process_resident_memory_bytes", help, bytes as f64);
        }
        let help = "When the server started, in seconds since 1970.";
        page.gauge("process_start_time_seconds", help, self.began_unix_s);
        let help = "Seconds since the server started.";
        page.gauge("fathom_uptime_seconds", help, self.began.elapsed().as_secs_f64());
        page.family("fathom_build_info", "gauge", "The program; always 1.");
        page.count("fathom_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    }
}

fn jobs(page: &mut Page, stats: &Stats) {
    page.gauge("fathom_jobs_waiting", "Jobs in the queue.", stats.n_waiting as f64);
    page.gauge("fathom_jobs_waiting_limit", "Most jobs in the queue.", stats.max_waiting as f64);
    page.gauge("fathom_jobs_running", "Jobs being read or written.", stats.n_running as f64);
    page.counter("fathom_jobs_finished_total", "Jobs that ended.", stats.n_finished);
    let help = "Jobs that gave their memory away and were read again.";
    page.counter("fathom_jobs_preempted_total", help, stats.n_preempted);
    page.counter("fathom_passes_total", "Passes of the model.", stats.n_passes);
    page.counter("fathom_pass_rows_total", "Rows of all passes.", stats.n_rows);
}

fn cache(page: &mut Page, stats: &Stats) {
    let n_free = stats.n_blocks.saturating_sub(stats.n_blocks_used + stats.n_blocks_cached);
    let states =
        [("used", stats.n_blocks_used), ("cached", stats.n_blocks_cached), ("free", n_free)];
    let help = "Blocks of the cache: used by running jobs, cached for later ones, free.";
    page.family("fathom_cache_blocks", "gauge", help);
    for (state, n) in states {
        page.count("fathom_cache_blocks", &[("state", state)], n as u64);
    }
    page.family("fathom_cache_bytes", "gauge", "The same in bytes.");
    for (state, n) in states {
        let n_bytes = (n as u64).saturating_mul(stats.block_bytes as u64);
        page.count("fathom_cache_bytes", &[("state", state)], n_bytes);
    }
}

fn tokens(page: &mut Page, stats: &Stats) {
    let help = "Tokens of prompts that were read.";
    page.counter("fathom_prompt_tokens_total", help, stats.n_prompt_tokens);
    let name = "fathom_prompt_cached_tokens_total";
    page.family(name, "counter", "Tokens of prompts that were cached, by where they were.");
    let n_memory = stats.n_cached_tokens.saturating_sub(stats.n_disk_tokens);
    page.count(name, &[("where", "memory")], n_memory);
    page.count(name, &[("where", "disk")], stats.n_disk_tokens);
    page.counter("fathom_answer_tokens_total", "Tokens drawn.", stats.n_answer_tokens);
    page.counter("fathom_drafted_tokens_total", "Tokens guessed ahead.", stats.n_drafted);
    let help = "Guesses that became tokens.";
    page.counter("fathom_drafts_accepted_total", help, stats.n_accepted);
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Begins a family. Helps hold neither backslashes nor line breaks.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.line(format_args!("{name} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.line(format_args!("{name} {value}"));
    }

    fn count(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels = in_braces(labels);
        self.line(format_args!("{name}{labels} {value}"));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        self.buckets(name, &[], &histogram.snapshot());
    }

    fn buckets(&mut self, name: &str, labels: &[(&str, &str)], snapshot: &Snapshot) {
        let bounds = snapshot.up_to.iter().map(|(bound, n)| (bound.to_string(), *n));
        for (bound, n) in bounds.chain([("+Inf".to_owned(), snapshot.n)]) {
            let with_bound = [labels, &[("le", bound.as_str())]].concat();
            self.count(&format!("{name}_bucket"), &with_bound, n);
        }
        let labels = in_braces(labels);
        self.line(format_args!("{name}_sum{labels} {}", snapshot.sum_s));
        self.line(format_args!("{name}_count{labels} {}", snapshot.n));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// Labels as they are written. Their values are words of this program, which need no escapes.
fn in_braces(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{{{}}}", pairs.join(","))
}
