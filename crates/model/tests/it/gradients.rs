//! Gradients of whole models, against differences of the forward pass along random directions; and
//! sequences that share a prefix, against the same sequences laid out one by one.

use fathom_kernels::attention::Segment;
use fathom_model::names::Role;
use fathom_model::{Config, Model, PackedRows, Precision, Rows};
use fathom_tensor::op::{self, LogProbs};
use fathom_tensor::random::Random;
use fathom_tensor::{Gradients, Tape};
use serde_json::{Value, json};

/// Weight of the loss of the tokens after next; large, so that the module's slopes exceed noise.
const MTP_WEIGHT: f32 = 8.0;
/// Directions along which the whole model is moved.
const N_DIRECTIONS: usize = 5;
/// A step moves a weight by this part of its deviation: far above the noise of f32, and too little
/// for curvature to show.
const STEP: f32 = 4e-3;
/// Allowed error of a slope; what curvature adds at this step is a tenth of it.
const SLOPE_TOLERANCE: f64 = 0.01;
/// Noise of the loss in f32.
const LOSS_NOISE: f64 = 2e-6;

/// Low-rank queries, a dense layer, grouped experts with a bias that steers, a shared expert, MTP.
fn tiny_v3() -> Value {
    json!({
        "model_type": "deepseek_v3", "vocab_size": 41, "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 2, "num_attention_heads": 3, "q_lora_rank": 12, "kv_lora_rank": 8,
        "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5, "n_routed_experts": 8,
        "n_shared_experts": 1, "moe_intermediate_size": 10, "num_experts_per_tok": 2,
        "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "topk_method": "noaux_tc",
        "scoring_func": "sigmoid", "norm_topk_prob": true, "routed_scaling_factor": 1.5,
        "num_nextn_predict_layers": 1, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 64, "initializer_range": 0.2,
    })
}

/// Grouped queries with biases, the head tied to the embedding.
fn tiny_qwen2() -> Value {
    json!({
        "model_type": "qwen2", "vocab_size": 37, "hidden_size": 24, "intermediate_size": 36,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "max_position_embeddings": 64,
        "initializer_range": 0.2, "tie_word_embeddings": true,
    })
}

/// A random model of which no weight is at a special value: biases are noise, norms are not one.
fn model_of(words: &Value) -> Model {
    let mut model = Model::random(Config::from_recipe(words).unwrap(), 7).unwrap();
    let is_matrix: Vec<bool> = model.weights().iter().map(|w| w.shape.len() == 2).collect();
    for (slot, weight) in model.weights_mut().iter_mut().enumerate() {
        if !is_matrix[slot] {
            let n = weight.n_elements();
            let noise = Random::from_key(&[8, slot as u64]).normals(n, 0.1);
            weight.values_mut().iter_mut().zip(noise).for_each(|(v, noise)| *v += noise);
        }
    }
    model.pack(Precision::F32, true);
    model
}

fn tokens(key: u64, n: usize, vocab: usize) -> Vec<u32> {
    let mut random = Random::from_key(&[9, key]);
    (0..n).map(|_| (random.uniform() * vocab as f64) as u32).collect()
}

/// Rows, and which tokens are scored after which of them.
#[derive(Default)]
struct Batch {
    rows: PackedRows,
    scored_rows: Vec<u32>,
    targets: Vec<u32>,
    /// Factor of each log-probability in the loss.
    weights: Vec<f32>,
}

impl Batch {
    fn score(&mut self, row: usize, target: u32, weight: f32) {
        self.scored_rows.push(row as u32);
        self.targets.push(target);
        self.weights.push(weight);
    }

    fn scored(&self) -> LogProbs<'_> {
        LogProbs { rows: &self.scored_rows, targets: &self.targets, inverse_temperature: 1.0 }
    }
}

/// Two documents, every next token scored.
fn documents(vocab: usize) -> Batch {
    let mut batch = Batch::default();
    for (key, n) in [(0, 9), (1, 6)] {
        let ids = tokens(key, n, vocab);
        let own = batch.rows.push_document(&ids[..n - 1]);
        for (at, row) in own.enumerate() {
            batch.score(row, ids[at + 1], 0.5 + 0.25 * (row % 3) as f32);
        }
    }
    batch
}

/// What a pass gives.
struct Outcome {
    loss: f64,
    hidden: Vec<f32>,
    log_probs: Vec<f32>,
    /// Tokens per expert: they change when a step moves a choice.
    loads: Vec<Vec<u64>>,
    gradients: Gradients,
}

/// `−Σ w_i logp_i`; if the model has the module, `−MTP_WEIGHT / n · Σ logp` of the tokens after next.
fn pass(model: &Model, batch: &Batch) -> Outcome {
    let sizes: Vec<usize> = model.weights().iter().map(|w| w.n_elements()).collect();
    let mut gradients = Gradients::new(&sizes);
    let rows = Rows::Packed(&batch.rows);
    let n = batch.scored_rows.len();
    let mut next = batch.rows.tokens.clone();
    next.iter_mut().zip(&batch.targets).for_each(|(next, target)| *next = *target);
    let after: Vec<usize> =
        (1..n).filter(|i| batch.rows.positions[*i] == batch.rows.positions[i - 1] + 1).collect();
    let after_rows: Vec<u32> = after.iter().map(|i| *i as u32 - 1).collect();
    let after_targets: Vec<u32> = after.iter().map(|i| batch.targets[*i]).collect();

    let tape = Tape::recording();
    let forward = model.forward(&tape, rows, None);
    let (mut loads, hidden) = (forward.loads, forward.hidden.data().to_vec());
    let log_probs =
        op::linear_log_probs(&tape, &forward.hidden, model.head(), &batch.scored(), |i, _| {
            -batch.weights[i]
        });
    let terms = log_probs.iter().zip(&batch.weights);
    let mut loss = -terms.map(|(p, w)| f64::from(*p) * f64::from(*w)).sum::<f64>();
    if model.config.num_nextn_predict_layers > 0 {
        assert_eq!(n, batch.rows.tokens.len(), "the module's targets need every row scored");
        let mtp = model.forward_mtp(&tape, rows, None, &forward.hidden, &next).unwrap();
        let scored =
            LogProbs { rows: &after_rows, targets: &after_targets, inverse_temperature: 1.0 };
        let weight = MTP_WEIGHT / n as f32;
        let log_probs =
            op::linear_log_probs(&tape, &mtp.hidden, model.head(), &scored, |_, _| -weight);
        loss -= f64::from(weight) * log_probs.iter().map(|p| f64::from(*p)).sum::<f64>();
        loads.extend(mtp.loads);
    }
    tape.backward(&mut gradients);
    Outcome { loss, hidden, log_probs, loads, gradients }
}

/// Noise for one weight, as large as its values; zeros for the bias of a router: it has no gradient.
fn direction(model: &Model, slot: usize, key: u64) -> Vec<f32> {
    let weight = &model.weights()[slot];
    let n = weight.n_elements();
    if model.specs()[slot].role == Role::RouterBias {
        return vec![0.0; n];
    }
    let square = weight.values().iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    let deviation = (square / n as f64).sqrt();
    Random::from_key(&[10, key, slot as u64]).normals(n, deviation)
}

/// Losses with the weights moved forth and back along `directions`; none if an expert choice moved.
fn losses_around(
    model: &mut Model,
    batch: &Batch,
    directions: &[(usize, Vec<f32>)],
    loads: &[Vec<u64>],
) -> Option<[f64; 2]> {
    let before: Vec<Vec<f32>> =
        directions.iter().map(|(slot, _)| model.weights()[*slot].values().to_vec()).collect();
    let losses = [STEP, -STEP].map(|step| {
        for ((slot, direction), before) in directions.iter().zip(&before) {
            let values = model.weights_mut()[*slot].values_mut();
            for ((value, before), d) in values.iter_mut().zip(before).zip(direction) {
                *value = before + step * d;
            }
        }
        model.pack(Precision::F32, true);
        let outcome = pass(model, batch);
        (outcome.loads == loads).then_some(outcome.loss)
    });
    for ((slot, _), before) in directions.iter().zip(&before) {
        model.weights_mut()[*slot].values_mut().copy_from_slice(before);
    }
    model.pack(Precision::F32, true);
    Some([losses[0]?, losses[1]?])
}

/// Compares the slope along `directions`; false if an expert choice moved and nothing can be said.
fn check_slope(
    model: &mut Model,
    batch: &Batch,
    at: &mut Outcome,
    directions: &[(usize, Vec<f32>)],
    what: &str,
) -> bool {
    let Some([forth, back]) = losses_around(model, batch, directions, &at.loads) else {
        return false;
    };
    let (mut slope, mut square) = (0.0, 0.0);
    for (slot, direction) in directions {
        for (g, d) in at.gradients.slot(*slot).iter().zip(direction) {
            let term = f64::from(*g) * f64::from(*d);
            slope += term;
            square += term * term;
        }
    }
    let differences = (forth - back) / (2.0 * f64::from(STEP));
    // A slope may be small by chance: errors are measured against the size it has on average.
    let allowed = SLOPE_TOLERANCE * square.sqrt().max(slope.abs()) + LOSS_NOISE / f64::from(STEP);
    let error = (slope - differences).abs();
    println!("{what}: slope {slope:.5}, differences {differences:.5}, allowed {allowed:.5}");
    let fine = error <= allowed;
    assert!(fine, "{what}: slope {slope}, differences {differences}, allowed {allowed}");
    true
}

fn check_gradients(words: &Value) {
    let mut model = model_of(words);
    let batch = documents(model.config.vocab_size);
    let mut at = pass(&model, &batch);
    let n_slots = model.weights().len();
    let whole = |model: &Model, key| -> Vec<_> {
        (0..n_slots).map(|slot| (slot, direction(model, slot, key))).collect()
    };
    let mut n_checked = 0;
    for key in 0..30 {
        if n_checked < N_DIRECTIONS {
            let directions = whole(&model, key);
            let checked = check_slope(&mut model, &batch, &mut at, &directions, "all weights");
            n_checked += usize::from(checked);
        }
    }
    assert_eq!(n_checked, N_DIRECTIONS, "almost every direction moved an expert choice");
    // Each weight alone: in a sum over all, a small one could be wrong unseen.
    let mut n_skipped = 0;
    for slot in 0..n_slots {
        let name = model.weights()[slot].name.clone();
        let mut tries = 0..8;
        let checked = tries.any(|key| {
            let directions = [(slot, direction(&model, slot, key))];
            check_slope(&mut model, &batch, &mut at, &directions, &name)
        });
        n_skipped += usize::from(!checked);
    }
    assert_eq!(n_skipped, 0, "weights whose every direction moved an expert choice");
}

#[test]
fn gradients_of_a_v3_with_mtp_are_the_slopes_of_its_loss() {
    check_gradients(&tiny_v3());
}

#[test]
fn gradients_of_a_qwen2_are_the_slopes_of_its_loss() {
    check_gradients(&tiny_qwen2());
}

/// Two answers to one question: behind one copy of the question, and each behind its own.
/// Returns the rows of the second batch that equal the rows of the first, in its order.
fn answers(vocab: usize) -> (Batch, Batch, Vec<usize>) {
    let question = tokens(2, 7, vocab);
    let answers = [tokens(3, 5, vocab), tokens(4, 3, vocab)];
    let (mut shared, mut apart) = (Batch::default(), Batch::default());
    let prefix = shared.rows.push_document(&question);
    let (mut same_rows, mut scored) = (Vec::new(), Vec::new());
    for (which, answer) in answers.iter().enumerate() {
        let own = shared.rows.push_continuation(prefix.clone(), &answer[..answer.len() - 1]);
        let alone =
            apart.rows.push_document(&[&question[..], &answer[..answer.len() - 1]].concat());
        let first = alone.start + question.len();
        if which == 0 {
            same_rows.extend(alone.start..first);
        }
        same_rows.extend(first..alone.end);
        for (at, id) in answer.iter().enumerate() {
            let weight = 0.4 + 0.2 * at as f32;
            let row = if at == 0 { prefix.end - 1 } else { own.start + at - 1 };
            scored.push((row, *id, weight));
            apart.score(first + at - 1, *id, weight);
        }
    }
    // Scored rows ascend: the last row of the question comes twice, first of all.
    scored.sort_by_key(|(row, ..)| *row);
    scored.iter().for_each(|(row, id, weight)| shared.score(*row, *id, *weight));
    (shared, apart, same_rows)
}

fn check_shared_prefix(mut words: Value) {
    if words.get("num_nextn_predict_layers").is_some() {
        words["num_nextn_predict_layers"] = 0.into();
    }
    let model = model_of(&words);
    let (shared, apart, same_rows) = answers(model.config.vocab_size);
    assert_eq!(shared.rows.segments[1], Segment { prefix: 0..7, own: 7..11 });
    let (mut together, mut alone) = (pass(&model, &shared), pass(&model, &apart));
    let width = model.config.hidden_size;
    for (row, same) in same_rows.iter().enumerate() {
        let [row_bits, same_bits] = [(&together, row), (&alone, *same)]
            .map(|(outcome, row)| &outcome.hidden[row * width..(row + 1) * width]);
        assert_eq!(row_bits, same_bits, "hidden states of row {row}");
    }
    let sorted = |log_probs: &[f32]| {
        let mut sorted = log_probs.to_vec();
        sorted.sort_by(f32::total_cmp);
        sorted
    };
    assert_eq!(sorted(&together.log_probs), sorted(&alone.log_probs), "log-probabilities");
    for (slot, weight) in model.weights().iter().enumerate() {
        let (got, want) = (together.gradients.slot(slot), alone.gradients.slot(slot));
        let largest = want.iter().fold(0.0f32, |most, g| g.abs().max(most));
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let fine = (got - want).abs() <= 1e-4 * largest + 1e-7;
            assert!(fine, "`{}` at {i}: {got} behind one prefix, {want} apart", weight.name);
        }
    }
}

#[test]
fn answers_behind_one_prefix_equal_answers_behind_their_own() {
    check_shared_prefix(tiny_v3());
    check_shared_prefix(tiny_qwen2());
}
