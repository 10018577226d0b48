//! The tokens that one sequence gets from a pass.

use super::front::Limits;
use super::job::{Constraint, Ended, Failed, Token};
use super::sequence::{End, Sequence};
use crate::sampler::{self, LogProbs};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// A row of logits that may be changed while another copy is read.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Sequence {
    /// Draws from the logits [1 + guesses, V] after the last token and after each guess, as many tokens
    /// as the guesses allow. The logits are scratch afterwards.
    pub(super) fn draw(&mut self, logits: &mut [f32], vocab: usize, limits: Limits) {
        for (row, logits) in logits.chunks_exact_mut(vocab).enumerate() {
            let token = match self.draw_one(logits) {
                Ok(token) => token,
                Err(end) => {
                    self.turn.end = Some(end);
                    return;
                }
            };
            let id = token.id;
            self.turn.drawn.push(token);
            self.turn.end = self.end_behind(id, limits);
            if self.turn.end.is_some() || self.turn.guesses.get(row) != Some(&id) {
                return;
            }
        }
    }

    /// Draws the next token and takes it into the sequence.
    fn draw_one(&mut self, logits: &mut [f32]) -> Result<Token, End> {
        let place = self.n_drawn() as u64;
        let sampling = &self.job.sampling;
        let n_ids = sampling.vocab_limit.min(logits.len());
        let logits = &mut logits[..n_ids];
        let key = [sampling.seed, 0, self.job.sample_idx, place];
        let mask = match &mut self.job.constraint {
            Some(constraint) => Some(allowed(constraint.as_mut(), n_ids)?),
            None => None,
        };
        let choose = |logits: &mut [f32]| {
            sampler::choose_masked(logits, sampling, &self.history, &key, mask.as_deref())
        };
        let token = match self.job.n_top_log_probs {
            None => choose(logits).map(|id| Token { id, ..Token::default() }),
            Some(n_top) => SCRATCH.with_borrow_mut(|scratch| {
                scratch.clear();
                scratch.extend_from_slice(logits);
                choose(scratch).map(|id| token_of(id, logits, n_top))
            }),
        };
        let token = token.map_err(|error| End::Failed(Failed::Engine(error)))?;
        self.tokens.push(token.id);
        if sampling.has_penalties() {
            self.history.push(token.id);
        }
        if let Some(constraint) = &mut self.job.constraint {
            guarded(|| constraint.accept(token.id))?;
        }
        Ok(token)
    }

    /// Whether the answer ends behind `token`, its last.
    fn end_behind(&self, token: u32, limits: Limits) -> Option<End> {
        let sampling = &self.job.sampling;
        if sampling.stop_ids.contains(&token) {
            Some(End::Ended(Ended::Stop))
        } else if self.n_drawn() >= sampling.max_new_tokens || self.tokens.len() >= limits.n_context
        {
            Some(End::Ended(Ended::Length))
        } else if self.tokens.len() > limits.n_cache_tokens {
            let n_cache_tokens = limits.n_cache_tokens;
            Some(End::Failed(Failed::TooLarge { n_cache_tokens }))
        } else {
            None
        }
    }
}

/// A token with its log-probability and the likeliest others, from the model's logits [V].
pub(super) fn token_of(id: u32, logits: &[f32], n_top: usize) -> Token {
    let log_probs = LogProbs::of(logits);
    Token {
        id,
        log_prob: Some(log_probs.token(id)),
        top: log_probs.top(n_top),
        experts: Vec::new(),
    }
}

/// The tokens that a constraint allows, of `n_ids`. One that allows none ends the answer.
fn allowed(constraint: &mut dyn Constraint, n_ids: usize) -> Result<Vec<u32>, End> {
    let mut mask = vec![u32::MAX; n_ids.div_ceil(32)];
    guarded(|| constraint.allow(&mut mask))?;
    if let (Some(last), tail) = (mask.last_mut(), n_ids % 32)
        && tail > 0
    {
        *last &= (1 << tail) - 1;
    }
    match mask.iter().all(|word| *word == 0) {
        true => Err(End::Ended(Ended::Stop)),
        false => Ok(mask),
    }
}

/// Asks a constraint, which may do anything but take the engine with it.
fn guarded<T>(ask: impl FnOnce() -> Result<T, String>) -> Result<T, End> {
    let answer = catch_unwind(AssertUnwindSafe(ask));
    let answer = answer.unwrap_or_else(|_| Err("the constraint panicked".to_owned()));
    answer.map_err(|what| End::Failed(Failed::Constraint(what)))
}
