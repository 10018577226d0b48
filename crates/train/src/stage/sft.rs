//! Supervised fine-tuning: the loss covers responses only, samples are mutually masked
//! (DeepSeek-V3, arXiv:2412.19437, section 5.1).

use super::{Pace, Work, examples, is_due, stage_seed};
use crate::error::Error;
use crate::learner::{BatchRows, Extras, Learner};
use crate::metrics::name;
use crate::mtp_follower::Follower;
use crate::recipe::Sft;
use fathom_data::pack::{Order, TokenBatch, TooLong, batch_indices, pack_examples};
use fathom_text::{ChatFormat, special};
use std::path::Path;
use std::time::Instant;

/// Rows that examples are packed into; a batch is several.
const ROW_TOKENS: usize = 2048;

pub(super) fn run(work: &mut Work, stage: &str, settings: &Sft) -> Result<(), Error> {
    let tokenizer = work.tokenizer(Some(&settings.from))?;
    let (mut learner, done) =
        work.learner(stage, &settings.optimizer, || work.model(&settings.from))?;
    let mut follower = work.follower(stage, &learner.model, settings.mtp, &settings.optimizer)?;
    let examples = examples::examples(work, stage, &settings.data, &tokenizer)?;
    learner.model.config.check_sequence_tokens(settings.max_tokens).map_err(|error| {
        Error::Model { what: settings.from.clone(), source: fathom_model::Error::Config(error) }
    })?;
    let n_examples = examples.len();
    let fitting: Vec<_> = examples
        .into_iter()
        .filter(|example| example.prompt.len() + example.response.len() <= settings.max_tokens)
        .collect();
    if fitting.len() < n_examples {
        let n = n_examples - fitting.len();
        work.note(format!(
            "skipped {n} example{} longer than `max_tokens` = {}",
            if n == 1 { "" } else { "s" },
            settings.max_tokens
        ));
    }
    let eos = tokenizer.special_id(special::EOS)?;
    let budget =
        ROW_TOKENS.max(settings.max_tokens).min(settings.batch_tokens.max(settings.max_tokens));
    let packed = pack_examples(&fitting, budget, eos, TooLong::Skip);
    if packed.rows.is_empty() {
        return Err(Error::Unfit {
            stage: stage.into(),
            found: "no example that fits".into(),
            expected: format!("examples of up to {} tokens", settings.max_tokens),
            hint: Some(format!("raise `{stage}.max_tokens`")),
        });
    }
    let per_step = (settings.batch_tokens / budget).max(1);
    let steps = (packed.rows.len() as u64 * settings.epochs).div_ceil(per_step as u64);
    let seed = stage_seed(work.recipe, stage);
    let mut pace = Pace::new(stage, steps);
    for step in done + 1..=steps {
        let start = Instant::now();
        let rate = settings.schedule.learning_rate(settings.optimizer.learning_rate, step, steps);
        let first = (step - 1) * per_step as u64;
        let chosen = batch_indices(packed.rows.len(), first, per_step, seed, Order::Shuffled);
        let rows: Vec<&TokenBatch> = chosen.iter().map(|i| &packed.rows[*i]).collect();
        let n_scored = rows.iter().map(|row| row.n_loss_tokens()).sum::<usize>().max(1);
        let (mut loss, mut n_tokens) = (0.0, 0);
        for row in rows {
            let part = BatchRows::new(row.clone());
            n_tokens += part.rows.tokens.len();
            let result = learner
                .pass(&part.rows, &part.scored(), Extras::default(), |_, _| -1.0 / n_scored as f32);
            loss -= result.log_probs.iter().map(|p| f64::from(*p)).sum::<f64>();
            if let Some(follower) = &mut follower {
                learner.lead(follower, (&part.rows, &part.scored(), &result.hidden), rate);
            }
        }
        let load = learner.worst_expert_load();
        let norm = learner.update(rate, settings.bias_update_speed);
        let loss = loss / n_scored as f64;
        if !loss.is_finite() || !norm.is_finite() {
            let what = if loss.is_finite() { "gradient" } else { "loss" };
            return Err(Error::Diverged { stage: stage.into(), step, what });
        }
        let mut figures = vec![(name::LOSS, loss)];
        figures.extend(follower.iter_mut().flat_map(Follower::figures));
        if figures.iter().any(|(_, value)| !value.is_finite()) {
            return Err(Error::Diverged { stage: stage.into(), step, what: "MTP loss" });
        }
        figures.extend(load.map(|load| (name::EXPERT_LOAD, load)));
        figures.extend([(name::GRAD_NORM, norm), (name::LEARNING_RATE, rate)]);
        pace.step(work, step, &figures, n_tokens, start.elapsed().as_secs_f64())?;
        let stop = work.wants_stop();
        if (stop && step < steps) || is_due(step, settings.checkpoint_every_steps) {
            work.save_step(stage, step, |dir| save(dir, &learner, follower.as_ref()))?;
        }
        if stop && step < steps {
            return Err(Error::Interrupted { stage: stage.into(), step });
        }
        if work.is_over() {
            work.end_by_time(stage, (step, steps), |dir| save(dir, &learner, follower.as_ref()))?;
            break;
        }
    }
    work.save_model(stage, &learner.model, &tokenizer, ChatFormat::R1)
}

fn save(dir: &Path, learner: &Learner, follower: Option<&Follower>) -> Result<(), Error> {
    learner.save(dir)?;
    follower.map_or(Ok(()), |follower| follower.save(dir))
}
