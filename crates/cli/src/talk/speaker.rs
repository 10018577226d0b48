//! A loaded model that answers: prompt in, tokens out, with the time it took.

use super::computing::How;
use super::dialect::{Dialect, Layout};
use super::scored::Scored;
use super::settings::Settings;
use crate::failure::Failure;
use crate::opened::Opened;
use fathom_engine::{DraftCounts, Drafting, Drawn, Finish, GenerateRequest, Sampling, Session};
use fathom_model::Model;
use fathom_model::cache::CacheSpec;
use fathom_text::Tokenizer;
use std::time::{Duration, Instant};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The model was done.
    Stop,
    /// It had no tokens left.
    Length,
    /// The person did not want to hear more.
    Interrupted,
}

impl Ended {
    /// The word for programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Ended::Stop => "stop",
            Ended::Length => "length",
            Ended::Interrupted => "interrupted",
        }
    }
}

/// An answer and what it cost.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// Tokens of the answer, without the one that ended it.
    pub(crate) ids: Vec<u32>,
    /// Their log-probabilities, if the settings ask for them.
    pub(crate) scored: Vec<Scored>,
    pub(crate) ended: Ended,
    pub(crate) n_prompt: usize,
    /// Tokens of the prompt that were known from the turn before.
    pub(crate) n_reused: usize,
    /// Time to the first token.
    pub(crate) prefill: Duration,
    /// Time of all others.
    pub(crate) decode: Duration,
    /// What guesses at the next tokens cost and brought.
    pub(crate) drafts: DraftCounts,
}

impl Turn {
    /// Tokens per second after the first; none if there was only one.
    pub(crate) fn tokens_per_s(&self) -> Option<f64> {
        let n = self.ids.len().checked_sub(1).filter(|n| *n > 0)?;
        Some(n as f64 / self.decode.as_secs_f64().max(1e-9))
    }
}

/// A model that can be talked with.
pub(crate) struct Speaker {
    pub(crate) voice: Voice,
    pub(crate) dialect: Dialect,
}

/// The part of it that knows no text: the model and one conversation's cache.
pub(crate) struct Voice {
    pub(crate) model: Model,
    pub(crate) cache: CacheSpec,
    /// Who guesses at the next tokens.
    pub(crate) drafting: Drafting,
    session: Session,
    stop_ids: Vec<u32>,
    /// Ids from here on have no token.
    vocab_limit: usize,
}

impl Speaker {
    /// Loads a model, with its MTP module if drafting needs it. `stop_ids` come from its
    /// `generation_config.json`.
    pub(crate) fn open(
        opened: &Opened,
        tokenizer: Tokenizer,
        how: &How<'_>,
        layout: Layout,
        stop_ids: Vec<u32>,
    ) -> Result<Speaker, Failure> {
        let dialect = Dialect::of(opened, tokenizer, layout, stop_ids)?;
        let (model, cache) = how.load(opened)?;
        let (session, vocab_limit) = (Session::new(cache), dialect.tokenizer.vocab_size());
        let stop_ids = dialect.stop_ids.clone();
        let voice = Voice { model, cache, drafting: how.drafting, session, stop_ids, vocab_limit };
        Ok(Speaker { voice, dialect })
    }
}

impl Voice {
    /// Answers; `on_token` hears every token of the answer and says whether to go on.
    pub(crate) fn answer(
        &mut self,
        prompt: &[u32],
        settings: &Settings,
        mut on_token: impl FnMut(u32) -> bool,
    ) -> Result<Turn, Failure> {
        if prompt.is_empty() {
            return Err(Failure::Usage("the prompt is empty".into()));
        }
        let sampling = self.sampling(prompt.len(), settings)?;
        let start = Instant::now();
        let mut prefill = None;
        let (mut ids, mut scored) = (Vec::new(), Vec::new());
        let stop_ids = &self.stop_ids;
        let (n_top_log_probs, drafting) = (settings.n_top_log_probs, self.drafting);
        let request = GenerateRequest { prompt, sampling: &sampling, n_top_log_probs, drafting };
        let hear = |drawn: &Drawn<'_>| {
            prefill.get_or_insert_with(|| start.elapsed());
            if stop_ids.contains(&drawn.token) {
                return true;
            }
            ids.push(drawn.token);
            scored.extend(Scored::of(drawn));
            on_token(drawn.token)
        };
        let generated = self.session.generate(&self.model, &request, hear)?;
        let prefill = prefill.unwrap_or_default();
        let ended = match generated.finish {
            Some(Finish::Stop) => Ended::Stop,
            Some(Finish::Length) => Ended::Length,
            None => Ended::Interrupted,
        };
        let decode = start.elapsed().saturating_sub(prefill);
        let (n_prompt, n_reused, drafts) = (prompt.len(), generated.n_reused, generated.drafts);
        Ok(Turn { ids, scored, ended, n_prompt, n_reused, prefill, decode, drafts })
    }

    /// Also ends answers at these ids.
    pub(crate) fn stop_at(&mut self, ids: impl IntoIterator<Item = u32>) {
        self.stop_ids.extend(ids);
    }

    fn sampling(&self, n_prompt: usize, settings: &Settings) -> Result<Sampling, Failure> {
        let n_positions = self.model.config.max_position_embeddings;
        if n_prompt >= n_positions {
            return Err(Failure::hinted(
                format!("the prompt has {n_prompt} tokens, the model reads at most {n_positions}"),
                "shorten it; in a chat, `/new` begins again",
            ));
        }
        let room = n_positions - n_prompt;
        Ok(Sampling {
            temperature: settings.temperature,
            top_k: settings.top_k,
            top_p: settings.top_p,
            min_p: settings.min_p,
            repetition_penalty: settings.repetition_penalty,
            frequency_penalty: settings.frequency_penalty,
            presence_penalty: settings.presence_penalty,
            logit_bias: settings.logit_bias.clone(),
            seed: settings.seed,
            max_new_tokens: settings.max_tokens.unwrap_or(room).min(room),
            stop_ids: self.stop_ids.clone(),
            vocab_limit: self.vocab_limit,
        })
    }
}
