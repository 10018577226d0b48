//! Claims about the module that follows.

use super::*;
use fathom_model::cache::{CacheForm, KvCache};
use fathom_model::{CachedRows, Config, Rows};
use fathom_tensor::random::Random;
use std::cell::RefCell;

const CONFIG: &str = r#"{
    "model_type": "deepseek_v3", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 36,
    "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256,
    "q_lora_rank": 12, "kv_lora_rank": 8, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4,
    "v_head_dim": 6, "n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 10,
    "num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": true,
    "num_nextn_predict_layers": 1, "initializer_range": 0.2, "tie_word_embeddings": false
}"#;

fn model() -> Model {
    let mut model = Model::random(Config::from_text(CONFIG).unwrap(), 5).unwrap();
    model.pack(Precision::F32, true);
    model
}

fn follower(model: &Model, tokens: usize) -> Follower {
    let settings = FollowMtp { tokens, share: 1.0, ..FollowMtp::default() };
    Follower::new(model, settings, &OptimizerSettings::default()).unwrap()
}

/// Rows of a pass, and what they score.
#[derive(Default)]
struct Batch {
    rows: PackedRows,
    scored: Vec<u32>,
    targets: Vec<u32>,
}

impl Batch {
    fn scored(&self) -> LogProbs<'_> {
        LogProbs { rows: &self.scored, targets: &self.targets, inverse_temperature: 1.0 }
    }

    /// As fine-tuning lays it out, the token that ends the example read too.
    fn example(&mut self, prompt: &[u32], answer: &[u32]) {
        let all = [prompt, answer].concat();
        let own = self.rows.push_document(&all);
        let first = own.start + prompt.len() - 1;
        self.scored.extend((first..own.end - 1).map(|row| row as u32));
        self.targets.extend_from_slice(answer);
    }

    /// As reinforcement lays it out.
    fn group(&mut self, prompt: &[u32], answers: &[&[u32]]) {
        let prompt = self.rows.push_document(prompt);
        for answer in answers {
            let read = &answer[..answer.len() - 1];
            let own = self.rows.push_continuation(prompt.clone(), read);
            self.scored.push(prompt.end as u32 - 1);
            self.scored.extend(own.map(|row| row as u32));
            self.targets.extend_from_slice(answer);
        }
    }
}

const PROMPT: [u32; 5] = [3, 17, 8, 30, 2];
const LONG: [u32; 7] = [9, 4, 4, 21, 33, 6, 1];
const SHORT: [u32; 3] = [12, 25, 1];

/// The gradients of the module's weights, slot by slot.
fn gradients(model: &Model, batch: &Batch, tokens: usize) -> (Follower, Vec<Vec<f32>>) {
    let mut follower = follower(model, tokens);
    let hidden = model.hidden(&batch.rows);
    assert!(follower.add_gradients(model, (&batch.rows, &batch.scored(), &hidden)));
    let slots = 0..model.weights().len();
    let all = slots.map(|slot| follower.gradients.slot(slot).to_vec()).collect();
    (follower, all)
}

/// Cross-entropies of all pairs, in f64.
fn loss(model: &Model, laid: &Laid, input: &Tensor, hidden: &Tensor) -> f64 {
    let tape = Tape::forgetting();
    let out = model.forward_mtp_alone(&tape, &laid.rows, input, &laid.rows.tokens).unwrap();
    let (mine, theirs) = (op::logits(&out, model.head()), op::logits(hidden, model.head()));
    let log_softmax = |logits: &Tensor, row: u32| -> Vec<f64> {
        let width = logits.width();
        let row: Vec<f64> =
            logits.data()[row as usize * width..][..width].iter().map(|x| f64::from(*x)).collect();
        let lse = row.iter().map(|x| x.exp()).sum::<f64>().ln();
        row.iter().map(|x| x - lse).collect()
    };
    let of_pair = |(row, teacher): (&u32, &u32)| -> f64 {
        let (q, p) = (log_softmax(&mine, *row), log_softmax(&theirs, *teacher));
        -p.iter().zip(&q).map(|(p, q)| p.exp() * q).sum::<f64>()
    };
    let of_pairs = |p: &Pairs| p.rows.iter().zip(&p.teacher_rows).map(of_pair).sum::<f64>();
    laid.pairs.iter().map(of_pairs).sum::<f64>() / laid.pairs[0].rows.len() as f64
}

#[test]
fn the_gradient_is_the_slope_of_the_cross_entropy() {
    let mut model = model();
    let mut batch = Batch::default();
    batch.example(&PROMPT, &LONG);
    batch.group(&PROMPT[1..], &[&SHORT, &LONG[2..]]);
    for tokens in [1, 2, 3] {
        let (_, gradients) = gradients(&model, &batch, tokens);
        let hidden = model.hidden(&batch.rows);
        // What the module read of itself is held fixed.
        let sequences = sequences_of(&batch.rows, &batch.scored());
        let mut before = None;
        for depth in 1..tokens {
            let laid = Laid::of(&sequences, depth);
            let input = laid.input(&hidden, before.as_ref());
            let tape = Tape::forgetting();
            before = model.forward_mtp_alone(&tape, &laid.rows, &input, &laid.rows.tokens);
        }
        let laid = Laid::of(&sequences, tokens);
        let input = laid.input(&hidden, before.as_ref());
        for direction in 0..3 {
            let step = 2e-3;
            let mut move_by = |factor: f32| {
                let is_module: Vec<bool> = model.specs().iter().map(|spec| spec.mtp).collect();
                for (slot, weight) in model.weights_mut().iter_mut().enumerate() {
                    if is_module[slot] && weight.shape.len() == 2 {
                        let noise = noise(direction, slot, weight.n_elements());
                        let values = weight.values_mut().iter_mut();
                        values.zip(noise).for_each(|(value, by)| *value += factor * by);
                    }
                }
                model.pack(Precision::F32, true);
                loss(&model, &laid, &input, &hidden)
            };
            let (up, down) = (move_by(step), move_by(-2.0 * step));
            move_by(step);
            let slope = (up - down) / (2.0 * f64::from(step));
            let along = |(slot, gradient): (usize, &Vec<f32>)| -> f64 {
                let weight = &model.weights()[slot];
                if !model.specs()[slot].mtp || weight.shape.len() != 2 {
                    return 0.0;
                }
                let noise = noise(direction, slot, gradient.len());
                gradient.iter().zip(noise).map(|(g, by)| f64::from(g * by)).sum()
            };
            let want: f64 = gradients.iter().enumerate().map(along).sum();
            let error = (slope - want).abs();
            assert!(error < 0.01 * want.abs() + 2e-3, "{tokens} tokens: slope {slope}, {want}");
        }
    }
}

fn noise(direction: u64, slot: usize, n: usize) -> Vec<f32> {
    Random::from_key(&[direction, slot as u64]).normals(n, 0.2)
}

#[test]
fn only_the_module_gets_gradients() {
    let model = model();
    let mut batch = Batch::default();
    batch.example(&PROMPT, &LONG);
    let (follower, gradients) = gradients(&model, &batch, 2);
    for (spec, gradient) in model.specs().iter().zip(&gradients) {
        assert_eq!(gradient.is_empty(), !spec.mtp, "{}", spec.name);
    }
    assert!(gradients.iter().flatten().any(|g| *g != 0.0));
    assert_eq!(follower.sums.n, [LONG.len() - 1, LONG.len() - 2]);
}

#[test]
fn a_shared_prompt_teaches_what_whole_sequences_teach() {
    let model = model();
    let (mut shared, mut whole) = (Batch::default(), Batch::default());
    shared.group(&PROMPT, &[&LONG, &SHORT, &LONG[..1]]);
    whole.example(&PROMPT, &LONG);
    whole.example(&PROMPT, &SHORT);
    for tokens in [1, 2, 4] {
        assert_eq!(
            gradients(&model, &shared, tokens).1,
            gradients(&model, &whole, tokens).1,
            "{tokens} tokens"
        );
    }
}

#[test]
fn a_share_of_the_sequences_is_spread_evenly() {
    let taken = |share: f64| -> Vec<usize> { (0..12).filter(|at| is_taken(*at, share)).collect() };
    assert_eq!(taken(1.0), Vec::from_iter(0..12));
    assert_eq!(taken(0.25), [0, 4, 8]);
    assert_eq!(taken(0.4), [0, 2, 5, 7, 10]);
    assert_eq!(taken(1e-9), [0]);
}

#[test]
fn nothing_is_learnt_where_nothing_follows() {
    let model = model();
    let mut batch = Batch::default();
    batch.group(&PROMPT, &[&LONG[..1]]);
    batch.rows.push_document(&LONG);
    let hidden = model.hidden(&batch.rows);
    let mut follower = follower(&model, 2);
    assert!(!follower.add_gradients(&model, (&batch.rows, &batch.scored(), &hidden)));
    assert_eq!(follower.figures(), []);
}

#[test]
fn rows_of_training_are_those_of_drafting() {
    let mut model = model();
    let mut batch = Batch::default();
    batch.example(&PROMPT, &LONG);
    let text = batch.rows.tokens.clone();
    let spec = model.pack_for_cache(Precision::F32, CacheForm::Expanded);
    let width = model.config.hidden_size;
    let hidden = model.hidden(&batch.rows);

    // In training: three guesses behind every row that counts.
    let sequences = sequences_of(&batch.rows, &batch.scored());
    let mut outs: Vec<(Laid, Tensor)> = Vec::new();
    for depth in 1..=3 {
        let laid = Laid::of(&sequences, depth);
        let input = laid.input(&hidden, outs.last().map(|(_, out)| out));
        let tape = Tape::forgetting();
        let out = model.forward_mtp_alone(&tape, &laid.rows, &input, &laid.rows.tokens).unwrap();
        drop(tape);
        outs.push((laid, out));
    }
    let (laid, trained) = &outs[2];

    // In drafting: true rows up to one, then the module's own output, over the cache.
    let cache = RefCell::new(KvCache::new(spec));
    cache.borrow_mut().grow(1);
    let run = |past: usize, hidden: &Tensor, next: &[u32]| {
        let mut rows = CachedRows::default();
        rows.push(&[0], past, next);
        let tape = Tape::forgetting();
        let rows = Rows::Cached(&rows, &cache);
        model.forward_mtp(&tape, rows, None, hidden, next).unwrap().hidden
    };
    let row_of = |x: &Tensor, row: usize| {
        Tensor::new(Buffer::copy_of(&x.data()[row * width..][..width]), &[1, width])
    };
    // The last token ends the text: nothing is guessed after it.
    let n = text.len() - 2;
    for at in 0..n {
        let mut out = run(at, &row_of(&hidden, at), &text[at + 1..at + 2]);
        let Some(counted) = laid.pairs[0].rows.iter().position(|row| *row as usize == at) else {
            continue;
        };
        for ahead in 0..3.min(n - at) {
            if ahead > 0 {
                out = run(at + ahead, &out, &text[at + ahead + 1..at + ahead + 2]);
            }
            let row = laid.pairs[ahead].rows[counted] as usize;
            assert_eq!(out.data(), row_of(trained, row).data(), "row {at}, {ahead} ahead");
            assert_eq!(laid.pairs[ahead].teacher_rows[counted] as usize, at + ahead + 1);
        }
    }
}
