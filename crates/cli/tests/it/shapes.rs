//! Models by their shape alone: presets, what headers say, and plans.

use crate::program::{Ended, fathom, folder, trained};
use std::path::Path;

fn here(args: &[&str]) -> Ended {
    fathom(Path::new("."), args)
}

#[test]
fn a_preset_is_shown_with_its_published_figures() {
    let shown = here(&["inspect", "--preset", "deepseek-ai/DeepSeek-V3-0324", "--json"]).json();
    assert_eq!(shown["preset"], "v3");
    assert_eq!(shown["parameters"], 671_026_419_200u64);
    assert_eq!(shown["cache_bytes_per_token_bf16"], 70_272);
    assert_eq!(shown["cache_bytes_per_token"], 70_272);
    let text = here(&["inspect", "--preset", "v3.1"]).stdout;
    assert!(text.contains("scales ue8m0"), "{text}");
    let ended = here(&["inspect", "--preset", "v2-light"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("no preset `v2-light`\nhint: did you mean `v2-lite`?"),
        "{ended:?}"
    );
}

#[test]
fn presets_are_listed_with_or_without_the_word() {
    let listed = here(&["inspect", "--list-presets"]);
    assert_eq!(listed.stdout, here(&["inspect", "--preset"]).stdout);
    assert!(listed.stdout.contains("distill-llama-70b"));
    let all = here(&["inspect", "--list-presets", "--json"]).json();
    assert_eq!(all["presets"].as_array().map(Vec::len), Some(29));
}

/// After a deliberate change, `FATHOM_UPDATE=1 cargo test -p fathom-cli models` writes it again.
#[test]
fn the_page_of_models_is_the_committed_one() {
    let page = here(&["inspect", "--list-presets", "--markdown"]).stdout;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md");
    if std::env::var_os("FATHOM_UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(page, std::fs::read_to_string(&path).unwrap_or_default());
}

#[test]
fn headers_tell_what_a_checkpoint_holds_and_lacks() {
    let whole = fathom(trained(), &["inspect", "runs/small", "--json"]).json();
    assert_eq!(whole["missing"], serde_json::json!([]));
    assert_eq!(whole["misshapen"], serde_json::json!([]));
    assert!(whole["tokenizer"]["kind"].as_str().unwrap().contains("byte-level"), "{whole}");
    assert!(whole["tensor_bytes"].as_u64() < whole["weight_bytes"].as_u64());

    // The same weights under a configuration of another width.
    let dir = folder("misshapen");
    let source = Path::new(whole["directory"].as_str().unwrap());
    let source = if source.is_absolute() { source.to_owned() } else { trained().join(source) };
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
    }
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let vocab_size = config["vocab_size"].as_u64().unwrap();
    config["vocab_size"] = (vocab_size + 1).into();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let changed = fathom(&dir, &["inspect", ".", "--json"]).json();
    let names: Vec<&str> = changed["misshapen"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(names.contains(&"model.embed_tokens.weight"), "{changed}");

    // A file of weights that was cut off: what is known is still shown, and why the rest is not.
    std::fs::write(dir.join("model.safetensors"), [1, 2, 3]).unwrap();
    let cut = fathom(&dir, &["inspect", "."]);
    assert_eq!(cut.code, 1);
    assert!(
        cut.stdout.contains("parameters") && cut.stderr.contains("model.safetensors"),
        "{cut:?}"
    );
}

/// A machine without measurements, so that the plan is the same everywhere.
const MACHINE: [&str; 6] = ["--memory", "24GiB", "--bandwidth", "50", "--compute", "200"];

#[test]
fn a_model_larger_than_memory_is_planned_with_experts_from_disk() {
    let args = ["plan", "--preset", "v3", "--quant", "q4_k", "--json"];
    let plan = here(&[&args[..], &MACHINE[..]].concat()).json();
    let row = &plan["serving"]["formats"][0];
    assert_eq!(row["fits"], "experts_from_disk");
    assert_eq!(row["bound_by"], "disk");
    let number = |name: &str| row[name].as_f64().unwrap();
    assert!(number("resident_bytes") < 24e9 && number("needed_bytes") > 300e9, "{row}");
    // Eight experts of 3 x 2048 x 7168 in 58 layers, at 4.5 bits or a little more.
    let chosen = 8.0 * 58.0 * 3.0 * 2048.0 * 7168.0 * 4.5 / 8.0;
    let disk = number("disk_bytes_per_step");
    assert!(disk > 0.9 * chosen && disk < chosen, "{disk} {chosen}");
    assert!((number("max_tokens_per_s") - 2e9 / disk).abs() < 1e-6);
}

#[test]
fn training_v3_is_planned_as_it_was_published() {
    let args = ["plan", "--preset", "v3", "--train", "--tokens", "14.8T"];
    let args = [&args[..], &["--hardware", "h800", "--devices", "2048"]].concat();
    let plan = here(&[&args[..], &["--json"]].concat()).json();
    let hours = plan["training"]["device_hours"].as_f64().unwrap();
    assert!((hours / 2.664e6 - 1.0).abs() < 0.002, "{hours}");
    let text = here(&args).stdout;
    for words in
        ["2,664,000 H800 hours", "2,788,000 hours, $5,576,000 at $2", "days on 2048 devices"]
    {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

#[test]
fn wrong_plans_are_refused_with_what_is_right() {
    let refused = |args: &[&str], code: i32, words: &[&str]| {
        let ended = here(&[&["plan"], args].concat());
        assert_eq!(ended.code, code, "{ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{word:?} is not in {ended:?}");
        }
    };
    refused(&[], 2, &["MODEL"]);
    refused(&["--preset", "v3", "--memory", "24 parsecs"], 2, &["`24 parsecs` has no unit"]);
    refused(&["--preset", "v3", "--quant", "q4"], 2, &["no format `q4`", "q4_k"]);
    refused(&["--preset", "v3", "--train"], 2, &["--tokens"]);
    refused(&["--preset", "v3", "--price", "2"], 2, &["--train"]);
    refused(&["--preset", "v3", "--hardware", "h8000"], 1, &["no hardware `h8000`", "h800"]);
    refused(&["--preset", "llm-7b", "--context", "9999"], 1, &["4096 positions", "--context 4096"]);
}
