//! A model goes out to other kinds of files and comes back the same, or is refused and untouched.

use crate::program::{Ended, fathom, folder, golden};
use std::path::Path;

const CHECKPOINTS: [&str; 4] = ["deepseek_v2", "deepseek_v3", "llama_gqa", "qwen2_tied"];

fn done(dir: &Path, args: &[&str]) -> Ended {
    let ended = fathom(dir, args);
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    ended
}

/// The worst logit of a model against the reference values of a checkpoint.
fn worst(dir: &Path, model: &str, golden: &str) -> f64 {
    // The exit code is another matter: a greedy token may differ.
    let ended = fathom(dir, &["verify", model, golden, "--tolerance", "1e9", "--json"]);
    let cases = ended.json()["cases"].as_array().unwrap().clone();
    cases.iter().map(|c| c["logits"]["worst_abs"].as_f64().unwrap()).fold(0.0, f64::max)
}

#[test]
fn verify_passes_what_is_right_in_every_way_of_running() {
    let dir = folder("verify");
    for name in CHECKPOINTS {
        let model = golden(name);
        for way in [&[][..], &["--cache", "latent", "--chunk", "3"], &["--cache", "expanded"]] {
            let ended = done(&dir, &[&["verify", &model], way].concat());
            assert!(ended.stdout.contains(" ok\n") && !ended.stdout.contains("FAILED"));
        }
    }
}

#[test]
fn verify_fails_what_is_not() {
    let dir = folder("verify-fails");
    let model = golden("llama_gqa");
    let ended = fathom(&dir, &["verify", &model, "--tolerance", "1e-9"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stdout.contains("FAILED") && ended.stderr.contains("a logit by more than"),
        "{ended:?}"
    );
    let ended = fathom(&dir, &["verify", &model, &golden("deepseek_v3")]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("logits are not"), "{ended:?}");
    std::fs::write(dir.join("golden.json"), "{\"cases\": []}").unwrap();
    let ended = fathom(&dir, &["verify", &model, "golden.json"]);
    assert!(ended.stderr.contains("it holds no cases") && ended.stderr.contains("hint: "));
    let ended = fathom(&dir, &["verify", &model, "--fp8-activations"]);
    assert!(ended.stderr.contains("no FP8 matrices"), "{ended:?}");
}

#[test]
fn models_go_to_gguf_and_back() {
    let dir = folder("convert");
    for name in CHECKPOINTS {
        let (model, gguf, back) = (golden(name), format!("{name}.gguf"), format!("{name}-back"));
        done(&dir, &["export", &model, &gguf]);
        let error = worst(&dir, &gguf, &model);
        assert!(error < 1e-3, "{gguf}: {error}");
        let listed = done(&dir, &["logits", &gguf, "--ids", "5,17,3", "--json"]).json();
        assert_eq!(listed["logits"].as_array().unwrap().len(), 3);
        done(&dir, &["export", &gguf, &back]);
        let error = worst(&dir, &back, &model);
        assert!(error < 1e-3, "{back}: {error}");
    }
}

#[test]
fn quantised_models_stay_near() {
    let dir = folder("quantize");
    let model = golden("llama_gqa");
    for (format, out, bound) in [
        ("bf16", "bf16", 0.4),
        ("f16", "f16.gguf", 0.05),
        ("fp8", "fp8", 2.5),
        ("q8_0", "q8_0.gguf", 0.7),
    ] {
        let ended = done(&dir, &["quantize", &model, format, out, "--json"]).json();
        assert!(ended["bytes"].as_u64().unwrap() > 1000);
        let error = worst(&dir, out, &model);
        assert!(error < bound, "{format}: {error}");
    }
}

#[test]
fn nothing_is_overwritten_unasked() {
    let dir = folder("overwrite");
    let model = golden("llama_gqa");
    std::fs::write(dir.join("mine.gguf"), "precious").unwrap();
    let ended = fathom(&dir, &["export", &model, "mine.gguf"]);
    assert!(ended.code == 1 && ended.stderr.contains("`mine.gguf` exists"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(dir.join("mine.gguf")).unwrap(), "precious");
    done(&dir, &["export", &model, "mine.gguf", "--force"]);
    let ended = fathom(&dir, &["export", "mine.gguf", "mine.gguf", "--force"]);
    assert!(ended.code == 1 && ended.stderr.contains("is the model itself"), "{ended:?}");
    let ended = fathom(&dir, &["quantize", &model, "q4_k", "directory"]);
    assert!(ended.code == 1 && ended.stderr.contains("write a `.gguf`"), "{ended:?}");
    assert!(!dir.join("directory").exists());
    let ended = fathom(&dir, &["quantize", &model, "q9", "x.gguf"]);
    assert!(ended.code == 2 && ended.stderr.contains("q8_0"), "{ended:?}");
}

#[test]
fn formats_and_limits_are_taken_while_loading() {
    let dir = folder("holding");
    let model = golden("deepseek_v3");
    let logits = |more: &[&str]| {
        done(&dir, &[&["logits", &model, "--ids", "5,17,3", "--json"], more].concat()).stdout
    };
    let exact = logits(&[]);
    assert_ne!(exact, logits(&["--quant", "bf16"]));
    assert_eq!(exact, logits(&["--memory", "150kB"]));
    let few = fathom(&dir, &["logits", &model, "--ids", "5", "--memory", "1kB"]);
    assert!(few.code == 1 && few.stderr.contains("too few"), "{few:?}");
    let both = ["logits", &model, "--ids", "5", "--memory", "20kB", "--quant", "bf16"];
    assert!(fathom(&dir, &both).stderr.contains("`fathom quantize` writes them"));
}
