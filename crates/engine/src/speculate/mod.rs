//! Speculative decoding: cheap guesses at the next tokens, checked by the model in one pass.
//!
//! A pass over the last token and k guesses gives the logits after each of them. At every place the
//! token is drawn from the model's own logits with the number that belongs to the place, as without
//! guesses; while it is the one that was guessed, the next row counts too. So an answer is the same,
//! to the bit, whatever was guessed: rows do not see their neighbours in a pass, and a draw depends
//! on its logits, the settings, the seed and its place only.
//!
//! This is rejection sampling (Leviathan et al., arXiv:2211.17192) with the guess and the draw tied
//! together by their random number. Where we differ: nothing is drawn from the difference of two
//! distributions, so it is not only the distribution that stays the same but the answer itself. For
//! a guess that involves no chance, both accept equally often.

mod lookup;
mod mtp;
mod pace;
#[cfg(test)]
mod tests;

pub(crate) use lookup::Lookup;
pub(crate) use mtp::{Ahead, MtpRows, Sequence};
pub(crate) use pace::Pace;

use crate::error::Error;
use fathom_model::Model;
use fathom_model::cache::CacheSpec;

/// Most tokens guessed at a time by the MTP module unless something else is asked for.
pub const MTP_TOKENS: usize = 3;
/// Most tokens guessed at a time by lookup unless something else is asked for.
pub const LOOKUP_TOKENS: usize = 8;
/// Most tokens guessed at a time.
pub const MAX_DRAFT_TOKENS: usize = 16;

/// Where guesses come from. No setting changes an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drafting {
    /// Nowhere: one token per pass.
    #[default]
    Off,
    /// From the model's MTP module, which is applied to its own output for every guess but the first.
    Mtp {
        /// Most tokens guessed at a time.
        n_tokens: usize,
        /// Guess fewer, or none, while that is measured to be faster.
        adaptive: bool,
    },
    /// From the text so far: what followed the last tokens when they stood there before.
    Lookup {
        /// Most tokens guessed at a time.
        n_tokens: usize,
        /// Guess fewer, or none, while that is measured to be faster.
        adaptive: bool,
    },
    /// The module if the model has one, else lookup; adaptive.
    Auto,
}

impl Drafting {
    /// What [`Drafting::Auto`] means for a model and its cache; else the setting itself.
    pub fn resolved(self, model: &Model, spec: CacheSpec) -> Drafting {
        match self {
            Drafting::Auto if model.has_mtp() && spec.n_mtp_layers > 0 => {
                Drafting::Mtp { n_tokens: MTP_TOKENS, adaptive: true }
            }
            Drafting::Auto => Drafting::Lookup { n_tokens: LOOKUP_TOKENS, adaptive: true },
            other => other,
        }
    }

    /// Errors: more than [`MAX_DRAFT_TOKENS`] at a time, or none; a module that is not there.
    pub(crate) fn check(self, model: &Model, spec: CacheSpec) -> Result<(), Error> {
        let (Drafting::Mtp { n_tokens, .. } | Drafting::Lookup { n_tokens, .. }) = self else {
            return Ok(());
        };
        if !(1..=MAX_DRAFT_TOKENS).contains(&n_tokens) {
            return Err(Error::DraftTokens { value: n_tokens });
        }
        let has_module = model.has_mtp() && spec.n_mtp_layers > 0;
        match self {
            Drafting::Mtp { .. } if !has_module => Err(Error::NoMtp),
            _ => Ok(()),
        }
    }
}

/// What guesses cost and brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DraftCounts {
    /// Passes of the model after the prompt.
    pub n_passes: usize,
    /// Tokens guessed.
    pub n_drafted: usize,
    /// Guesses that became tokens of the answer.
    pub n_accepted: usize,
}

impl DraftCounts {
    /// The share of guesses that became tokens; none without a guess.
    pub fn acceptance(&self) -> Option<f64> {
        (self.n_drafted > 0).then(|| self.n_accepted as f64 / self.n_drafted as f64)
    }
}
