//! What can go wrong in a run, each with the part that knows how to say it.

use crate::recipe::RecipeError;
use crate::run_dir::RunDirError;
use std::fmt;
use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug)]
pub enum Error {
    /// The recipe cannot work.
    Recipe(RecipeError),
    /// The run directory refuses.
    RunDir(RunDirError),
    /// A model cannot be built, read or written.
    Model { what: String, source: fathom_model::Error },
    /// A checkpoint file cannot be read or written.
    Checkpoint(fathom_checkpoint::Error),
    /// A tokenizer or a text cannot be used.
    Text(fathom_text::Error),
    /// The step checkpoint that a stage would go on from cannot be used.
    StepCheckpoint { dir: PathBuf, stage: String, source: Box<Error> },
    /// Training data cannot be used.
    Data(fathom_data::error::Error),
    /// A stage asks for what its inputs do not have.
    Unfit { stage: String, found: String, expected: String, hint: Option<String> },
    /// A loss or gradient became infinite or not a number.
    Diverged { stage: String, step: u64, what: &'static str },
    /// A file of ours does not hold what it should.
    Damaged { path: PathBuf, found: String, expected: &'static str },
    /// The run was asked to stop; everything up to `step` is saved.
    Interrupted { stage: String, step: u64 },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Recipe(error) => error.fmt(f),
            Error::RunDir(error) => error.fmt(f),
            Error::Model { what, source } => write!(f, "model `{what}`: {source}"),
            Error::Checkpoint(error) => error.fmt(f),
            Error::Text(error) => error.fmt(f),
            Error::StepCheckpoint { dir, stage, source } => {
                let text = source.to_string();
                let what = text.split("\nhint: ").next().unwrap_or_default();
                write!(
                    f,
                    "stage `{stage}` cannot go on: {what}\n\
                     hint: remove the folder `{}` and resume again: the stage begins anew",
                    dir.display()
                )
            }
            Error::Data(error) => error.fmt(f),
            Error::Unfit { stage, found, expected, hint } => {
                write!(f, "stage `{stage}`: found {found}, expected {expected}")?;
                hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
            }
            Error::Diverged { stage, step, what } => write!(
                f,
                "stage `{stage}` diverged at step {step}: the {what} is not finite\n\
                 hint: lower `{stage}.optimizer.learning_rate` or lengthen the warm-up"
            ),
            Error::Damaged { path, found, expected } => {
                write!(f, "`{}`: found {found}, expected {expected}", path.display())
            }
            Error::Interrupted { stage, step } => {
                write!(f, "interrupted in stage `{stage}`; steps up to {step} are saved")
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<RecipeError> for Error {
    fn from(error: RecipeError) -> Self {
        Error::Recipe(error)
    }
}

impl From<RunDirError> for Error {
    fn from(error: RunDirError) -> Self {
        Error::RunDir(error)
    }
}

impl From<fathom_checkpoint::Error> for Error {
    fn from(error: fathom_checkpoint::Error) -> Self {
        Error::Checkpoint(error)
    }
}

impl From<fathom_text::Error> for Error {
    fn from(error: fathom_text::Error) -> Self {
        Error::Text(error)
    }
}

impl From<fathom_data::error::Error> for Error {
    fn from(error: fathom_data::error::Error) -> Self {
        Error::Data(error)
    }
}
