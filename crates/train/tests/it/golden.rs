//! Objectives against golden values: the project's own, and those beside the project where they exist.

use fathom_train::advantage::group_advantages;
use fathom_train::eval::pass_at_k;
use fathom_train::objective::grpo::{Averaging, Grpo, Token};
use serde_json::Value;
use std::path::Path;

/// Inputs are short decimals, results have nine digits; everything here is computed in f64.
const TOLERANCE: f64 = 1e-7;

fn each_case(key: &str, check: impl Fn(&Value)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut n_cases = 0;
    for path in ["../../golden/objectives.json", "../../../shared/golden/objectives.json"] {
        let Ok(text) = std::fs::read_to_string(root.join(path)) else {
            eprintln!("skipped: no {path}");
            continue;
        };
        let all: Value = serde_json::from_str(&text).unwrap();
        let Some(cases) = all[key].as_array() else {
            eprintln!("skipped: no `{key}` in {path}");
            continue;
        };
        for case in cases {
            check(case);
            n_cases += 1;
        }
    }
    assert!(n_cases > 0, "no golden file has `{key}`");
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn assert_close(got: f64, want: f64, what: &str) {
    assert!(
        (got - want).abs() <= TOLERANCE * want.abs().max(1.0),
        "{what}: {got}, reference {want}"
    );
}

#[test]
fn pass_at_k_equals_the_reference() {
    each_case("pass_at_k", |case| {
        let int = |key: &str| case[key].as_u64().unwrap() as usize;
        assert_close(
            pass_at_k(int("n"), int("c"), int("k")),
            case["value"].as_f64().unwrap(),
            "pass@k",
        );
    });
}

/// One variant of the objective over all groups of a case: its loss, and the gradient of every token.
fn check_grpo(case: &Value, variant: &str, averaging: Averaging, scale_by_std: bool) {
    let eps = case["eps"].as_f64().unwrap();
    let objective =
        Grpo { clip_low: eps, clip_high: eps, kl_weight: case["beta"].as_f64().unwrap() };
    let groups = case["groups"].as_array().unwrap();
    let outputs = |group: &Value| group["outputs"].as_array().unwrap().clone();
    let lengths: Vec<usize> =
        groups.iter().flat_map(outputs).map(|o| numbers(&o["policy"]).len()).collect();
    let (n_outputs, n_tokens) = (lengths.len(), lengths.iter().sum());
    let want = &case[variant];
    let mut loss = 0.0;
    for (g, group) in groups.iter().enumerate() {
        let mut advantages = group_advantages(&numbers(&group["rewards"]), scale_by_std);
        if case["std"] == "sample" && scale_by_std {
            // Ours is the population deviation; the sample one is smaller by a fixed factor.
            let n = advantages.len() as f64;
            advantages.iter_mut().for_each(|a| *a *= ((n - 1.0) / n).sqrt());
        }
        for (o, output) in outputs(group).iter().enumerate() {
            assert_close(advantages[o], numbers(&want["advantages"][g])[o], "advantage");
            let (policy, old) = (numbers(&output["policy"]), numbers(&output["old"]));
            let reference = numbers(&output["reference"]);
            let weight = averaging.weight(policy.len(), n_outputs, n_tokens);
            for t in 0..policy.len() {
                let token = objective.token(Token {
                    policy: policy[t],
                    old: old[t],
                    reference: reference[t],
                    advantage: advantages[o],
                });
                loss += weight * token.loss;
                let gradient = numbers(&want["grad_policy"][g][o])[t];
                assert_close(weight * token.gradient, gradient, "gradient");
                if objective.kl_weight > 0.0 {
                    assert_close(token.kl, numbers(&case["kl"][g][o])[t], "kl");
                }
            }
        }
    }
    assert_close(loss, want["loss"].as_f64().unwrap(), variant);
}

#[test]
fn grpo_equals_the_reference_in_every_variant() {
    each_case("grpo", |case| {
        let max_length = case["max_length"].as_u64().unwrap() as usize;
        check_grpo(case, "sequence_mean", Averaging::SequenceMean, true);
        check_grpo(case, "token_mean", Averaging::TokenMean, true);
        check_grpo(case, "dr_grpo", Averaging::FixedLength(max_length), false);
    });
}
