//! Claims about blocks that leave the cache and come back.

use crate::mtp::CONFIG;
use fathom_model::cache::{BlockLength, CacheForm, CacheSpec, CacheType, KvCache};
use fathom_model::{CachedRows, Config, Model, Precision};
use std::cell::RefCell;

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
    let said = model.mtp_cached(&rows, cache, &hidden, &tokens[past + 1..]).unwrap();
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

#[test]
fn rows_that_are_wanted_have_the_bits_of_all_rows() {
    let tokens = tokens(100);
    for form in [CacheForm::Latent, CacheForm::Expanded] {
        let (model, spec) = model(form);
        let caches = [0, 1].map(|_| RefCell::new(KvCache::new(spec)));
        caches.iter().for_each(|cache| cache.borrow_mut().grow(3));
        let mut rows = CachedRows::default();
        rows.push(&[2, 0], 0, &tokens[..70]);
        rows.push(&[1], 0, &tokens[70..]);
        let all = model.hidden_cached(&rows, &caches[0]);
        let wanted = [69, 3, 99];
        let some = model.hidden_cached_at(&rows, &caches[1], &wanted);
        for (at, row) in wanted.into_iter().enumerate() {
            let of = |x: &[f32], row: usize| x[row * all.width()..][..all.width()].to_vec();
            assert_eq!(of(some.data(), at), of(all.data(), row), "{form:?}, row {row}");
        }
        let next = caches.each_ref().map(|cache| {
            let mut rows = CachedRows::default();
            rows.push(&[2, 0], 70, &[5]);
            model.hidden_cached(&rows, cache).data().to_vec()
        });
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
