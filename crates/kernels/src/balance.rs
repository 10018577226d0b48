//! Keeping experts evenly loaded: the balance losses of DeepSeekMoE, V2 and V3, and V3's bias.
//!
//! Every loss is `Σ_i c_i · P_i` with `P_i` the mean score of expert i and `c_i` a coefficient made
//! of counts, which carry no gradient. So a loss is its coefficients.
//!
//! Letters: T tokens, E experts, K experts per token.

use crate::gate::top_k;
use crate::lanes::per_isa;

/// Keeps the sum of a token's scores from being zero.
const SCORE_SUM_MIN: f64 = 1e-20;

/// A balance loss over some tokens.
#[derive(Clone, Debug)]
pub struct Balance {
    pub loss: f64,
    /// [E] share of the tokens that choose an expert, `E / (K·T) · count`: 1 where even.
    pub f: Vec<f64>,
    /// [E] mean score.
    pub p: Vec<f64>,
    /// [E] derivative of the loss with respect to `p`.
    pub coefficients: Vec<f32>,
    /// Whether `p` averages scores divided by their sum over the experts of a token.
    normalised: bool,
}

/// Settings of the losses of DeepSeekMoE and V2 (arXiv:2405.04434, 2.1.3). Devices are consecutive
/// experts, `E / n_devices` each.
#[derive(Clone, Copy, Debug)]
pub struct ExpertBalance {
    pub n_experts: usize,
    pub top_k: usize,
    /// Weight of the even use of experts.
    pub alpha_expert: f32,
    pub n_devices: usize,
    /// Most devices a token visits; the ideal that the communication loss measures against.
    pub device_limit: usize,
    /// Weight of the even load of devices.
    pub alpha_device: f32,
    /// Weight of the even number of tokens sent to devices.
    pub alpha_communication: f32,
}

/// The sequence-wise loss of DeepSeek-V3 (arXiv:2412.19437, eq. 17–20), over the tokens of one
/// sequence. Counts take the K best scores without bias, whatever the gate chose.
///
/// Shapes: `scores` [T, E] as the gate computed them.
///
/// Panics if `scores` is not made of whole rows.
pub fn sequence_wise(scores: &[f32], n_experts: usize, n_chosen: usize, alpha: f32) -> Balance {
    let n = n_tokens(scores, n_experts);
    let (mut counts, mut p) = (vec![0u64; n_experts], vec![0.0f64; n_experts]);
    let mut ids = vec![0; n_chosen];
    for row in scores.chunks_exact(n_experts) {
        top_k(row, &mut ids);
        ids.iter().for_each(|&id| counts[id as usize] += 1);
        let sum = row.iter().map(|&s| s as f64).sum::<f64>() + SCORE_SUM_MIN;
        p.iter_mut().zip(row).for_each(|(p, &s)| *p += s as f64 / sum);
    }
    let f = shares(&counts, n * n_chosen);
    let coefficients = f.iter().map(|f| alpha as f64 * f).collect();
    Balance::new(n, f, p, coefficients, true)
}

/// The sum of expert, device and communication loss.
///
/// Shapes: `scores` [T, E] after softmax, `ids` [T, K] the experts the gate chose.
///
/// Panics if the shapes disagree or devices do not divide the experts.
pub fn expert_wise(spec: &ExpertBalance, scores: &[f32], ids: &[u32]) -> Balance {
    let n = n_tokens(scores, spec.n_experts);
    assert_eq!(ids.len(), n * spec.top_k, "choices of {n} tokens");
    assert!(
        spec.n_devices > 0 && spec.n_experts.is_multiple_of(spec.n_devices),
        "{spec:?}: devices do not fit"
    );
    let group_len = spec.n_experts / spec.n_devices;
    let (mut counts, mut p) = (vec![0u64; spec.n_experts], vec![0.0f64; spec.n_experts]);
    let mut sent = vec![0u64; spec.n_devices];
    for (row, ids) in scores.chunks_exact(spec.n_experts).zip(ids.chunks_exact(spec.top_k)) {
        let mut visited = vec![false; spec.n_devices];
        for &id in ids {
            counts[id as usize] += 1;
            visited[id as usize / group_len] = true;
        }
        sent.iter_mut().zip(visited).for_each(|(sent, visited)| *sent += visited as u64);
        p.iter_mut().zip(row).for_each(|(p, &s)| *p += s as f64);
    }
    let f = shares(&counts, n * spec.top_k);
    let coefficient = |expert: usize| {
        let device = expert / group_len;
        let members = &f[device * group_len..(device + 1) * group_len];
        let device_f = members.iter().sum::<f64>() / group_len as f64;
        let even = (spec.device_limit * n) as f64 / spec.n_devices as f64;
        let communication_f = if n == 0 { 0.0 } else { sent[device] as f64 / even };
        spec.alpha_expert as f64 * f[expert]
            + spec.alpha_device as f64 * device_f
            + spec.alpha_communication as f64 * communication_f
    };
    let coefficients = (0..spec.n_experts).map(coefficient).collect();
    Balance::new(n, f, p, coefficients, false)
}

impl Balance {
    fn new(n: usize, f: Vec<f64>, mut p: Vec<f64>, c: Vec<f64>, normalised: bool) -> Self {
        p.iter_mut().for_each(|p| *p /= n.max(1) as f64);
        let loss = c.iter().zip(&p).map(|(c, p)| c * p).sum();
        let coefficients = c.into_iter().map(|c| c as f32).collect();
        Balance { loss, f, p, coefficients, normalised }
    }

    /// Adds `upstream` times the gradient of the loss to `dscores`.
    ///
    /// Shapes: `scores`, `dscores` [T, E], the same scores the loss was computed from.
    ///
    /// Panics if the shapes disagree.
    pub fn backward(&self, scores: &[f32], upstream: f32, dscores: &mut [f32]) {
        let n_experts = self.coefficients.len();
        let n = n_tokens(scores, n_experts);
        assert_eq!(dscores.len(), scores.len(), "gradient of {n} tokens");
        let rows = scores.chunks_exact(n_experts).zip(dscores.chunks_exact_mut(n_experts));
        for (scores, dscores) in rows {
            let (mut scale, mut mean) = (upstream / n as f32, 0.0);
            if self.normalised {
                // P averages s_i / S: its derivative is (c_i − Σ_j c_j s_j / S) / S.
                let sum = scores.iter().sum::<f32>() + SCORE_SUM_MIN as f32;
                mean = scores.iter().zip(&self.coefficients).map(|(s, c)| s * c).sum::<f32>() / sum;
                scale /= sum;
            }
            add_coefficients(&self.coefficients, mean, scale, dscores);
        }
    }
}

/// Moves the bias of every expert by `gamma`: up where its load is below the mean, down where it is
/// above, not at all where equal (arXiv:2412.19437, 2.1.2).
///
/// Shapes: `loads` [E] tokens sent to each expert in the whole batch; `bias` [E].
///
/// Panics if the lengths differ.
pub fn update_bias(loads: &[u64], gamma: f32, bias: &mut [f32]) {
    assert_eq!(loads.len(), bias.len(), "loads and biases of experts");
    let total: u128 = loads.iter().map(|&load| load as u128).sum();
    for (bias, &load) in bias.iter_mut().zip(loads) {
        // Compared as `total` with `load · E`, in whole numbers: the mean need not be one.
        *bias += match total.cmp(&(load as u128 * loads.len() as u128)) {
            std::cmp::Ordering::Greater => gamma,
            std::cmp::Ordering::Less => -gamma,
            std::cmp::Ordering::Equal => 0.0,
        };
    }
}

/// Adds how often each expert occurs in `ids` to `loads`.
///
/// Panics if an id is not below E.
pub fn count_loads(ids: &[u32], loads: &mut [u64]) {
    ids.iter().for_each(|&id| loads[id as usize] += 1);
}

fn n_tokens(scores: &[f32], n_experts: usize) -> usize {
    assert!(
        n_experts > 0 && scores.len().is_multiple_of(n_experts),
        "{} scores of {n_experts} experts",
        scores.len()
    );
    scores.len() / n_experts
}

/// `E / (K·T) · count`
fn shares(counts: &[u64], n_choices: usize) -> Vec<f64> {
    let scale = counts.len() as f64 / n_choices.max(1) as f64;
    counts.iter().map(|&count| count as f64 * scale).collect()
}

per_isa! {
    fn add_coefficients(c: &[f32], mean: f32, scale: f32, dscores: &mut [f32]) {
        for (dscore, &c) in dscores.iter_mut().zip(c) {
            *dscore += (c - mean) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{GateSpec, Routed, Routing, Scoring, Selection, backward, route};
    use crate::testing::{assert_close, golden, numbers, numbers_f32};

    struct Gated {
        spec: GateSpec,
        scores: Vec<f32>,
        ids: Vec<u32>,
        weights: Vec<f32>,
    }

    fn gate(case: &serde_json::Value, scoring: Scoring, selection: Selection) -> Gated {
        let logits = numbers_f32(&case["gate_logits"]);
        let n = case["gate_logits"].as_array().unwrap().len();
        let top_k = case["top_k"].as_u64().unwrap() as usize;
        let spec = GateSpec {
            n_experts: logits.len() / n,
            top_k,
            scoring,
            selection,
            norm_topk_prob: false,
            routed_scaling_factor: 1.0,
        };
        let (mut scores, mut weights) = (logits.clone(), vec![0.0; n * top_k]);
        let mut ids = vec![0; n * top_k];
        let bias = case.get("selection_bias").map(numbers_f32);
        let mut out = Routing { scores: &mut scores, ids: &mut ids, weights: &mut weights };
        route(&spec, &logits, bias.as_deref(), &mut out);
        Gated { spec, scores, ids, weights }
    }

    /// Loss, f, P and the gradient down to the logits.
    fn check(case: &serde_json::Value, gated: &Gated, balance: &Balance) {
        assert_close(&[balance.loss as f32], &numbers(&case["loss"]), 1e-7, "loss");
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
        assert_close(&narrow(&balance.f), &numbers(&case["f"]), 1e-6, "f");
        assert_close(&narrow(&balance.p), &numbers(&case["p"]), 1e-6, "p");
        let upstream = 3.0;
        let (mut dscores, mut dlogits) = (gated.scores.clone(), gated.scores.clone());
        dscores.fill(0.0);
        balance.backward(&gated.scores, upstream, &mut dscores);
        let routed = Routed { scores: &gated.scores, ids: &gated.ids, weights: &gated.weights };
        let dweights = vec![0.0; gated.ids.len()];
        backward(&gated.spec, routed, &dweights, Some(&dscores), &mut dlogits);
        let want = numbers(&case["grad_gate_logits"]);
        let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (&got, want) in dlogits.iter().zip(want) {
            let error = (got as f64 / upstream as f64 - want).abs();
            assert!(error < 1e-5 * largest, "{got} for {want}, largest {largest}");
        }
    }

    #[test]
    fn sequence_wise_loss_and_gradient_match_the_golden_values() {
        let Some(golden) = golden("balance_sequence") else { return };
        for case in golden.as_array().unwrap() {
            let gated = gate(case, Scoring::Sigmoid, Selection::Greedy);
            let alpha = case["alpha"].as_f64().unwrap() as f32;
            let spec = &gated.spec;
            let balance = sequence_wise(&gated.scores, spec.n_experts, spec.top_k, alpha);
            check(case, &gated, &balance);
        }
    }

    #[test]
    fn expert_device_and_communication_losses_match_the_golden_values() {
        let Some(golden) = golden("balance_expert") else { return };
        for case in golden.as_array().unwrap() {
            let count = |name: &str| case[name].as_u64().unwrap() as usize;
            let (n_group, topk_group) = (count("devices"), count("device_limit"));
            let selection = Selection::GroupLimitedGreedy { n_group, topk_group };
            let gated = gate(case, Scoring::Softmax, selection);
            let chosen: Vec<u32> = numbers(&case["chosen"]).iter().map(|&id| id as u32).collect();
            assert_eq!(gated.ids, chosen);
            let alpha = |name: &str| case[name].as_f64().unwrap() as f32;
            let spec = ExpertBalance {
                n_experts: gated.spec.n_experts,
                top_k: gated.spec.top_k,
                alpha_expert: alpha("alpha_expert"),
                n_devices: n_group,
                device_limit: topk_group,
                alpha_device: alpha("alpha_device"),
                alpha_communication: alpha("alpha_communication"),
            };
            check(case, &gated, &expert_wise(&spec, &gated.scores, &gated.ids));
        }
    }

    #[test]
    fn bias_updates_match_the_golden_values() {
        let Some(golden) = golden("bias_update") else { return };
        for case in golden.as_array().unwrap() {
            let loads: Vec<u64> = numbers(&case["loads"]).iter().map(|&v| v as u64).collect();
            let mut bias = numbers_f32(&case["bias"]);
            update_bias(&loads, case["gamma"].as_f64().unwrap() as f32, &mut bias);
            assert_close(&bias, &numbers(&case["new_bias"]), 1e-8, "bias");
        }
    }

    #[test]
    fn an_equal_load_leaves_the_bias_alone() {
        let mut bias = [0.5, 0.25, -1.0];
        update_bias(&[4, 4, 4], 0.001, &mut bias);
        assert_eq!(bias, [0.5, 0.25, -1.0]);
        let mut loads = [1, 0, 0];
        count_loads(&[2, 0, 2], &mut loads);
        assert_eq!(loads, [2, 0, 2]);
    }
}
