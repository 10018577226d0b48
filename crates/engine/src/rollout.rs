//! Batched sampling of many answers to many prompts, for reinforcement learning, rejection
//! sampling and evaluation.
//!
//! All sequences advance together, one row each per step; a finished one makes room for the next.
//! What a sequence says depends on its prompt, its key and its sample number only.

use crate::blocks::{BlockPool, BlockTable};
use crate::sampler::{Draw, History, Sampling, draw};
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_kernels::threads;
use fathom_model::cache::{CacheSpec, KvCache};
use fathom_model::{CachedRows, Model};
use fathom_tensor::op;
use std::cell::RefCell;
use std::collections::VecDeque;

/// Rows of a prefill pass.
const PREFILL_ROWS: usize = 2048;

/// Memory of a cache that is prepared for, at most: address space, where a machine counts that too.
const EXPECTED_BYTES: usize = 4 << 30;

/// Memory of a cache that is kept for the next rollout, at most.
const KEPT_BYTES: usize = 512 << 20;

thread_local! {
    /// The cache of the last rollout: a third of a short one went to clearing new memory.
    static SPARE: RefCell<Option<KvCache>> = const { RefCell::new(None) };
}

/// A prompt and how many answers it gets.
#[derive(Clone, Debug)]
pub struct Request {
    /// Token ids.
    pub prompt: Vec<u32>,
    /// Answers wanted.
    pub n_samples: usize,
    /// Names the prompt in the draws.
    pub key: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token, which is the answer's last.
    Stop,
    /// The limit of tokens.
    Length,
}

/// One sampled answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Token ids, a stop token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each at the sampling temperature, before bias, penalties and cuts.
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Answers of all requests, in order.
pub type Rollout = Vec<Vec<Answer>>;

struct Active {
    request: usize,
    sample: usize,
    key: u64,
    table: BlockTable,
    answer: Answer,
    history: History,
}

/// Samples `n_samples` answers to every request, at most `max_sequences` at a time.
///
/// The model is packed for a cache of `spec`. `stop` is asked between steps; once it says yes the
/// rollout is abandoned and `None` comes back.
///
/// Panics if a prompt is empty.
pub fn rollout(
    model: &Model,
    spec: CacheSpec,
    requests: &[Request],
    sampling: &Sampling,
    max_sequences: usize,
    stop: &dyn Fn() -> bool,
) -> Option<Rollout> {
    let mut cache = spare_cache(spec);
    let expected = most_blocks(spec, requests, sampling, max_sequences);
    let mut pool = BlockPool::over(&mut cache, expected);
    let cache = RefCell::new(cache);
    let mut waiting: VecDeque<usize> = (0..requests.len()).collect();
    let mut active: Vec<Active> = Vec::new();
    let mut done: Vec<Vec<Option<Answer>>> =
        requests.iter().map(|r| vec![None; r.n_samples]).collect();
    while !active.is_empty() || !waiting.is_empty() {
        if stop() {
            return None;
        }
        let mut admitted = Vec::new();
        let mut n_admitted = 0;
        let mut n_rows = 0;
        while let Some(&request) = waiting.front() {
            let wanted = requests[request].n_samples;
            let full = active.len() + n_admitted + wanted > max_sequences;
            if (full && (active.len() + n_admitted > 0)) || n_rows >= PREFILL_ROWS {
                break;
            }
            waiting.pop_front();
            n_admitted += wanted;
            n_rows += requests[request].prompt.len();
            admitted.push(request);
        }
        if !admitted.is_empty() {
            active.extend(prefill(model, &cache, &mut pool, requests, &admitted, sampling));
        } else {
            decode(model, &cache, &mut pool, &mut active, sampling);
        }
        retire(&mut active, &mut pool, sampling, &mut done);
    }
    keep(cache.into_inner());
    let complete = |answers: Vec<Option<Answer>>| answers.into_iter().flatten().collect();
    Some(done.into_iter().map(complete).collect())
}

/// The cache of the last rollout, if it has the same form. What its blocks hold is never read.
fn spare_cache(spec: CacheSpec) -> KvCache {
    let spare = SPARE.take().filter(|cache| cache.spec() == spec);
    spare.unwrap_or_else(|| KvCache::new(spec))
}

/// Keeps a small cache for the next rollout.
fn keep(cache: KvCache) {
    let n_bytes = cache.n_blocks() * cache.exported_bytes();
    SPARE.set((n_bytes <= KEPT_BYTES).then_some(cache));
}

/// Blocks that the cache may grow to; past them, growing copies.
fn most_blocks(
    spec: CacheSpec,
    requests: &[Request],
    sampling: &Sampling,
    max_sequences: usize,
) -> usize {
    let longest = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(0);
    let of_one = longest.saturating_add(sampling.max_new_tokens).div_ceil(BLOCK_TOKENS);
    let n_sequences: usize = requests.iter().map(|request| request.n_samples).sum();
    let most = n_sequences.min(max_sequences).saturating_mul(of_one);
    most.min(EXPECTED_BYTES / spec.block_bytes().max(1))
}

/// Runs the prompts of `admitted` and draws the first token of each of their answers.
fn prefill(
    model: &Model,
    cache: &RefCell<KvCache>,
    pool: &mut BlockPool,
    requests: &[Request],
    admitted: &[usize],
    sampling: &Sampling,
) -> Vec<Active> {
    let mut tables: Vec<BlockTable> = Vec::with_capacity(admitted.len());
    for &request in admitted {
        let mut table = BlockTable::default();
        pool.reserve(cache, &mut table, requests[request].prompt.len());
        tables.push(table);
    }
    let mut rows = CachedRows::default();
    for (table, &request) in tables.iter().zip(admitted) {
        rows.push(&table.blocks, 0, &requests[request].prompt);
    }
    let last_rows: Vec<usize> = rows.segments.iter().map(|s| s.rows.end - 1).collect();
    let hidden = model.hidden_cached_at(&rows, cache, &last_rows);
    let logits = op::logits(&hidden, model.head());
    let vocab = logits.width();

    let mut started = Vec::new();
    let mut scratch = vec![0.0; vocab];
    for (at, &request) in admitted.iter().enumerate() {
        tables[at].n_tokens = requests[request].prompt.len();
        let history = History::for_sampling(sampling, &requests[request].prompt);
        for sample in 0..requests[request].n_samples {
            scratch.copy_from_slice(&logits.data()[at * vocab..(at + 1) * vocab]);
            let mut sequence = Active {
                request,
                sample,
                key: requests[request].key,
                table: pool.fork(cache, &tables[at]),
                answer: Answer { tokens: vec![], log_probs: vec![], finish: Finish::Length },
                history: history.clone(),
            };
            let key = sequence.draw_key(sampling);
            let drawn = draw(&mut scratch, sampling, &sequence.history, &key);
            sequence.take(drawn, sampling);
            started.push(sequence);
        }
    }
    tables.into_iter().for_each(|table| pool.release(table));
    started
}

/// Advances every active sequence by one token.
fn decode(
    model: &Model,
    cache: &RefCell<KvCache>,
    pool: &mut BlockPool,
    active: &mut [Active],
    sampling: &Sampling,
) {
    active.iter_mut().for_each(|sequence| pool.reserve(cache, &mut sequence.table, 1));
    let mut rows = CachedRows::default();
    for sequence in active.iter() {
        let last = sequence.answer.tokens[sequence.answer.tokens.len() - 1];
        rows.push(&sequence.table.blocks, sequence.table.n_tokens, &[last]);
    }
    let hidden = model.hidden_cached(&rows, cache);
    let logits = op::logits(&hidden, model.head());
    let vocab = logits.width();
    let past: Vec<(&History, [u64; 4])> =
        active.iter().map(|sequence| (&sequence.history, sequence.draw_key(sampling))).collect();
    let mut draws = vec![Draw::default(); active.len()];
    threads::run_chunks(&mut draws, 16, |chunk, draws| {
        let mut scratch = vec![0.0; vocab];
        for (at, slot) in draws.iter_mut().enumerate() {
            let row = chunk * 16 + at;
            scratch.copy_from_slice(&logits.data()[row * vocab..(row + 1) * vocab]);
            let (history, key) = past[row];
            *slot = draw(&mut scratch, sampling, history, &key);
        }
    });
    for (sequence, drawn) in active.iter_mut().zip(draws) {
        sequence.table.n_tokens += 1;
        sequence.take(drawn, sampling);
    }
}

/// Moves finished sequences out of `active` and frees their blocks.
fn retire(
    active: &mut Vec<Active>,
    pool: &mut BlockPool,
    sampling: &Sampling,
    done: &mut [Vec<Option<Answer>>],
) {
    let mut running = Vec::with_capacity(active.len());
    for sequence in active.drain(..) {
        let ended = sequence.answer.finish == Finish::Stop
            || sequence.answer.tokens.len() >= sampling.max_new_tokens;
        if ended {
            pool.release(sequence.table);
            done[sequence.request][sequence.sample] = Some(sequence.answer);
        } else {
            running.push(sequence);
        }
    }
    *active = running;
}

impl Active {
    fn draw_key(&self, sampling: &Sampling) -> [u64; 4] {
        [sampling.seed, self.key, self.sample as u64, self.answer.tokens.len() as u64]
    }

    fn take(&mut self, drawn: Draw, sampling: &Sampling) {
        self.answer.tokens.push(drawn.token);
        self.answer.log_probs.push(drawn.log_prob);
        if sampling.has_penalties() {
            self.history.push(drawn.token);
        }
        if sampling.stop_ids.contains(&drawn.token) {
            self.answer.finish = Finish::Stop;
        }
    }
}
