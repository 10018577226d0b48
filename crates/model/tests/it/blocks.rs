//! Claims about blocks that leave the cache and come back.

use crate::mtp::CONFIG;
use fathom_model::cache::{BlockLength, CacheForm, CacheSpec, CacheType, KvCache, Prefill};
use fathom_model::{CachedRows, Config, Model, Precision, RowKind};
use fathom_tensor::{Buffer, Tensor};
use std::cell::RefCell;

const GQA: &str = r#"{
    "model_type": "qwen2", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 36,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 256, "initializer_range": 0.2, "tie_word_embeddings": false
}"#;

fn model(form: CacheForm) -> (Model, CacheSpec) {
    let mut model = Model::random(Config::from_text(CONFIG).unwrap(), 5).unwrap();
    let spec = model.pack_for_cache(Precision::F32, form);
    (model, spec)
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 17 + i * i) % 40).collect()
}

/// Rows from `past` on through main model and module: what both say.
fn run(
    model: &Model,
    cache: &RefCell<KvCache>,
    blocks: &[u32],
    past: usize,
    tokens: &[u32],
) -> [Vec<f32>; 2] {
    let mut rows = CachedRows::default();
    rows.push(blocks, past, &tokens[past..tokens.len() - 1]);
    let hidden = model.hidden_cached(&rows, cache);
    let said = model.mtp_cached(&rows, cache, &hidden, &tokens[past + 1..], None).unwrap();
    [hidden.data().to_vec(), said.data().to_vec()]
}

#[test]
fn a_prefill_over_imported_blocks_has_the_bits_of_the_original() {
    let tokens = tokens(150);
    for form in [CacheForm::Latent, CacheForm::Expanded] {
        for cache_type in [CacheType::F32, CacheType::F16] {
            let (model, spec) = model(form);
            let spec = spec.with_type(cache_type);
            let caches = [0, 1].map(|_| RefCell::new(KvCache::new(spec)));
            caches.iter().for_each(|cache| cache.borrow_mut().grow(4));
            run(&model, &caches[0], &[2, 0, 1], 0, &tokens[..129]);
            let want = run(&model, &caches[0], &[2, 0, 1], 128, &tokens);
            for (from, to) in [(2, 3), (0, 1)] {
                let mut bytes = Vec::new();
                caches[0].borrow().export_block(from, &mut bytes);
                assert_eq!(bytes.len(), caches[1].borrow().exported_bytes());
                assert!(bytes.len() >= spec.block_bytes());
                caches[1].borrow_mut().import_block(to, &bytes).unwrap();
            }
            let got = run(&model, &caches[1], &[3, 1, 0], 128, &tokens);
            assert_eq!(got, want, "{form:?}, {cache_type:?}");
        }
    }
}

/// Rows of two sequences, whose keys an empty cache has after that.
fn two_sequences(tokens: &[u32]) -> CachedRows<'static> {
    let mut rows = CachedRows::default();
    rows.push_as(RowKind::Prompt, &[2, 0], 0, &tokens[..70]);
    rows.push_as(RowKind::Prompt, &[1], 0, &tokens[70..]);
    rows
}

const WANTED: [usize; 3] = [69, 3, 99];

fn row_of(x: &Tensor, row: usize) -> &[f32] {
    &x.data()[row * x.width()..][..x.width()]
}

#[test]
fn rows_that_are_wanted_have_the_bits_of_all_rows() {
    let tokens = tokens(100);
    let forms = [
        (CONFIG, CacheForm::Latent, Prefill::Absorbed),
        (CONFIG, CacheForm::Latent, Prefill::Expanded),
        (CONFIG, CacheForm::Expanded, Prefill::Absorbed),
        (GQA, CacheForm::Expanded, Prefill::Absorbed),
    ];
    for (config, form, prefill) in forms {
        let mut model = Model::random(Config::from_text(config).unwrap(), 5).unwrap();
        let spec = model.pack_for_cache(Precision::F32, form).with_prefill(prefill);
        let caches = [0, 1].map(|_| RefCell::new(KvCache::new(spec)));
        caches.iter().for_each(|cache| cache.borrow_mut().grow(3));
        let rows = two_sequences(&tokens);
        let all = model.hidden_cached(&rows, &caches[0]);
        let some = model.hidden_cached_at(&rows, &caches[1], &WANTED);
        for (at, row) in WANTED.into_iter().enumerate() {
            assert_eq!(row_of(&some, at), row_of(&all, row), "{form:?}, {prefill:?}, row {row}");
        }
        let next = caches.each_ref().map(|cache| {
            let mut rows = CachedRows::default();
            rows.push(&[2, 0], 70, &[5]);
            model.hidden_cached(&rows, cache).data().to_vec()
        });
        assert_eq!(next[0], next[1], "{form:?}, {prefill:?}: all rows left their keys");
    }
}

#[test]
fn rows_that_the_module_is_asked_for_have_the_bits_of_all_rows() {
    let tokens = tokens(100);
    for form in [CacheForm::Latent, CacheForm::Expanded] {
        let (model, spec) = model(form);
        let caches = [0, 1].map(|_| RefCell::new(KvCache::new(spec)));
        caches.iter().for_each(|cache| cache.borrow_mut().grow(3));
        let rows = two_sequences(&tokens);
        let hidden = model.hidden_cached(&rows, &caches[0]);
        // Which token follows does not matter here.
        let ask = |at: usize, rows: &CachedRows, hidden: &Tensor, next: &[u32], wanted| {
            model.mtp_cached(rows, &caches[at], hidden, next, wanted).unwrap()
        };
        let all = ask(0, &rows, &hidden, &tokens, None);
        let some = ask(1, &rows, &hidden, &tokens, Some(&WANTED));
        for (at, row) in WANTED.into_iter().enumerate() {
            assert_eq!(row_of(&some, at), row_of(&all, row), "{form:?}, row {row}");
        }
        let mut rows = CachedRows::default();
        rows.push(&[2, 0], 70, &[5]);
        let hidden = Tensor::new(Buffer::copy_of(row_of(&hidden, 0)), &[1, hidden.width()]);
        let next = [0, 1].map(|at| ask(at, &rows, &hidden, &[7], None).data().to_vec());
        assert_eq!(next[0], next[1], "{form:?}: all rows left their keys");
    }
}

#[test]
fn bytes_of_another_length_are_refused() {
    let mut cache = KvCache::new(model(CacheForm::Latent).1);
    cache.grow(1);
    let expected = cache.exported_bytes();
    let refused = cache.import_block(0, &[0; 7]).unwrap_err();
    assert_eq!(refused, BlockLength { expected, found: 7 });
    assert_eq!(refused.to_string(), format!("a block of the cache has {expected} bytes, not 7"));
}
