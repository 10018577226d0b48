//! Bad input ends with a clear error, the right exit code, and nothing overwritten.

use crate::program::{fathom, fathom_reading, folder, golden, trained};
use std::path::Path;

/// Expects a failure with these words and nothing on stdout.
fn check(dir: &Path, args: &[&str], code: i32, words: &[&str]) {
    let ended = fathom(dir, args);
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{args:?}: {ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{args:?} lacks {word:?}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

#[test]
fn a_recipe_that_cannot_work_names_what_is_wrong_and_the_nearest_right() {
    let dir = folder("recipes");
    let train = |set: &str, words: &[&str]| {
        check(&dir, &["train", "r1-tiny", "--set", set], 1, words);
    };
    check(
        &dir,
        &["train", "r1-tinny"],
        1,
        &["no recipe `r1-tinny`", "hint: did you mean `r1-tiny`?"],
    );
    train("base.stepps=3", &["unknown key `stepps`", "hint: did you mean `steps`?"]);
    train("base.steps=many", &["`steps` in stage `base` must be a whole number", "\"many\""]);
    train("bse.steps=3", &["there is no `bse`", "did you mean `base`?"]);
    train("nonsense", &["cannot understand the setting `nonsense`", "hint: "]);
    train("tiny-v3.num_attention_heads=0", &["num_attention_heads"]);
    train("tiny-v3.num_experts_per_tok=99", &["num_experts_per_tok", "hint: "]);
    train("tiny-qwen.num_attention_heads=5", &["`tiny-qwen`", "num_attention_heads", "hint: "]);
    train("tiny-v3.num_key_value_heads=3", &["`tiny-v3`", "num_key_value_heads", "hint: "]);
    train("r1-zero.max_new_tokens=100000", &["`r1-zero`", "max_position_embeddings", "hint: "]);
    train("base.sequence_tokens=100000", &["`base`", "max_position_embeddings", "hint: "]);
    check(&dir, &["train", "gsm8k", "--minutes", "0"], 2, &["above 0"]);
    assert!(!dir.join("runs").exists(), "nothing may be left behind");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = folder("unwritable");
    std::fs::write(dir.join("file"), "").unwrap();
    let words = ["cannot", "file/run", "hint: choose a directory"];
    check(&dir, &["train", "r1-tiny", "--out", "file/run"], 1, &words);
}

#[test]
fn a_folder_with_foreign_files_is_left_alone() {
    let dir = folder("foreign");
    std::fs::create_dir(dir.join("mine")).unwrap();
    std::fs::write(dir.join("mine/thesis.txt"), "precious").unwrap();
    let words = ["`mine` is not empty and not a run: it holds `thesis.txt`", "--out"];
    check(&dir, &["train", "r1-tiny", "--out", "mine"], 1, &words);
    assert_eq!(std::fs::read_dir(dir.join("mine")).unwrap().count(), 1);
}

#[test]
fn a_finished_run_is_not_overwritten() {
    let dir = trained();
    let before = std::fs::read(dir.join("runs/small/results.json")).unwrap();
    check(
        dir,
        &["train", "small.toml"],
        1,
        &["`runs/small` already holds this run", "--resume", "--out"],
    );
    check(
        dir,
        &["train", "r1-tiny", "--out", "runs/small"],
        1,
        &[
            "holds a run of another recipe",
            "base.model: \"m\" there, \"tiny-v3\" asked for",
            "--out DIR",
        ],
    );
    assert_eq!(std::fs::read(dir.join("runs/small/results.json")).unwrap(), before);
}

#[test]
fn a_model_that_cannot_be_opened_says_why() {
    let dir = folder("models");
    check(&dir, &["run"], 1, &["no model was named", "train r1-tiny"]);
    check(&dir, &["run", "nowhere", "Hi"], 1, &["there is no `nowhere`"]);
    check(&dir, &["run", "m.gguf", "Hi"], 1, &["there is no `m.gguf`"]);
    std::fs::write(dir.join("m.gguf"), "no model at all").unwrap();
    check(&dir, &["run", "m.gguf", "Hi"], 1, &["`m.gguf`", "GGUF"]);
    let words = ["deepseek-ai/DeepSeek-R1", "HF_HUB_OFFLINE"];
    check(&dir, &["run", "deepseek-ai/DeepSeek-R1", "Hi"], 1, &words);
    check(&dir, &["run", &golden("llama_gqa"), "Hi"], 1, &["has no `tokenizer.json`"]);
    std::fs::create_dir(dir.join("broken")).unwrap();
    std::fs::write(dir.join("broken/config.json"), "{").unwrap();
    check(&dir, &["inspect", "broken"], 1, &["broken/config.json"]);
}

#[test]
fn a_truncated_checkpoint_is_refused() {
    let dir = folder("truncated");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(Path::new(&golden("llama_gqa")).join(name), dir.join(name)).unwrap();
    }
    let weights = dir.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    check(&dir, &["logits", ".", "--ids", "1"], 1, &["model.safetensors"]);
}

#[test]
fn values_and_flags_without_sense_are_wrong_usage() {
    let dir = trained();
    let run = |args: &[&str], words: &[&str]| {
        check(dir, &[&["run", "runs/small", "Hi"], args].concat(), 2, words);
    };
    run(&["--temperature", "-1"], &["--temperature"]);
    run(&["--top-p", "0"], &["above 0"]);
    run(&["--max-tokens", "0"], &["--max-tokens"]);
    run(&["--threads", "0"], &["--threads"]);
    run(&["--raw", "--think", "off"], &["`--think` has no effect"]);
    run(&["--raw", "--system", "Be brief."], &["--system"]);
    run(&["--fim", "a", "b"], &["--fim"]);
    check(dir, &["run", "runs/small/checkpoints/base", "Hi", "--system", "x"], 2, &["no effect"]);
    check(dir, &["run", "runs/small"], 2, &["stdin is empty", "hint: "]);
    check(dir, &["run", "runs/small", "--fim", "a", "b"], 1, &["cannot fill holes", "code-small"]);
    check(dir, &["trian"], 2, &["train"]);
}

#[test]
fn a_prompt_longer_than_the_model_reads_is_refused() {
    let ended = fathom_reading(trained(), &["run", "runs/small"], &"one two ".repeat(500));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("the model reads at most 512"), "{ended:?}");
}

#[test]
fn tokens_outside_the_vocabulary_are_refused() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let llama = golden("llama_gqa");
    check(dir, &["logits", &llama, "--ids", "1,99999"], 1, &["id 99999 is outside the vocabulary"]);
    check(
        dir,
        &["logits", &llama, "--ids", "1", "--mtp"],
        1,
        &["no multi-token-prediction module"],
    );
    check(dir, &["logits", &llama, "--ids", "1", "--greedy", "99999999"], 1, &["positions"]);
    check(dir, &["logits", &llama, "--ids", "x"], 2, &["whole numbers"]);
    check(dir, &["logits", &llama, "Hi"], 1, &["has no `tokenizer.json`"]);
    let decode = ["tokenizer", "decode", "runs/small", "--ids", "99999"];
    check(trained(), &decode, 1, &["there is no token 99999"]);
}

#[test]
fn tokenizers_that_differ_are_shown_where() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/tokenizer"));
    let same = ["qwen2.tokenizer.json", "qwen2.tokenizer.json", "12 apples"];
    let ended = fathom(dir, &[&["tokenizer", "compare"], &same[..]].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(ended.stdout.starts_with("the same "), "{ended:?}");
    let words = ["give different ids", "from id number 5 on, byte 5", "\"ple\""];
    let args = ["tokenizer", "compare", "qwen2.tokenizer.json", "gpt2.tokenizer.json", "12 apples"];
    check(dir, &args, 1, &words);
    check(dir, &["tokenizer", "encode", "absent.gguf", "x"], 1, &["absent.gguf"]);
}
