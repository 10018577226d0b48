//! Logits, greedy continuations and MTP logits of the golden checkpoints: the project's own, and
//! the larger set beside the project where it exists.

use fathom_model::cache::{CacheForm, CacheType, KvCache, Prefill};
use fathom_model::{CachedRows, LoadOptions, Model, PackedRows, Precision, RowKind, Rows, Source};
use fathom_tensor::{Tape, Tensor, op};
use serde_json::Value;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// Largest absolute difference allowed in f32. Measured noise is 6e-5; typical mistakes move a logit by 0.5.
const F32_TOLERANCE: f32 = 1e-3;

/// The same with keys and values rounded to half precision.
const F16_CACHE_TOLERANCE: f32 = 2e-2;

/// Checkpoints that this room cannot read yet.
const NOT_YET: &[(&str, &str)] = &[("vl_siglip", "vision"), ("vl_hybrid", "vision")];

fn checkpoints() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for dir in ["../../golden", "../../../shared/golden"] {
        let Ok(entries) = std::fs::read_dir(root.join(dir)) else {
            eprintln!("skipped: no folder {dir} beside this crate");
            continue;
        };
        let is_checkpoint =
            |dir: &PathBuf| ["golden.json", "config.json"].iter().all(|f| dir.join(f).exists());
        found.extend(entries.flatten().map(|entry| entry.path()).filter(is_checkpoint));
    }
    found.sort();
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let missing = NOT_YET.iter().find(|(skip, _)| *skip == name);
        if let Some((_, what)) = missing {
            eprintln!("skipped: {name} needs {what}");
        }
        missing.is_none()
    });
    found
}

struct Case {
    ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
    greedy: Vec<u32>,
    mtp_logits: Option<Vec<Vec<f32>>>,
}

/// The model as it is trained (widened to f32) and as it is run (weights as they are stored).
fn both_forms(dir: &Path) -> [Model; 2] {
    let fail = |e| panic!("{}: {e}", dir.display());
    [Model::open(dir).unwrap_or_else(fail), stored(dir)]
}

fn stored(dir: &Path) -> Model {
    let options = LoadOptions { mtp: true, ..LoadOptions::default() };
    let source = Source::open(dir).unwrap();
    let loaded = Model::load(&source, &options, &mut |_, _| ()).unwrap();
    assert_eq!(loaded.unknown, Vec::<String>::new(), "{}", dir.display());
    loaded.model
}

fn cases(dir: &Path) -> Vec<Case> {
    cases_of(dir, "golden.json")
}

fn cases_of(dir: &Path, file: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let matrix = |v: &Value| -> Vec<Vec<f32>> { serde_json::from_value(v.clone()).unwrap() };
    value["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| Case {
            ids: serde_json::from_value(case["ids"].clone()).unwrap(),
            logits: matrix(&case["logits"]),
            greedy: serde_json::from_value(case["greedy"].clone()).unwrap(),
            mtp_logits: case.get("mtp_logits").map(matrix),
        })
        .collect()
}

fn hidden(model: &Model, ids: &[u32]) -> Tensor {
    let rows = PackedRows::sequence(ids);
    model.forward(&Tape::forgetting(), Rows::Packed(&rows), None).hidden
}

/// Feeds `ids` in chunks of the given sizes (the last repeats) through a cache; logits of every row.
fn cached_logits(
    model: &Model,
    cache: &RefCell<KvCache>,
    ids: &[u32],
    chunks: &[usize],
) -> Vec<f32> {
    logits_as(RowKind::Answer, model, cache, ids, chunks)
}

/// [`cached_logits`] of rows of the given kind.
fn logits_as(
    kind: RowKind,
    model: &Model,
    cache: &RefCell<KvCache>,
    ids: &[u32],
    chunks: &[usize],
) -> Vec<f32> {
    cache.borrow_mut().grow(8);
    let blocks: Vec<u32> = (0..8).collect();
    let (mut past, mut logits, mut chunk_idx) = (0, Vec::new(), 0);
    while past < ids.len() {
        let n = chunks[chunk_idx.min(chunks.len() - 1)].min(ids.len() - past);
        let mut rows = CachedRows::default();
        rows.push_as(kind, &blocks, past, &ids[past..past + n]);
        let tape = Tape::forgetting();
        let hidden = model.forward(&tape, Rows::Cached(&rows, cache), None).hidden;
        logits.extend_from_slice(op::logits(&hidden, model.head()).data());
        (past, chunk_idx) = (past + n, chunk_idx + 1);
    }
    logits
}

fn worst(got: &[f32], want: &[Vec<f32>]) -> f32 {
    let want = want.iter().flatten();
    assert_eq!(got.len(), want.clone().count());
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max)
}

fn argmax(row: &[f32]) -> u32 {
    fathom_kernels::cross_entropy::argmax(row)
}

#[test]
fn logits_and_greedy_continuations_equal_the_reference() {
    for dir in checkpoints() {
        for mut model in both_forms(&dir) {
            model.pack(Precision::F32, false);
            check_logits_and_greedy(&model, &dir);
        }
    }
}

fn check_logits_and_greedy(model: &Model, dir: &Path) {
    let vocab = model.config.vocab_size;
    for (i, case) in cases(dir).iter().enumerate() {
        let logits = op::logits(&hidden(model, &case.ids), model.head());
        let error = worst(logits.data(), &case.logits);
        println!("{} case {i}: worst error {error:.1e}", dir.file_name().unwrap().display());
        assert!(error < F32_TOLERANCE, "{} case {i}: {error}", dir.display());
        let mut ids = case.ids.clone();
        for want in &case.greedy {
            let logits = op::logits(&hidden(model, &ids), model.head());
            let next = argmax(&logits.data()[(ids.len() - 1) * vocab..]);
            assert_eq!(next, *want, "{} case {i}, after {} ids", dir.display(), ids.len());
            ids.push(next);
        }
    }
}

#[test]
fn mtp_logits_equal_the_reference() {
    for dir in checkpoints() {
        for case in cases(&dir) {
            let Some(want) = &case.mtp_logits else { continue };
            for mut model in both_forms(&dir) {
                model.pack(Precision::F32, false);
                let rows = PackedRows::sequence(&case.ids);
                let mut next = case.ids[1..].to_vec();
                next.push(case.greedy[0]);
                let tape = Tape::forgetting();
                let rows = Rows::Packed(&rows);
                let hidden = model.forward(&tape, rows, None).hidden;
                let mtp = model.forward_mtp(&tape, rows, None, &hidden, &next).unwrap().hidden;
                let error = worst(op::logits(&mtp, model.head()).data(), want);
                assert!(error < F32_TOLERANCE, "{}: {error}", dir.display());
            }
        }
    }
}

#[test]
fn absorbed_mla_over_the_latent_cache_equals_the_reference() {
    for dir in checkpoints() {
        for mut model in both_forms(&dir) {
            let spec = model.pack_for_cache(Precision::F32, CacheForm::Latent);
            let cache = || RefCell::new(KvCache::new(spec));
            for case in cases(&dir) {
                let whole = cached_logits(&model, &cache(), &case.ids, &[usize::MAX]);
                assert!(worst(&whole, &case.logits) < F32_TOLERANCE, "{}", dir.display());
                let parts = cached_logits(&model, &cache(), &case.ids, &[3, 1]);
                assert_eq!(whole, parts, "{}: chunked prefill and decode", dir.display());
            }
        }
    }
}

#[test]
fn prompts_expanded_from_latents_have_the_bits_of_one_pass() {
    for dir in checkpoints() {
        for mut model in both_forms(&dir) {
            let spec = model.pack_for_cache(Precision::F32, CacheForm::Latent);
            if spec.form != CacheForm::Latent {
                continue;
            }
            let spec = spec.with_prefill(Prefill::Expanded);
            for case in cases(&dir) {
                let whole = op::logits(&hidden(&model, &case.ids), model.head());
                assert!(worst(whole.data(), &case.logits) < F32_TOLERANCE, "{}", dir.display());
                for chunks in [&[usize::MAX][..], &[5, 1]] {
                    let cache = RefCell::new(KvCache::new(spec));
                    let read = logits_as(RowKind::Prompt, &model, &cache, &case.ids, chunks);
                    assert_eq!(read, whole.data(), "{} {chunks:?}", dir.display());
                }
            }
        }
    }
}

#[test]
fn half_precision_caches_stay_near_the_reference_however_rows_are_cut() {
    for dir in checkpoints() {
        for mut model in both_forms(&dir) {
            for form in [CacheForm::Latent, CacheForm::Expanded] {
                let spec = model.pack_for_cache(Precision::F32, form).with_type(CacheType::F16);
                for prefill in [Prefill::Absorbed, Prefill::Expanded] {
                    let cache = || RefCell::new(KvCache::new(spec.with_prefill(prefill)));
                    for case in cases(&dir) {
                        let read = |chunks: &[usize]| {
                            logits_as(RowKind::Prompt, &model, &cache(), &case.ids, chunks)
                        };
                        let (whole, parts) = (read(&[usize::MAX]), read(&[3, 1]));
                        let what = format!("{} {form:?} {prefill:?}", dir.display());
                        // A router at a near tie may choose another expert; then this row moves, and rows
                        // behind it that look at it.
                        let n_vocab = case.logits[0].len();
                        let rows = whole.chunks(n_vocab).zip(case.logits.chunks(1));
                        let near = rows.filter(|(a, b)| worst(a, b) < F16_CACHE_TOLERANCE).count();
                        let least = match model.config.n_routed_experts {
                            Some(_) => case.ids.len() / 2,
                            None => case.ids.len(),
                        };
                        assert!(near >= least, "{what}: {near} of {} rows", case.ids.len());
                        assert_eq!(whole, parts, "{what}: chunked prefill and decode");
                    }
                }
            }
        }
    }
}

#[test]
fn the_expanded_cache_has_the_bits_of_one_pass() {
    for dir in checkpoints() {
        for mut model in both_forms(&dir) {
            for precision in [Precision::F32, Precision::Bf16] {
                let spec = model.pack_for_cache(precision, CacheForm::Expanded);
                for case in cases(&dir) {
                    let whole = op::logits(&hidden(&model, &case.ids), model.head());
                    for chunks in [&[usize::MAX][..], &[5, 1]] {
                        let cache = RefCell::new(KvCache::new(spec));
                        let cached = cached_logits(&model, &cache, &case.ids, chunks);
                        let what = format!("{} {precision:?} {chunks:?}", dir.display());
                        assert_eq!(cached, whole.data(), "{what}");
                    }
                }
            }
        }
    }
}

/// Activations of FP8 checkpoints rounded to FP8: tolerances as for the reference files, where one code
/// that rounds the other way moves a row of a long sequence.
#[test]
fn quantised_activations_equal_the_reference() {
    for dir in checkpoints() {
        for (file, form) in [
            ("golden_act_quant.json", CacheForm::Expanded),
            ("golden_act_quant_absorbed.json", CacheForm::Latent),
        ] {
            if !dir.join(file).exists() {
                continue;
            }
            let mut model = stored(&dir);
            assert!(model.quantize_activations() > 0);
            let spec = model.pack_for_cache(Precision::F32, form);
            for case in cases_of(&dir, file) {
                let cache = RefCell::new(KvCache::new(spec));
                let got = cached_logits(&model, &cache, &case.ids, &[usize::MAX]);
                let error = worst(&got, &case.logits);
                let want = case.logits.iter().flatten();
                let sum: f32 = got.iter().zip(want).map(|(g, w)| (g - w).abs()).sum();
                let mean = sum / got.len() as f32;
                println!("{file}, {} ids: worst {error:.1e}, mean {mean:.1e}", case.ids.len());
                assert!(mean < 0.2, "{file}: {mean}");
                assert!(case.ids.len() > 8 || error < 2e-3, "{file}: {error}");
            }
        }
    }
}
