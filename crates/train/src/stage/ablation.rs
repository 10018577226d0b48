//! What the aux-loss-free bias update does: the same training with and without it, side by side.

use super::pretrain::{at_stage, config_of, train_step};
use super::{Pace, Work, stage_seed};
use crate::corpus::Corpus;
use crate::error::Error;
use crate::learner::Learner;
use crate::metrics::name;
use crate::recipe::{Ablation, Pretrain};
use crate::results::ModelResult;
use fathom_data::pack::{BatchPlan, Mask, Order};
use fathom_model::Model;
use std::time::Instant;

/// Last steps whose load is averaged for the table.
const LAST_STEPS: usize = 20;

pub(super) fn run(work: &mut Work, stage: &str, settings: &Ablation) -> Result<(), Error> {
    let tokenizer = work.tokenizer(None)?;
    let seed = stage_seed(work.recipe, stage);
    let corpus = Corpus::open(work, &settings.data, None)?;
    let batch_tokens = settings.batch_sequences * settings.sequence_tokens;
    let set = corpus.train_tokens(&tokenizer, settings.steps as usize * batch_tokens, 0.0)?;
    let plan = BatchPlan {
        batch_sequences: settings.batch_sequences,
        sequence_tokens: settings.sequence_tokens,
        seed,
        order: Order::Shuffled,
        mask: Mask::Documents,
    };
    let mut pace = Pace::new(stage, 2 * settings.steps);
    for (arm, speed, figure) in [
        ("with-bias", settings.bias_update_speed, name::EXPERT_LOAD),
        ("without-bias", 0.0, name::EXPERT_LOAD_WITHOUT_BIAS),
    ] {
        let config = config_of(work, stage, &settings.model, &tokenizer, settings.sequence_tokens)?;
        let model = Model::random(config, seed)
            .map_err(|source| Error::Model { what: settings.model.clone(), source })?;
        let learner = Learner::new(model, work.precision(), &settings.optimizer);
        let mut learner = learner.with_recompute(work.recipe.recompute);
        // Only the bias update differs: neither arm has a balance loss.
        let training = Pretrain {
            bias_update_speed: speed,
            balance_alpha: 0.0,
            mtp_weight: 0.0,
            ..Pretrain::default()
        };
        let (mut loads, mut loss) = (Vec::new(), 0.0);
        for step in 1..=settings.steps {
            let start = Instant::now();
            let rate = settings.schedule.learning_rate(
                settings.optimizer.learning_rate,
                step,
                settings.steps,
            );
            let figures = train_step(&mut learner, &set, &plan, step, &training, rate)
                .map_err(|error| at_stage(error, stage))?;
            let of =
                |wanted: &str| figures.iter().find(|(name, _)| *name == wanted).map(|(_, v)| *v);
            loss = of(name::LOSS).unwrap_or(f64::NAN);
            loads.extend(of(name::EXPERT_LOAD));
            let load = loads.last().copied().unwrap_or(f64::NAN);
            let shown = [(figure, load), (name::LOSS, loss)];
            let shown = if speed > 0.0 { &shown[..] } else { &shown[..1] };
            let place = if speed > 0.0 { step } else { settings.steps + step };
            pace.step_at(work, (step, place), shown, batch_tokens, start.elapsed().as_secs_f64())?;
            if work.wants_stop() {
                return Err(Error::Interrupted { stage: stage.into(), step: 0 });
            }
        }
        let last = &loads[loads.len().saturating_sub(LAST_STEPS)..];
        let mean = last.iter().sum::<f64>() / last.len().max(1) as f64;
        let result = ModelResult { n: settings.steps, ..ModelResult::default() }
            .with(name::LOSS, loss)
            .with(name::EXPERT_LOAD, mean);
        work.results.0.retain(|(name, _)| name != arm);
        work.results.0.push((arm.to_string(), result));
    }
    Ok(())
}
