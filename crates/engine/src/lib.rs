//! Turning a model into sequences of tokens: block ownership, sampling, batched rollouts, streaming.
//!
//! This room never sees a string: token ids in, token ids and log-probabilities out.
#![forbid(unsafe_code)]

pub mod bench;
pub mod blocks;
mod error;
pub mod generate;
pub mod prefix;
pub mod rollout;
pub mod sampler;
pub mod service;
pub mod speculate;
#[cfg(test)]
mod tiny;

pub use error::Error;
pub use generate::{Drawn, GenerateRequest, Generated, Session};
pub use rollout::{Answer, Finish, Request, Rollout, rollout};
pub use sampler::Sampling;
pub use speculate::{DraftCounts, Drafting};
