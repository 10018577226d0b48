//! The engine's thread: round after round, until it is told to stop.

use super::admit::n_shareable;
use super::front::{Limits, ServiceSettings};
use super::guesses::{Paces, first_paces};
use super::inbox::Inbox;
use super::job::{Ended, Event, Failed, Stats};
use super::sequence::{End, Sequence};
use crate::blocks::BlockPool;
use crate::prefix::PrefixTree;
use crate::speculate::Drafting;
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::cache::{CacheForm, CacheSpec, KvCache, Prefill};
use fathom_model::{ExpertTrace, Model};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// All that lives on the engine's thread.
pub(super) struct Scheduler {
    pub(super) model: Model,
    pub(super) cache: RefCell<KvCache>,
    pub(super) pool: BlockPool,
    /// Blocks of sequences past and present, by their tokens.
    pub(super) prefixes: PrefixTree,
    /// Whether prefixes may lie outside memory.
    pub(super) has_store: bool,
    /// Jobs without blocks, by their arrival. Some may have begun before and lost their blocks.
    pub(super) waiting: Vec<Sequence>,
    /// Jobs with blocks, by their arrival.
    pub(super) running: Vec<Sequence>,
    pub(super) limits: Limits,
    pub(super) max_running: usize,
    pub(super) prefill_rows: usize,
    /// What a row of a pass with prompts takes; 0 as long as none was timed.
    pub(super) row_seconds: f64,
    pub(super) drafting: Drafting,
    /// What the last sequence that ended learnt about guesses; none if nothing is guessed.
    pub(super) paces: Option<Paces>,
    /// Whether rows that were written have the bits of rows that were read.
    pub(super) shares_answers: bool,
    /// Logits of the rows that tokens are drawn from, [n, V].
    pub(super) logits: Vec<f32>,
    /// Of the last pass that was traced.
    pub(super) trace: ExpertTrace,
    /// The first job that found no room, and the blocks there were.
    pub(super) stuck: Option<(u64, usize)>,
    pub(super) stats: Stats,
    /// Since the last note to the inbox: jobs that left the queue, jobs that ended.
    pub(super) n_left_queue: usize,
    n_ended: usize,
}

impl Scheduler {
    pub(super) fn new(
        model: Model,
        spec: CacheSpec,
        settings: ServiceSettings,
        limits: Limits,
    ) -> Scheduler {
        let ServiceSettings { n_blocks, store, fingerprint, .. } = settings;
        let drafting = settings.drafting.resolved(&model, spec);
        let expands = spec.form == CacheForm::Latent && spec.prefill == Prefill::Expanded;
        Scheduler {
            model,
            cache: RefCell::new(KvCache::new(spec)),
            has_store: store.is_some(),
            pool: BlockPool::limited(n_blocks),
            prefixes: PrefixTree::new(fingerprint, store),
            waiting: Vec::new(),
            running: Vec::new(),
            limits,
            max_running: settings.max_running,
            prefill_rows: settings.prefill_rows,
            row_seconds: 0.0,
            drafting,
            paces: first_paces(drafting),
            shares_answers: !expands,
            logits: Vec::new(),
            trace: ExpertTrace::new(),
            stuck: None,
            stats: Stats::default(),
            n_left_queue: 0,
            n_ended: 0,
        }
    }

    /// The life of the engine. However it ends, every job hears so.
    pub(super) fn work(mut self, inbox: &Inbox) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while let Some(arrived) = inbox.take(self.waiting.is_empty() && self.running.is_empty())
            {
                self.waiting.extend(arrived);
                self.step();
                self.report(inbox);
            }
        }));
        let end = match &outcome {
            Ok(()) => End::Ended(Ended::Shutdown),
            Err(_) => End::Failed(Failed::Stopped),
        };
        let left = inbox.close_and_empty();
        for sequence in left.into_iter().chain(self.waiting.drain(..)).chain(self.running.drain(..))
        {
            self.n_ended += 1;
            sequence.finish(end.clone());
        }
        self.stats.n_finished += self.n_ended as u64;
        self.report(inbox);
        if outcome.is_ok() {
            self.prefixes.flush(&self.cache);
        }
    }

    /// One round.
    fn step(&mut self) {
        self.dismiss();
        self.admit();
        let start = Instant::now();
        let n_guessing = self.plan();
        if self.running.iter().all(|sequence| sequence.turn.n_fed == 0) {
            return;
        }
        self.pass();
        self.learn(start.elapsed().as_secs_f64(), n_guessing);
        self.settle();
    }

    /// Lets go of jobs that nobody wants any more, or not so late.
    fn dismiss(&mut self) {
        let now = Instant::now();
        let over = |sequence: &Sequence| sequence.is_over(now);
        for at in (0..self.waiting.len()).rev() {
            if let Some(ended) = over(&self.waiting[at]) {
                let sequence = self.waiting.remove(at);
                self.n_left_queue += usize::from(!sequence.has_begun);
                self.retire(sequence, End::Ended(ended));
            }
        }
        for at in (0..self.running.len()).rev() {
            if let Some(ended) = over(&self.running[at]) {
                let sequence = self.running.remove(at);
                self.retire(sequence, End::Ended(ended));
            }
        }
    }

    /// After a pass: lets later jobs find what is cached now, tells listeners, lets go of what ended.
    fn settle(&mut self) {
        for sequence in &mut self.running {
            let n_tokens = n_shareable(sequence, sequence.table.n_tokens, self.shares_answers);
            let n_full = n_tokens / BLOCK_TOKENS;
            if n_full > sequence.n_published {
                let (tokens, blocks) =
                    (&sequence.tokens[..n_full * BLOCK_TOKENS], &sequence.table.blocks[..n_full]);
                self.prefixes.insert(sequence.job.owner, tokens, blocks, &mut self.pool);
                sequence.n_published = n_full;
            }
        }
        let mut at = 0;
        while at < self.running.len() {
            match self.hear(at) {
                None => at += 1,
                Some(end) => {
                    let sequence = self.running.remove(at);
                    self.retire(sequence, end);
                }
            }
        }
    }

    /// Tells the listener what its sequence's turn brought. Returns how it ended, if so.
    fn hear(&mut self, at: usize) -> Option<End> {
        let sequence = &mut self.running[at];
        let turn = std::mem::take(&mut sequence.turn);
        self.stats.n_drafted += turn.guesses.len() as u64;
        self.stats.n_accepted += turn.drawn.len().saturating_sub(1) as u64;
        let cancelled = Some(End::Ended(Ended::Cancelled));
        if sequence.job.score_prompt && sequence.scores.len() == sequence.n_prompt {
            sequence.job.score_prompt = false;
            let scores = std::mem::take(&mut sequence.scores);
            if !sequence.tell(Event::Prompt(scores)) {
                return cancelled;
            }
        }
        for token in turn.drawn {
            self.stats.n_answer_tokens += 1;
            if !sequence.tell(Event::Token(token)) {
                return cancelled;
            }
        }
        let is_read = sequence.n_unread() == 0;
        turn.end.or(is_read.then_some(End::Ended(Ended::Length)))
    }

    /// Takes the blocks of a job back and tells its listener the last.
    pub(super) fn retire(&mut self, mut sequence: Sequence, end: End) {
        self.pool.release(std::mem::take(&mut sequence.table));
        if let Some(guesser) = sequence.guesser.take() {
            self.paces = Some(guesser.into_paces());
        }
        self.stats.n_finished += 1;
        self.n_ended += 1;
        sequence.finish(end);
    }

    /// Says how things stand.
    fn report(&mut self, inbox: &Inbox) {
        let n_begun = self.waiting.iter().filter(|sequence| sequence.has_begun).count();
        self.stats.n_running = self.running.len() + n_begun;
        self.stats.n_blocks_cached = self.prefixes.n_idle(&self.pool);
        self.stats.n_blocks_used = self.pool.n_used() - self.stats.n_blocks_cached;
        inbox.note(self.n_left_queue, self.n_ended, &self.stats);
        (self.n_left_queue, self.n_ended) = (0, 0);
    }
}
