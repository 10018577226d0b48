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
fn answers_are_the_same_whoever_drafts() {
    let answer = |draft: &str, more: &[&str]| {
        let args = [ASK, &["--json", "--logprobs=2", "--draft", draft], more].concat();
        let mut json = fathom(trained(), &args).json();
        let timing = json.as_object_mut().unwrap().remove("timing").unwrap();
        assert_eq!(timing["draft"], draft);
        (json, timing["drafted_tokens"].as_u64().unwrap())
    };
    for more in [&["--temperature", "0"][..], &["--seed", "5"], &["--presence-penalty", "1"]] {
        let (plain, none) = answer("off", more);
        let (by_module, some) = answer("mtp", more);
        assert_eq!((none, some > 0, by_module), (0, true, plain.clone()));
        assert_eq!(answer("lookup", &[more, &["--draft-tokens", "3"]].concat()).0, plain);
    }
}

#[test]
fn drafts_that_cannot_be_made_are_refused() {
    let refused = |args: &[&str], code: i32, what: &str| {
        let ended = fathom(trained(), args);
        assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{args:?}");
        assert!(ended.stderr.contains(what), "{ended:?}");
    };
    refused(&[ASK, &["--draft", "off", "--draft-tokens", "2"]].concat(), 2, "--draft-tokens");
    refused(&[ASK, &["--draft-tokens", "99"]].concat(), 2, "from 1 to 16");
    let dir = folder("without-module");
    let trained = trained().join("runs/small/checkpoints/tuned");
    for file in std::fs::read_dir(&trained).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.join(file.file_name())).unwrap();
    }
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let layers = "\"num_nextn_predict_layers\": ";
    let without = config.replace(&format!("{layers}1"), &format!("{layers}0"));
    assert_ne!(without, config);
    std::fs::write(dir.join("config.json"), without).unwrap();
    let dir = dir.to_str().unwrap();
    let ask = ["run", dir, "What is 3 + 4?", "--draft", "mtp"];
    refused(&ask, 1, "has no multi-token-prediction module");
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
fn log_probabilities_stand_beside_the_ids() {
    let args = ["--json", "--logprobs=3", "--temperature", "0"];
    let json = fathom(trained(), &[ASK, &args].concat()).json();
    let (ids, scored) = (json["ids"].as_array().unwrap(), json["logprobs"].as_array().unwrap());
    assert_eq!(ids.len(), scored.len());
    for (id, scored) in ids.iter().zip(scored) {
        let top = scored["top"].as_array().unwrap();
        assert_eq!((&scored["id"], top.len()), (id, 3));
        for field in ["id", "token", "bytes", "logprob"] {
            assert_eq!(top[0][field], scored[field], "a greedy token is the likeliest");
        }
        assert!(scored["logprob"].as_f64().unwrap() <= 0.0 && scored["bytes"].is_array());
    }
    let bare = fathom(trained(), &[ASK, &["--json", "--logprobs"]].concat()).json();
    assert_eq!(bare["logprobs"][0]["top"].as_array().unwrap().len(), 0);
    assert!(fathom(trained(), &[ASK, &["--json"]].concat()).json()["logprobs"].is_null());
}

#[test]
fn an_answer_ends_before_a_stop_text() {
    let ask = |more: &[&str]| fathom(trained(), &[ASK, &["--json"], more].concat()).json();
    let whole = ask(&[]);
    let said = ["reasoning", "text"].map(|part| whole[part].as_str().unwrap().to_owned());
    let part = if said[0].chars().count() > 4 { 0 } else { 1 };
    let stop: String = said[part].chars().skip(2).take(2).collect();
    let before = said[part].split(&stop).next().unwrap().trim_end();
    let stopped = ask(&["--stop", &stop]);
    assert_eq!(stopped[["reasoning", "text"][part]], before, "{stop:?} in {said:?}");
    assert_eq!(stopped["finish_reason"], "stop");
    assert!(stopped["ids"].as_array().unwrap().len() < whole["ids"].as_array().unwrap().len());
}

#[test]
fn a_bias_decides_and_a_bias_for_no_token_is_named() {
    let ask = |bias: &str| {
        fathom(trained(), &[ASK, &["--json", "--temperature", "0", "--logit-bias", bias]].concat())
    };
    let ids = ask("20=100").json()["ids"].clone();
    assert!(ids.as_array().unwrap().iter().all(|id| *id == 20), "{ids}");
    let refused = ask("999999=1");
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("token 999999"), "{refused:?}");
}

#[test]
fn settings_of_the_draw_that_cannot_work_are_refused() {
    for (flag, value, words) in [
        ("--min-p", "2", "from 0 to 1"),
        ("--repetition-penalty", "0", "from 0.01 to 100"),
        ("--frequency-penalty", "-3", "from -2 to 2"),
        ("--presence-penalty", "x", "from -2 to 2"),
        ("--logit-bias", "5", "such as 42=-100"),
        ("--stop", "", "empty"),
    ] {
        let refused = fathom(trained(), &[ASK, &[flag, value]].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains(words), "{flag}: {refused:?}");
    }
    let alone = fathom(trained(), &[ASK, &["--logprobs"]].concat());
    assert!(alone.code == 2 && alone.stderr.contains("--json"), "{alone:?}");
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
