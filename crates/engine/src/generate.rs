//! One conversation at a time: the cache stays, each turn feeds only what is new.

#[cfg(test)]
mod tests;

use crate::blocks::{BlockPool, BlockTable};
use crate::error::Error;
use crate::rollout::Finish;
use crate::sampler::{self, History, LogProbs, Sampling};
use crate::speculate::{Ahead, DraftCounts, Drafting, Lookup, MtpRows, Pace, Sequence};
use fathom_model::cache::{CacheSpec, KvCache};
use fathom_model::{CachedRows, Model, RowKind};
use fathom_tensor::{Tensor, op};
use std::cell::RefCell;
use std::time::Instant;

/// Rows of a prefill pass.
const PREFILL_ROWS: usize = 1024;

/// What is continued, and how.
#[derive(Clone, Copy, Debug)]
pub struct GenerateRequest<'a> {
    /// Token ids, at least one.
    pub prompt: &'a [u32],
    /// How tokens are chosen, and where the answer ends.
    pub sampling: &'a Sampling,
    /// How many likeliest tokens are reported beside each token drawn; none: no log-probabilities.
    pub n_top_log_probs: Option<usize>,
    /// Where guesses at the next tokens come from. Changes how long an answer takes, not the answer.
    pub drafting: Drafting,
}

impl<'a> GenerateRequest<'a> {
    /// Without log-probabilities and guesses.
    pub fn new(prompt: &'a [u32], sampling: &'a Sampling) -> Self {
        GenerateRequest { prompt, sampling, n_top_log_probs: None, drafting: Drafting::Off }
    }
}

/// A token of an answer. Log-probabilities are the model's own, whatever the sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn<'a> {
    /// The token.
    pub token: u32,
    /// Its log-probability, if asked for.
    pub log_prob: Option<f32>,
    /// The likeliest tokens here and their log-probabilities, in order.
    pub top: &'a [(u32, f32)],
}

/// How an answer went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Tokens of the prompt that the cache already held.
    pub n_reused: usize,
    /// Why the answer ended; none if the listener wanted no more.
    pub finish: Option<Finish>,
    /// What guesses cost and brought.
    pub drafts: DraftCounts,
}

/// A sequence in progress, with its cache.
pub struct Session {
    cache: RefCell<KvCache>,
    pool: BlockPool,
    table: BlockTable,
    /// Tokens in the cache.
    tokens: Vec<u32>,
    /// Of the last pass: logits of the rows that tokens are drawn from, [n, V].
    logits: Vec<f32>,
    module: MtpRows,
    /// What the last answer learnt about guesses, for the next one.
    pace: Option<(Drafting, Pace)>,
}

/// The answer being drawn.
struct Answer<'r, F> {
    request: &'r GenerateRequest<'r>,
    on_token: F,
    history: History,
    n_drawn: usize,
    /// A row of logits that outlives its draw, where log-probabilities are asked for.
    kept_logits: Vec<f32>,
}

/// What comes after a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Token,
    End(Option<Finish>),
}

/// Who guesses, and how many tokens.
struct Drafter {
    /// None: the MTP module.
    lookup: Option<Lookup>,
    pace: Pace,
    drafts: Vec<u32>,
}

impl Session {
    /// An empty session over a cache of `spec`.
    pub fn new(spec: CacheSpec) -> Self {
        Session {
            cache: RefCell::new(KvCache::new(spec)),
            pool: BlockPool::new(),
            table: BlockTable::default(),
            tokens: Vec::new(),
            logits: Vec::new(),
            module: MtpRows::default(),
            pace: None,
        }
    }

    /// Tokens whose keys and values are cached.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Continues a prompt, calling `on_token` for each token drawn until it says stop, a stop token
    /// comes, or the limit is reached. The part of the prompt that the cache already holds is not
    /// computed again.
    ///
    /// The token at a place of the answer depends on the prompt, the settings and the seed only.
    ///
    /// Errors: an empty prompt, settings outside their ranges, a module that the model does not have,
    /// logits that nothing can be drawn from. The session stays usable.
    pub fn generate(
        &mut self,
        model: &Model,
        request: &GenerateRequest<'_>,
        on_token: impl FnMut(&Drawn<'_>) -> bool,
    ) -> Result<Generated, Error> {
        let GenerateRequest { prompt, sampling, .. } = *request;
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        sampling.check()?;
        let spec = self.cache.borrow().spec();
        let drafting = request.drafting.resolved(model, spec);
        drafting.check(model, spec)?;
        let mut drafter = Drafter::new(drafting, prompt, self.pace.take());
        let with_module = drafter.as_ref().is_some_and(|drafter| drafter.lookup.is_none());

        let n_reused = self.rewind(model, prompt, with_module);
        self.prefill(model, &prompt[n_reused..], with_module);
        let mut answer = Answer {
            request,
            on_token,
            history: History::for_sampling(sampling, prompt),
            n_drawn: 0,
            kept_logits: Vec::new(),
        };
        let mut drafts = DraftCounts::default();
        let finish = self.answer(model, drafter.as_mut(), &mut answer, &mut drafts);
        self.pace = drafter.map(|drafter| (drafting, drafter.pace));
        Ok(Generated { n_reused, finish: finish?, drafts })
    }

    /// Draws the tokens of an answer from the prompt's logits on. Returns why it ended; none if the
    /// listener wanted no more.
    fn answer<F: FnMut(&Drawn<'_>) -> bool>(
        &mut self,
        model: &Model,
        mut drafter: Option<&mut Drafter>,
        answer: &mut Answer<'_, F>,
        counts: &mut DraftCounts,
    ) -> Result<Option<Finish>, Error> {
        if answer.request.sampling.max_new_tokens == 0 {
            return Ok(Some(Finish::Length));
        }
        let (mut token, mut next) = answer.draw(&mut self.logits)?;
        loop {
            if let Next::End(finish) = next {
                return Ok(finish);
            }
            (token, next) = self.step(model, token, drafter.as_deref_mut(), answer, counts)?;
        }
    }

    /// One pass: feeds `token`, drawn last, and guesses behind it; draws as many tokens as the guesses
    /// allow. Returns the last one.
    ///
    /// The cache then holds the answer without its last token, as if nothing had been guessed.
    fn step<F: FnMut(&Drawn<'_>) -> bool>(
        &mut self,
        model: &Model,
        token: u32,
        mut drafter: Option<&mut Drafter>,
        answer: &mut Answer<'_, F>,
        counts: &mut DraftCounts,
    ) -> Result<(u32, Next), Error> {
        let start = Instant::now();
        let n_before = self.tokens.len();
        self.tokens.push(token);
        if let Some(drafter) = &mut drafter {
            self.draft(model, drafter, answer);
            self.tokens.extend_from_slice(&drafter.drafts);
        }
        let n_rows = self.tokens.len() - n_before;
        let hidden = self.feed(model, RowKind::Answer, n_before);
        self.score(model, hidden.data(), n_rows);
        let seconds = start.elapsed().as_secs_f64();

        let vocab = model.head().n_out();
        let mut row = 0;
        let drawn = loop {
            let drawn = answer.draw(&mut self.logits[row * vocab..(row + 1) * vocab]);
            row += 1;
            let guess = self.tokens.get(n_before + row);
            match drawn {
                Ok((token, Next::Token)) if guess == Some(&token) => {}
                drawn => break drawn,
            }
        };
        self.keep(n_before + row);
        counts.n_passes += 1;
        counts.n_drafted += n_rows - 1;
        counts.n_accepted += row - 1;
        if let Some(drafter) = drafter {
            if drafter.lookup.is_none() {
                self.module.push(&hidden.data()[..row * hidden.width()]);
            }
            drafter.pace.learn(n_rows - 1, row - 1, seconds);
        }
        drawn
    }

    /// Puts guesses at what follows `self.tokens` into the drafter's list.
    fn draft<F>(&mut self, model: &Model, drafter: &mut Drafter, answer: &Answer<'_, F>) {
        drafter.drafts.clear();
        let sampling = answer.request.sampling;
        // The last pass of an answer has no use for guesses: it ends with the token after them.
        let room = sampling.max_new_tokens - answer.n_drawn - 1;
        let n = drafter.pace.wish().min(room);
        self.reserve(n);
        let (cache, blocks, tokens) = (&self.cache, &self.table.blocks, &self.tokens);
        let sequence = Sequence { model, cache, blocks, tokens };
        match &mut drafter.lookup {
            Some(lookup) => {
                lookup.extend(&tokens[lookup.len()..]);
                lookup.draft(n, &mut drafter.drafts);
            }
            None if n == 0 => self.module.catch_up_late(&sequence),
            None => {
                let n_drawn = answer.n_drawn as u64;
                let history = &answer.history;
                let ahead = Ahead { sampling, history, sample_idx: 0, n_drawn };
                self.module.draft(&sequence, n, &ahead, &mut drafter.drafts);
            }
        }
    }

    /// Keeps the common start with `prompt`, leaving at least its last token to compute.
    fn rewind(&mut self, model: &Model, prompt: &[u32], with_module: bool) -> usize {
        let common = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let common = common.min(prompt.len() - 1);
        let known = self.module.rewind(common, model.config.hidden_size);
        let common = if with_module { known } else { common };
        self.keep(common);
        common
    }

    /// Forgets all but the first `n_tokens` tokens.
    fn keep(&mut self, n_tokens: usize) {
        self.tokens.truncate(n_tokens);
        self.table.n_tokens = n_tokens;
    }

    /// Appends the rest of a prompt; logits after its last token.
    fn prefill(&mut self, model: &Model, rest: &[u32], with_module: bool) {
        for (at, piece) in rest.chunks(PREFILL_ROWS).enumerate() {
            let n_before = self.tokens.len();
            self.tokens.extend_from_slice(piece);
            let hidden = self.feed(model, RowKind::Prompt, n_before);
            if with_module {
                self.module.push(hidden.data());
                let (cache, blocks, tokens) = (&self.cache, &self.table.blocks, &self.tokens);
                self.module.catch_up(&Sequence { model, cache, blocks, tokens });
            }
            if at * PREFILL_ROWS + piece.len() == rest.len() {
                let last = (piece.len() - 1) * hidden.width();
                self.score(model, &hidden.data()[last..], 1);
            }
        }
    }

    /// Runs the tokens from `n_cached` on; their hidden states [n, D].
    fn feed(&mut self, model: &Model, kind: RowKind, n_cached: usize) -> Tensor {
        self.reserve(0);
        let mut rows = CachedRows::default();
        rows.push_as(kind, &self.table.blocks, n_cached, &self.tokens[n_cached..]);
        let hidden = model.hidden_cached(&rows, &self.cache);
        self.table.n_tokens = self.tokens.len();
        hidden
    }

    /// Logits after `n` rows of hidden states.
    fn score(&mut self, model: &Model, hidden: &[f32], n: usize) {
        self.logits.resize(n * model.head().n_out(), 0.0);
        op::logits_into(hidden, model.head(), &mut self.logits);
    }

    /// Room for `self.tokens` and `n_more` behind them.
    fn reserve(&mut self, n_more: usize) {
        let n_new = self.tokens.len() + n_more - self.table.n_tokens;
        self.pool.reserve(&self.cache, &mut self.table, n_new);
    }
}

impl<F: FnMut(&Drawn<'_>) -> bool> Answer<'_, F> {
    /// Draws the next token from its logits [V], which are scratch afterwards, and tells the listener.
    fn draw(&mut self, logits: &mut [f32]) -> Result<(u32, Next), Error> {
        let GenerateRequest { sampling, n_top_log_probs, .. } = *self.request;
        let limit = sampling.vocab_limit.min(logits.len());
        if n_top_log_probs.is_some() {
            self.kept_logits.clear();
            self.kept_logits.extend_from_slice(&logits[..limit]);
        }
        let key = [sampling.seed, 0, 0, self.n_drawn as u64];
        let token = sampler::choose(logits, sampling, &self.history, &key)?;
        self.n_drawn += 1;
        let wants_more = match n_top_log_probs {
            None => (self.on_token)(&Drawn { token, log_prob: None, top: &[] }),
            Some(n) => {
                let log_probs = LogProbs::of(&self.kept_logits);
                let top = log_probs.top(n);
                let log_prob = Some(log_probs.token(token));
                (self.on_token)(&Drawn { token, log_prob, top: &top })
            }
        };
        if sampling.has_penalties() {
            self.history.push(token);
        }
        let next = if !wants_more {
            Next::End(None)
        } else if sampling.stop_ids.contains(&token) {
            Next::End(Some(Finish::Stop))
        } else if self.n_drawn >= sampling.max_new_tokens {
            Next::End(Some(Finish::Length))
        } else {
            Next::Token
        };
        Ok((token, next))
    }
}

impl Drafter {
    /// None if nothing is to be guessed. `before` is what an earlier answer learnt.
    fn new(
        drafting: Drafting,
        prompt: &[u32],
        before: Option<(Drafting, Pace)>,
    ) -> Option<Drafter> {
        let (n_tokens, adaptive, from_text) = match drafting {
            Drafting::Mtp { n_tokens, adaptive } => (n_tokens, adaptive, false),
            Drafting::Lookup { n_tokens, adaptive } => (n_tokens, adaptive, true),
            Drafting::Off | Drafting::Auto => return None,
        };
        let lookup = from_text.then(|| {
            let mut lookup = Lookup::default();
            lookup.extend(prompt);
            lookup
        });
        let known = before.filter(|(of, _)| *of == drafting).map(|(_, pace)| pace);
        let pace = known.unwrap_or_else(|| Pace::new(n_tokens, adaptive));
        Some(Drafter { lookup, pace, drafts: Vec::new() })
    }
}
