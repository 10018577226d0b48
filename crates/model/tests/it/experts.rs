//! Claims about the trace of visited experts.

use crate::mtp::CONFIG;
use fathom_model::cache::{CacheForm, KvCache};
use fathom_model::{CachedRows, Config, ExpertTrace, Model, Precision, Rows};
use fathom_tensor::Tape;
use std::cell::RefCell;

/// Three layers, the first one dense, of six experts each.
fn model() -> (Model, RefCell<KvCache>) {
    let words = CONFIG
        .replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")
        .replace("\"n_routed_experts\": 4", "\"n_routed_experts\": 6");
    let mut model = Model::random(Config::from_text(&words).unwrap(), 8).unwrap();
    let spec = model.pack_for_cache(Precision::F32, CacheForm::Latent);
    let cache = RefCell::new(KvCache::new(spec));
    cache.borrow_mut().grow(2);
    (model, cache)
}

/// The experts that the loads of a pass over one row name, layer after layer.
fn loaded(loads: &[Vec<u64>]) -> Vec<u16> {
    let of_layer = |loads: &Vec<u64>| {
        let visited = loads.iter().enumerate().filter(|(_, load)| **load > 0);
        visited.map(|(id, _)| id as u16).collect::<Vec<u16>>()
    };
    loads.iter().flat_map(of_layer).collect()
}

#[test]
fn a_trace_names_the_experts_that_each_row_loads_alone() {
    let tokens: Vec<u32> = (0..30).map(|i| (i * 11 + i * i) % 40).collect();
    let (model, cache) = model();
    let mut rows = CachedRows::default();
    rows.push(&[0], 0, &tokens);
    let mut trace = ExpertTrace::new();
    model.hidden_cached_traced(&rows, &cache, Some(&mut trace));
    assert_eq!(trace.n_rows(), 30);
    for (past, token) in tokens.iter().enumerate() {
        let mut row = CachedRows::default();
        row.push(&[1], past, std::slice::from_ref(token));
        let tape = Tape::forgetting();
        let alone = model.forward(&tape, Rows::Cached(&row, &cache), None);
        assert_eq!(trace.row(past), loaded(&alone.loads), "row {past}");
    }
    let first = trace.row(0).to_vec();
    assert_eq!(first.len(), 2 * 2, "two sparse layers, two experts each");
    assert!((0..30).any(|row| trace.row(row) != first), "tokens differ in what they visit");
}

#[test]
fn a_trace_changes_no_bits_and_can_be_filled_again() {
    let (model, cache) = model();
    let mut trace = ExpertTrace::new();
    for tokens in [&[3, 9, 27, 1, 3][..], &[7]] {
        let mut rows = CachedRows::default();
        rows.push(&[0], 0, tokens);
        let plain = model.hidden_cached(&rows, &cache);
        let off = model.hidden_cached_traced(&rows, &cache, None);
        let on = model.hidden_cached_traced(&rows, &cache, Some(&mut trace));
        assert_eq!(off.data(), plain.data());
        assert_eq!(on.data(), plain.data());
        assert_eq!(trace.n_rows(), tokens.len());
    }
}

#[test]
fn the_shape_of_the_experts_is_told_without_those_of_modules() {
    assert_eq!(model().0.experts_shape(), Some((vec![1, 2], 6, 2)));
    let dense = r#"{
        "model_type": "qwen2", "vocab_size": 37, "hidden_size": 24, "intermediate_size": 36,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "max_position_embeddings": 64,
        "initializer_range": 0.2, "tie_word_embeddings": true
    }"#;
    let mut model = Model::random(Config::from_text(dense).unwrap(), 3).unwrap();
    let spec = model.pack_for_cache(Precision::F32, CacheForm::Expanded);
    assert_eq!(model.experts_shape(), None);
    let cache = RefCell::new(KvCache::new(spec));
    cache.borrow_mut().grow(1);
    let (mut rows, mut trace) = (CachedRows::default(), ExpertTrace::new());
    rows.push(&[0], 0, &[5, 6]);
    model.hidden_cached_traced(&rows, &cache, Some(&mut trace));
    assert_eq!((trace.n_rows(), trace.row(1)), (2, &[][..]));
}
