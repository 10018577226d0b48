//! The MTP module, kept in step with a model that goes on learning (fine-tuning, reinforcement).
//!
//! The module guesses for the model, so it learns what the model does: at every scored row its
//! distribution is drawn towards the model's own of one row further, by cross-entropy with all of it
//! (the gradient of the KL divergence), not only with the token that came. Applied to its own output,
//! as drafts apply it, it is trained for the tokens after that too, over the very keys that drafting
//! has (one module at all places, on what the model says: FastMTP, arXiv:2509.18362).
//!
//! Everything the module reads is taken as it is: hidden states, embedding and head get no gradient.
//! The module has its own gradients, its own clipping norm and its own moments, so the model learns
//! the same bits with it and without.

#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::metrics::name;
use crate::optim::Optimizer;
use crate::recipe::{FollowMtp, Optimizer as OptimizerSettings};
use fathom_kernels::attention::Segment;
use fathom_kernels::embedding;
use fathom_model::{Model, PackedRows, Precision};
use fathom_tensor::op::{self, LogProbs, Pairs};
use fathom_tensor::{Buffer, Gradients, Tape, Tensor};
use std::path::Path;

/// The module's state beside a learner.
const FILE: &str = "mtp_optimizer.safetensors";

/// Trains the module of a model.
pub struct Follower {
    settings: FollowMtp,
    gradients: Gradients,
    optimizer: Optimizer,
    sums: Sums,
}

/// Since the last [`Follower::figures`].
#[derive(Default)]
struct Sums {
    /// Negative log-probabilities of the tokens after next.
    loss: f64,
    /// By how far ahead: pairs, and those whose likeliest token is the model's.
    n: Vec<usize>,
    n_right: Vec<usize>,
}

impl Follower {
    /// A follower with fresh moments; none if the model has no module or the settings leave it alone.
    pub fn new(model: &Model, settings: FollowMtp, optimizer: &OptimizerSettings) -> Option<Self> {
        if !model.has_mtp() || settings.rate_factor == 0.0 {
            return None;
        }
        let size = |(weight, spec): (&fathom_tensor::Weight, &fathom_model::names::TensorSpec)| {
            if spec.mtp { weight.n_elements() } else { 0 }
        };
        let sizes: Vec<usize> = model.weights().iter().zip(model.specs()).map(size).collect();
        Some(Follower {
            settings,
            gradients: Gradients::new(&sizes),
            optimizer: Optimizer::of_sizes(model, sizes, optimizer),
            sums: Sums::default(),
        })
    }

    /// One update of the module on the rows of a pass, whose hidden states [N, D] the model has just
    /// made. `learning_rate` is that of the model. The model is packed again afterwards.
    pub fn learn(
        &mut self,
        model: &mut Model,
        precision: Precision,
        (rows, scored, hidden): (&PackedRows, &LogProbs, &Tensor),
        learning_rate: f64,
    ) {
        if !self.add_gradients(model, (rows, scored, hidden)) {
            return;
        }
        let rate = learning_rate * self.settings.rate_factor;
        self.optimizer.update(model, &mut self.gradients, rate);
        self.gradients.clear();
        model.pack(precision, true);
    }

    /// Forward and backward; false if nothing in the rows can be learnt from.
    fn add_gradients(
        &mut self,
        model: &Model,
        (rows, scored, hidden): (&PackedRows, &LogProbs, &Tensor),
    ) -> bool {
        let all = sequences_of(rows, scored).into_iter().enumerate();
        let taken = all.filter(|(at, _)| is_taken(*at, self.settings.share));
        let sequences: Vec<Sequence> = taken.map(|(_, sequence)| sequence).collect();
        if sequences.is_empty() {
            return false;
        }
        // What the module makes of the rows so far: the hidden states of the rows after them.
        let mut before: Option<Tensor> = None;
        for depth in 1..self.settings.tokens {
            let laid = Laid::of(&sequences, depth);
            let input = laid.input(hidden, before.as_ref());
            let tape = Tape::forgetting();
            before = model.forward_mtp_alone(&tape, &laid.rows, &input, &laid.rows.tokens);
        }
        let laid = Laid::of(&sequences, self.settings.tokens);
        let input = laid.input(hidden, before.as_ref());
        let tape = Tape::recording();
        let out = model.forward_mtp_alone(&tape, &laid.rows, &input, &laid.rows.tokens);
        let Some(out) = out else { return false };
        let weight = 1.0 / laid.pairs[0].rows.len() as f32;
        for (ahead, pairs) in laid.pairs.iter().enumerate().filter(|(_, p)| !p.rows.is_empty()) {
            let far = op::linear_distil(&tape, &out, hidden, model.head(), pairs, weight);
            self.sums.add(ahead, &far);
        }
        tape.backward(&mut self.gradients);
        true
    }

    /// What was learnt since the last call: loss of the token after next in nats, and how often the
    /// module's likeliest token was the model's, by how far ahead.
    pub fn figures(&mut self) -> Vec<(&'static str, f64)> {
        let Sums { loss, n, n_right } = std::mem::take(&mut self.sums);
        let mut figures = Vec::new();
        if let Some(n) = n.first() {
            figures.push((name::MTP_LOSS, loss / *n as f64));
        }
        let shares = n_right.iter().zip(&n).map(|(right, n)| *right as f64 / (*n).max(1) as f64);
        figures.extend(name::MTP_ACCURACY.iter().copied().zip(shares));
        figures
    }

    /// Writes moments and the number of updates into `dir`, which exists. The weights are the model's.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        self.optimizer.save(&dir.join(FILE))
    }

    /// Reads what [`Follower::save`] wrote. Nothing there: the moments stay as they are.
    pub fn load(&mut self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(FILE);
        // Checkpoints of programs that did not train the module have no such file.
        if path.exists() { self.optimizer.load(&path) } else { Ok(()) }
    }
}

impl Sums {
    fn add(&mut self, ahead: usize, far: &op::Distilled) {
        self.n.resize(self.n.len().max(ahead + 1), 0);
        self.n_right.resize(self.n.len(), 0);
        self.n[ahead] += far.log_probs.len();
        self.n_right[ahead] += far.n_agree;
        if ahead == 0 {
            self.loss -= far.log_probs.iter().map(|p| f64::from(*p)).sum::<f64>();
        }
    }
}

/// One sequence of a pass.
struct Sequence {
    /// Its rows in order: those of a shared prefix, then its own.
    rows: Vec<u32>,
    /// The token that follows each.
    next: Vec<u32>,
    /// The first row whose next token is scored; from there on all are.
    first_scored: usize,
}

/// The sequences of a pass that have two scored rows in a row.
fn sequences_of(rows: &PackedRows, scored: &LogProbs) -> Vec<Sequence> {
    let mut target = vec![None; rows.tokens.len()];
    for (row, token) in scored.rows.iter().zip(scored.targets) {
        target[*row as usize] = Some(*token);
    }
    let sequence = |segment: &Segment| {
        let rows_of = segment.prefix.clone().chain(segment.own.clone());
        let mut of: Vec<u32> = rows_of.map(|row| row as u32).collect();
        // Fine-tuning reads the token that ends an example, and scores nothing after it.
        let end = of.iter().rposition(|row| target[*row as usize].is_some())? + 1;
        of.truncate(end);
        let is_scored = |row: &&u32| target[**row as usize].is_some();
        let n_scored = of.iter().rev().take_while(is_scored).count();
        let mut next: Vec<u32> = of[1..].iter().map(|row| rows.tokens[*row as usize]).collect();
        next.push(target[of[end - 1] as usize]?);
        (n_scored > 1).then(|| Sequence { first_scored: of.len() - n_scored, rows: of, next })
    };
    rows.segments.iter().filter_map(sequence).collect()
}

/// Whether a sequence is learnt from, evenly spread over a batch; the first one always is.
fn is_taken(at: usize, share: f64) -> bool {
    let n_before = |at: usize| (at as f64 * share).ceil();
    n_before(at + 1) > n_before(at)
}

/// Rows of the module: every sequence once, then behind each row that counts the rows that drafts
/// would add there.
struct Laid {
    /// The tokens are those that follow.
    rows: PackedRows,
    /// Of the model, for the rows of the sequences.
    hidden_rows: Vec<u32>,
    /// Of the module's output at one token less, for all others.
    before_rows: Vec<u32>,
    /// What learns from what, by how far ahead.
    pairs: Vec<Pairs>,
}

impl Laid {
    /// For guesses of up to `depth` tokens.
    fn of(sequences: &[Sequence], depth: usize) -> Laid {
        let mut laid = Laid {
            rows: PackedRows::default(),
            hidden_rows: Vec::new(),
            before_rows: Vec::new(),
            pairs: vec![Pairs::default(); depth],
        };
        let mut own = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            // The token after the last row's next one is not known.
            let n = sequence.rows.len() - 1;
            own.push(laid.rows.push_document(&sequence.next[..n]));
            laid.hidden_rows.extend_from_slice(&sequence.rows[..n]);
        }
        // Where the rows of this place begin in the layout of one token less.
        let mut before = laid.rows.tokens.len() as u32;
        for (sequence, own) in sequences.iter().zip(own) {
            let n = sequence.rows.len() - 1;
            for at in sequence.first_scored..n {
                let own_row = (own.start + at) as u32;
                let reach = depth.min(n - at);
                let later = laid.rows.push_continuation(
                    own.start..own.start + at + 1,
                    &sequence.next[at + 1..at + reach],
                );
                let rows = std::iter::once(own_row).chain(later.map(|row| row as u32));
                for (ahead, row) in rows.enumerate() {
                    laid.pairs[ahead].rows.push(row);
                    laid.pairs[ahead].teacher_rows.push(sequence.rows[at + ahead + 1]);
                    laid.pairs[ahead].tokens.push(sequence.next[at + ahead + 1]);
                    match ahead {
                        0 => {}
                        1 => laid.before_rows.push(own_row),
                        _ => laid.before_rows.push(before + ahead as u32 - 2),
                    }
                }
                before += (depth - 1).min(n - at).saturating_sub(1) as u32;
            }
        }
        laid
    }

    /// What the module reads in place of hidden states, [N, D]: the model's where they exist, else its
    /// own output.
    fn input(&self, hidden: &Tensor, before: Option<&Tensor>) -> Tensor {
        let width = hidden.width();
        let n = self.rows.tokens.len();
        let mut input = Buffer::stale(n * width);
        let (first, later) = input.split_at_mut(self.hidden_rows.len() * width);
        embedding::gather_f32(hidden.data(), &self.hidden_rows, width, first);
        if let Some(before) = before {
            embedding::gather_f32(before.data(), &self.before_rows, width, later);
        }
        Tensor::new(input, &[n, width])
    }
}
