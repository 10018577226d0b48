//! What training minimises, as functions of log-probabilities.

pub mod grpo;
