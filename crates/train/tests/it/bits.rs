//! Same bits: interrupted and not, one thread and many, rollout and trainer.

use crate::small::{StopAfter, folder, outcome, recipe};
use fathom_kernels::threads;
use fathom_model::{Config, Model, PackedRows, Precision};
use fathom_tensor::Weight;
use fathom_tensor::op::LogProbs;
use fathom_train::answers::{SamplingPlan, sample};
use fathom_train::learner::{Extras, Learner, score};
use fathom_train::progress::Silent;
use fathom_train::prompts::Item;
use fathom_train::recipe::{Optimizer, Template};
use fathom_train::run_dir::Start;
use fathom_train::{Error, run};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn assert_same(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)], what: &str) {
    let names =
        |files: &[(String, Vec<u8>)]| files.iter().map(|f| f.0.clone()).collect::<BTreeSet<_>>();
    assert_eq!(names(a), names(b), "{what}");
    for ((name, left), (_, right)) in a.iter().zip(b) {
        assert!(left == right, "{what}: `{name}` differs");
    }
}

#[test]
fn a_run_stopped_at_any_step_and_resumed_leaves_the_same_bytes() {
    let recipe = recipe(&[]);
    let whole = folder("whole");
    run(&recipe, &whole, Start::New, &mut Silent).unwrap();
    for stops in [vec![1], vec![3, 2], vec![7, 1, 1], vec![10, 3]] {
        let root = folder("stopped");
        for after in &stops {
            let stopped = run(&recipe, &root, Start::Resume, &mut StopAfter(*after));
            assert!(
                matches!(stopped, Err(Error::Interrupted { .. })),
                "after {after} of {stops:?}"
            );
        }
        run(&recipe, &root, Start::Resume, &mut Silent).unwrap();
        assert_same(&outcome(&whole), &outcome(&root), &format!("stopped after {stops:?}"));
        std::fs::remove_dir_all(root).unwrap();
    }
    std::fs::remove_dir_all(whole).unwrap();
}

#[test]
fn one_thread_leaves_the_bytes_of_many() {
    let recipe = recipe(&["base.steps=3", "zero.steps=2"]);
    let (many, one) = (folder("many"), folder("one"));
    run(&recipe, &many, Start::New, &mut Silent).unwrap();
    threads::limit_threads(Some(1));
    run(&recipe, &one, Start::New, &mut Silent).unwrap();
    threads::limit_threads(None);
    assert_same(&outcome(&many), &outcome(&one), "threads");
    for root in [many, one] {
        std::fs::remove_dir_all(root).unwrap();
    }
}

#[test]
fn a_run_that_computes_layers_again_leaves_the_same_bytes() {
    let steps = ["base.steps=3", "zero.steps=2"];
    let (keeping, again) = (folder("keeping"), folder("again"));
    run(&recipe(&steps), &keeping, Start::New, &mut Silent).unwrap();
    let [first, second] = steps;
    run(&recipe(&[first, second, "recompute=true"]), &again, Start::New, &mut Silent).unwrap();
    let made = |root: &Path| {
        let mut files = outcome(root);
        files.retain(|(name, _)| name != "recipe.toml");
        files
    };
    assert_same(&made(&keeping), &made(&again), "recompute");
    for root in [keeping, again] {
        std::fs::remove_dir_all(root).unwrap();
    }
}

/// The figures of a step, as text.
type Figures = BTreeMap<String, String>;

/// Figures without those of the module, and tensors without the module's, of all stages.
fn without_module(root: &Path) -> (Vec<Figures>, Vec<(String, Vec<f32>)>) {
    let lines = std::fs::read_to_string(root.join("metrics.jsonl")).unwrap();
    let figures = lines.lines().map(|line| {
        let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let others = all.into_iter().filter(|(name, _)| !name.starts_with("mtp_"));
        others.map(|(name, value)| (name, value.to_string())).collect()
    });
    let mut tensors = Vec::new();
    for stage in ["base", "zero", "tuned"] {
        let model = Model::open(root.join("checkpoints").join(stage)).unwrap();
        let main = model.specs().iter().zip(model.weights()).filter(|(spec, _)| !spec.mtp);
        tensors.extend(main.map(|(s, w)| (format!("{stage}: {}", s.name), w.values().to_vec())));
    }
    (figures.collect(), tensors)
}

#[test]
fn a_model_learns_the_same_whether_its_module_follows_or_not() {
    let (followed, alone) = (folder("followed"), folder("alone"));
    run(&recipe(&[]), &followed, Start::New, &mut Silent).unwrap();
    let off = recipe(&["zero.mtp.rate_factor=0", "tuned.mtp.rate_factor=0"]);
    run(&off, &alone, Start::New, &mut Silent).unwrap();
    assert_eq!(without_module(&followed), without_module(&alone));
    let texts = |root: &Path| std::fs::read(root.join("samples.jsonl")).unwrap();
    assert_eq!(texts(&followed), texts(&alone));
    for stage in ["zero", "tuned"] {
        let open = |root: &Path| Model::open(root.join("checkpoints").join(stage)).unwrap();
        let (followed, alone) = (open(&followed), open(&alone));
        let moved = |spec: &fathom_model::names::TensorSpec, a: &Weight, b: &Weight| {
            spec.mtp && a.values() != b.values()
        };
        let weights = followed.weights().iter().zip(alone.weights());
        let n_moved =
            followed.specs().iter().zip(weights).filter(|(s, (a, b))| moved(s, a, b)).count();
        assert!(n_moved > 10, "{stage}: {n_moved} tensors of the module moved");
    }
    for root in [followed, alone] {
        std::fs::remove_dir_all(root).unwrap();
    }
}

/// A trained-for-a-moment model, its tokenizer, and questions.
fn learner(precision: Precision) -> (Learner, fathom_text::Tokenizer, Vec<Item>) {
    let root = folder(&format!("rollout-{precision:?}"));
    let recipe = recipe(&["base.steps=2", "zero.steps=1"]);
    let _ = run(&recipe, &root, Start::New, &mut StopAfter(2));
    let dir = root.join("checkpoints/base");
    let model = Model::open(&dir).unwrap();
    let tokenizer = fathom_text::Tokenizer::open(dir.join("tokenizer.json")).unwrap();
    std::fs::remove_dir_all(root).unwrap();
    let questions = ["What is 12 + 30?", "计算 7 × 8。", "Tom has 3 cups and buys 4. How many?"];
    let items = questions.iter().map(|q| Item::question(q, "1")).collect();
    (Learner::new(model, precision, &Optimizer::default()), tokenizer, items)
}

#[test]
fn log_probs_of_a_rollout_are_those_the_trainer_computes() {
    for precision in [Precision::F32, Precision::Bf16] {
        let (mut learner, tokenizer, items) = learner(precision);
        for temperature in [1.0, 0.7] {
            let plan = SamplingPlan {
                template: Template::Chat,
                n_samples: 5,
                temperature,
                top_p: 1.0,
                max_new_tokens: 90,
                seed: 4,
            };
            let keyed: Vec<(u64, &Item)> = (0..).zip(&items).collect();
            let groups =
                sample(&learner.model, &tokenizer, &keyed, &plan, &|| false).unwrap().unwrap();
            let (mut rows, mut at, mut targets, mut sampled) =
                (PackedRows::default(), vec![], vec![], vec![]);
            for group in &groups {
                let prompt = rows.push_document(&group.prompt);
                for answer in &group.answers {
                    let inputs = &answer.tokens[..answer.tokens.len() - 1];
                    let own = rows.push_continuation(prompt.clone(), inputs);
                    at.push(prompt.end as u32 - 1);
                    at.extend(own.map(|row| row as u32));
                    targets.extend_from_slice(&answer.tokens);
                    sampled.extend_from_slice(&answer.log_probs);
                }
            }
            let inverse_temperature = 1.0 / temperature as f32;
            let scored = LogProbs { rows: &at, targets: &targets, inverse_temperature };
            assert_eq!(score(&learner.model, &rows, &scored), sampled, "{precision:?}, scored");
            let trained =
                learner.pass(&rows, &scored, Extras::default(), |i, _| (i % 3) as f32 * 1e-3);
            assert_eq!(trained.log_probs, sampled, "{precision:?}, training pass");
            learner.update(1e-3, 1e-3); // the second round holds after an update too
        }
    }
}

#[test]
fn a_question_is_answered_the_same_alone_and_in_a_crowd() {
    let (learner, tokenizer, items) = learner(Precision::Bf16);
    let plan = SamplingPlan {
        template: Template::Chat,
        n_samples: 2,
        temperature: 1.0,
        top_p: 0.9,
        max_new_tokens: 40,
        seed: 9,
    };
    let ask = |keyed: &[(u64, &Item)]| {
        sample(&learner.model, &tokenizer, keyed, &plan, &|| false).unwrap().unwrap()
    };
    let keyed: Vec<(u64, &Item)> = (0..).zip(&items).collect();
    let together = ask(&keyed);
    for (i, one) in keyed.iter().enumerate() {
        assert_eq!(ask(&[*one])[0].answers, together[i].answers);
    }
}

#[test]
fn a_small_model_learns_to_repeat_eight_sequences() {
    let mut words = recipe(&[]).models["m"].clone();
    words["vocab_size"] = 50.into();
    let model = Model::random(Config::from_recipe(&words).unwrap(), 1).unwrap();
    let mut learner = Learner::new(model, Precision::F32, &Optimizer::default());
    let mut rows = PackedRows::default();
    let (mut at, mut targets) = (vec![], vec![]);
    for s in 0..8u32 {
        let tokens: Vec<u32> = (0..12).map(|i| (s * 7 + i * i) % 50).collect();
        let own = rows.push_document(&tokens[..11]);
        at.extend(own.map(|row| row as u32));
        targets.extend_from_slice(&tokens[1..]);
    }
    let scored = LogProbs { rows: &at, targets: &targets, inverse_temperature: 1.0 };
    let mut losses = Vec::new();
    for _ in 0..120 {
        let result = learner.pass(&rows, &scored, Extras::default(), |_, _| -1.0 / at.len() as f32);
        losses.push(-result.log_probs.iter().sum::<f32>() / at.len() as f32);
        learner.update(5e-3, 1e-3);
    }
    assert!(losses[0] > 3.5 && losses[119] < 0.3, "{} to {}", losses[0], losses[119]);
}
