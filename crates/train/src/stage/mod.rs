//! The stages of a recipe, one file per kind, and what they share.

mod ablation;
mod evaluate;
mod examples;
mod grpo;
mod pretrain;
mod rejection;
mod samples;
mod sft;
mod tokenizer;

pub(crate) use evaluate::template_of;

use crate::error::Error;
use crate::learner::{Learner, open_model, precision_of, save_model};
use crate::logs::Logs;
use crate::metrics::Record;
use crate::mtp_follower::Follower;
use crate::progress::{Event, Observer, Remaining, Step};
use crate::prompts::{Fit, Prompts};
use crate::recipe::{
    FollowMtp, Kind, Optimizer as OptimizerSettings, Recipe, Stage, Template, is_path,
};
use crate::results::Models;
use crate::run_dir::{RunDir, State};
use fathom_checkpoint::atomic;
use fathom_model::{Model, Precision};
use fathom_text::{ChatFormat, Tokenizer, chat};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Everything a stage works with.
pub(crate) struct Work<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) dir: &'a RunDir,
    pub(crate) state: State,
    pub(crate) logs: Logs,
    pub(crate) observer: &'a mut dyn Observer,
    /// Figures of the models measured so far.
    pub(crate) results: Models,
    /// When this process began, and how long earlier ones worked.
    pub(crate) started: Instant,
    pub(crate) earlier_wall_s: f64,
    /// The most memory that earlier processes took.
    pub(crate) earlier_peak_rss_bytes: u64,
    /// When this process began with the stage under way, and how long earlier ones worked on it.
    pub(crate) stage_started: Instant,
    pub(crate) stage_earlier_ms: u64,
    /// The time limit of that stage.
    pub(crate) stage_minutes: Option<f64>,
}

/// Runs one stage from where the state says it stopped.
pub(crate) fn run(work: &mut Work, stage: &Stage) -> Result<(), Error> {
    match &stage.kind {
        Kind::Tokenizer(settings) => tokenizer::run(work, &stage.name, settings),
        Kind::Pretrain(settings) => pretrain::run(work, &stage.name, settings),
        Kind::Sft(settings) => sft::run(work, &stage.name, settings),
        Kind::Grpo(settings) => grpo::run(work, &stage.name, settings),
        Kind::Rejection(settings) => rejection::run(work, &stage.name, settings),
        Kind::Evaluate(settings) => evaluate::run(work, &stage.name, settings),
        Kind::Ablation(settings) => ablation::run(work, &stage.name, settings),
    }
}

/// A key of the run's randomness that belongs to one stage: the name decides, not the place.
pub(crate) fn stage_seed(recipe: &Recipe, stage: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ recipe.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in stage.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3); // FNV-1a
    }
    hash
}

impl Work<'_> {
    /// Precision of the recipe.
    pub(crate) fn precision(&self) -> Precision {
        precision_of(self.recipe.precision)
    }

    /// The directory that `from` stands for: a stage's outcome, or a path.
    pub(crate) fn source(&self, from: &str) -> PathBuf {
        if is_path(from) { self.source_folder(from) } else { self.dir.checkpoint(from) }
    }

    /// A path as typed, `~` being the home directory.
    pub(crate) fn source_folder(&self, path: &str) -> PathBuf {
        expand_home(path)
    }

    /// The tokenizer of the run: that of its tokenizer stage, or of the checkpoint a stage starts from.
    pub(crate) fn tokenizer(&self, from: Option<&str>) -> Result<Tokenizer, Error> {
        let own = self.recipe.stages.iter().find(|stage| matches!(stage.kind, Kind::Tokenizer(_)));
        let dir = match (from, own) {
            (Some(from), _) => self.source(from),
            (None, Some(stage)) => self.dir.checkpoint(&stage.name),
            (None, None) => {
                return Err(Error::Unfit {
                    stage: "tokenizer".into(),
                    found: "no tokenizer stage".into(),
                    expected: "one before pre-training".into(),
                    hint: Some("add a `[[stage]]` with `kind = \"tokenizer\"`".into()),
                });
            }
        };
        Ok(Tokenizer::open(dir.join("tokenizer.json"))?)
    }

    /// The model that `from` stands for.
    pub(crate) fn model(&self, from: &str) -> Result<Model, Error> {
        open_model(&self.source(from))
    }

    /// A learner for a stage: from its last step checkpoint, or fresh around what `start` makes.
    /// Also returns the number of steps done.
    pub(crate) fn learner(
        &self,
        stage: &str,
        settings: &OptimizerSettings,
        start: impl FnOnce() -> Result<Model, Error>,
    ) -> Result<(Learner, u64), Error> {
        let done = self.state.steps_done(stage);
        let learner = if done > 0 {
            let dir = self.dir.step_checkpoint(stage, done);
            Learner::open(&dir, self.precision(), settings).map_err(|error| {
                Error::StepCheckpoint { dir, stage: stage.into(), source: Box::new(error) }
            })?
        } else {
            Learner::new(start()?, self.precision(), settings)
        };
        Ok((learner.with_recompute(self.recipe.recompute), done))
    }

    /// What keeps the MTP module of a stage's model in step, from the stage's last step checkpoint on;
    /// none if there is nothing to follow.
    pub(crate) fn follower(
        &self,
        stage: &str,
        model: &Model,
        settings: FollowMtp,
        optimizer: &OptimizerSettings,
    ) -> Result<Option<Follower>, Error> {
        let Some(mut follower) = Follower::new(model, settings, optimizer) else {
            return Ok(None);
        };
        let done = self.state.steps_done(stage);
        if done > 0 {
            let dir = self.dir.step_checkpoint(stage, done);
            follower.load(&dir).map_err(|error| Error::StepCheckpoint {
                dir,
                stage: stage.into(),
                source: Box::new(error),
            })?;
        }
        Ok(Some(follower))
    }

    /// Saves a stage under way at `step`, so that a run killed from now on goes on there.
    pub(crate) fn save_step(
        &mut self,
        stage: &str,
        step: u64,
        save: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let before = self.state.steps_done(stage);
        if before == step {
            return Ok(());
        }
        atomic::write_dir_atomic(self.dir.step_checkpoint(stage, step), save)?;
        self.logs.sync()?;
        let worked_ms = self.stage_worked_ms();
        self.state.reach(stage, step, worked_ms);
        self.save_state()?;
        if before > 0 {
            remove_dir(&self.dir.step_checkpoint(stage, before));
        }
        Ok(())
    }

    /// Whether the stage under way has used up its time.
    pub(crate) fn is_over(&self) -> bool {
        self.stage_left_s().is_some_and(|left| left < 0.0)
    }

    /// Seconds until the time of the stage under way is used up; negative after that.
    fn stage_left_s(&self) -> Option<f64> {
        self.stage_minutes.map(|minutes| 60.0 * minutes - self.stage_worked_ms() as f64 / 1e3)
    }

    /// Keeps a stage that its time ends at `step` in a form in which more time can go on with it.
    pub(crate) fn end_by_time(
        &mut self,
        stage: &str,
        (step, steps): (u64, u64),
        save: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if step < steps {
            self.save_step(stage, step, save)?;
            // It may have been saved a moment ago, when its time was not up yet.
            let worked_ms = self.stage_worked_ms();
            self.state.reach(stage, step, worked_ms);
            self.state.end_by_time();
            self.note(format!("`{stage}` ends by its time, after {step} of {steps} steps"));
        }
        Ok(())
    }

    fn stage_worked_ms(&self) -> u64 {
        self.stage_earlier_ms + self.stage_started.elapsed().as_millis() as u64
    }

    /// Writes the outcome of a stage: a Hugging Face directory.
    pub(crate) fn save_model(
        &self,
        stage: &str,
        model: &Model,
        tokenizer: &Tokenizer,
        format: ChatFormat,
    ) -> Result<(), Error> {
        atomic::write_dir_atomic(self.dir.checkpoint(stage), |dir: &Path| -> Result<(), Error> {
            save_model(model, dir)?;
            tokenizer.save(dir.join("tokenizer.json"))?;
            let config = &model.config;
            let text = chat::tokenizer_config_json(format, config.max_position_embeddings);
            write_text(&dir.join("tokenizer_config.json"), &text)?;
            let generation = serde_json::json!({
                "bos_token_id": config.bos_token_id,
                "eos_token_id": config.eos_token_id,
                "do_sample": true,
                "temperature": 0.6,
                "top_p": 0.95,
            });
            write_text(&dir.join("generation_config.json"), &format!("{generation:#}\n"))
        })
    }

    /// The questions of the run's task; every stage sees the same split.
    pub(crate) fn prompts(&mut self, stage: &str) -> Result<Prompts, Error> {
        let observer = &mut *self.observer;
        let mut note = |text| observer.event(&Event::Note(text));
        Prompts::open(&self.recipe.task, self.recipe.seed, stage, &mut note)
    }

    /// As [`Work::prompts`], without training questions that do not fit the model.
    pub(crate) fn fitting_prompts(&mut self, fit: &Fit) -> Result<Prompts, Error> {
        let mut prompts = self.prompts(fit.stage)?;
        prompts.keep_fitting(fit, &mut |text| self.observer.event(&Event::Note(text)))?;
        Ok(prompts)
    }

    /// Saves the state with the time worked so far.
    pub(crate) fn save_state(&mut self) -> Result<(), Error> {
        self.state.wall_s = self.earlier_wall_s + self.started.elapsed().as_secs_f64();
        Ok(self.dir.save_state(&self.state)?)
    }

    /// Whether the run was asked to stop.
    pub(crate) fn wants_stop(&self) -> bool {
        self.observer.wants_stop()
    }

    pub(crate) fn note(&mut self, text: String) {
        self.observer.event(&Event::Note(text));
    }
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    Ok(atomic::write_atomic(path, |out: &mut dyn std::io::Write| out.write_all(text.as_bytes()))?)
}

/// A path as typed, `~` being the home directory.
pub(crate) fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// Removes a directory that is no longer needed; what cannot be removed only takes space.
fn remove_dir(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
}

/// The chat format of a model trained with a template.
pub(crate) fn format_of(template: Template) -> ChatFormat {
    crate::prompts::chat_format(template)
}

/// The steps of a stage: figures to the logs, progress to the observer.
pub(crate) struct Pace {
    stage: String,
    of: u64,
    started: Instant,
    remaining: Remaining,
}

impl Pace {
    pub(crate) fn new(stage: &str, of: u64) -> Self {
        Pace { stage: stage.into(), of, started: Instant::now(), remaining: Remaining::default() }
    }

    /// Records a finished step. `shown` are the figures for people, the most telling first.
    pub(crate) fn step(
        &mut self,
        work: &mut Work,
        step: u64,
        figures: &[(&'static str, f64)],
        n_tokens: usize,
        seconds: f64,
    ) -> Result<(), Error> {
        self.step_at(work, (step, step), figures, n_tokens, seconds)
    }

    /// As [`Pace::step`], for a stage that runs its steps more than once: the step in the logs, and
    /// its place among all.
    pub(crate) fn step_at(
        &mut self,
        work: &mut Work,
        (step, place): (u64, u64),
        figures: &[(&'static str, f64)],
        n_tokens: usize,
        seconds: f64,
    ) -> Result<(), Error> {
        work.logs.metrics(&Record::new(&self.stage, step, figures))?;
        let tokens_per_s = n_tokens as f64 / seconds.max(1e-9);
        let timing = [("tokens_per_s", tokens_per_s), ("step_s", seconds)];
        work.logs.timing(&Record::new(&self.stage, step, &timing))?;
        let remaining_s =
            self.remaining.after(place, self.of, self.started.elapsed().as_secs_f64());
        let left_s = work.stage_left_s().map(|left| left.max(0.0));
        let remaining_s = [remaining_s, left_s].into_iter().flatten().reduce(f64::min);
        work.observer.event(&Event::Step(Step {
            stage: self.stage.clone(),
            step: place,
            of: self.of,
            figures: figures.to_vec(),
            tokens_per_s,
            remaining_s,
        }));
        Ok(())
    }
}

/// Whether a step is one of every `every`; 0 is never.
pub(crate) fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
