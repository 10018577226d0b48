//! Tests of the gate: choices worked by hand, gradients by differences, bits.

use super::*;
use crate::testing::{assert_close, gradient, noise, same_bits_everywhere, widen};

const GREEDY: GateSpec = GateSpec {
    n_experts: 6,
    top_k: 2,
    scoring: Scoring::Softmax,
    selection: Selection::Greedy,
    norm_topk_prob: false,
    routed_scaling_factor: 1.0,
};

/// Every family: MoE-16B and V2-Lite, V2, V3, and softmax with normalisation.
fn specs() -> Vec<GateSpec> {
    let grouped = Selection::GroupLimitedGreedy { n_group: 4, topk_group: 2 };
    let noaux = Selection::NoauxTc { n_group: 4, topk_group: 2 };
    let v2 = GateSpec { n_experts: 12, top_k: 3, routed_scaling_factor: 16.0, ..GREEDY };
    vec![
        GREEDY,
        GateSpec { selection: grouped, ..v2 },
        GateSpec { selection: grouped, norm_topk_prob: true, ..v2 },
        GateSpec {
            scoring: Scoring::Sigmoid,
            selection: noaux,
            norm_topk_prob: true,
            routed_scaling_factor: 2.5,
            ..v2
        },
        GateSpec { n_experts: 130, top_k: 7, scoring: Scoring::Sigmoid, ..GREEDY },
        GateSpec { n_experts: 1, top_k: 1, norm_topk_prob: true, ..GREEDY },
    ]
}

struct Out {
    scores: Vec<f32>,
    ids: Vec<u32>,
    weights: Vec<f32>,
}

fn run(spec: &GateSpec, logits: &[f32], bias: Option<&[f32]>) -> Out {
    let n_chosen = logits.len() / spec.n_experts * spec.top_k;
    let mut out = Out {
        scores: vec![0.0; logits.len()],
        ids: vec![0; n_chosen],
        weights: vec![0.0; n_chosen],
    };
    let (scores, ids, weights) = (&mut out.scores, &mut out.ids, &mut out.weights);
    route(spec, logits, bias, &mut Routing { scores, ids, weights });
    out
}

fn routed(out: &Out) -> Routed<'_> {
    Routed { scores: &out.scores, ids: &out.ids, weights: &out.weights }
}

/// Scores and weights as the definition says, for a given choice.
fn plain(spec: &GateSpec, logits: &[f64], ids: &[u32]) -> (Vec<f64>, Vec<f64>) {
    let (mut scores, mut weights) = (Vec::new(), Vec::new());
    for (logits, ids) in logits.chunks(spec.n_experts).zip(ids.chunks(spec.top_k)) {
        let sum: f64 = logits.iter().map(|l| l.exp()).sum();
        let row: Vec<f64> = logits
            .iter()
            .map(|l| match spec.scoring {
                Scoring::Softmax => l.exp() / sum,
                Scoring::Sigmoid => 1.0 / (1.0 + (-l).exp()),
            })
            .collect();
        let total: f64 = ids.iter().map(|&id| row[id as usize]).sum();
        let scale = spec.routed_scaling_factor as f64;
        let scale = if spec.norm_topk_prob { scale / total } else { scale };
        weights.extend(ids.iter().map(|&id| row[id as usize] * scale));
        scores.extend(row);
    }
    (scores, weights)
}

#[test]
fn scores_weights_and_gradients_equal_the_definition() {
    for spec in specs() {
        let n = 5;
        let logits: Vec<f32> = noise(1, n * spec.n_experts).iter().map(|v| v * 3.0).collect();
        let bias: Vec<f32> = noise(2, spec.n_experts).iter().map(|v| v * 0.1).collect();
        let out = run(&spec, &logits, Some(&bias));
        let (scores, weights) = plain(&spec, &widen(&logits), &out.ids);
        assert_close(&out.scores, &scores, 1e-6, "scores");
        assert_close(&out.weights, &weights, 1e-6, "weights");

        let (dweights, dscores) = (noise(3, n * spec.top_k), noise(4, n * spec.n_experts));
        let loss = |logits: &[f64], weight_of_scores: f64| {
            let (scores, weights) = plain(&spec, logits, &out.ids);
            let by_scores: f64 = scores.iter().zip(&dscores).map(|(s, &d)| s * d as f64).sum();
            let by_weights: f64 = weights.iter().zip(&dweights).map(|(w, &d)| w * d as f64).sum();
            by_weights + weight_of_scores * by_scores
        };
        for (given, factor) in [(None, 0.0), (Some(dscores.as_slice()), 1.0)] {
            let mut dlogits = vec![9.0; logits.len()];
            backward(&spec, routed(&out), &dweights, given, &mut dlogits);
            let want = gradient(&logits, |logits| loss(logits, factor));
            assert_close(&dlogits, &want, 2e-6, &format!("dlogits of {spec:?}"));
        }
    }
}

#[test]
fn greedy_takes_the_best_and_lists_them_ascending() {
    let out = run(&GREEDY, &[0.0, 3.0, 1.0, 3.0, -1.0, 2.0], None);
    assert_eq!(out.ids, [1, 3]);
    let ties = run(&GREEDY, &[1.0; 6], None);
    assert_eq!(ties.ids, [0, 1]);
}

#[test]
fn v2_takes_the_groups_of_the_best_single_scores() {
    let selection = Selection::GroupLimitedGreedy { n_group: 3, topk_group: 1 };
    let spec = GateSpec { selection, ..GREEDY };
    // The middle group has the best pair, the last one the best single expert.
    let out = run(&spec, &[0.0, 0.0, 2.0, 2.0, -5.0, 2.5], None);
    assert_eq!(out.ids, [4, 5]);
}

#[test]
fn v3_takes_the_groups_of_the_best_pairs_with_bias_for_the_choice_only() {
    let selection = Selection::NoauxTc { n_group: 3, topk_group: 1 };
    let spec = GateSpec { selection, scoring: Scoring::Sigmoid, ..GREEDY };
    let logits = [0.0, 0.0, 2.0, 2.0, -5.0, 2.5];
    assert_eq!(run(&spec, &logits, None).ids, [2, 3]);
    let out = run(&spec, &logits, Some(&[2.0, 2.0, 0.0, 0.0, 0.0, 0.0]));
    assert_eq!(out.ids, [0, 1]);
    assert_eq!(out.weights, [0.5, 0.5]);
}

#[test]
fn masked_groups_lose_to_negative_choices() {
    let selection = Selection::NoauxTc { n_group: 2, topk_group: 1 };
    let spec = GateSpec { n_experts: 4, selection, scoring: Scoring::Sigmoid, ..GREEDY };
    let out = run(&spec, &[0.0, 0.0, 1.0, 1.0], Some(&[-3.0; 4]));
    assert_eq!(out.ids, [2, 3]);
}

#[test]
fn nan_logits_still_give_distinct_experts() {
    for spec in specs() {
        let out = run(&spec, &vec![f32::NAN; spec.n_experts], None);
        assert!(out.ids.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", out.ids);
        assert!(out.ids.iter().all(|&id| (id as usize) < spec.n_experts));
    }
}

#[test]
fn top_k_is_ordered_by_value_then_index() {
    let mut ids = [9; 4];
    top_k(&[1.0, 5.0, f32::NAN, 5.0, 7.0, 1.0], &mut ids);
    assert_eq!(ids, [4, 1, 3, 0]);
    top_k(&[], &mut []);
    let mut all = [9; 3];
    top_k(&[f32::NEG_INFINITY; 3], &mut all);
    assert_eq!(all, [0, 1, 2]);
}

#[test]
fn bits_are_the_same_on_every_level_and_thread_count() {
    for spec in specs() {
        let logits = noise(1, 300 * spec.n_experts);
        let dweights = noise(3, 300 * spec.top_k);
        same_bits_everywhere(|| {
            let out = run(&spec, &logits, None);
            let mut dlogits = vec![0.0; logits.len()];
            backward(&spec, routed(&out), &dweights, None, &mut dlogits);
            let ids = out.ids.iter().map(|&id| id as f32).collect();
            [dlogits, ids, out.scores, out.weights].concat()
        });
    }
}
