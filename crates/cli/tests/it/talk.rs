//! One-shot answers of a small trained model: what they say does not matter, that they repeat does.

use crate::program::{SMALL, fathom, fathom_reading, folder, trained};

const ASK: &[&str] = &["run", "runs/small", "What is 3 + 4?", "--max-tokens", "40"];

#[test]
fn the_same_seed_gives_the_same_answer_on_any_number_of_threads() {
    let answer = |more: &[&str]| {
        let mut json = fathom(trained(), &[ASK, &["--json"], more].concat()).json();
        json.as_object_mut().unwrap().remove("timing");
        json
    };
    let first = answer(&["--seed", "5"]);
    assert_eq!(answer(&["--seed", "5"]), first);
    assert_eq!(answer(&["--seed", "5", "--threads", "1"]), first);
    assert_ne!(answer(&["--seed", "6"]), first);
    assert_eq!(answer(&["--temperature", "0"]), answer(&["--temperature", "0", "--seed", "9"]));
}

#[test]
fn json_holds_text_reasoning_ids_reason_usage_and_timing() {
    let json = fathom(trained(), &[ASK, &["--json"]].concat()).json();
    let usage = &json["usage"];
    let n_ids = json["ids"].as_array().unwrap().len() as u64;
    assert_eq!(usage["completion_tokens"], n_ids);
    let total = usage["prompt_tokens"].as_u64().unwrap() + n_ids;
    assert_eq!(usage["total_tokens"], total);
    assert!(["stop", "length"].contains(&json["finish_reason"].as_str().unwrap()));
    assert!(json["text"].is_string() && json["reasoning"].is_string());
    assert!(json["timing"]["prefill_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn piped_text_marks_the_thinking_and_says_nothing_else() {
    let from_argument = fathom(trained(), ASK);
    assert_eq!((from_argument.code, from_argument.stderr.as_str()), (0, ""));
    assert!(from_argument.stdout.starts_with("<think>\n"), "{from_argument:?}");
    assert!(from_argument.stdout.contains("\n</think>\n"), "{from_argument:?}");
    let args = ["run", "runs/small", "--max-tokens", "40"];
    let from_stdin = fathom_reading(trained(), &args, "What is 3 + 4?\n");
    assert_eq!(from_stdin.stdout, from_argument.stdout);
}

#[test]
fn the_newest_run_answers_where_no_model_is_named() {
    let named = fathom(trained(), ASK);
    let unnamed = fathom(trained(), &["run", "What is 3 + 4?", "--max-tokens", "40"]);
    assert_eq!(unnamed.stdout, named.stdout);
}

#[test]
fn a_code_model_fills_holes_in_files() {
    let dir = folder("fim");
    let source = "fn add(a: u32, b: u32) -> u32 {\n    a + b\n}\n";
    std::fs::create_dir(dir.join("src")).unwrap();
    for idx in 0..12 {
        let text = source.replace("add", &format!("add_{idx}")).repeat(20);
        std::fs::write(dir.join(format!("src/{idx}.rs")), text).unwrap();
    }
    let stages = SMALL.split("[[stage]]").next().unwrap();
    let recipe = stages.replace("main_model = \"tuned\"\n", "").replace(
        "task = { kind = \"arithmetic\" }",
        "task = { kind = \"sources\", folder = \"src\", extensions = [\"rs\"], held_out_share = 0.2 }",
    ) + r#"
[[stage]]
name = "tokenizer"
kind = "tokenizer"
vocab_size = 300
corpus_documents = 10

[[stage]]
name = "base"
kind = "pretrain"
model = "m"
steps = 2
batch_sequences = 2
sequence_tokens = 64
fim_rate = 0.5
"#;
    std::fs::write(dir.join("code.toml"), recipe).unwrap();
    let ended = fathom(&dir, &["train", "code.toml", "--out", "run", "--minutes", "5"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let fill = |args: &[&str]| {
        let ended = fathom(&dir, &[&["run", "run", "--json", "--max-tokens", "5"], args].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.json()
    };
    let in_file = fill(&["--fim-file", "src/3.rs", "--at", "2"]);
    let (prefix, suffix) = ("fn add_3(a: u32, b: u32) -> u32 {\n", "\n}\n");
    assert!(in_file["usage"]["prompt_tokens"].as_u64().unwrap() > 64);
    let between = fill(&["--fim", prefix, suffix]);
    assert!(between["usage"]["completion_tokens"].as_u64().unwrap() <= 5);
    let missing = fathom(&dir, &["run", "run", "--fim-file", "src/3.rs", "--at", "999"]);
    assert!(missing.stderr.contains("there is no line 999"), "{missing:?}");
}
