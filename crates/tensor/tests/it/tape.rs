//! The tape and the store of gradients.

use crate::check::{Case, matmul, poisoned_gradients, softmax};
use fathom_kernels::attention::{Heads, Segment};
use fathom_kernels::gate::{GateSpec, Scoring, Selection};
use fathom_kernels::threads::limit_threads;
use fathom_tensor::op::{self, Expert, LogProbs};
use fathom_tensor::random::Random;
use fathom_tensor::{Buffer, Gradients, Precision, Tape, Weight};

#[test]
fn a_weight_used_twice_gets_the_sum_of_its_gradients() {
    let case = Case::new("linear twice by one weight").leaf(&[5, 7]).weight(&[7, 7]);
    case.check(
        |tape, x, w| {
            let y = op::linear(tape, &x[0], &w[0]);
            vec![op::linear(tape, &y, &w[0])]
        },
        |v| matmul(&matmul(&v[0], &v[1], 7), &v[1], 7),
    );
}

#[test]
fn a_batch_of_products_adds_to_written_gradients_and_replaces_unwritten_ones() {
    let case =
        Case::new("one weight of two used again").leaf(&[4, 5]).weight(&[3, 5]).weight(&[2, 5]);
    // Backwards, the last operation writes first: one slot of the batch then holds a gradient.
    case.check(
        |tape, x, w| {
            let [a, b] = op::linears(tape, &x[0], [&w[0], &w[1]]);
            vec![a, b, op::linear(tape, &x[0], &w[1])]
        },
        |v| [1, 2, 2].iter().flat_map(|i| matmul(&v[0], &v[*i], 5)).collect(),
    );
}

#[test]
fn a_head_tied_to_the_embedding_gets_the_sum_of_its_gradients() {
    let (ids, targets, rows) = ([3, 1, 3, 0], [1, 3, 0, 2], [0, 1, 2, 3]);
    let case = Case::new("tied head").weight(&[5, 3]);
    case.check_with_loss(
        |tape, _, w| {
            let h = op::embedding(tape, &w[0], &ids);
            let scored = LogProbs { rows: &rows, targets: &targets, inverse_temperature: 1.0 };
            op::linear_log_probs(tape, &h, &w[0], &scored, |_, _| 1.0);
            Vec::new()
        },
        |v| {
            let h: Vec<f64> =
                ids.iter().flat_map(|id| v[0][*id as usize * 3..][..3].to_vec()).collect();
            let logits = matmul(&h, &v[0], 3);
            let log_prob = |(row, id): (&[f64], &u32)| softmax(row)[*id as usize].ln();
            (Vec::new(), logits.chunks(5).zip(&targets).map(log_prob).sum())
        },
    );
}

/// Weights of a small decoder layer: embedding and head, norm, q, k, v, o, gate, four experts.
fn layer_weights() -> Vec<Weight> {
    let shapes: [&[usize]; 7] =
        [&[97, 48], &[48], &[48, 48], &[24, 48], &[24, 48], &[48, 48], &[4, 48]];
    let experts = (0..4).flat_map(|_| [&[40, 48][..], &[40, 48], &[48, 40]]);
    let shapes = shapes.into_iter().chain(experts);
    let weight = |(slot, shape): (usize, &[usize])| {
        let values = Random::from_key(&[5, slot as u64]).normals(shape.iter().product(), 0.2);
        let mut weight = Weight::new(format!("w{slot}"), shape, slot, values);
        if shape.len() == 2 {
            weight.pack(Precision::F32, true);
        }
        weight
    };
    shapes.enumerate().map(weight).collect()
}

/// Adds the gradients of one pass over 300 rows to `gradients`; returns log-probabilities.
fn layer_pass(weights: &[Weight], gradients: &mut Gradients) -> Vec<f32> {
    let n = 300;
    let segments = [0..130, 130..141, 141..300].map(Segment::document);
    let ids: Vec<u32> = (0..n as u32).map(|i| i * i % 97).collect();
    let spec = GateSpec {
        n_experts: 4,
        top_k: 2,
        scoring: Scoring::Softmax,
        selection: Selection::Greedy,
        norm_topk_prob: true,
        routed_scaling_factor: 1.0,
    };
    let heads = Heads { n_heads: 4, n_kv_heads: 2, qk_dim: 12, v_dim: 12, scale: 0.3 };
    let tape = Tape::recording();
    let h = op::embedding(&tape, &weights[0], &ids);
    let x = op::rms_norm(&tape, &h, &weights[1], 1e-5);
    let [q, k, v] = op::linears(&tape, &x, [&weights[2], &weights[3], &weights[4]]);
    let context = op::attention(&tape, heads, &segments, (&q, &k, &v));
    let h = op::add(&tape, h, op::linear(&tape, &context, &weights[5]));
    let route = op::route(&tape, &h, &weights[6], None, spec, None);
    let experts = weights[7..]
        .chunks_exact(3)
        .map(|w| Expert { gate_proj: &w[0], up_proj: &w[1], down_proj: &w[2] })
        .collect();
    let routed = op::experts(&tape, &h, &route, experts, None, None);
    let h = op::add(&tape, h, routed);
    let rows: Vec<u32> = (0..n as u32).collect();
    let scored = LogProbs { rows: &rows, targets: &ids, inverse_temperature: 1.0 };
    let log_probs = op::linear_log_probs(&tape, &h, &weights[0], &scored, |_, _| -1.0);
    tape.backward(gradients);
    log_probs
}

#[test]
fn one_thread_and_all_threads_give_the_same_bits() {
    let weights = layer_weights();
    let run = |n_threads| {
        limit_threads(n_threads);
        let mut gradients = poisoned_gradients(&weights);
        let log_probs = layer_pass(&weights, &mut gradients);
        limit_threads(None);
        (log_probs, gradients.all().to_vec())
    };
    let (one, all) = (run(Some(1)), run(None));
    assert!(one.1.iter().all(|g| g.is_finite()));
    assert_eq!(one.0, all.0, "log-probabilities");
    assert_eq!(one.1, all.1, "gradients");
}

#[test]
fn the_first_pass_replaces_old_gradients_and_the_second_adds() {
    let weights = layer_weights();
    let mut gradients = poisoned_gradients(&weights);
    layer_pass(&weights, &mut gradients);
    let once = gradients.all().to_vec();
    layer_pass(&weights, &mut gradients);
    for (slot, weight) in weights.iter().enumerate() {
        let range = gradients.range(slot);
        let largest = once[range.clone()].iter().fold(0.0f32, |most, g| g.abs().max(most));
        for (i, (twice, once)) in gradients.slot(slot).iter().zip(&once[range]).enumerate() {
            let error = (twice - 2.0 * once).abs();
            let fine = error <= 1e-5 * largest;
            assert!(fine, "`{}` at {i}: {twice} after two passes, {once} after one", weight.name);
        }
    }
    gradients.clear();
    layer_pass(&weights, &mut gradients);
    assert_eq!(gradients.all(), once, "a cleared store starts afresh");
}

#[test]
fn a_slot_that_nothing_was_written_to_is_zero() {
    let weights =
        [Weight::new("w0", &[3], 0, vec![1.0; 3]), Weight::new("w1", &[3], 1, vec![1.0; 3])];
    let mut gradients = poisoned_gradients(&weights);
    let tape = Tape::recording();
    let x = tape.leaf(Buffer::zeros(6), &[2, 3]);
    let y = op::add_bias(&tape, x, &weights[1]);
    tape.backward_from(&[(&y, &[1.0; 6])], &mut gradients);
    assert!(!gradients.is_written(0) && gradients.is_written(1));
    assert_eq!(gradients.all(), [0.0, 0.0, 0.0, 2.0, 2.0, 2.0]);
}
