//! Guesses at the next tokens of sequences that are written, as [`crate::speculate`] makes them.
//!
//! Rows that check guesses are cheap while a pass waits for weights, so only while few sequences are
//! written. How many guesses pay is learnt from measured times, for each size of the crowd; no answer
//! depends on it.

use super::front::Limits;
use super::sequence::Sequence;
use crate::speculate::{self, Ahead, Drafting, Lookup, MtpRows, Pace};
use fathom_model::Model;
use fathom_model::cache::KvCache;
use std::cell::RefCell;

/// Most sequences that are written at once with guesses.
pub(super) const MOST_GUESSED: usize = 4;

/// How many guesses pay, by the number of sequences that are written at once, from 1.
pub(super) type Paces = [Pace; MOST_GUESSED];

/// Who guesses for a sequence.
pub(super) struct Guesser {
    /// None: the MTP module.
    lookup: Option<Lookup>,
    module: MtpRows,
    paces: Paces,
}

/// What a guesser has known before its sequence; none if nothing is to be guessed.
pub(super) fn first_paces(drafting: Drafting) -> Option<Paces> {
    match drafting {
        Drafting::Mtp { n_tokens, adaptive } | Drafting::Lookup { n_tokens, adaptive } => {
            Some(std::array::from_fn(|_| Pace::new(n_tokens, adaptive)))
        }
        Drafting::Off | Drafting::Auto => None,
    }
}

impl Guesser {
    /// `paces` is what earlier sequences learnt.
    pub(super) fn new(drafting: Drafting, paces: &Paces) -> Guesser {
        let from_text = matches!(drafting, Drafting::Lookup { .. });
        Guesser {
            lookup: from_text.then(Lookup::default),
            module: MtpRows::default(),
            paces: paces.clone(),
        }
    }

    /// What it learnt.
    pub(super) fn into_paces(self) -> Paces {
        self.paces
    }

    /// The sequence goes on behind `n_tokens` tokens that were found in the cache.
    pub(super) fn skip_to(&mut self, n_tokens: usize) {
        self.module.skip_to(n_tokens);
    }
}

impl Sequence {
    /// How many guesses would pay while `n_writing` sequences are written.
    pub(super) fn n_guesses_wished(&mut self, n_writing: usize, limits: Limits) -> usize {
        // The last pass of an answer has no use for guesses: it ends with the token after them.
        let in_answer = self.job.sampling.max_new_tokens - self.n_drawn() - 1;
        let n_most = limits.n_context.min(limits.n_cache_tokens);
        let room = in_answer.min(n_most.saturating_sub(self.tokens.len()));
        match (&mut self.guesser, n_writing) {
            (Some(guesser), 1..=MOST_GUESSED) => guesser.paces[n_writing - 1].wish().min(room),
            _ => 0,
        }
    }

    /// Guesses up to `n` tokens. The table has room for them.
    pub(super) fn guess(&mut self, n: usize, model: &Model, cache: &RefCell<KvCache>) {
        self.turn.guesses.clear();
        let Some(guesser) = &mut self.guesser else { return };
        let (blocks, tokens) = (&self.table.blocks[..], &self.tokens[..]);
        let sequence = speculate::Sequence { model, cache, blocks, tokens };
        match &mut guesser.lookup {
            Some(_) if n == 0 => {}
            Some(lookup) => {
                lookup.extend(&tokens[lookup.len()..]);
                lookup.draft(n, &mut self.turn.guesses);
            }
            None if n == 0 => guesser.module.catch_up_late(&sequence),
            None => {
                let ahead = Ahead {
                    sampling: &self.job.sampling,
                    history: &self.history,
                    sample_idx: self.job.sample_idx,
                    n_drawn: (tokens.len() - self.n_prompt) as u64,
                };
                guesser.module.draft(&sequence, n, &ahead, &mut self.turn.guesses);
            }
        }
    }

    /// Lets the module read what the model has read. `hidden` [n, D] are those of the rows just fed,
    /// before anything was drawn from them.
    pub(super) fn module_reads(&mut self, hidden: &[f32], model: &Model, cache: &RefCell<KvCache>) {
        let Some(Guesser { lookup: None, module, .. }) = &mut self.guesser else { return };
        module.push(hidden);
        let (blocks, tokens) = (&self.table.blocks[..], &self.tokens[..]);
        module.catch_up(&speculate::Sequence { model, cache, blocks, tokens });
    }

    /// Keeps hidden states [n, D] of the rows that remain of a pass, for the module's next guess.
    pub(super) fn module_hears(&mut self, hidden: &[f32]) {
        if let Some(Guesser { lookup: None, module, .. }) = &mut self.guesser {
            module.push(hidden);
        }
    }

    /// What the pass over the guesses brought; it took `seconds`.
    pub(super) fn learn(&mut self, n_writing: usize, seconds: f64) {
        let n_accepted = self.turn.drawn.len().saturating_sub(1);
        if let (Some(guesser), 1..=MOST_GUESSED) = (&mut self.guesser, n_writing) {
            guesser.paces[n_writing - 1].learn(self.turn.guesses.len(), n_accepted, seconds);
        }
    }
}
