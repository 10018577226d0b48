//! Steps that look at single tokens: logit bias and the penalties on what was said before.
//!
//! Source: repetition penalty, Keskar et al., "CTRL", arXiv:1909.05858, section 4.1, with the sign
//! rule of Hugging Face `transformers`; frequency and presence penalties, the OpenAI API.

use super::settings::Sampling;
use std::collections::BTreeMap;

/// Which tokens came before, and how often in the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// How often the answer holds each token; 0 for one that only the prompt holds.
    counts: BTreeMap<u32, u32>,
}

impl History {
    /// The history of an answer that has not begun.
    pub fn new(prompt: &[u32]) -> History {
        History { counts: prompt.iter().map(|id| (*id, 0)).collect() }
    }

    /// As [`History::new`]; empty if nothing would look at it.
    pub(crate) fn for_sampling(sampling: &Sampling, prompt: &[u32]) -> History {
        if sampling.has_penalties() { History::new(prompt) } else { History::default() }
    }

    /// A token of the answer.
    pub fn push(&mut self, token: u32) {
        *self.counts.entry(token).or_default() += 1;
    }
}

/// Whether [`adjust`] would change anything.
pub(super) fn adjusts(sampling: &Sampling) -> bool {
    sampling.has_penalties() || !sampling.logit_bias.is_empty()
}

/// Applies bias and penalties to `logits` [V]; ids outside are passed over.
pub(super) fn adjust(logits: &mut [f32], sampling: &Sampling, history: &History) {
    for (id, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(*id as usize) {
            *logit += bias;
        }
    }
    if !sampling.has_penalties() {
        return;
    }
    let penalty = sampling.repetition_penalty;
    for (id, count) in &history.counts {
        let Some(logit) = logits.get_mut(*id as usize) else { continue };
        *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        if *count > 0 {
            *logit -= *count as f32 * sampling.frequency_penalty;
            *logit -= sampling.presence_penalty;
        }
    }
}
