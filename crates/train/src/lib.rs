//! Training: recipes and their stages, what a run records of itself, and how it is shown.

#![forbid(unsafe_code)]

pub mod advantage;
pub mod answers;
pub mod bench;
mod check;
mod corpus;
pub mod error;
pub mod eval;
pub mod json_lines;
pub mod learner;
pub mod logs;
pub mod metrics;
pub mod mtp_follower;
pub mod objective;
pub mod optim;
pub mod progress;
pub mod prompts;
pub mod recipe;
pub mod report;
pub mod results;
pub mod reward;
pub mod run;
pub mod run_dir;
pub mod schedule;
mod stage;
pub mod tensorboard;

pub use error::Error;
pub use run::run;
