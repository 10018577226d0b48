//! The side of the engine that callers see: settings, jobs in, figures out.

use super::inbox::Inbox;
use super::job::{BlockStore, Engine, Job, Listener, Refused, Stats, Ticket};
use super::scheduler::Scheduler;
use super::sequence::Sequence;
use crate::error::Error;
use crate::speculate::Drafting;
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::Model;
use fathom_model::cache::CacheSpec;
use std::sync::Arc;
use std::thread::JoinHandle;

/// How much an engine takes on at once.
pub struct ServiceSettings {
    /// Most blocks of 64 tokens in the cache.
    pub n_blocks: usize,
    /// Most jobs that are read or written at once.
    pub max_running: usize,
    /// Most jobs that wait.
    pub max_waiting: usize,
    /// Most rows of a pass that read prompts while answers are written; four times as many otherwise.
    /// Fewer where they would take too long.
    pub prefill_rows: usize,
    /// Where guesses at the next tokens come from, while few answers are written.
    pub drafting: Drafting,
    /// Where cached prefixes go that memory has no room for.
    pub store: Option<Box<dyn BlockStore>>,
    /// Names the model and the kind of its cache: blocks of others in the store are not used.
    pub fingerprint: u128,
}

impl ServiceSettings {
    /// Usual settings over a cache of `n_blocks` blocks, without guesses and without a store.
    pub fn new(n_blocks: usize) -> ServiceSettings {
        ServiceSettings {
            n_blocks,
            max_running: 64,
            max_waiting: 256,
            prefill_rows: 256,
            drafting: Drafting::Off,
            store: None,
            fingerprint: 0,
        }
    }

    /// Errors: a number that must not be 0.
    fn check(&self) -> Result<(), Error> {
        for (name, value) in [
            ("n_blocks", self.n_blocks),
            ("max_running", self.max_running),
            ("max_waiting", self.max_waiting),
            ("prefill_rows", self.prefill_rows),
        ] {
            if value == 0 {
                return Err(Error::Setting { name, value: 0.0, allowed: "at least 1" });
            }
        }
        Ok(())
    }
}

/// How long sequences may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Tokens of prompt and answer that the model can tell apart by their places.
    pub(super) n_context: usize,
    /// Tokens that the cache can hold.
    pub(super) n_cache_tokens: usize,
}

/// An engine on a thread of its own.
pub struct Service {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
    limits: Limits,
    vocab_size: usize,
}

impl Service {
    /// Starts an engine over `model`, which is packed for a cache of `spec`.
    ///
    /// Errors: a setting of 0; guesses that this model cannot make.
    ///
    /// Panics if the system refuses to start a thread.
    pub fn start(
        model: Model,
        spec: CacheSpec,
        settings: ServiceSettings,
    ) -> Result<Service, Error> {
        settings.check()?;
        let drafting = settings.drafting.resolved(&model, spec);
        drafting.check(&model, spec)?;
        let limits = Limits {
            n_context: model.config.max_position_embeddings,
            n_cache_tokens: settings.n_blocks.saturating_mul(BLOCK_TOKENS),
        };
        let vocab_size = model.config.vocab_size;
        let inbox = Arc::new(Inbox::new(&settings, spec));
        let at_work = inbox.clone();
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || Scheduler::new(model, spec, settings, limits).work(&at_work))
            .expect("the system refuses to start the engine's thread");
        Ok(Service { inbox, thread: Some(thread), limits, vocab_size })
    }

    /// Takes no more jobs; those in the engine hear [`Ended::Shutdown`](super::Ended::Shutdown), after
    /// the pass that runs. Does not wait for that; dropping the service does.
    pub fn shutdown(&self) {
        self.inbox.close();
    }

    /// Refuses jobs that cannot be done.
    fn check(&self, job: &Job) -> Result<(), Refused> {
        if job.prompt.is_empty() {
            return Err(Refused::Job(Error::EmptyPrompt));
        }
        job.sampling.check().map_err(Refused::Job)?;
        let vocab_size = self.vocab_size;
        if let Some(&id) = job.prompt.iter().find(|id| **id as usize >= vocab_size) {
            return Err(Refused::Job(Error::TokenOutside { id, vocab_size }));
        }
        let limit = self.limits.n_context.min(self.limits.n_cache_tokens);
        let n_prompt = job.prompt.len();
        // At least one token of an answer must fit behind the prompt.
        if n_prompt + job.sampling.max_new_tokens.min(1) > limit {
            return Err(Refused::TooLong { n_prompt, limit });
        }
        Ok(())
    }
}

impl Engine for Service {
    fn submit(&self, job: Job, listener: Listener) -> Result<Ticket, Refused> {
        self.check(&job)?;
        let (ticket, dropped) = Ticket::new();
        self.inbox.put(Sequence::new(job, listener, dropped))?;
        Ok(ticket)
    }

    fn stats(&self) -> Stats {
        self.inbox.stats()
    }

    fn stop(&self) {
        self.inbox.close();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.inbox.close();
        let Some(thread) = self.thread.take() else { return };
        // A listener may hold the last reference to the service; the thread cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            // A panic was told to the listeners already.
            let _ = thread.join();
        }
    }
}
