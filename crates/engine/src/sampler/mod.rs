//! Choosing the next token.
//!
//! Order of the steps: the mask of a constraint, logit bias, repetition penalty, frequency and presence penalties,
//! temperature, top-k, top-p, min-p, the draw.
//!
//! Why this order. Bias and penalties speak about the model's own logits, so they come before the
//! temperature: the same penalty then means the same at every temperature, and greedy answers obey
//! it. Bias precedes the penalties, and the repetition penalty the two that subtract, as in vLLM.
//! What is cut off is decided on the tempered distribution, each cut on what the one before left:
//! top-k, top-p, min-p, as in Hugging Face `transformers` (vLLM cuts by min-p first; llama.cpp
//! tempers last). Min-p compares with the most likely token, which no cut removes, so only its
//! place after top-p shows in results.
//!
//! A mask comes first, because a constraint says what may come at all: the cuts then choose among what
//! is allowed, and never leave nothing of it.
//!
//! The draw is a function of the seed and the key of the position, so it does not depend on what
//! else runs. Ids of `vocab_limit` and above are padding and never drawn.

mod adjust;
mod by_sorting;
mod cut;
mod draw;
pub mod log_probs;
mod ranked;
mod settings;
#[cfg(test)]
mod tests;

pub use adjust::History;
pub use draw::{Draw, choose, choose_masked, draw};
pub use log_probs::LogProbs;
pub use settings::Sampling;
