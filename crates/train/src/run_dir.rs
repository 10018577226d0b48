//! The run directory: where everything of a run stands, who may write there, and how far it got.
//!
//! ```text
//! runs/<name>/recipe.toml            the complete recipe
//!             state.json             stages done and the step in flight
//!             metrics.jsonl          figures per step (same bytes, interrupted or not)
//!             timing.jsonl           speeds and times per step
//!             samples.jsonl          sampled answers
//!             tensorboard/           event files
//!             checkpoints/<stage>/   Hugging Face directories
//!             results.json           figures of every evaluated model
//!             report.html            the same for people
//! ```

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::recipe::{Difference, Recipe, RecipeError};

/// What can be wrong with a run directory.
#[derive(Debug)]
pub enum RunDirError {
    /// Another process works in it.
    Locked { root: PathBuf },
    /// A run of the same recipe is there, and resuming it was not asked for.
    Exists { root: PathBuf },
    /// A run of another recipe is there.
    OtherRecipe { root: PathBuf, differences: Vec<Difference> },
    /// Files that are no run of ours.
    NotARun { root: PathBuf, found: String },
    /// Nothing has been trained there yet.
    NoModel { root: PathBuf },
    /// `recipe.toml` of the run cannot be used.
    Recipe { path: PathBuf, source: Box<RecipeError> },
    /// `state.json` cannot be understood.
    State { path: PathBuf, source: serde_json::Error },
    /// `state.json` names a stage that the recipe has not.
    UnknownStage { path: PathBuf, stage: String },
    /// An atomic write failed.
    Write(fathom_checkpoint::Error),
    /// The system refused something.
    File { path: PathBuf, doing: &'static str, source: std::io::Error },
}

/// Whether a run may go on where an earlier process stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Only in a new or empty directory.
    New,
    /// Where the directory's run of the same recipe stopped; from the start if there is none.
    Resume,
}

/// How far a run got; saved beside every checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Stages that are complete, in order.
    pub done: Vec<String>,
    /// The stage under way and its last step with a checkpoint.
    pub in_flight: Option<InFlight>,
    /// The stage that its `minutes` ended before its steps did, as long as no later one trained.
    #[serde(default)]
    pub ended_by_time: Option<InFlight>,
    /// Seconds that all processes of the run worked so far.
    pub wall_s: f64,
}

/// A stage that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// Name of the stage.
    pub stage: String,
    /// Steps that are done and saved.
    pub step: u64,
    /// Milliseconds that all processes worked on them.
    #[serde(default)]
    pub worked_ms: u64,
}

impl State {
    /// Whether a step of a stage lies before the point where the run goes on.
    pub fn covers(&self, stage: &str, step: u64) -> bool {
        self.is_done(stage)
            || self.in_flight.as_ref().is_some_and(|at| at.stage == stage && step <= at.step)
    }

    /// Whether a stage is complete.
    pub fn is_done(&self, stage: &str) -> bool {
        self.done.iter().any(|done| done == stage)
    }

    /// The steps of a stage that need not be done again.
    pub fn steps_done(&self, stage: &str) -> u64 {
        self.in_flight.as_ref().filter(|at| at.stage == stage).map_or(0, |at| at.step)
    }

    /// The milliseconds that went into those steps.
    pub fn worked_ms(&self, stage: &str) -> u64 {
        self.in_flight.as_ref().filter(|at| at.stage == stage).map_or(0, |at| at.worked_ms)
    }

    /// Notes that a step is saved.
    pub fn reach(&mut self, stage: &str, step: u64, worked_ms: u64) {
        self.in_flight = Some(InFlight { stage: stage.to_owned(), step, worked_ms });
    }

    /// Notes that the stage under way will not reach its last step in its time; `finish` follows.
    pub fn end_by_time(&mut self) {
        self.ended_by_time = self.in_flight.clone();
    }

    /// Opens the stage again that its time ended, if it has more now and nothing was begun from
    /// its model. Stages after it, which measured that model, are to be done again.
    pub fn reopen(&mut self, recipe: &Recipe) -> Option<&InFlight> {
        let ended = self.ended_by_time.as_ref().filter(|_| self.in_flight.is_none())?;
        let minutes = recipe.stage(&ended.stage)?.kind.minutes();
        if minutes.is_some_and(|minutes| minutes * 60_000.0 <= ended.worked_ms as f64) {
            return None;
        }
        let place = self.done.iter().position(|done| *done == ended.stage)?;
        self.done.truncate(place);
        self.in_flight = self.ended_by_time.take();
        self.in_flight.as_ref()
    }

    /// Notes that a stage is complete.
    pub fn finish(&mut self, stage: &str) {
        self.in_flight = None;
        self.done.push(stage.to_owned());
    }
}

/// An open run directory; no other process can open it while this value lives.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Opens `root` for a run of `recipe`, creating what is missing, and says how far it got.
    ///
    /// Errors: `Locked`, `Exists`, `OtherRecipe`, `NotARun`; nothing in the directory is changed
    /// in these cases. `File` or `Write` if the directory cannot be written.
    pub fn open(
        root: impl Into<PathBuf>,
        recipe: &Recipe,
        start: Start,
    ) -> Result<(RunDir, State), RunDirError> {
        let root = root.into();
        // Looked at before the lock file is put there: a folder that is no run stays untouched.
        check_is_ours(&root)?;
        std::fs::create_dir_all(&root).map_err(|source| file_error(&root, "create", source))?;
        let dir = RunDir { _lock: lock(&root)?, root };
        let mut state = match dir.saved_recipe()? {
            Some(saved) => {
                let differences = saved.differences(recipe);
                if !differences.is_empty() {
                    return Err(RunDirError::OtherRecipe { root: dir.root, differences });
                }
                if start == Start::New {
                    return Err(RunDirError::Exists { root: dir.root });
                }
                read_state(&dir.root, recipe)?
            }
            None => State::default(),
        };
        for sub in ["checkpoints", "tensorboard"] {
            let path = dir.root.join(sub);
            std::fs::create_dir_all(&path).map_err(|e| file_error(&path, "create", e))?;
        }
        // A step checkpoint that a person removed, since it was damaged, begins its stage again.
        let is_there = |at: &InFlight| dir.step_checkpoint(&at.stage, at.step).is_dir();
        state.in_flight = state.in_flight.filter(is_there);
        state.ended_by_time = state.ended_by_time.filter(is_there);
        dir.clear_leftovers(recipe, &state)?;
        dir.save_state(&state)?;
        dir.write(&dir.recipe(), recipe.resolved().as_bytes())?;
        Ok((dir, state))
    }

    /// Replaces `state.json`; checkpoints and logs of that point must be on the disk before.
    pub fn save_state(&self, state: &State) -> Result<(), RunDirError> {
        let mut text = serde_json::to_vec_pretty(state)
            .map_err(|source| RunDirError::State { path: self.state(), source })?;
        text.push(b'\n');
        self.write(&self.state(), &text)
    }

    /// Replaces a file of the run, whole or not at all.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
        fathom_checkpoint::atomic::write_atomic(path, |out: &mut dyn Write| out.write_all(bytes))
            .map_err(RunDirError::Write)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The complete recipe.
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// How far the run got.
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// Figures per step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// Speeds and times per step.
    pub fn timing(&self) -> PathBuf {
        self.root.join("timing.jsonl")
    }

    /// Sampled answers.
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples.jsonl")
    }

    /// The TensorBoard event file; the name carries the word that TensorBoard looks for.
    pub fn events(&self) -> PathBuf {
        self.root.join("tensorboard").join("events.out.tfevents.0.fathom")
    }

    /// Figures of every evaluated model.
    pub fn results(&self) -> PathBuf {
        self.root.join("results.json")
    }

    /// The report for people.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// The folder of a stage's outcome.
    pub fn checkpoint(&self, stage: &str) -> PathBuf {
        checkpoint_of(&self.root, stage)
    }

    /// The folder of an unfinished stage at a step, optimizer state included.
    pub fn step_checkpoint(&self, stage: &str, step: u64) -> PathBuf {
        self.root.join("checkpoints").join(format!("{stage}.step-{step}"))
    }

    /// Finishes or removes what a killed process left half done: temporary files, and step
    /// checkpoints that the state does not go on from. What cannot be removed only takes space.
    fn clear_leftovers(&self, recipe: &Recipe, state: &State) -> Result<(), RunDirError> {
        for stage in &recipe.stages {
            fathom_checkpoint::atomic::recover_dir(self.checkpoint(&stage.name))
                .map_err(RunDirError::Write)?;
        }
        let kept: Vec<PathBuf> = [&state.in_flight, &state.ended_by_time]
            .into_iter()
            .flatten()
            .map(|at| self.step_checkpoint(&at.stage, at.step))
            .collect();
        for path in entries(&self.root.join("checkpoints")) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_step = recipe.stages.iter().any(|stage| {
                let step =
                    name.strip_prefix(&stage.name).and_then(|rest| rest.strip_prefix(".step-"));
                step.is_some_and(|step| step.parse::<u64>().is_ok())
            });
            if is_temporary(&name) || (is_step && !kept.contains(&path)) {
                let _ = std::fs::remove_dir_all(&path);
            }
        }
        for path in entries(&self.root) {
            if is_temporary(&path.file_name().unwrap_or_default().to_string_lossy()) {
                let _ = std::fs::remove_file(&path);
            }
        }
        Ok(())
    }

    fn saved_recipe(&self) -> Result<Option<Recipe>, RunDirError> {
        let path = self.recipe();
        if path.exists() { read_recipe(&self.root).map(Some) } else { Ok(None) }
    }
}

/// The outcome of a stage in a run directory.
pub fn checkpoint_of(root: &Path, stage: &str) -> PathBuf {
    root.join("checkpoints").join(stage)
}

/// Whether a directory holds a run.
pub fn is_run_dir(root: &Path) -> bool {
    root.join("recipe.toml").is_file() && root.join("state.json").is_file()
}

/// The stage whose model a run directory stands for: `main_model` of its recipe once it is
/// trained, before that the newest trained one. Needs no lock.
///
/// Errors: `NoModel` while nothing is trained; `Recipe`, `State`, `File` if the run is damaged.
pub fn model_stage(root: &Path) -> Result<String, RunDirError> {
    let recipe = read_recipe(root)?;
    let state = read_state(root, &recipe)?;
    if state.is_done(&recipe.main_model) {
        return Ok(recipe.main_model);
    }
    let makes_model = |name: &&String| recipe.stage(name).is_some_and(|s| s.kind.makes_model());
    let newest = state.done.iter().rev().find(makes_model).cloned();
    newest.ok_or_else(|| RunDirError::NoModel { root: root.to_owned() })
}

/// The recipe of a run directory.
///
/// Errors: `File` if there is none, `Recipe` if it cannot be used.
pub fn read_recipe(root: &Path) -> Result<Recipe, RunDirError> {
    let path = root.join("recipe.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| file_error(&path, "read", e))?;
    Recipe::parse(&text, &[]).map_err(|error| RunDirError::Recipe { path, source: Box::new(error) })
}

/// `state.json` of a run, or the start where there is none yet.
fn read_state(root: &Path, recipe: &Recipe) -> Result<State, RunDirError> {
    let path = root.join("state.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::default()),
        Err(source) => return Err(file_error(&path, "read", source)),
    };
    let state: State = match serde_json::from_slice(&bytes) {
        Ok(state) => state,
        Err(source) => return Err(RunDirError::State { path, source }),
    };
    let in_flight = state.in_flight.iter().map(|at| &at.stage);
    let unknown = state.done.iter().chain(in_flight).find(|stage| recipe.stage(stage).is_none());
    match unknown.cloned() {
        Some(stage) => Err(RunDirError::UnknownStage { path, stage }),
        None => Ok(state),
    }
}

/// Refuses a folder with files but without a recipe. Hidden files and `state.json` may stand
/// alone: they are what a process leaves that is killed while it creates the run.
fn check_is_ours(root: &Path) -> Result<(), RunDirError> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(file_error(root, "open", source)),
    };
    let mut foreign = None;
    for entry in entries {
        let entry = entry.map_err(|source| file_error(root, "read", source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match name.as_str() {
            "recipe.toml" => return Ok(()),
            "state.json" | "checkpoints" | "tensorboard" => {}
            _ if name.starts_with('.') => {}
            _ => foreign = Some(name),
        }
    }
    foreign.map_or(Ok(()), |found| Err(RunDirError::NotARun { root: root.to_owned(), found }))
}

/// Paths in a folder; none where it cannot be read.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// Whether a name is one of those under which `checkpoint::atomic` writes.
fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && (name.ends_with(".tmp") || name.ends_with(".old"))
}

/// The lock lives in the open file, so it ends with the process however that ends.
fn lock(root: &Path) -> Result<File, RunDirError> {
    let path = root.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| file_error(&path, "create", source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunDirError::Locked { root: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(file_error(&path, "lock", source)),
    }
}

fn file_error(path: &Path, doing: &'static str, source: std::io::Error) -> RunDirError {
    RunDirError::File { path: path.to_owned(), doing, source }
}

impl fmt::Display for RunDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunDirError::Locked { root } => {
                write!(
                    f,
                    "another process is training in `{}`\nhint: wait for it, or choose another directory with `--out DIR`",
                    root.display()
                )
            }
            RunDirError::Exists { root } => {
                write!(
                    f,
                    "`{}` already holds this run\nhint: add `--resume` to go on with it, or choose another directory with `--out DIR`",
                    root.display()
                )
            }
            RunDirError::OtherRecipe { root, differences } => {
                write!(f, "`{}` holds a run of another recipe", root.display())?;
                const SHOWN: usize = 8;
                for difference in differences.iter().take(SHOWN) {
                    let there = difference.first.as_deref().unwrap_or("not set");
                    let asked = difference.second.as_deref().unwrap_or("not set");
                    write!(f, "\n  {}: {there} there, {asked} asked for", difference.key)?;
                }
                if differences.len() > SHOWN {
                    write!(f, "\n  … and {} more", differences.len() - SHOWN)?;
                }
                write!(f, "\nhint: choose another directory with `--out DIR`")
            }
            RunDirError::NotARun { root, found } => {
                write!(
                    f,
                    "`{}` is not empty and not a run: it holds `{found}`\nhint: choose another directory with `--out DIR`",
                    root.display()
                )
            }
            RunDirError::NoModel { root } => {
                write!(
                    f,
                    "the run `{}` has no trained model yet\nhint: `fathom train` with `--resume` goes on with it",
                    root.display()
                )
            }
            RunDirError::Recipe { path, source } => write!(f, "`{}`: {source}", path.display()),
            RunDirError::State { path, source } => {
                write!(f, "`{}` cannot be understood: {source}", path.display())
            }
            RunDirError::UnknownStage { path, stage } => {
                write!(
                    f,
                    "`{}` names stage `{stage}`, which the recipe beside it does not have",
                    path.display()
                )
            }
            RunDirError::Write(source) => write!(f, "{source}"),
            RunDirError::File { path, doing, source } => {
                write!(f, "cannot {doing} `{}`: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for RunDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunDirError::Recipe { source, .. } => Some(source.as_ref()),
            RunDirError::State { source, .. } => Some(source),
            RunDirError::Write(source) => Some(source),
            RunDirError::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
