//! What the tests of row kernels share: inputs, levels, gradients, golden values.

use crate::cpu::{self, Isa};
use crate::threads;

/// Numbers in (−1, 1) with four decimals, the same for the same seed.
pub(crate) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..n).map(|_| (next() % 20_000) as f32 / 10_000.0 - 0.999_95).collect()
}

/// Runs `body` at every level this CPU offers.
pub(crate) fn for_each_isa(mut body: impl FnMut(Isa)) {
    for isa in cpu::available_isas() {
        cpu::force_isa(Some(isa));
        body(isa);
    }
    cpu::force_isa(None);
}

/// Checks that `run` returns the same bits at every level, on one thread and on all.
pub(crate) fn same_bits_everywhere(run: impl Fn() -> Vec<f32>) {
    let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let mut want = None;
    for_each_isa(|isa| {
        for limit in [Some(1), None] {
            threads::limit_threads(limit);
            let got = bits(run());
            let want = want.get_or_insert_with(|| got.clone());
            let differs = got.iter().zip(want.iter()).position(|(g, w)| g != w);
            assert_eq!(differs, None, "{isa:?}, thread limit {limit:?}");
        }
        threads::limit_threads(None);
    });
}

/// Largest `|got − want| / (1 + |want|)` must not exceed `tolerance`.
pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (got as f64 - want).abs() / (1.0 + want.abs());
        assert!(error <= tolerance, "{what}[{i}]: got {got}, want {want}, error {error:.1e}");
    }
}

/// The gradient of `f` at `x` by central differences.
pub(crate) fn gradient(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x = widen(x);
    let step = 1e-5;
    (0..x.len())
        .map(|i| {
            let at = x[i];
            x[i] = at + step;
            let above = f(&x);
            x[i] = at - step;
            let below = f(&x);
            x[i] = at;
            (above - below) / (2.0 * step)
        })
        .collect()
}

pub(crate) fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| v as f64).collect()
}

/// Σ a·b
pub(crate) fn dot64(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| a * b as f64).sum()
}

/// One key of the shared golden objectives, or `None` (with a word on stderr) where they are absent.
pub(crate) fn golden(key: &str) -> Option<serde_json::Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden/objectives.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped golden `{key}`: {path} is not here");
        return None;
    };
    let mut all: serde_json::Value = serde_json::from_str(&text).expect("golden file is JSON");
    Some(all[key].take())
}

/// A list of numbers, nested lists flattened.
pub(crate) fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

/// As [`numbers`], in f32.
pub(crate) fn numbers_f32(value: &serde_json::Value) -> Vec<f32> {
    numbers(value).into_iter().map(|v| v as f32).collect()
}
