//! How tokens are chosen: the settings and their ranges.

use crate::error::Error;
use std::collections::BTreeMap;

/// Below this temperature the most likely token is taken: a division by less would leave the range
/// of f32.
const GREEDY_BELOW: f32 = 1e-5;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; below 0.00001 the most likely token is taken.
    pub temperature: f32,
    /// Only the most likely tokens; 0 is all.
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability; 1 is all.
    pub top_p: f32,
    /// Only tokens at least this times as likely as the most likely one; 0 is all.
    pub min_p: f32,
    /// Divides the logits of tokens that the prompt or the answer holds if they are positive,
    /// multiplies them if not; 1 does nothing.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit once for each time the answer holds it.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of every token that the answer holds.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Seed of all draws.
    pub seed: u64,
    /// Most tokens of an answer, the stop token included.
    pub max_new_tokens: usize,
    /// Tokens that end an answer.
    pub stop_ids: Vec<u32>,
    /// Ids from here on are padding of the vocabulary and never drawn.
    pub vocab_limit: usize,
}

impl Sampling {
    /// The model's own distribution: temperature 1, no step that changes it, no stop token.
    pub fn plain(max_new_tokens: usize) -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
            max_new_tokens,
            stop_ids: Vec::new(),
            vocab_limit: usize::MAX,
        }
    }

    /// Always the most likely token, no stop token.
    pub fn greedy(max_new_tokens: usize) -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::plain(max_new_tokens) }
    }

    /// Whether the most likely token is taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW
    }

    /// Whether earlier tokens change what is drawn.
    pub(crate) fn has_penalties(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.frequency_penalty != 0.0
            || self.presence_penalty != 0.0
    }

    /// Refuses values that no distribution has a meaning for.
    ///
    /// Errors: [`Error::Setting`], [`Error::BiasOutside`].
    pub fn check(&self) -> Result<(), Error> {
        let within = |name, value: f32, ok: bool, allowed| match ok {
            true => Ok(()),
            false => Err(Error::Setting { name, value, allowed }),
        };
        let Sampling { temperature: t, top_p, min_p, repetition_penalty: r, .. } = *self;
        within("temperature", t, (0.0..=100.0).contains(&t), "from 0 to 100")?;
        within("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1")?;
        within("min_p", min_p, (0.0..=1.0).contains(&min_p), "from 0 to 1")?;
        within("repetition_penalty", r, (0.01..=100.0).contains(&r), "from 0.01 to 100")?;
        for (name, value) in [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ] {
            within(name, value, (-2.0..=2.0).contains(&value), "from -2 to 2")?;
        }
        for (&id, &value) in &self.logit_bias {
            within("logit_bias", value, (-100.0..=100.0).contains(&value), "from -100 to 100")?;
            if id as usize >= self.vocab_limit {
                return Err(Error::BiasOutside { id, vocab_limit: self.vocab_limit });
            }
        }
        Ok(())
    }
}
