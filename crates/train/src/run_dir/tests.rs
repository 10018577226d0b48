//! Run directories are made, refused, locked, and gone on with.

use super::*;
use crate::logs::Logs;
use crate::metrics::{Record, Sample};

const RECIPE: &str = r#"
name = "small"
[models.tiny]
hidden_size = 64
[[stage]]
name = "base"
kind = "pretrain"
model = "tiny"
steps = 100
batch_sequences = 4
sequence_tokens = 64
[[stage]]
name = "zero"
kind = "grpo"
from = "base"
template = "r1-zero"
steps = 10
rewards = [{ name = "accuracy" }]
"#;

fn recipe(sets: &[&str]) -> Recipe {
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    Recipe::parse(RECIPE, &sets).unwrap()
}

/// A directory of its own for each test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fathom-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn new_run_writes_its_recipe_and_resumes_from_its_state() {
    let scratch = Scratch::new("run-new");
    let (dir, state) = RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap();
    assert_eq!(state, State::default());
    assert_eq!(read_recipe(&scratch.0).unwrap(), recipe(&[]));
    let mut state = state;
    state.finish("base");
    state.reach("zero", 4, 0);
    dir.save_state(&state).unwrap();
    std::fs::create_dir(dir.step_checkpoint("zero", 4)).unwrap();
    drop(dir);
    let (_dir, again) = RunDir::open(&scratch.0, &recipe(&[]), Start::Resume).unwrap();
    assert_eq!(again, state);
    assert!(again.covers("base", 99) && again.covers("zero", 4) && !again.covers("zero", 5));
    assert_eq!((again.steps_done("zero"), again.steps_done("base")), (4, 0));
}

#[test]
fn existing_run_is_refused_without_resume() {
    let scratch = Scratch::new("run-exists");
    drop(RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap());
    let error = RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap_err();
    assert!(matches!(error, RunDirError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("--resume"));
}

#[test]
fn run_of_another_recipe_is_refused_with_the_differing_keys() {
    let scratch = Scratch::new("run-other");
    drop(RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap());
    let other = recipe(&["base.steps=7", "tiny.hidden_size=32"]);
    let before = std::fs::read(scratch.0.join("recipe.toml")).unwrap();
    for start in [Start::New, Start::Resume] {
        let error = RunDir::open(&scratch.0, &other, start).unwrap_err().to_string();
        assert!(error.contains("base.steps: 100 there, 7 asked for"), "{error}");
        assert!(error.contains("models.tiny.hidden_size: 64 there, 32 asked for"), "{error}");
    }
    assert_eq!(std::fs::read(scratch.0.join("recipe.toml")).unwrap(), before);
}

#[test]
fn more_minutes_may_be_given_on_resume() {
    let scratch = Scratch::new("run-minutes");
    drop(RunDir::open(&scratch.0, &recipe(&["base.minutes=1"]), Start::New).unwrap());
    let longer = recipe(&["base.minutes=5"]);
    drop(RunDir::open(&scratch.0, &longer, Start::Resume).unwrap());
    assert_eq!(read_recipe(&scratch.0).unwrap(), longer);
}

#[test]
fn a_stage_ended_by_its_time_opens_again_with_more_and_only_then() {
    let mut state = State::default();
    state.finish("base");
    state.reach("zero", 4, 90_000);
    state.end_by_time();
    state.finish("zero");
    let ended = state.clone();
    for same in ["zero.minutes=1.0", "zero.minutes=1.5"] {
        assert_eq!(state.reopen(&recipe(&[same])), None, "{same}");
        assert_eq!(state, ended);
    }
    for more in [&["zero.minutes=2.0"][..], &[]] {
        let mut state = ended.clone();
        assert_eq!(state.reopen(&recipe(more)).map(|at| at.step), Some(4), "{more:?}");
        assert!(!state.is_done("zero") && state.is_done("base"));
        assert_eq!((state.steps_done("zero"), state.worked_ms("zero")), (4, 90_000));
    }
    // A stage that goes on from its model has begun.
    state.reach("later", 1, 0);
    assert_eq!(state.reopen(&recipe(&[])), None);
}

#[test]
fn leftovers_of_a_killed_process_are_removed() {
    let scratch = Scratch::new("run-leftovers");
    let (dir, mut state) = RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap();
    state.reach("base", 4, 0);
    dir.save_state(&state).unwrap();
    let below = |name: &str| scratch.0.join("checkpoints").join(name);
    for name in [".base.tmp", ".zero.old", "base.step-4", "base.step-2", "zero.step-1"] {
        std::fs::create_dir(below(name)).unwrap();
    }
    std::fs::write(scratch.0.join(".state.json.7-1.tmp"), "{").unwrap();
    drop(dir);
    let (_dir, again) = RunDir::open(&scratch.0, &recipe(&[]), Start::Resume).unwrap();
    assert_eq!(again, state);
    let there = |name: &str| below(name).exists();
    assert!(there("base.step-4") && there("zero")); // `.zero.old` is `zero`, killed while replaced
    assert!(![".base.tmp", ".zero.old", "base.step-2", "zero.step-1"].into_iter().any(there));
    assert!(!scratch.0.join(".state.json.7-1.tmp").exists());
}

#[test]
fn folder_of_other_files_is_left_alone() {
    let scratch = Scratch::new("run-foreign");
    std::fs::create_dir_all(&scratch.0).unwrap();
    std::fs::write(scratch.0.join("thesis.txt"), "mine").unwrap();
    for start in [Start::New, Start::Resume] {
        let error = RunDir::open(&scratch.0, &recipe(&[]), start).unwrap_err();
        assert!(matches!(error, RunDirError::NotARun { .. }), "{error}");
    }
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1);
}

#[test]
fn directory_of_a_run_killed_at_birth_can_be_used() {
    let scratch = Scratch::new("run-birth");
    std::fs::create_dir_all(&scratch.0).unwrap();
    std::fs::write(scratch.0.join(".lock"), "").unwrap();
    assert!(RunDir::open(&scratch.0, &recipe(&[]), Start::New).is_ok());
}

#[test]
fn second_process_is_kept_out() {
    let scratch = Scratch::new("run-lock");
    let first = RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap();
    let error = RunDir::open(&scratch.0, &recipe(&[]), Start::Resume).unwrap_err();
    assert!(matches!(error, RunDirError::Locked { .. }), "{error}");
    drop(first);
    assert!(RunDir::open(&scratch.0, &recipe(&[]), Start::Resume).is_ok());
}

#[test]
fn damaged_state_is_named_and_kept() {
    let scratch = Scratch::new("run-state");
    drop(RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap());
    for text in ["{\"done\":[", "{\"done\":[\"elsewhere\"],\"in_flight\":null,\"wall_s\":0}"] {
        std::fs::write(scratch.0.join("state.json"), text).unwrap();
        let error = RunDir::open(&scratch.0, &recipe(&[]), Start::Resume).unwrap_err().to_string();
        assert!(error.contains("state.json"), "{error}");
        assert_eq!(std::fs::read_to_string(scratch.0.join("state.json")).unwrap(), text);
    }
}

#[test]
fn run_stands_for_its_main_model_once_that_is_trained() {
    let scratch = Scratch::new("run-model");
    let (dir, mut state) = RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap();
    assert!(is_run_dir(&scratch.0));
    assert!(matches!(model_stage(&scratch.0), Err(RunDirError::NoModel { .. })));
    state.finish("base");
    dir.save_state(&state).unwrap();
    assert_eq!(model_stage(&scratch.0).unwrap(), "base");
    state.finish("zero");
    dir.save_state(&state).unwrap();
    assert_eq!(model_stage(&scratch.0).unwrap(), "zero");
}

/// Ten steps of two stages; `saved` says after which of them the state is saved.
fn write_steps(dir: &RunDir, state: &mut State, steps: std::ops::Range<u64>, saved: &[u64]) {
    let mut logs = Logs::open(dir, state).unwrap();
    for n in steps {
        let (stage, step) = if n < 5 { ("base", n + 1) } else { ("zero", n - 4) };
        logs.metrics(&Record::new(stage, step, &[("loss", 1.0 / (n + 1) as f64)])).unwrap();
        logs.sample(&Sample {
            stage: stage.into(),
            step,
            model: stage.into(),
            question: "1 + 1?".into(),
            gold: Some("2".into()),
            response: format!("<think>\n{n}"),
            response_tokens: 3,
            correct: Some(false),
            reward: None,
        })
        .unwrap();
        if saved.contains(&n) {
            logs.sync().unwrap();
            state.reach(stage, step, 0);
            dir.save_state(state).unwrap();
        }
        if n == 4 {
            logs.sync().unwrap();
            state.finish("base");
            dir.save_state(state).unwrap();
        }
    }
}

#[test]
fn interrupted_run_leaves_the_same_logs_as_an_uninterrupted_one() {
    let logs_of = |dir: &RunDir| {
        (std::fs::read(dir.metrics()).unwrap(), std::fs::read(dir.samples()).unwrap())
    };
    let scratch = Scratch::new("run-whole");
    let (whole, mut state) = RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap();
    write_steps(&whole, &mut state, 0..10, &[]);
    let expected = logs_of(&whole);
    let n_event_bytes = std::fs::metadata(whole.events()).unwrap().len();
    for killed_after in 1..10 {
        let scratch = Scratch::new(&format!("run-cut-{killed_after}"));
        let (dir, mut state) = RunDir::open(&scratch.0, &recipe(&[]), Start::New).unwrap();
        write_steps(&dir, &mut state, 0..killed_after, &[1, 3, 6, 8]);
        // The kill hit in the middle of a line.
        let mut torn = std::fs::read(dir.metrics()).unwrap();
        torn.extend(b"{\"stage\":\"ba");
        std::fs::write(dir.metrics(), torn).unwrap();
        drop(dir);
        let (dir, mut state) = RunDir::open(&scratch.0, &recipe(&[]), Start::Resume).unwrap();
        let base = if state.is_done("base") { 5 } else { state.steps_done("base") };
        let next = base + state.steps_done("zero");
        write_steps(&dir, &mut state, next..10, &[1, 3, 6, 8]);
        assert_eq!(logs_of(&dir), expected, "killed after {killed_after}");
        assert_eq!(std::fs::metadata(dir.events()).unwrap().len(), n_event_bytes);
    }
}
