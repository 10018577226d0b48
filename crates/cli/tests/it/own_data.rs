//! A person's own data: what is skipped is counted with its reason, what cannot work says why.

use crate::program::{fathom, folder, stages, trained};
use std::path::Path;

/// Question and answer lines: two good ones, one too long for the model, three broken ones.
fn questions() -> Vec<u8> {
    let good = |question: &str| {
        let answer = "3 + 4 = 7\\n#### 7";
        format!("{{\"question\": \"{question}\", \"answer\": \"{answer}\"}}\n")
    };
    let long = good(&"one more and ".repeat(400));
    let broken = "{\"question\": \n[1]\n";
    let mut bytes =
        [good("What is 3 + 4?"), long, good("How much is 4 + 3?")].concat().into_bytes();
    bytes.extend(broken.bytes());
    bytes.extend([0xff, 0xfe, 0, b'\n']);
    bytes
}

fn tuning(dir: &Path, held_out_share: f64) {
    let tuned = trained().join("runs/small/checkpoints/tuned");
    let recipe = format!(
        r#"
name = "own"
description = "a test"
task = {{ kind = "questions", train = "q.jsonl", held_out_share = {held_out_share} }}

[[stage]]
name = "sft"
kind = "sft"
from = "{}"
epochs = 1
batch_tokens = 512
max_tokens = 256
data = [{{ kind = "task", count = 0 }}]

[[stage]]
name = "grpo"
kind = "grpo"
from = "sft"
template = "chat"
steps = 2
prompts_per_step = 2
group_size = 2
max_new_tokens = 8
rewards = [{{ name = "accuracy" }}]
"#,
        tuned.display()
    );
    std::fs::write(dir.join("own.toml"), recipe).unwrap();
}

#[test]
fn questions_that_cannot_be_used_are_left_out_with_a_count() {
    let dir = folder("questions");
    std::fs::write(dir.join("q.jsonl"), questions()).unwrap();
    tuning(&dir, 0.0);
    let ended = fathom(&dir, &["train", "own.toml"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for words in [
        "3 questions read from `q.jsonl`; skipped 3 lines: ",
        "skipped 1 example longer than `max_tokens` = 256",
        "left out 1 of 3 questions that with `max_new_tokens` = 8 pass the model's 512 positions",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

#[test]
fn a_model_without_chat_tokens_is_refused_before_the_run_begins() {
    let dir = folder("no-chat");
    let tuned = trained().join("runs/small/checkpoints/tuned");
    std::fs::create_dir(dir.join("model")).unwrap();
    std::fs::copy(tuned.join("config.json"), dir.join("model/config.json")).unwrap();
    let words = std::fs::read_to_string(tuned.join("tokenizer.json")).unwrap();
    let words = words.replace("<｜User｜>", "<one>");
    std::fs::write(dir.join("model/tokenizer.json"), words).unwrap();
    tuning(&dir, 0.0);
    let ended = fathom(&dir, &["train", "own.toml", "--set", "sft.from=./model"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    let words = "stage `sft`: found no token `<｜User｜>` in the tokenizer of `./model`";
    assert!(ended.stderr.contains(words) && ended.stderr.contains("hint: "), "{ended:?}");
    assert!(!dir.join("runs").exists());
}

#[test]
fn questions_that_leave_nothing_to_train_on_say_why() {
    let dir = folder("no-questions");
    tuning(&dir, 0.9);
    let fails = |sets: &[&str], words: &[&str]| {
        let mut args = vec!["train", "own.toml", "--out", "run"];
        sets.iter().for_each(|set| args.extend(["--set", set]));
        let ended = fathom(&dir, &args);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        let _ = std::fs::remove_dir_all(dir.join("run"));
    };
    fails(&[], &["cannot read `q.jsonl`"]);
    std::fs::write(dir.join("q.jsonl"), "").unwrap();
    fails(&[], &["`q.jsonl` is empty"]);
    std::fs::write(dir.join("q.jsonl"), [0, 159, 146, 150, b'\n']).unwrap();
    fails(&[], &["no usable row in `q.jsonl`: skipped 1 line", "hint: first skipped: line 1"]);
    std::fs::write(dir.join("q.jsonl"), questions()).unwrap();
    fails(&[], &["all held out", "hint: "]);
    let room = ["task.held_out_share=0.0", "grpo.max_new_tokens=511"];
    fails(&room, &["none of which fits the model", "hint: lower `grpo.max_new_tokens`"]);
}

#[test]
fn a_folder_without_sources_says_what_it_holds() {
    let dir = folder("no-sources");
    let recipe = stages(&["tokenizer", "base"]).replace(
        "kind = \"arithmetic\"",
        "kind = \"sources\", folder = \"src\", extensions = [\"rs\"]",
    );
    std::fs::write(dir.join("code.toml"), recipe).unwrap();
    let fails = |words: &[&str]| {
        let ended = fathom(&dir, &["train", "code.toml", "--out", "run"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        let _ = std::fs::remove_dir_all(dir.join("run"));
    };
    fails(&["cannot read `src`"]);
    std::fs::create_dir(dir.join("src")).unwrap();
    fails(&["no usable file under `src`"]);
    std::fs::write(dir.join("src/a.py"), "print(1)").unwrap();
    fails(&["no usable file under `src`", "hint: 1 file"]);
    std::fs::write(dir.join("src/b.rs"), [0u8; 64]).unwrap();
    fails(&["no usable file under `src`: skipped 1 file: 1 binary"]);
}
