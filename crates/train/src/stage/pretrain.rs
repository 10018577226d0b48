//! Pre-training: next-token prediction, with the multi-token-prediction loss, the sequence-wise
//! balance loss and the aux-loss-free bias update of DeepSeek-V3 (arXiv:2412.19437, sections 2 and 4).

use super::{Pace, Work, is_due, stage_seed};
use crate::corpus::Corpus;
use crate::error::Error;
use crate::learner::{BatchRows, Extras, Learner, PassResult};
use crate::metrics::name;
use crate::recipe::{Kind, Pretrain};
use crate::results::ModelResult;
use fathom_data::pack::{BatchPlan, Mask, Order, PackedSet};
use fathom_kernels::attention::Segment;
use fathom_model::{Config, Model};
use fathom_text::{ChatFormat, Tokenizer, special};
use std::ops::Range;
use std::time::Instant;

/// Held-out tokens that a measurement reads.
const HELD_OUT_TOKENS: usize = 32_768;
/// Rows of a pass; larger batches are summed over several.
pub(super) const PASS_ROWS: usize = 4096;

pub(super) fn run(work: &mut Work, stage: &str, settings: &Pretrain) -> Result<(), Error> {
    let tokenizer = work.tokenizer(None)?;
    let seed = stage_seed(work.recipe, stage);
    let (mut learner, done) = work.learner(stage, &settings.optimizer, || {
        let config = config_of(work, stage, &settings.model, &tokenizer, settings.sequence_tokens)?;
        Model::random(config, seed)
            .map_err(|source| Error::Model { what: settings.model.clone(), source })
    })?;
    let corpus = Corpus::open(work, &settings.data, Some(&settings.corpus))?;
    let batch_tokens = settings.batch_sequences * settings.sequence_tokens;
    let n_tokens = settings.steps as usize * batch_tokens;
    let set = corpus.train_tokens(&tokenizer, n_tokens, settings.fim_rate)?;
    let held_out = corpus.held_out_tokens(&tokenizer, HELD_OUT_TOKENS)?;
    let plan = BatchPlan {
        batch_sequences: settings.batch_sequences,
        sequence_tokens: settings.sequence_tokens,
        seed,
        order: Order::Shuffled,
        mask: if settings.document_mask { Mask::Documents } else { Mask::None },
    };
    let mut pace = Pace::new(stage, settings.steps);
    for step in done + 1..=settings.steps {
        let start = Instant::now();
        let rate =
            settings.schedule.learning_rate(settings.optimizer.learning_rate, step, settings.steps);
        let mut figures = train_step(&mut learner, &set, &plan, step, settings, rate)
            .map_err(|error| at_stage(error, stage))?;
        if is_due(step, settings.evaluate_every_steps) || step == settings.steps {
            figures.extend(measure(&learner, &held_out, settings));
        }
        pace.step(work, step, &figures, batch_tokens, start.elapsed().as_secs_f64())?;
        let stop = work.wants_stop();
        if (stop && step < settings.steps) || is_due(step, settings.checkpoint_every_steps) {
            work.save_step(stage, step, |dir| learner.save(dir))?;
        }
        if stop && step < settings.steps {
            return Err(Error::Interrupted { stage: stage.into(), step });
        }
        if work.is_over() {
            work.end_by_time(stage, (step, settings.steps), |dir| learner.save(dir))?;
            break;
        }
    }
    let figures = measure(&learner, &held_out, settings);
    keep_result(work, stage, &figures, held_out.0.tokens.len() as u64);
    work.save_model(stage, &learner.model, &tokenizer, ChatFormat::R1Zero)
}

/// Puts the last measurement in the table of results, unless a later stage evaluates the model.
fn keep_result(work: &mut Work, stage: &str, figures: &[(&'static str, f64)], n_tokens: u64) {
    let evaluates = |kind: &Kind| match kind {
        Kind::Evaluate(settings) => settings.models.iter().any(|model| model == stage),
        _ => false,
    };
    if work.recipe.stages.iter().any(|other| evaluates(&other.kind)) {
        return;
    }
    let mut result = ModelResult { n: n_tokens, ..ModelResult::default() };
    for (figure, value) in figures {
        result = result.with(figure, *value);
    }
    work.results.0.retain(|(name, _)| name != stage);
    work.results.0.push((stage.to_owned(), result));
}

/// The configuration of a model of the recipe, with the vocabulary of the run's tokenizer.
pub(super) fn config_of(
    work: &Work,
    stage: &str,
    model: &str,
    tokenizer: &Tokenizer,
    sequence_tokens: usize,
) -> Result<Config, Error> {
    let as_model = |source| Error::Model { what: model.into(), source };
    let mut words = work.recipe.models.get(model).cloned().unwrap_or_default();
    if let Some(words) = words.as_object_mut() {
        words.entry("vocab_size").or_insert(tokenizer.vocab_size().into());
        for (word, token) in [
            ("bos_token_id", special::BOS),
            ("eos_token_id", special::EOS),
            ("pad_token_id", special::PAD),
        ] {
            words.entry(word).or_insert(tokenizer.special_id(token)?.into());
        }
    }
    let config = Config::from_recipe(&words)
        .map_err(|error| as_model(fathom_model::Error::Config(error)))?;
    if config.vocab_size < tokenizer.vocab_size() {
        return Err(Error::Unfit {
            stage: stage.into(),
            found: format!("`vocab_size` = {} in model `{model}`", config.vocab_size),
            expected: format!("at least the {} tokens of the tokenizer", tokenizer.vocab_size()),
            hint: Some("leave `vocab_size` out: it is taken from the tokenizer".into()),
        });
    }
    config
        .check_sequence_tokens(sequence_tokens)
        .map_err(|error| as_model(fathom_model::Error::Config(error)))?;
    Ok(config)
}

/// One optimizer step on batch `step` (from 1); returns its figures.
pub(super) fn train_step(
    learner: &mut Learner,
    set: &PackedSet,
    plan: &BatchPlan,
    step: u64,
    settings: &Pretrain,
    learning_rate: f64,
) -> Result<Vec<(&'static str, f64)>, Error> {
    let batch = set.batch(plan, step - 1)?;
    let n_scored = batch.n_loss_tokens().max(1);
    let mut loss_sum = 0.0;
    let (mut mtp_sum, mut n_mtp) = (0.0, 0);
    for part in parts(batch, plan.sequence_tokens) {
        let share = part.targets.len() as f32 / n_scored as f32;
        let sequences = sequences_of(&part, plan.sequence_tokens);
        let extras = Extras {
            mtp_weight: settings.mtp_weight as f32 * share,
            balance: (settings.balance_alpha > 0.0 && has_experts(learner))
                .then_some((settings.balance_alpha as f32 * share, &sequences[..])),
        };
        let result: PassResult =
            learner.pass(&part.rows, &part.scored(), extras, |_, _| -1.0 / n_scored as f32);
        loss_sum -= result.log_probs.iter().map(|p| f64::from(*p)).sum::<f64>();
        mtp_sum += result.mtp_loss_sum;
        n_mtp += result.n_mtp;
    }
    let load = learner.worst_expert_load();
    let norm = learner.update(learning_rate, settings.bias_update_speed);
    let loss = loss_sum / n_scored as f64;
    if !loss.is_finite() || !norm.is_finite() {
        let what = if loss.is_finite() { "gradient" } else { "loss" };
        return Err(Error::Diverged { stage: String::new(), step, what });
    }
    let mut figures = vec![(name::LOSS, loss)];
    if n_mtp > 0 {
        figures.push((name::MTP_LOSS, mtp_sum / n_mtp as f64));
    }
    figures.extend(load.map(|load| (name::EXPERT_LOAD, load)));
    figures.extend([(name::GRAD_NORM, norm), (name::LEARNING_RATE, learning_rate)]);
    Ok(figures)
}

/// Fills in the stage of an error that a step reports.
pub(super) fn at_stage(error: Error, stage: &str) -> Error {
    match error {
        Error::Diverged { step, what, .. } => Error::Diverged { stage: stage.into(), step, what },
        other => other,
    }
}

fn has_experts(learner: &Learner) -> bool {
    learner.model.config.n_routed_experts.is_some()
}

/// Cuts a batch between sequences into passes of about [`PASS_ROWS`].
fn parts(batch: fathom_data::pack::TokenBatch, sequence_tokens: usize) -> Vec<BatchRows> {
    let n_rows = batch.tokens.len();
    let per_pass = (PASS_ROWS / sequence_tokens).max(1) * sequence_tokens;
    if n_rows <= per_pass {
        return vec![BatchRows::new(batch)];
    }
    let whole = BatchRows::new(batch);
    (0..n_rows)
        .step_by(per_pass)
        .map(|from| slice(&whole, from..(from + per_pass).min(n_rows)))
        .collect()
}

/// The part of a batch in `range`, which cuts no segment.
fn slice(whole: &BatchRows, range: Range<usize>) -> BatchRows {
    let rows = &whole.rows;
    let scored = whole.scored_rows.partition_point(|row| (*row as usize) < range.start)
        ..whole.scored_rows.partition_point(|row| (*row as usize) < range.end);
    BatchRows {
        rows: fathom_model::PackedRows {
            tokens: rows.tokens[range.clone()].to_vec(),
            positions: rows.positions[range.clone()].to_vec(),
            segments: rows
                .segments
                .iter()
                .filter(|segment| range.contains(&segment.own.start))
                .map(|s| Segment::document(s.own.start - range.start..s.own.end - range.start))
                .collect(),
        },
        scored_rows: whole.scored_rows[scored.clone()]
            .iter()
            .map(|row| row - range.start as u32)
            .collect(),
        targets: whole.targets[scored].to_vec(),
    }
}

fn sequences_of(part: &BatchRows, sequence_tokens: usize) -> Vec<Range<usize>> {
    let n = part.rows.tokens.len();
    (0..n).step_by(sequence_tokens).map(|from| from..(from + sequence_tokens).min(n)).collect()
}

/// Loss on held-out text, in nats per token and bits per byte.
fn measure(
    learner: &Learner,
    held_out: &(PackedSet, usize),
    settings: &Pretrain,
) -> Vec<(&'static str, f64)> {
    let (set, n_bytes) = held_out;
    let n_sequences = set.n_sequences(settings.sequence_tokens);
    let plan = BatchPlan {
        batch_sequences: n_sequences,
        sequence_tokens: settings.sequence_tokens,
        seed: 0,
        order: Order::Sequential,
        mask: if settings.document_mask { Mask::Documents } else { Mask::None },
    };
    let Ok(batch) = set.batch(&plan, 0) else { return Vec::new() };
    let (mut loss, mut n) = (0.0, 0);
    for part in parts(batch, settings.sequence_tokens) {
        let log_probs = learner.score(&part.rows, &part.scored());
        loss -= log_probs.iter().map(|p| f64::from(*p)).sum::<f64>();
        n += log_probs.len();
    }
    // Text and tokens are of the whole set; the sequences leave out its tail.
    let bytes_per_token = *n_bytes as f64 / set.tokens.len() as f64;
    let nats_per_token = loss / n.max(1) as f64;
    vec![
        (name::HELD_OUT_LOSS, nats_per_token),
        (name::BITS_PER_BYTE, nats_per_token / std::f64::consts::LN_2 / bytes_per_token),
    ]
}
