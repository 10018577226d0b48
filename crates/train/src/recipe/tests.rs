//! Recipes that must be read, and mistakes that must be named.

use super::*;
use crate::schedule::{Cosine, Schedule};

const SMALL: &str = r#"
name = "small"
[models.tiny]
hidden_size = 64
rope = { theta = 10000.0 }
[[stage]]
name = "base"
kind = "pretrain"
model = "tiny"
steps = 100
batch_sequences = 4
sequence_tokens = 64
schedule = "cosine"
[[stage]]
name = "zero"
kind = "grpo"
from = "base"
template = "r1-zero"
steps = 10
rewards = [{ name = "accuracy" }, { name = "format", weight = 0.5 }]
"#;

fn set(sets: &[&str]) -> Result<Recipe, RecipeError> {
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    Recipe::parse(SMALL, &sets)
}

fn pretrain(recipe: &Recipe) -> &Pretrain {
    match &recipe.stages[0].kind {
        Kind::Pretrain(settings) => settings,
        other => panic!("{other:?}"),
    }
}

fn grpo(recipe: &Recipe) -> &Grpo {
    match &recipe.stages[1].kind {
        Kind::Grpo(settings) => settings,
        other => panic!("{other:?}"),
    }
}

fn check_message(sets: &[&str], expected: &str) {
    let message = set(sets).expect_err("the recipe must be refused").to_string();
    assert_eq!(message, expected);
}

fn check_edited(from: &str, to: &str, expected: &str) {
    assert!(SMALL.contains(from));
    let text = SMALL.replacen(from, to, 1);
    let message = Recipe::parse(&text, &[]).expect_err("the recipe must be refused").to_string();
    assert_eq!(message, expected);
}

#[test]
fn every_built_in_recipe_is_valid_and_repeats_itself() {
    for built_in in BUILT_IN {
        let recipe = Recipe::load(built_in.name, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(recipe.name, built_in.name);
        let again = Recipe::parse(&recipe.resolved(), &[]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again, recipe);
        assert_eq!(again.resolved(), recipe.resolved());
        assert_eq!(again.differences(&recipe), []);
    }
}

#[test]
fn every_kind_of_stage_and_source_survives_a_round_trip() {
    let text = r#"
        name = "all"
        task = { kind = "questions", train = "a.jsonl" }
        [models.m]
        a = [1, { b = "2" }]
        [[stage]]
        name = "tok"
        kind = "tokenizer"
        vocab_size = 300
        [[stage]]
        name = "b"
        kind = "pretrain"
        model = "m"
        data = "./src"
        steps = 1
        batch_sequences = 1
        sequence_tokens = 8
        minutes = 2
        schedule = { kind = "multi-step" }
        optimizer = { moments = "bf16", eps = 1e-15 }
        [[stage]]
        name = "s"
        kind = "rejection"
        from = "b"
        prompts = 3
        [[stage]]
        name = "f"
        kind = "sft"
        from = "b"
        schedule = "wsd"
        data = ["cold-start", { kind = "general", count = 3 }, { kind = "samples", stage = "s" },
                { kind = "jsonl", path = "x" }, { kind = "task", count = 0 }]
        [[stage]]
        name = "g"
        kind = "grpo"
        from = "f"
        template = "chat"
        steps = 1
        loss = "dr-grpo"
        rewards = [{ name = "accuracy" }]
        [[stage]]
        name = "a"
        kind = "ablation"
        model = "m"
        steps = 2
        batch_sequences = 1
        sequence_tokens = 8
        [[stage]]
        name = "e"
        kind = "evaluate"
        models = ["b", "g"]
    "#;
    let recipe = Recipe::parse(text, &[]).unwrap();
    let kinds: std::collections::BTreeSet<&str> =
        recipe.stages.iter().map(|stage| stage.kind.name()).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
    assert_eq!(Recipe::parse(&recipe.resolved(), &[]).unwrap(), recipe);
    assert_eq!(recipe.model_of("g"), Some("m"));
}

#[test]
fn required_keys_exist_and_their_absence_is_named() {
    for (kind, required) in Kind::ALL {
        let text = format!("name = \"x\"\n[[stage]]\nname = \"s\"\nkind = \"{kind}\"");
        let error = Recipe::parse(&text, &[]).unwrap_err().to_string();
        assert_eq!(error, format!("key `{}` is missing in stage `s`", required[0]));
    }
}

#[test]
fn defaults_fill_what_is_left_out() {
    let recipe = set(&[]).unwrap();
    assert_eq!((recipe.seed, recipe.precision), (0, Precision::Bf16));
    assert_eq!(pretrain(&recipe).mtp_weight, 0.3);
    let cosine = Cosine { warmup_steps: 0, final_factor: 0.1 };
    assert_eq!(pretrain(&recipe).schedule, Schedule::Cosine(cosine));
    assert_eq!(grpo(&recipe).rewards[0].weight, 1.0);
}

#[test]
fn set_reaches_every_number() {
    let recipe = set(&[
        "seed=2",
        "precision=f32",
        "description = two words",
        "model.hidden_size=192",
        "models.tiny.rope.theta=5",
        "tiny.new_word=true",
        "base.steps=7",
        "base.minutes=1.5",
        "base.optimizer.learning_rate=1",
        "base.schedule.warmup_steps=3",
        "base.corpus.preamble_share=0.5",
        "zero.rewards.accuracy.weight=2",
        "zero.rewards.1.weight=3",
    ])
    .unwrap();
    assert_eq!((recipe.seed, recipe.precision), (2, Precision::F32));
    assert_eq!(recipe.description, "two words");
    let model = serde_json::json!({"hidden_size": 192, "rope": {"theta": 5}, "new_word": true});
    assert_eq!(recipe.models["tiny"], model);
    let base = pretrain(&recipe);
    assert_eq!((base.steps, base.minutes, base.corpus.preamble_share), (7, Some(1.5), 0.5));
    assert_eq!(base.optimizer.learning_rate, 1.0);
    assert_eq!(base.schedule.warmup_steps(), 3);
    let weights: Vec<f64> = grpo(&recipe).rewards.iter().map(|r| r.weight).collect();
    assert_eq!(weights, [2.0, 3.0]);
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    check_message(
        &["base.stesp=3"],
        "unknown key `stesp` in stage `base`\nhint: did you mean `steps`?",
    );
    check_message(
        &["base.optimizer.learning_rat=3"],
        "unknown key `learning_rat` in `optimizer` of stage `base`\nhint: did you mean `learning_rate`?",
    );
    check_message(
        &["zero.rewards.0.wieght=3"],
        "unknown key `wieght` in `rewards.0` of stage `zero`\nhint: did you mean `weight`?",
    );
    check_message(
        &["base.schedule.boundaries=[]"],
        "unknown key `boundaries` in `schedule` of stage `base`\nhint: known keys: `warmup_steps`, `final_factor`",
    );
    check_message(
        &["sede=3"],
        "cannot set `sede=3`: there is no `sede`\nhint: did you mean `seed`?"
            .replace("`sede=3`", "`sede`")
            .as_str(),
    );
    check_edited(
        "name = \"small\"",
        "name = \"small\"\nsede = 1",
        "unknown key `sede` at the top of the recipe\nhint: did you mean `seed`?",
    );
    check_edited(
        "steps = 100",
        "stepz = 100",
        "unknown key `stepz` in stage `base`\nhint: did you mean `steps`?",
    );
}

#[test]
fn wrong_types_name_key_and_both_types() {
    check_message(
        &["base.steps=many"],
        "`steps` in stage `base` must be a whole number, 0 or more, found string \"many\"",
    );
    check_message(
        &["base.steps=-1"],
        "`steps` in stage `base` must be a whole number, 0 or more, found integer `-1`",
    );
    check_message(
        &["base.optimizer=3"],
        "`optimizer` in stage `base` must be a table, found integer `3`",
    );
    check_message(
        &["seed=1.5"],
        "`seed` at the top of the recipe must be a whole number, 0 or more, found floating point `1.5`",
    );
    check_message(
        &["zero.scale_by_std=1"],
        "`scale_by_std` in stage `zero` must be `true` or `false`, found integer `1`",
    );
    check_message(
        &["tiny=3"],
        "cannot understand the setting `tiny=…`\nhint: write `--set key=value`, such as `--set seed=2`",
    );
    check_message(&["models.tiny=3"], "`tiny` in table `models` must be a table, found 3");
}

#[test]
fn unknown_words_list_the_allowed_ones() {
    check_message(
        &["zero.loss=token-meen"],
        "`loss` in stage `zero` cannot be `token-meen`\nhint: did you mean `token-mean`?",
    );
    check_message(
        &["base.schedule=linear"],
        "`schedule` in stage `base` cannot be `linear`\nhint: it is one of: `constant`, `multi-step`, `cosine`, `wsd`",
    );
    check_edited(
        "kind = \"grpo\"",
        "kind = \"gpro\"",
        "`kind` in stage `zero` cannot be `gpro`\nhint: did you mean `grpo`?",
    );
}

#[test]
fn ranges_are_checked_with_the_place() {
    check_message(
        &["zero.group_size=1"],
        "`group_size` in stage `zero` must be at least 2, found 1",
    );
    check_message(
        &["zero.mini_batches=7"],
        "`mini_batches` in stage `zero` must be a divisor of the 512 answers of a step (prompts times group), found 7",
    );
    check_message(&["zero.clip_low=0"], "`clip_low` in stage `zero` must be above 0, found 0");
    check_message(
        &["zero.prompts={general=1.5}"],
        "`general` in `prompts` of stage `zero` must be between 0 and 1, found 1.5",
    );
    check_message(&["base.steps=0"], "`steps` in stage `base` must be at least 1, found 0");
    check_message(
        &["base.fim_rate=nan"],
        "`fim_rate` in stage `base` must be between 0 and 1, found NaN",
    );
    check_message(
        &["base.optimizer.beta2=1"],
        "`beta2` in `optimizer` of stage `base` must be at least 0 and below 1, found 1",
    );
    check_message(
        &["base.schedule={kind=\"multi-step\",factors=[1.0]}"],
        "`factors` in `schedule` of stage `base` must be 3 numbers, one more than `boundaries`, found 1",
    );
}

#[test]
fn references_must_name_an_earlier_fitting_stage() {
    check_message(
        &["zero.from=bsae"],
        "`from` of stage `zero` refers to `bsae`, which does not exist\nhint: did you mean `base`?",
    );
    check_message(
        &["zero.from=zero"],
        "`from` of stage `zero` refers to `zero`, which does not come before it\nhint: stages run from top to bottom; move `zero` up",
    );
    check_message(
        &["base.model=tyni"],
        "`model` of stage `base` refers to `tyni`, which does not exist\nhint: did you mean `tiny`?",
    );
    assert!(set(&["zero.from=./a-checkpoint"]).is_ok());
}

#[test]
fn names_are_unique_and_safe_as_folders() {
    check_edited(
        "name = \"zero\"",
        "name = \"base\"",
        "the name `base` is used twice\nhint: stages and models share one set of names, so that `--set base.key=value` is clear",
    );
    check_edited(
        "name = \"zero\"",
        "name = \"../x\"",
        "the name `../x` may hold only ASCII letters, digits, `-` and `_`",
    );
    check_edited(
        "name = \"zero\"",
        "name = \"seed\"",
        "the name `seed` is a key of the recipe itself",
    );
}

#[test]
fn broken_toml_names_line_and_column() {
    let error = Recipe::parse("name = \"x\"\nseed = = 3", &[]).unwrap_err();
    assert!(matches!(error, RecipeError::Syntax { line: 2, column: 8, .. }), "{error}");
}

#[test]
fn unknown_recipe_names_the_nearest_built_in() {
    let error = Recipe::load("r1-tinny", &[]).unwrap_err().to_string();
    assert_eq!(error, "there is no recipe `r1-tinny`\nhint: did you mean `r1-tiny`?");
}

#[test]
fn differences_name_keys_as_set_takes_them() {
    let (first, second) = (set(&[]).unwrap(), set(&["base.steps=3", "base.minutes=4"]).unwrap());
    let expected = Difference {
        key: "base.steps".into(),
        first: Some("100".into()),
        second: Some("3".into()),
    };
    assert_eq!(first.differences(&second), [expected]);
}
