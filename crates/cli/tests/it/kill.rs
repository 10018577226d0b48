//! Kill -9 at any instant: a run that goes on ends with the bytes of one that was never disturbed.

use crate::program::{command, fathom, folder, stages};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Every kind of stage that trains or samples, with checkpoints often enough to lose something.
fn recipe() -> String {
    let kept = stages(&["tokenizer", "base"]);
    kept + r#"
[[stage]]
name = "zero"
kind = "grpo"
from = "base"
template = "r1-zero"
steps = 4
prompts_per_step = 3
group_size = 3
max_new_tokens = 10
kl_weight = 0.01
reference_reset_steps = 2
mini_batches = 3
samples_every_steps = 1
checkpoint_every_steps = 2
rewards = [{ name = "accuracy" }, { name = "format" }]

[[stage]]
name = "kept"
kind = "rejection"
from = "zero"
prompts = 4
samples_per_prompt = 2
max_new_tokens = 8
general_count = 6

[[stage]]
name = "tuned"
kind = "sft"
from = "base"
epochs = 2
batch_tokens = 512
max_tokens = 256
checkpoint_every_steps = 1
data = [{ kind = "cold-start", count = 8 }, { kind = "samples", stage = "kept" }]

[[stage]]
name = "evaluation"
kind = "evaluate"
models = ["zero", "tuned"]
problems = 4
samples_per_problem = 2
max_new_tokens = 12
"#
}

/// When a process is killed.
enum Instants {
    /// So long after its start.
    After(Duration),
    /// So long after the metrics have that many lines.
    Lines(usize, Duration),
}

fn kill_at(child: &mut Child, run: &Path, instant: &Instants) {
    let lines = || {
        let bytes = std::fs::read(run.join("metrics.jsonl")).unwrap_or_default();
        bytes.iter().filter(|byte| **byte == b'\n').count()
    };
    let (n_lines, wait) = match instant {
        Instants::After(wait) => (0, wait),
        Instants::Lines(n_lines, wait) => (*n_lines, wait),
    };
    let give_up = Instant::now() + Duration::from_secs(20);
    while lines() < n_lines && child.try_wait().unwrap().is_none() && Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(*wait);
    let _ = child.kill(); // SIGKILL; it may have ended by itself
    child.wait().unwrap();
}

/// Everything below `root` but what tells the time, by path.
fn outcome(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let tells_time = ["timing.jsonl", "state.json", "results.json", "report.html"];
            let skipped = tells_time.contains(&name.as_str()) || name.starts_with("events.out");
            let bytes = if skipped { Vec::new() } else { std::fs::read(&path).unwrap() };
            files.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
        }
    }
    files
}

#[test]
fn killed_at_many_instants_a_run_ends_with_the_same_bytes() {
    let dir = folder("kill");
    std::fs::write(dir.join("small.toml"), recipe()).unwrap();
    let whole = fathom(&dir, &["train", "small.toml", "--out", "whole"]);
    assert_eq!(whole.code, 0, "{whole:?}");
    let n_lines = std::fs::read_to_string(dir.join("whole/metrics.jsonl")).unwrap().lines().count();

    let run = dir.join("killed");
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut instants = vec![Instants::After(Duration::from_millis(3))];
    for n in 1..n_lines {
        instants.push(Instants::Lines(n, Duration::from_micros(draw(40_000) as u64)));
        if n.is_multiple_of(4) {
            instants.push(Instants::After(Duration::from_millis(draw(120) as u64)));
        }
    }
    for instant in &instants {
        let args = ["train", "small.toml", "--out", "killed", "--resume"];
        let mut child =
            command(&dir, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kill_at(&mut child, &run, instant);
    }
    // What a process killed in the middle of a write leaves behind.
    for leftover in [".tuned.tmp", ".base.old", "base.step-1"] {
        let path = run.join("checkpoints").join(leftover);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("model.safetensors"), "torn").unwrap();
    }
    std::fs::write(run.join(".state.json.1-2.tmp"), "{").unwrap();

    let ended = fathom(&dir, &["train", "killed", "--resume"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let (whole, killed) = (outcome(&dir.join("whole")), outcome(&run));
    assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
    for (path, bytes) in &whole {
        assert!(killed[path] == *bytes, "`{}` differs", path.display());
    }
    let state = std::fs::read_to_string(run.join("state.json")).unwrap();
    assert!(state.contains("\"in_flight\": null"), "{state}");
}

#[test]
fn a_truncated_step_checkpoint_is_named_and_its_stage_can_begin_again() {
    let dir = folder("torn-step");
    std::fs::write(dir.join("small.toml"), stages(&["tokenizer", "base"])).unwrap();
    let args = ["train", "small.toml", "--set", "base.steps=100000", "--out", "run"];
    let mut child =
        command(&dir, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let run = dir.join("run");
    kill_at(&mut child, &run, &Instants::Lines(4, Duration::ZERO));
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.join("state.json")).unwrap()).unwrap();
    let step = run.join(format!("checkpoints/base.step-{}", state["in_flight"]["step"]));
    let optimizer = step.join("optimizer.safetensors");
    let bytes = std::fs::read(&optimizer).unwrap();
    std::fs::write(&optimizer, &bytes[..bytes.len() / 2]).unwrap();
    let state = std::fs::read(run.join("state.json")).unwrap();
    let resume = ["train", "run", "--resume", "--minutes", "0.001"];
    let ended = fathom(&dir, &resume);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    for words in ["stage `base` cannot go on", "optimizer.safetensors", "hint: remove the folder"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    let in_flight = |bytes: &[u8]| {
        serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["in_flight"].clone()
    };
    let after = std::fs::read(run.join("state.json")).unwrap();
    assert_eq!(in_flight(&after), in_flight(&state), "nothing may be given up");
    std::fs::remove_dir_all(&step).unwrap();
    assert_eq!(fathom(&dir, &resume).code, 0);
}
