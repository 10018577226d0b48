//! Routing, its balance loss, and routed experts.

use crate::check::{Case, matmul, sigmoid, silu, softmax};
use fathom_kernels::gate::{GateSpec, Scoring, Selection};
use fathom_tensor::op::{self, Balance, Expert, Route};
use fathom_tensor::{Buffer, Precision, Tape, Tensor, Weight};
use std::ops::Range;
use std::sync::Arc;

fn scores(spec: &GateSpec, x: &[f64], gate: &[f64]) -> Vec<Vec<f64>> {
    let width = gate.len() / spec.n_experts;
    matmul(x, gate, width)
        .chunks(spec.n_experts)
        .map(|row| match spec.scoring {
            Scoring::Softmax => softmax(row),
            Scoring::Sigmoid => row.iter().map(|x| sigmoid(*x)).collect(),
        })
        .collect()
}

/// Indices of the `n` largest, ascending.
fn best(values: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order.truncate(n);
    order.sort_unstable();
    order
}

fn chosen(spec: &GateSpec, scores: &[f64], bias: &[f32]) -> Vec<usize> {
    let mut choice: Vec<f64> = scores.iter().zip(bias).map(|(s, b)| s + f64::from(*b)).collect();
    let (n_group, topk_group, n_counted) = match spec.selection {
        Selection::Greedy => (1, 1, 1),
        Selection::GroupLimitedGreedy { n_group, topk_group } => (n_group, topk_group, 1),
        Selection::NoauxTc { n_group, topk_group } => (n_group, topk_group, 2),
    };
    let group_len = choice.len() / n_group;
    let group_scores: Vec<f64> = choice
        .chunks(group_len)
        .map(|group| best(group, n_counted).iter().map(|i| group[*i]).sum())
        .collect();
    let kept = best(&group_scores, topk_group);
    for (i, choice) in choice.iter_mut().enumerate() {
        if !kept.contains(&(i / group_len)) {
            *choice = f64::NEG_INFINITY;
        }
    }
    best(&choice, spec.top_k)
}

/// Weights of the chosen experts, [N, K].
fn weighed(spec: &GateSpec, scores: &[Vec<f64>], bias: &[f32]) -> Vec<f64> {
    let row = |scores: &Vec<f64>| {
        let weights: Vec<f64> = chosen(spec, scores, bias).iter().map(|i| scores[*i]).collect();
        let sum = if spec.norm_topk_prob { weights.iter().sum() } else { 1.0 };
        let factor = f64::from(spec.routed_scaling_factor) / sum;
        weights.into_iter().map(move |w| w * factor)
    };
    scores.iter().flat_map(row).collect()
}

/// Mean over sequences of `α Σ_i f_i P_i`; the counts in f take the best scores without bias.
fn balance_loss(
    spec: &GateSpec,
    scores: &[Vec<f64>],
    alpha: f64,
    sequences: &[Range<usize>],
) -> f64 {
    let loss = |rows: &Range<usize>| {
        let n = rows.len() as f64;
        let (mut f, mut p) = (vec![0.0; spec.n_experts], vec![0.0; spec.n_experts]);
        for scores in &scores[rows.clone()] {
            let sum: f64 = scores.iter().sum();
            (0..spec.n_experts).for_each(|i| p[i] += scores[i] / sum / n);
            let share = spec.n_experts as f64 / (spec.top_k as f64 * n);
            best(scores, spec.top_k).iter().for_each(|i| f[*i] += share);
        }
        f.iter().zip(&p).map(|(f, p)| alpha * f * p).sum::<f64>()
    };
    sequences.iter().map(loss).sum::<f64>() / sequences.len() as f64
}

fn check_route(spec: GateSpec, bias: Option<&[f32]>, sequences: Option<&[Range<usize>]>) {
    let (n, width, alpha) = (7, 5, 0.3f32);
    let case = Case::new("route").leaf(&[n, width]).weight(&[spec.n_experts, width]);
    let zeros = vec![0.0; spec.n_experts];
    let balance = sequences.map(|sequences| Balance { alpha, sequences });
    let loss = |scores: &[Vec<f64>]| {
        sequences.map_or(0.0, |rows| balance_loss(&spec, scores, f64::from(alpha), rows))
    };
    let recorded = case.check_with_loss(
        |tape, x, w| vec![op::route(tape, &x[0], &w[0], bias, spec, balance).weights],
        |v| {
            let scores = scores(&spec, &v[0], &v[1]);
            (weighed(&spec, &scores, bias.unwrap_or(&zeros)), loss(&scores))
        },
    );
    let inputs = case.inputs();
    let want = loss(&scores(&spec, &inputs[0], &inputs[1]));
    assert!((recorded - want).abs() <= 1e-5 * want, "balance loss {recorded}, defined {want}");
    if sequences.is_some() {
        // Nothing depends on the weights: the gradient of the loss flows all the same.
        case.check_with_loss(
            |tape, x, w| {
                op::route(tape, &x[0], &w[0], bias, spec, balance);
                Vec::new()
            },
            |v| (Vec::new(), loss(&scores(&spec, &v[0], &v[1]))),
        );
    }
}

fn specs(scoring: Scoring, selection: Selection) -> [GateSpec; 2] {
    [(false, 1.0), (true, 2.5)].map(|(norm_topk_prob, routed_scaling_factor)| GateSpec {
        n_experts: 8,
        top_k: 3,
        scoring,
        selection,
        norm_topk_prob,
        routed_scaling_factor,
    })
}

const BIAS: [f32; 8] = [0.3, -0.2, 0.05, 0.11, -0.4, 0.25, -0.07, 0.0];

fn check_all_routes(scoring: Scoring, selection: Selection, bias: Option<&[f32]>) {
    for spec in specs(scoring, selection) {
        check_route(spec, bias, None);
        check_route(spec, bias, Some(&[0..4, 4..7]));
    }
}

#[test]
fn softmax_greedy_routing_is_its_definition() {
    check_all_routes(Scoring::Softmax, Selection::Greedy, None);
}

#[test]
fn group_limited_routing_is_its_definition() {
    let selection = Selection::GroupLimitedGreedy { n_group: 4, topk_group: 2 };
    check_all_routes(Scoring::Softmax, selection, None);
}

#[test]
fn sigmoid_routing_with_bias_is_its_definition() {
    let selection = Selection::NoauxTc { n_group: 2, topk_group: 1 };
    check_all_routes(Scoring::Sigmoid, selection, Some(&BIAS));
    let selection = Selection::NoauxTc { n_group: 4, topk_group: 3 };
    check_all_routes(Scoring::Sigmoid, selection, Some(&BIAS));
}

fn expert_list(weights: &[Weight]) -> Vec<Expert<'_>> {
    weights
        .chunks_exact(3)
        .map(|w| Expert { gate_proj: &w[0], up_proj: &w[1], down_proj: &w[2] })
        .collect()
}

/// `Σ_k weight_k · expert_k(x)`; `w` holds gate, up and down of every expert in turn.
fn combined(x: &[f64], ids: &[u32], weights: &[f64], w: &[Vec<f64>], width: usize) -> Vec<f64> {
    let top_k = ids.len() / (x.len() / width);
    let mut out = vec![0.0; x.len()];
    for (slot, (id, weight)) in ids.iter().zip(weights).enumerate() {
        let row = slot / top_k * width..(slot / top_k + 1) * width;
        let [gate, up, down] = [0, 1, 2].map(|i| &w[3 * *id as usize + i]);
        let (gate, up) = (matmul(&x[row.clone()], gate, width), matmul(&x[row.clone()], up, width));
        let active: Vec<f64> = gate.iter().zip(&up).map(|(gate, up)| silu(*gate) * up).collect();
        let expert = matmul(&active, down, active.len());
        out[row].iter_mut().zip(expert).for_each(|(out, y)| *out += weight * y);
    }
    out
}

fn with_experts(case: Case, n_experts: usize, width: usize, hidden: usize) -> Case {
    (0..n_experts).fold(case, |case, _| {
        case.weight(&[hidden, width]).weight(&[hidden, width]).weight(&[width, hidden])
    })
}

#[test]
fn experts_are_their_definition_and_an_idle_one_has_no_gradient() {
    // Expert 2 gets no token, expert 1 one, expert 3 six.
    let ids: Vec<u32> = [[0, 3], [0, 3], [0, 1], [0, 3], [0, 3], [0, 3], [0, 3]].concat();
    let (n, width, hidden, top_k) = (7, 5, 9, 2);
    let case = Case::new("experts").leaf(&[n, width]).leaf(&[n, top_k]);
    let case = with_experts(case, 4, width, hidden);
    let shared_ids = Arc::new(ids.clone());
    case.check(
        |tape: &Tape<'_>, x: &[Tensor], w| {
            let route = Route { ids: shared_ids.clone(), weights: x[1].clone() };
            vec![op::experts(tape, &x[0], &route, expert_list(w), None, None)]
        },
        |v| combined(&v[0], &ids, &v[1], &v[2..], width),
    );
}

#[test]
fn routing_and_experts_together_are_their_definition() {
    let (n, width, hidden) = (6, 5, 3);
    let spec = GateSpec {
        n_experts: 4,
        top_k: 2,
        scoring: Scoring::Sigmoid,
        selection: Selection::NoauxTc { n_group: 2, topk_group: 1 },
        norm_topk_prob: true,
        routed_scaling_factor: 1.5,
    };
    let case = Case::new("route and experts").leaf(&[n, width]).weight(&[4, width]);
    let case = with_experts(case, 4, width, hidden);
    case.check(
        |tape, x, w| {
            let route = op::route(tape, &x[0], &w[0], Some(&BIAS[..4]), spec, None);
            vec![op::experts(tape, &x[0], &route, expert_list(&w[1..]), None, None)]
        },
        |v| {
            let scores = scores(&spec, &v[0], &v[1]);
            let choice = |scores: &Vec<f64>| chosen(&spec, scores, &BIAS[..4]);
            let ids: Vec<u32> = scores.iter().flat_map(choice).map(|id| id as u32).collect();
            combined(&v[0], &ids, &weighed(&spec, &scores, &BIAS[..4]), &v[2..], width)
        },
    );
}

#[test]
fn a_shared_block_beside_the_experts_gives_the_bits_that_it_gives_after_them() {
    let (width, hidden) = (40, 24);
    let matrix = |slot: usize, shape: [usize; 2]| {
        let value = |i: usize| ((i * 37 + slot * 11) % 101) as f32 / 50.0 - 1.0;
        let mut weight =
            Weight::new("w", &shape, slot, (0..shape[0] * shape[1]).map(value).collect());
        weight.pack(Precision::F32, true);
        weight
    };
    let of_block = |i: usize| [[hidden, width], [hidden, width], [width, hidden]][i % 3];
    let weights: Vec<Weight> = (0..15).map(|i| matrix(i, of_block(i))).collect();
    for n in [1, 3, 200] {
        let x: Vec<f32> = (0..n * width).map(|i| ((i * 13) % 29) as f32 / 14.0 - 1.0).collect();
        let run = |recording: bool| {
            let tape = if recording { Tape::recording() } else { Tape::forgetting() };
            let x = Tensor::new(Buffer::copy_of(&x), &[n, width]);
            let ids = Arc::new((0..n as u32).flat_map(|row| [row % 3, 3]).collect::<Vec<u32>>());
            let weights_of_rows = Tensor::new(Buffer::copy_of(&vec![0.4; 2 * n]), &[n, 2]);
            let route = Route { ids, weights: weights_of_rows };
            let mut blocks = expert_list(&weights);
            let shared = blocks.pop();
            op::experts(&tape, &x, &route, blocks, shared, None).data().to_vec()
        };
        assert_eq!(run(false), run(true), "{n} rows");
    }
}
