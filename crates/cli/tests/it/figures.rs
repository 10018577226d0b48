//! Commands that print figures for programs.

use crate::program::{fathom, golden, trained};
use serde_json::Value;
use std::path::Path;

/// As in the model's own golden tests: noise is 6e-5, a mistake moves a logit by 0.5.
const F32_TOLERANCE: f64 = 1e-3;

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

fn worst(got: &Value, want: &Value) -> f64 {
    let (got, want) = (numbers(got), numbers(want));
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max)
}

#[test]
fn logits_equal_the_golden_values() {
    for name in ["llama_gqa", "qwen2_tied", "deepseek_v2", "deepseek_v3", "deepseek_v3_plain"] {
        let dir = golden(name);
        let text = std::fs::read_to_string(Path::new(&dir).join("golden.json")).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let ids: Vec<String> = numbers(&case["ids"]).iter().map(f64::to_string).collect();
            let ids = ids.join(",");
            let mut args = vec!["logits", &dir, "--ids", &ids, "--greedy", "16", "--json"];
            let has_mtp = case.get("mtp_logits").is_some_and(|logits| !logits.is_null());
            if has_mtp {
                args.push("--mtp");
            }
            let got = fathom(Path::new("."), &args).json();
            assert_eq!(got["ids"], case["ids"]);
            assert_eq!(got["greedy"], case["greedy"], "{name}");
            assert!(worst(&got["logits"], &case["logits"]) < F32_TOLERANCE, "{name}");
            if has_mtp {
                assert!(worst(&got["mtp_logits"], &case["mtp_logits"]) < F32_TOLERANCE, "{name}");
            }
        }
    }
}

#[test]
fn log_probabilities_stand_in_for_logits() {
    let got = fathom(
        Path::new("."),
        &["logits", &golden("llama_gqa"), "--ids", "5", "--logprobs", "--json"],
    );
    let got = got.json();
    assert!(got.get("logits").is_none());
    let sum: f64 = numbers(&got["logprobs"]).iter().map(|value| value.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

#[test]
fn text_becomes_ids_and_text_again() {
    let dir = trained();
    let text = "<think>What is 3 + 4?\n苹果</think>";
    let encode = fathom(dir, &["tokenizer", "encode", "runs/small", text, "--json"]).json();
    let ids: Vec<String> = numbers(&encode["ids"]).iter().map(f64::to_string).collect();
    let decode =
        fathom(dir, &["tokenizer", "decode", "runs/small", "--ids", &ids.join(","), "--json"]);
    assert_eq!(decode.json()["text"], text);
    let with_bos =
        fathom(dir, &["tokenizer", "encode", "runs/small", text, "--json", "--bos"]).json();
    assert_eq!(numbers(&with_bos["ids"])[1..], numbers(&encode["ids"]));
}

#[test]
fn inspect_and_doctor_tell_programs_what_they_found() {
    let model = fathom(trained(), &["inspect", "runs/small", "--json"]).json();
    assert_eq!(model["architecture"], "DeepseekV3ForCausalLM");
    assert_eq!(model["template"], "DeepSeek-R1");
    // Latent of 16 and rotary key of 8, in 2 layers, 2 bytes each.
    assert_eq!(model["cache_bytes_per_token"], (16 + 8) * 2 * 2);
    let doctor = fathom(trained(), &["doctor", "--threads", "1", "--json"]).json();
    assert_eq!(doctor["threads"], 1);
    assert!(doctor["f32_flops_per_s"].as_f64().unwrap() > 1e8);
    assert!(doctor["newest_run"].as_str().unwrap().contains("small"));
}
