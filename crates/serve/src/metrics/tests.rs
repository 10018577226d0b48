//! Claims about the page of numbers: it is well formed, cumulative, and does not grow by what clients send.

use super::{Metrics, ROUTES, route_idx};
use crate::answer::Usage;
use fathom_engine::service::Stats;
use std::collections::{BTreeMap, BTreeSet};

/// Samples by name and labels, in order; panics where the text is not in the format.
fn parse(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut samples = Vec::new();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "twice: {line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (left, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let (name, labels) = match left.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (left, ""),
        };
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!name.is_empty() && name.chars().all(word), "{line}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let known = kinds.get(name).is_some_and(|kind| *kind != "histogram")
            || family.is_some_and(|family| kinds.get(family) == Some(&"histogram"));
        assert!(known, "a sample without a type before it: {line}");
        let labels = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap();
            let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            assert!(name.chars().all(word) && !value.contains(['"', '\\', '\n']), "{line}");
            (name.to_owned(), value.to_owned())
        });
        let labels: BTreeMap<_, _> = labels.collect();
        assert!(seen.insert((name.to_owned(), labels.clone())), "twice: {line}");
        samples.push((name.to_owned(), labels, value));
    }
    samples
}

fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: BTreeMap<String, String> =
        labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let found = parse(text).into_iter().find(|(n, l, _)| n == name && *l == wanted);
    found.map(|(_, _, value)| value)
}

#[test]
fn the_page_is_well_formed_and_tells_what_was_counted() {
    let metrics = Metrics::default();
    parse(&metrics.render(&Stats::default()));
    metrics.request("/v1/chat/completions", 200, 1.5);
    metrics.request("/beta/chat/completions", 200, 0.5);
    metrics.request("/chat/completions", 429, 0.001);
    metrics.request("/chat/completions", 418, f64::NAN);
    metrics.usage(&Usage {
        prompt_tokens: 100,
        prompt_cache_hit_tokens: 64,
        completion_tokens: 30,
        reasoning_tokens: 10,
    });
    let stats = Stats {
        n_waiting: 3,
        n_blocks: 100,
        n_blocks_used: 10,
        n_blocks_cached: 20,
        block_bytes: 4096,
        n_cached_tokens: 640,
        n_disk_tokens: 128,
        ..Stats::default()
    };
    let text = metrics.render(&stats);
    let chat = |status| [("route", "/chat/completions"), ("status", status)];
    let requests = |status| value(&text, "fathom_requests_total", &chat(status));
    assert_eq!((requests("200"), requests("429")), (Some(2.0), Some(1.0)));
    assert_eq!((requests("other"), requests("500")), (Some(1.0), None));
    let usage = |kind| value(&text, "fathom_usage_tokens_total", &[("kind", kind)]);
    assert_eq!((usage("prompt_cache_hit"), usage("prompt_cache_miss")), (Some(64.0), Some(36.0)));
    assert_eq!((usage("reasoning"), usage("answer")), (Some(10.0), Some(20.0)));
    assert_eq!(value(&text, "fathom_jobs_waiting", &[]), Some(3.0));
    assert_eq!(value(&text, "fathom_cache_bytes", &[("state", "free")]), Some(70.0 * 4096.0));
    let cached = |place| value(&text, "fathom_prompt_cached_tokens_total", &[("where", place)]);
    assert_eq!((cached("memory"), cached("disk")), (Some(512.0), Some(128.0)));
    if cfg!(target_os = "linux") {
        assert!(value(&text, "process_resident_memory_bytes", &[]).unwrap() > 1e5);
    }
}

#[test]
fn histograms_are_cumulative_and_end_at_their_count() {
    let metrics = Metrics::default();
    let times = [0.0, -1.0, 0.001, 0.0011, 0.02, 0.3, 5.0, 1e9, f64::INFINITY];
    for time in times {
        metrics.between_tokens(time);
    }
    let text = metrics.render(&Stats::default());
    let name = "fathom_inter_token_seconds_bucket";
    let buckets: Vec<_> = parse(&text).into_iter().filter(|(n, _, _)| n == name).collect();
    let bound = |le: &str| if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() };
    for pair in buckets.windows(2) {
        assert!(bound(&pair[0].1["le"]) < bound(&pair[1].1["le"]) && pair[0].2 <= pair[1].2);
    }
    assert_eq!(value(&text, name, &[("le", "0.001")]), Some(4.0), "a bound belongs to its bucket");
    assert_eq!(value(&text, name, &[("le", "0.0025")]), Some(5.0));
    assert_eq!(value(&text, name, &[("le", "+Inf")]), Some(times.len() as f64));
    let count = value(&text, "fathom_inter_token_seconds_count", &[]);
    assert_eq!(count, Some(times.len() as f64));
}

#[test]
fn strange_paths_are_one_route() {
    let metrics = Metrics::default();
    let before = metrics.render(&Stats::default()).lines().count();
    for n in 0..1000 {
        metrics.request(&format!("/x\"{{}}\n{n}"), 404, 0.1);
        metrics.request(&format!("/chat/completions/{n}"), 1000 + n, 0.1);
    }
    let text = metrics.render(&Stats::default());
    parse(&text);
    assert!(text.lines().count() < before + 30);
    for (path, route) in [
        ("/", "/"),
        ("", "other"),
        ("/v1/models", "/models"),
        ("/models/deepseek-chat", "/models"),
        ("/modelsx", "other"),
        ("/v1/user/balance", "/user/balance"),
        ("/v1/messages", "/anthropic/messages"),
        ("/anthropic/v1/messages", "/anthropic/messages"),
        ("/anthropic/v1/messages/count_tokens", "/anthropic/messages/count_tokens"),
        ("/v1/messages/count_tokens", "/anthropic/messages/count_tokens"),
        ("/messages", "other"),
        ("/anthropic/v1/models", "other"),
        ("/beta/v1/completions", "/completions"),
        ("/api/conversations/1/messages/2", "/api/conversations"),
        ("/assets/a.js", "/assets"),
        ("/other", "other"),
    ] {
        assert_eq!(ROUTES[route_idx(path)], route, "{path}");
    }
}

#[test]
fn many_threads_lose_no_count() {
    let metrics = Metrics::default();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..1000).for_each(|_| metrics.first_token(0.01)));
        }
    });
    let text = metrics.render(&Stats::default());
    let name = "fathom_time_to_first_token_seconds";
    assert_eq!(value(&text, &format!("{name}_count"), &[]), Some(8000.0));
    let sum = value(&text, &format!("{name}_sum"), &[]).unwrap();
    assert!((sum - 80.0).abs() < 1e-6, "{sum}");
}
