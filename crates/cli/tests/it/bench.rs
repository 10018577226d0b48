//! `fathom bench`: what is measured is what was asked for, and what cannot be is refused.

use crate::program::{fathom, fathom_reading, folder, golden};
use std::path::Path;

fn here(args: &[&str]) -> crate::program::Ended {
    fathom(Path::new("."), args)
}

#[test]
fn decoding_a_mixture_reads_its_active_weights_and_its_cache() {
    let model = golden("deepseek_v2");
    let shown = here(&["inspect", &model, "--json"]).json();
    let args = ["bench", "decode", &model, "--tokens", "3", "--depth", "8,0", "--rounds", "2"];
    let measured = here(&[&args[..], &["--json"]].concat()).json();
    let rows = measured["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for (row, depth) in rows.iter().zip([0, 8]) {
        assert_eq!((&row["depth_tokens"], &row["tokens"]), (&depth.into(), &3.into()));
        assert!(row["tokens_per_s"].as_f64() > Some(0.0), "{row}");
        assert!(row["share_of_read_limit"].as_f64() > Some(0.0), "{row}");
        assert_eq!(row["tokens_per_s_rounds"].as_array().map(Vec::len), Some(2));
    }
    // At positions d, d+1, d+2 a token reads itself and what was before; half precision.
    let per_token = shown["cache_bytes_per_token_bf16"].as_f64().unwrap();
    assert_eq!(rows[1]["cache_bytes_per_token"].as_f64().unwrap(), 10.0 * per_token);
    let all = measured["weight_bytes"].as_f64().unwrap();
    assert!(rows[0]["weight_bytes_per_token"].as_f64().unwrap() < all, "{measured}");
}

#[test]
fn prompts_and_batches_are_measured_in_tables_too() {
    let model = golden("llama_gqa");
    let prefill = here(&["bench", "prefill", &model, "--tokens", "5,17", "--rounds", "1"]);
    assert_eq!((prefill.code, prefill.stdout.lines().count()), (0, 4), "{prefill:?}");
    let batch = ["bench", "batch", &model, "--sequences", "1,3", "--prompt", "4", "--tokens", "2"];
    let table = here(&[&batch[..], &["--rounds", "1"]].concat());
    assert_eq!((table.code, table.stdout.lines().count()), (0, 4), "{table:?}");
    let rows = here(&[&batch[..], &["--rounds", "1", "--json"]].concat()).json();
    assert_eq!(rows["rows"][1]["sequences"], 3);
    assert_eq!(rows["rows"][1]["tokens"], 2);
}

#[test]
fn programs_can_take_turns() {
    let model = golden("llama_gqa");
    let args = ["bench", "decode", &model, "--tokens", "2", "--rounds", "2", "--json", "--turns"];
    let ended = fathom_reading(Path::new("."), &args, "go\ngo\n");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{ended:?}");
    assert_eq!(lines[0], r#"{"ready":"decode:2@0"}"#);
    let alone = fathom_reading(Path::new("."), &args, "go\n");
    assert_eq!(alone.code, 1);
    assert!(alone.stderr.contains("stdin ended before the last turn"), "{alone:?}");
}

#[test]
fn a_start_is_measured_from_outside() {
    let model = golden("llama_gqa");
    let start = here(&["bench", "start", &model, "--rounds", "1", "--prompt", "3", "--json"]);
    let told = start.json();
    assert!(told["first_token_s"].as_f64() > told["loaded_s"].as_f64(), "{told}");
    assert!(told["file_bytes"].as_u64() > Some(0), "{told}");
}

#[test]
fn a_tokenizer_is_measured_with_a_hash_of_its_ids() {
    let dir = folder("bench-tokenizer");
    std::fs::write(dir.join("page.txt"), "What is 1 + 1?\n".repeat(50)).unwrap();
    let tokenizer = golden("tokenizer") + "/qwen2.tokenizer.json";
    let args = ["bench", "tokenizer", &tokenizer, "--file", "page.txt", "--rounds", "2", "--json"];
    let told = fathom(&dir, &args).json();
    assert_eq!((&told["bytes"], &told["rounds"]), (&750.into(), &2.into()));
    assert_eq!(told["ids_hash"], fathom(&dir, &args).json()["ids_hash"]);
}

#[test]
fn what_cannot_be_measured_is_refused_before_it_is_tried() {
    let model = golden("llama_gqa");
    let check = |args: &[&str], code: i32, words: &[&str]| {
        let ended = here(&[&["bench"], args].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{args:?}: {ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{args:?} lacks {word:?}: {}", ended.stderr);
        }
    };
    check(&["decode", &model, "--depth", "100000"], 2, &["is longer than the context", "hint: "]);
    check(&["prefill", &model, "--tokens", "100000"], 2, &["is longer than the context"]);
    check(&["decode", &model, "--depth", "x"], 2, &["no whole number from 0"]);
    check(&["batch", &model, "--sequences", "0"], 2, &["no whole number from 1"]);
    check(&["decode", &model, "--quant", "q9"], 2, &["there is no format `q9`", "q8_0"]);
    check(&["kernels", "--formats", "q9"], 2, &["there is no format `q9`"]);
    check(&["kernels", "--shape", "8x100"], 2, &["multiple of 256"]);
    check(&["start", "no-such.gguf"], 1, &["no-such.gguf"]);
    check(&["tokenizer", &model, "--file", "no-such.txt"], 1, &["error: "]);
    check(&["decode", &model, "--turns"], 2, &["--json"]);
}
