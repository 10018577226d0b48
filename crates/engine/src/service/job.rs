//! What is asked of a serving engine and what it says back: token ids in, token ids out.

use crate::error::Error;
use crate::sampler::Sampling;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A sequence to continue.
pub struct Job {
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// How tokens are chosen, and where the answer ends.
    pub sampling: Sampling,
    /// Which of several answers to the same prompt and seed this is, from 0.
    pub sample_idx: u64,
    /// How many likeliest tokens are reported beside each token drawn; none: no log-probabilities.
    pub n_top_log_probs: Option<usize>,
    /// Whether the prompt's own tokens are scored too; with `n_top_log_probs`.
    pub score_prompt: bool,
    /// Which tokens may be drawn; none: all.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Whose cached prefixes this job may use, and who may use its own. Different owners share nothing.
    pub owner: u64,
    /// When the answer is worth nothing any more.
    pub deadline: Option<Instant>,
    /// Whether the experts that each token visited are reported.
    pub trace_experts: bool,
}

impl Job {
    /// A job without log-probabilities, constraint and deadline.
    pub fn new(prompt: Vec<u32>, sampling: Sampling) -> Job {
        Job {
            prompt,
            sampling,
            sample_idx: 0,
            n_top_log_probs: None,
            score_prompt: false,
            constraint: None,
            owner: 0,
            deadline: None,
            trace_experts: false,
        }
    }
}

/// Says which tokens may come next. Lives with one job; hears its tokens in order.
pub trait Constraint: Send {
    /// Leaves only the tokens in `mask` that may come next. One bit per id, bit `id % 32` of word
    /// `id / 32`; all are set at first. A job whose mask becomes empty ends.
    ///
    /// Errors: it cannot tell; the job fails with this text.
    fn allow(&mut self, mask: &mut [u32]) -> Result<(), String>;

    /// Hears the token that was drawn.
    ///
    /// Errors: the token was not among the allowed; the job fails with this text.
    fn accept(&mut self, token: u32) -> Result<(), String>;
}

/// A token of an answer, or of a scored prompt. Log-probabilities are the model's own, whatever the sampling.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Token {
    /// The token.
    pub id: u32,
    /// Its log-probability, if asked for; none for the first token of a prompt.
    pub log_prob: Option<f32>,
    /// The likeliest tokens here and their log-probabilities, in order.
    pub top: Vec<(u32, f32)>,
    /// The experts of the row that this token was drawn from, `num_experts_per_tok` for each MoE layer in
    /// order; empty unless asked for.
    pub experts: Vec<u16>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A stop token, which was the last that was reported; or nothing more was allowed.
    Stop,
    /// The limit of tokens, or the end of the model's context.
    Length,
    /// The deadline passed.
    Deadline,
    /// Nobody wanted to hear more.
    Cancelled,
    /// The engine is shutting down.
    Shutdown,
}

/// What a job's listener hears, in this order: `Began`, `Prompt` if the prompt is scored, tokens, then
/// one of the last two, after which it hears nothing.
#[derive(Debug)]
pub enum Event {
    /// The prompt is being read.
    Began {
        /// Tokens of the prompt that were cached, a multiple of the block of 64.
        n_cached: usize,
    },
    /// The tokens of the prompt with their log-probabilities.
    Prompt(Vec<Token>),
    /// A token was drawn.
    Token(Token),
    /// The answer is complete.
    Ended(Ended),
    /// The answer cannot go on.
    Failed(Failed),
}

/// What went wrong with one job; others go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Failed {
    /// What the sampler or the model reports.
    Engine(Error),
    /// What the job's constraint reports.
    Constraint(String),
    /// The job alone is larger than the cache.
    TooLarge {
        /// Tokens that the cache can hold.
        n_cache_tokens: usize,
    },
    /// The engine's thread is gone.
    Stopped,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Engine(error) => error.fmt(f),
            Failed::Constraint(what) => f.write_str(what),
            Failed::TooLarge { n_cache_tokens } => {
                write!(f, "the sequence does not fit into the cache of {n_cache_tokens} tokens")
            }
            Failed::Stopped => f.write_str("the engine has stopped"),
        }
    }
}

impl std::error::Error for Failed {}

/// Hears what happens to a job, on the engine's thread, so it must be quick. Says whether it wants more.
pub type Listener = Box<dyn FnMut(Event) -> bool + Send>;

/// Why a job was not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// The queue is full.
    Full {
        /// Jobs in the queue.
        n_waiting: usize,
        /// Seconds until one is likely to be taken.
        retry_after_s: f64,
    },
    /// The job makes no sense.
    Job(Error),
    /// The prompt is larger than the context or the cache.
    TooLong {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Most tokens of prompt and answer together.
        limit: usize,
    },
    /// The engine is shutting down.
    Stopped,
}

/// A job in the engine; whoever drops it wants no more.
#[derive(Debug)]
pub struct Ticket(Arc<AtomicBool>);

impl Ticket {
    /// A ticket, and the flag that is set once it is dropped.
    pub fn new() -> (Ticket, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        (Ticket(dropped.clone()), dropped)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Where jobs are given. The real one is [`super::Service`]; tests have scripted ones.
pub trait Engine: Send + Sync {
    /// Takes a job, or says at once why not.
    fn submit(&self, job: Job, listener: Listener) -> Result<Ticket, Refused>;

    /// How things stand.
    fn stats(&self) -> Stats;

    /// Takes no more jobs; those it has end with [`Ended::Shutdown`], after the pass that runs now.
    fn stop(&self);
}

/// How an engine stands, and what it did since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Jobs that wait.
    pub n_waiting: usize,
    /// Jobs that are read or written.
    pub n_running: usize,
    /// Most jobs that may wait.
    pub max_waiting: usize,
    /// Blocks of the cache that running jobs use.
    pub n_blocks_used: usize,
    /// Blocks that hold prefixes for later jobs.
    pub n_blocks_cached: usize,
    /// Blocks that the cache may have.
    pub n_blocks: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Tokens of prompts that were read.
    pub n_prompt_tokens: u64,
    /// Tokens of prompts that were cached, in memory or on disk.
    pub n_cached_tokens: u64,
    /// Of those, from disk.
    pub n_disk_tokens: u64,
    /// Tokens drawn.
    pub n_answer_tokens: u64,
    /// Tokens guessed, and guesses that became tokens.
    pub n_drafted: u64,
    /// Guesses that became tokens.
    pub n_accepted: u64,
    /// Jobs that gave their blocks away and were read again.
    pub n_preempted: u64,
    /// Jobs that ended, for whatever reason.
    pub n_finished: u64,
    /// Passes of the model.
    pub n_passes: u64,
    /// Rows of all passes.
    pub n_rows: u64,
}

/// Cached blocks outside memory. What it returns is checked against what is expected before it is used.
pub trait BlockStore: Send {
    /// The bytes saved under `key`.
    fn load(&mut self, key: u128) -> Option<Vec<u8>>;

    /// Whether something is saved under `key`.
    fn holds(&mut self, key: u128) -> bool;

    /// Saves bytes, at the cost of others if there is no room. Failures are the store's own affair.
    fn save(&mut self, key: u128, bytes: &[u8]);

    /// Forgets what is saved under `key`: it turned out to be damaged.
    fn forget(&mut self, _key: u128) {}

    /// Bytes that it holds at most.
    fn capacity_bytes(&self) -> u64 {
        u64::MAX
    }

    /// Waits until all that it was given is saved, or is known not to be; at most so long. Says whether
    /// nothing is left.
    fn settle(&mut self, _patience: Duration) -> bool {
        true
    }
}
