//! One pass of the model over the rows of all turns, and what is drawn from it.
//!
//! Letters: N rows, D width of the model, V vocabulary.

use super::draws::token_of;
use super::job::{Failed, Token};
use super::scheduler::Scheduler;
use super::sequence::{End, Sequence};
use crate::error::Error;
use fathom_kernels::threads;
use fathom_model::{CachedRows, ExpertTrace, Model};
use fathom_tensor::{Tensor, op};

/// Rows of prompts whose logits are held at once while they are scored.
const SCORED_AT_ONCE: usize = 32;

/// The logits of one sequence, to be drawn from.
struct Task<'a> {
    sequence: &'a mut Sequence,
    logits: &'a mut [f32],
}

impl Scheduler {
    /// Runs the turns.
    pub(super) fn pass(&mut self) {
        let hidden = self.run_model(); // [N, D]
        for sequence in with_turn(&mut self.running) {
            sequence.table.n_tokens += sequence.turn.n_fed;
        }
        self.score_prompts(&hidden);
        self.module_reads(&hidden);
        self.draw(&hidden);
    }

    /// Hidden states of the rows of all turns, laid end to end.
    fn run_model(&mut self) -> Tensor {
        let mut n_rows = 0;
        for sequence in with_turn(&mut self.running) {
            let first = n_rows;
            n_rows += sequence.turn.n_fed + sequence.turn.guesses.len();
            sequence.turn.rows = first..n_rows;
        }
        let mut rows = CachedRows::default();
        let mut fed = Vec::new();
        for sequence in self.running.iter().filter(|sequence| sequence.turn.n_fed > 0) {
            let (past, turn) = (sequence.table.n_tokens, &sequence.turn);
            fed.clear();
            fed.extend_from_slice(&sequence.tokens[past..past + turn.n_fed]);
            fed.extend_from_slice(&turn.guesses);
            rows.push_as(sequence.kind(), &sequence.table.blocks, past, &fed);
        }
        let is_traced = |sequence: &Sequence| sequence.turn.n_fed > 0 && sequence.job.trace_experts;
        let trace = self.running.iter().any(is_traced).then_some(&mut self.trace);
        self.model.hidden_cached_traced(&rows, &self.cache, trace)
    }

    /// Log-probabilities of the tokens of prompts that are scored, as far as they were read.
    fn score_prompts(&mut self, hidden: &Tensor) {
        let (model, logits) = (&self.model, &mut self.logits);
        for sequence in with_turn(&mut self.running) {
            if !sequence.job.score_prompt {
                continue;
            }
            // Row p scores the token at p + 1.
            let first_row = sequence.table.n_tokens - sequence.turn.n_fed;
            let places =
                sequence.scores.len()..(sequence.table.n_tokens + 1).min(sequence.n_prompt);
            let places: Vec<usize> = places.collect();
            for places in places.chunks(SCORED_AT_ONCE) {
                let first = sequence.turn.rows.start + places[0] - 1 - first_row;
                let hidden = rows_of(hidden, first, places.len());
                let targets = &sequence.tokens[places[0]..places[0] + places.len()];
                match score(model, hidden, targets, sequence, logits) {
                    Ok(mut tokens) => {
                        if sequence.job.trace_experts {
                            add_experts(&mut tokens, first, &self.trace);
                        }
                        sequence.scores.extend(tokens);
                    }
                    Err(end) => {
                        sequence.turn.end = Some(end);
                        sequence.turn.draws = false;
                        break;
                    }
                }
            }
        }
    }

    /// Lets modules that guess read prompts.
    fn module_reads(&mut self, hidden: &Tensor) {
        for sequence in with_turn(&mut self.running) {
            // Rows of an answer are heard once it is known which guesses stay.
            if !sequence.turn.writes {
                let rows = rows_of(hidden, sequence.turn.rows.start, sequence.turn.n_fed);
                sequence.module_reads(rows, &self.model, &self.cache);
            }
        }
    }

    /// Draws the tokens of all turns that end with one.
    fn draw(&mut self, hidden: &Tensor) {
        let vocab = self.model.head().n_out();
        let mut drawn_from = Vec::new(); // [n, D]
        for sequence in self.running.iter().filter(|sequence| sequence.turn.draws) {
            let n = 1 + sequence.turn.guesses.len();
            drawn_from.extend_from_slice(rows_of(hidden, sequence.turn.rows.end - n, n));
        }
        if drawn_from.is_empty() {
            return;
        }
        let n_rows = drawn_from.len() / hidden.width();
        let logits = room_for(&mut self.logits, n_rows * vocab);
        op::logits_into(&drawn_from, self.model.head(), logits);

        let mut tasks = Vec::new();
        let mut left = logits;
        for sequence in self.running.iter_mut().filter(|sequence| sequence.turn.draws) {
            let n = 1 + sequence.turn.guesses.len();
            let (logits, others) = left.split_at_mut(n * vocab);
            tasks.push(Task { sequence, logits });
            left = others;
        }
        let limits = self.limits;
        threads::run_chunks(&mut tasks, 1, |_, tasks| {
            for Task { sequence, logits } in tasks {
                sequence.draw(logits, vocab, limits);
            }
        });
        for sequence in self.running.iter_mut().filter(|sequence| sequence.turn.draws) {
            let n_accepted = sequence.turn.drawn.len().saturating_sub(1);
            if sequence.job.trace_experts {
                let first = sequence.turn.rows.end - 1 - sequence.turn.guesses.len();
                add_experts(&mut sequence.turn.drawn, first, &self.trace);
            }
            sequence.table.n_tokens += n_accepted;
            if sequence.turn.writes {
                let rows = rows_of(hidden, sequence.turn.rows.start, 1 + n_accepted);
                sequence.module_hears(rows);
            }
        }
    }
}

/// Sequences that take part in the pass.
fn with_turn(running: &mut [Sequence]) -> impl Iterator<Item = &mut Sequence> {
    running.iter_mut().filter(|sequence| sequence.turn.n_fed > 0)
}

/// `n` rows of x [N, D].
fn rows_of(x: &Tensor, first: usize, n: usize) -> &[f32] {
    &x.data()[first * x.width()..(first + n) * x.width()]
}

/// Adds the experts that the rows from `first` on visited, a row for each token.
fn add_experts(tokens: &mut [Token], first: usize, trace: &ExpertTrace) {
    for (row, token) in (first..).zip(tokens) {
        token.experts = trace.row(row).to_vec();
    }
}

/// The first `n` numbers of memory that never shrinks: its size would go up and down with every pass.
fn room_for(memory: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if memory.len() < n {
        memory.resize(n, 0.0);
    }
    &mut memory[..n]
}

/// The `targets` of a prompt with their log-probabilities after the rows `hidden` [n, D].
fn score(
    model: &Model,
    hidden: &[f32],
    targets: &[u32],
    sequence: &Sequence,
    logits: &mut Vec<f32>,
) -> Result<Vec<Token>, End> {
    let vocab = model.head().n_out();
    let logits = room_for(logits, targets.len() * vocab);
    op::logits_into(hidden, model.head(), logits);
    let n_ids = sequence.job.sampling.vocab_limit.min(vocab);
    let n_top = sequence.job.n_top_log_probs.unwrap_or(0);
    let mut tokens = vec![Token::default(); targets.len()];
    threads::run_chunks(&mut tokens, 1, |at, tokens| {
        tokens[0] = token_of(targets[at], &logits[at * vocab..][..n_ids], n_top);
    });
    let is_broken = |token: &&Token| token.log_prob.is_some_and(f32::is_nan);
    match tokens.iter().find(is_broken) {
        Some(&Token { id, .. }) => {
            Err(End::Failed(Failed::Engine(Error::LogitNotFinite { id, value: f32::NAN })))
        }
        None => Ok(tokens),
    }
}
