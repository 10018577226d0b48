//! Training: recipes and their stages, what a run records of itself, and how it is shown.

#![forbid(unsafe_code)]

pub mod json_lines;
pub mod logs;
pub mod metrics;
pub mod progress;
pub mod recipe;
pub mod results;
pub mod run_dir;
pub mod schedule;
pub mod tensorboard;
