//! The gate of a mixture of experts: which experts a token visits, and with what weights.
//!
//! DeepSeekMoE (arXiv:2401.06066, eq. 9–11), DeepSeek-V2 (arXiv:2405.04434, 2.1.2–2.1.3) and
//! DeepSeek-V3 (arXiv:2412.19437, 2.1.2). Where codes differ: dropped groups are masked with −∞;
//! the weights of `norm_topk_prob` are normalised and then scaled, in every family.
//! The gradient flows through the weights and the scores, never through the choice.
//!
//! Letters: T tokens, E experts, K experts per token.

use crate::cross_entropy::softmax_row;
use crate::lanes::{for_rows, per_isa, span};
use crate::math::sigmoid;
use crate::threads::Shards;

/// Keeps the sum of weights from being zero, as the reference code does.
const WEIGHT_SUM_MIN: f32 = 1e-20;
/// An element costs about as much as this many plain ones.
const COST: usize = 32;

/// How logits become scores; `scoring_func` of `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Over all experts of a token.
    Softmax,
    /// Each expert by itself.
    Sigmoid,
}

/// How experts are chosen by their scores; `topk_method` of `config.json`. Groups are consecutive
/// experts, `E / n_group` each. Among equals the lower index wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The K best.
    Greedy,
    /// The K best within the `topk_group` groups of the best single score.
    GroupLimitedGreedy { n_group: usize, topk_group: usize },
    /// The K best within the `topk_group` groups whose two best scores have the largest sum.
    NoauxTc { n_group: usize, topk_group: usize },
}

/// The gate of a model, named as in `config.json`.
#[derive(Clone, Copy, Debug)]
pub struct GateSpec {
    /// E: `n_routed_experts`
    pub n_experts: usize,
    /// K: `num_experts_per_tok`
    pub top_k: usize,
    pub scoring: Scoring,
    pub selection: Selection,
    pub norm_topk_prob: bool,
    pub routed_scaling_factor: f32,
}

/// Where [`route`] writes.
pub struct Routing<'a> {
    /// [T, E], needed by [`backward`] and the balance losses.
    pub scores: &'a mut [f32],
    /// [T, K], ascending within a token, so that sums over experts have one order.
    pub ids: &'a mut [u32],
    /// [T, K], of the expert in the same place of `ids`.
    pub weights: &'a mut [f32],
}

/// What [`route`] wrote.
#[derive(Clone, Copy)]
pub struct Routed<'a> {
    /// [T, E]
    pub scores: &'a [f32],
    /// [T, K]
    pub ids: &'a [u32],
    /// [T, K]
    pub weights: &'a [f32],
}

impl GateSpec {
    /// Number of groups, and how many of them a token may visit.
    fn groups(&self) -> (usize, usize) {
        match self.selection {
            Selection::Greedy => (1, 1),
            Selection::GroupLimitedGreedy { n_group, topk_group }
            | Selection::NoauxTc { n_group, topk_group } => (n_group, topk_group),
        }
    }

    /// Panics if groups do not divide the experts or cannot hold K of them.
    fn check(&self) {
        let (n_group, topk_group) = self.groups();
        assert!(
            n_group > 0 && self.n_experts.is_multiple_of(n_group) && topk_group <= n_group,
            "{self:?}: groups do not fit"
        );
        let reachable = self.n_experts / n_group * topk_group;
        assert!((1..=reachable).contains(&self.top_k), "{self:?}: {reachable} experts to choose");
    }
}

/// Scores the experts, chooses K per token, and weighs them.
///
/// Shapes: `logits` [T, E]; `bias` [E] is added to the scores for the choice only, never to the
/// weights.
///
/// Panics if the shapes disagree or the groups do not fit.
pub fn route(spec: &GateSpec, logits: &[f32], bias: Option<&[f32]>, out: &mut Routing) {
    spec.check();
    let (n_experts, top_k) = (spec.n_experts, spec.top_k);
    assert!(logits.len().is_multiple_of(n_experts), "{} logits, {spec:?}", logits.len());
    let n = logits.len() / n_experts;
    assert!(bias.is_none_or(|bias| bias.len() == n_experts), "bias of {n_experts} experts");
    assert_eq!(
        [out.scores.len(), out.ids.len(), out.weights.len()],
        [n * n_experts, n * top_k, n * top_k],
        "routing of {n} tokens, {spec:?}"
    );
    let scores = Shards::new(out.scores);
    let (ids, weights) = (Shards::new(out.ids), Shards::new(out.weights));
    for_rows(n, COST * n_experts, |rows| {
        let mut chooser = Chooser::new(spec);
        let chosen = span(&rows, top_k);
        // SAFETY: row ranges of one loop do not overlap.
        let (scores, ids, weights) = unsafe {
            let scores = scores.slice(span(&rows, n_experts));
            (scores, ids.slice(chosen.clone()), weights.slice(chosen))
        };
        scores.copy_from_slice(&logits[span(&rows, n_experts)]);
        let tokens = scores.chunks_exact_mut(n_experts).zip(ids.chunks_exact_mut(top_k));
        for ((scores, ids), weights) in tokens.zip(weights.chunks_exact_mut(top_k)) {
            match spec.scoring {
                Scoring::Softmax => softmax_row(scores),
                Scoring::Sigmoid => sigmoid_row(scores),
            }
            chooser.choose(scores, bias, ids);
            weigh(spec, scores, ids, weights);
        }
    });
}

/// The gradient with respect to the logits; overwrites `dlogits`.
///
/// Shapes: `routed` as [`route`] left it; `dweights` [T, K]; `dscores` [T, E] is the gradient that
/// reaches the scores by other ways (a balance loss); `dlogits` [T, E].
///
/// Panics if the shapes disagree.
pub fn backward(
    spec: &GateSpec,
    routed: Routed,
    dweights: &[f32],
    dscores: Option<&[f32]>,
    dlogits: &mut [f32],
) {
    let (n_experts, top_k) = (spec.n_experts, spec.top_k);
    let n = routed.scores.len() / n_experts;
    assert_eq!(dlogits.len(), n * n_experts, "{n} tokens, {spec:?}");
    assert!(dscores.is_none_or(|d| d.len() == n * n_experts), "{n} tokens, {spec:?}");
    assert_eq!(
        [routed.ids.len(), routed.weights.len(), dweights.len()],
        [n * top_k; 3],
        "{n} tokens, {spec:?}"
    );
    let dlogits = Shards::new(dlogits);
    for_rows(n, COST * n_experts, |rows| {
        for t in rows {
            let (all, chosen) = (t * n_experts..(t + 1) * n_experts, t * top_k..(t + 1) * top_k);
            let scores = &routed.scores[all.clone()];
            // SAFETY: row ranges of one loop do not overlap.
            let grads = unsafe { dlogits.slice(all.clone()) };
            match dscores {
                Some(dscores) => grads.copy_from_slice(&dscores[all]),
                None => grads.fill(0.0),
            }
            let (ids, weights) = (&routed.ids[chosen.clone()], &routed.weights[chosen.clone()]);
            weigh_backward(spec, scores, ids, weights, &dweights[chosen], grads);
            match spec.scoring {
                Scoring::Softmax => softmax_backward_row(scores, grads),
                Scoring::Sigmoid => sigmoid_backward_row(scores, grads),
            }
        }
    });
}

fn weigh(spec: &GateSpec, scores: &[f32], ids: &[u32], weights: &mut [f32]) {
    for (weight, &id) in weights.iter_mut().zip(ids) {
        *weight = scores[id as usize];
    }
    if spec.norm_topk_prob {
        let sum = weights.iter().sum::<f32>() + WEIGHT_SUM_MIN;
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    weights.iter_mut().for_each(|w| *w *= spec.routed_scaling_factor);
}

/// Adds the gradient of the weights to that of the scores.
fn weigh_backward(
    spec: &GateSpec,
    scores: &[f32],
    ids: &[u32],
    weights: &[f32],
    dweights: &[f32],
    dscores: &mut [f32],
) {
    let factor = spec.routed_scaling_factor;
    if !spec.norm_topk_prob {
        for (&id, &dw) in ids.iter().zip(dweights) {
            dscores[id as usize] += factor * dw;
        }
        return;
    }
    // w_i = factor · s_i / S, so ds_i = (factor · dw_i − Σ_j w_j · dw_j) / S.
    let sum = ids.iter().map(|&id| scores[id as usize]).sum::<f32>() + WEIGHT_SUM_MIN;
    let mean: f32 = weights.iter().zip(dweights).map(|(w, dw)| w * dw).sum();
    for (&id, &dw) in ids.iter().zip(dweights) {
        dscores[id as usize] += (factor * dw - mean) / sum;
    }
}

per_isa! {
    fn sigmoid_row(row: &mut [f32]) {
        for x in row {
            *x = sigmoid(*x);
        }
    }
}

per_isa! {
    fn sigmoid_backward_row(scores: &[f32], grads: &mut [f32]) {
        for (grad, &s) in grads.iter_mut().zip(scores) {
            *grad *= s * (1.0 - s);
        }
    }
}

per_isa! {
    fn softmax_backward_row(scores: &[f32], grads: &mut [f32]) {
        let mean = crate::lanes::dot(scores, grads);
        for (grad, &s) in grads.iter_mut().zip(scores) {
            *grad = s * (*grad - mean);
        }
    }
}

/// Chooses experts, token after token; holds the buffers for it.
struct Chooser {
    n_group: usize,
    topk_group: usize,
    /// Whether a group counts by its two best scores, else by its best.
    by_two: bool,
    /// Scores plus bias.
    choice: Vec<f32>,
    group_scores: Vec<f32>,
    groups: Vec<u32>,
}

impl Chooser {
    fn new(spec: &GateSpec) -> Self {
        let (n_group, topk_group) = spec.groups();
        Chooser {
            n_group,
            topk_group,
            by_two: matches!(spec.selection, Selection::NoauxTc { .. }),
            choice: vec![0.0; spec.n_experts],
            group_scores: vec![0.0; n_group],
            groups: vec![0; topk_group],
        }
    }

    /// Fills `ids` with the chosen experts, ascending.
    fn choose(&mut self, scores: &[f32], bias: Option<&[f32]>, ids: &mut [u32]) {
        self.choice.copy_from_slice(scores);
        if let Some(bias) = bias {
            self.choice.iter_mut().zip(bias).for_each(|(choice, bias)| *choice += bias);
        }
        if self.topk_group < self.n_group {
            self.mask_groups();
        }
        top_k(&self.choice, ids);
        ids.sort_unstable();
    }

    /// Puts the experts of groups that are not among the best out of reach.
    fn mask_groups(&mut self) {
        let group_len = self.choice.len() / self.n_group;
        for (score, group) in self.group_scores.iter_mut().zip(self.choice.chunks(group_len)) {
            let mut best = [f32::NEG_INFINITY; 2];
            for &s in group {
                if s > best[0] {
                    best = [s, best[0]];
                } else if s > best[1] {
                    best[1] = s;
                }
            }
            let two = self.by_two && group_len > 1;
            *score = if two { best[0] + best[1] } else { best[0] };
        }
        top_k(&self.group_scores, &mut self.groups);
        self.groups.sort_unstable();
        for (group_idx, group) in self.choice.chunks_mut(group_len).enumerate() {
            if self.groups.binary_search(&(group_idx as u32)).is_err() {
                group.fill(f32::NEG_INFINITY);
            }
        }
    }
}

/// Fills `ids` with the indices of its length's largest values, best first, the lower index first
/// among equals. NaN counts as −∞.
///
/// Panics if `values` is shorter than `ids`.
pub fn top_k(values: &[f32], ids: &mut [u32]) {
    assert!(ids.len() <= values.len(), "{} best of {}", ids.len(), values.len());
    let value = |id: u32| {
        let v = values[id as usize];
        if v.is_nan() { f32::NEG_INFINITY } else { v }
    };
    let mut n_found = 0;
    for id in 0..values.len() as u32 {
        let new = value(id);
        if n_found == ids.len() {
            if n_found == 0 || new <= value(ids[n_found - 1]) {
                continue;
            }
        } else {
            n_found += 1;
        }
        let mut place = n_found - 1;
        while place > 0 && value(ids[place - 1]) < new {
            ids[place] = ids[place - 1];
            place -= 1;
        }
        ids[place] = id;
    }
}

#[cfg(test)]
mod tests;
