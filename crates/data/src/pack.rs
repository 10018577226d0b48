//! Lays token sequences into training batches, with an order that is known beforehand.
//!
//! Two forms. A *stream* (pre-training): documents end to end, each closed by EOS, cut into rows
//! of equal length; DeepSeek-V3 (arXiv:2412.19437, section 4.1) masks nothing between documents,
//! and neither do we unless `Mask::Documents` is asked for. *Examples* (SFT): whole examples beside
//! each other, mutually masked, loss on the response only (section 5.1).
//!
//! Which item stands where in step `s` is a function of the seed and `s` alone, so a run resumed
//! at `s` sees the batches that an uninterrupted run would have seen. Nothing is kept between steps.

use std::ops::Range;

use crate::error::Error;
use crate::random::hash_key;

/// Separates the random stream of the data order from others with the same seed.
const ORDER_STREAM: u64 = 0x006f_7264_6572; // "order"

/// Rows with room that a new example is offered to; older ones are closed. Bounds the search.
const OPEN_ROWS: usize = 128;

/// Flat rows of tokens that a model trains on. All vectors but `segments` have one entry per row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenBatch {
    /// Inputs.
    pub tokens: Vec<u32>,
    /// The token that follows each input. Where `loss_mask` is 0 the value means nothing.
    pub targets: Vec<u32>,
    /// 1 where the prediction counts, else 0.
    pub loss_mask: Vec<f32>,
    /// Place inside the segment, from 0.
    pub positions: Vec<u32>,
    /// Rows that may attend to each other; they tile `0..tokens.len()` in order.
    pub segments: Vec<Range<usize>>,
}

impl TokenBatch {
    /// Rows in the batch.
    pub fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Rows whose prediction counts.
    pub fn n_loss_tokens(&self) -> usize {
        self.loss_mask.iter().filter(|&&weight| weight > 0.0).count()
    }

    /// Adds one segment: `prompt` without loss, then `response`, each of whose tokens is a target.
    ///
    /// A response that should end closes with its EOS. The first token of a response without a
    /// prompt has nothing that predicts it and is no target. Adds nothing if both are empty.
    pub fn push_example(&mut self, prompt: &[u32], response: &[u32]) {
        let n = prompt.len() + response.len();
        if n == 0 {
            return;
        }
        let start = self.tokens.len();
        self.tokens.extend_from_slice(prompt);
        self.tokens.extend_from_slice(response);
        self.targets.extend_from_slice(&self.tokens[start + 1..]);
        self.targets.push(0); // nothing follows the last row; its mask is 0
        self.loss_mask.extend((0..n).map(|idx| {
            let target_is_response = idx + 1 >= prompt.len() && idx + 1 < n;
            if target_is_response { 1.0 } else { 0.0 }
        }));
        self.positions.extend(0..n as u32);
        self.segments.push(start..start + n);
    }

    /// Adds all segments of `other` behind those of `self`.
    pub fn append(&mut self, other: &Self) {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(&other.tokens);
        self.targets.extend_from_slice(&other.targets);
        self.loss_mask.extend_from_slice(&other.loss_mask);
        self.positions.extend_from_slice(&other.positions);
        self.segments
            .extend(other.segments.iter().map(|rows| rows.start + start..rows.end + start));
    }
}

/// Documents end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedSet {
    /// All tokens; every document closes with EOS.
    pub tokens: Vec<u32>,
    /// Where each document starts in `tokens`, ascending.
    pub starts: Vec<usize>,
}

/// Whether an epoch visits its items in a seeded random order or as they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A fresh permutation per epoch.
    Shuffled,
    /// First to last, every epoch alike.
    Sequential,
}

/// Which rows of a packed sequence may attend to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// The sequence is one segment; documents in it see their neighbours.
    None,
    /// Each document is its own segment, and its end does not predict the next one's start.
    Documents,
}

/// How batches are cut from a [`PackedSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Sequences per step.
    pub batch_sequences: usize,
    /// Inputs per sequence; one more token is read, as the last target.
    pub sequence_tokens: usize,
    /// Decides the order, together with the epoch.
    pub seed: u64,
    /// Order of the sequences inside an epoch.
    pub order: Order,
    /// Attention between documents.
    pub mask: Mask,
}

/// Lays documents end to end, in the order given. `eos` is added where a document lacks it;
/// an empty document adds nothing.
pub fn pack_stream<D: AsRef<[u32]>>(documents: impl IntoIterator<Item = D>, eos: u32) -> PackedSet {
    let mut set = PackedSet::default();
    for document in documents {
        set.push(document.as_ref(), eos);
    }
    set
}

impl PackedSet {
    /// Adds one document at the end, closing it with `eos` unless it closes itself.
    pub fn push(&mut self, document: &[u32], eos: u32) {
        let Some(&last) = document.last() else { return };
        self.starts.push(self.tokens.len());
        self.tokens.extend_from_slice(document);
        if last != eos {
            self.tokens.push(eos);
        }
    }

    /// Whole sequences in the set. Sequence `r` reads `sequence_tokens + 1` tokens from
    /// `r * sequence_tokens` on, so neighbours share one token and each token but the first is a
    /// target once. The tail that fills no sequence is left out.
    pub fn n_sequences(&self, sequence_tokens: usize) -> usize {
        self.tokens.len().saturating_sub(1).checked_div(sequence_tokens).unwrap_or(0)
    }

    /// The batch of step `step`, counted from 0: a function of the set, the plan and the step.
    ///
    /// Rows: `batch_sequences * sequence_tokens`, sequence after sequence.
    /// Errors: `TooFewTokens` if the set fills no sequence, `EmptyBatch` for a plan with a zero.
    pub fn batch(&self, plan: &BatchPlan, step: u64) -> Result<TokenBatch, Error> {
        let first = u128::from(step) * plan.batch_sequences as u128;
        // Beyond 2^64 sequences the order repeats; no run gets there.
        self.batch_at(plan, first as u64, plan.batch_sequences)
    }

    /// `n` sequences from the `first` one of the run on, for batch sizes that change over time.
    ///
    /// Errors: as [`PackedSet::batch`].
    pub fn batch_at(&self, plan: &BatchPlan, first: u64, n: usize) -> Result<TokenBatch, Error> {
        let (batch_sequences, sequence_tokens) = (n, plan.sequence_tokens);
        if batch_sequences == 0 || sequence_tokens == 0 {
            return Err(Error::EmptyBatch { batch_sequences, sequence_tokens });
        }
        let n_sequences = self.n_sequences(sequence_tokens);
        if n_sequences == 0 {
            let need = sequence_tokens + 1;
            return Err(Error::TooFewTokens { have: self.tokens.len(), need });
        }
        let mut batch = TokenBatch::default();
        for sequence in batch_indices(n_sequences, first, n, plan.seed, plan.order) {
            self.push_sequence(&mut batch, sequence, sequence_tokens, plan.mask);
        }
        Ok(batch)
    }

    fn push_sequence(&self, batch: &mut TokenBatch, sequence: usize, n: usize, mask: Mask) {
        let begin = sequence * n;
        let row = batch.tokens.len();
        batch.tokens.extend_from_slice(&self.tokens[begin..begin + n]);
        batch.targets.extend_from_slice(&self.tokens[begin + 1..begin + n + 1]);
        batch.loss_mask.resize(row + n, 1.0);
        if mask == Mask::None {
            batch.positions.extend(0..n as u32);
            batch.segments.push(row..row + n);
            return;
        }
        // A document that begins at token `d` cuts the rows before `d`; if `d` is the extra token
        // behind the last row it cuts nothing, but no row may predict it.
        let first = self.starts.partition_point(|&start| start <= begin);
        let cuts = self.starts[first..].iter().map(|&start| start - begin);
        let mut segment = 0;
        for cut in cuts.take_while(|&cut| cut <= n).chain([n]) {
            if cut > segment {
                batch.positions.extend(0..(cut - segment) as u32);
                batch.segments.push(row + segment..row + cut);
            }
            segment = cut;
        }
        for &start in self.starts[first..].iter().take_while(|&&start| start - begin <= n) {
            batch.loss_mask[row + start - begin - 1] = 0.0;
        }
    }
}

/// Which of `n_items` items the run visits as numbers `first..first + count`, epoch after epoch.
///
/// A count may cross the end of an epoch. Within an epoch every item comes once.
/// Panics: if `n_items` is 0 and `count` is not.
pub fn batch_indices(
    n_items: usize,
    first: u64,
    count: usize,
    seed: u64,
    order: Order,
) -> Vec<usize> {
    assert!(n_items > 0 || count == 0, "batch_indices: {count} of 0 items");
    let n = n_items as u64;
    let mut shuffle: Option<(u64, Permutation)> = None; // of the epoch at hand
    let mut index_of = |number: u64| -> u64 {
        let (epoch, place) = (number / n, number % n);
        match (order, &shuffle) {
            (Order::Sequential, _) => place,
            (Order::Shuffled, Some((known, permutation))) if *known == epoch => {
                permutation.at(place)
            }
            (Order::Shuffled, _) => {
                let permutation = Permutation::new(n, hash_key(&[ORDER_STREAM, seed, epoch]));
                let index = permutation.at(place);
                shuffle = Some((epoch, permutation));
                index
            }
        }
    };
    (0..count as u64).map(|offset| index_of(first.wrapping_add(offset)) as usize).collect()
}

/// A seeded bijection of `0..n` that needs no memory: a Feistel network of six rounds over the
/// next even power of two; results outside the range walk on until they fall inside (Black and
/// Rogaway, "Ciphers with arbitrary finite domains", 2002).
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    key: u64,
}

impl Permutation {
    /// The permutation of `0..n` that belongs to `key`. `n` may be up to 2^62.
    ///
    /// Panics: if `n` is 0 or above 2^62.
    pub fn new(n: u64, key: u64) -> Self {
        assert!(n > 0 && n <= 1 << 62, "Permutation::new: n is {n}");
        let bits = 64 - (n - 1).leading_zeros();
        Self { n, half_bits: bits.div_ceil(2).max(1), key }
    }

    /// Where `place` goes.
    ///
    /// Panics: if `place` is not below `n`.
    pub fn at(&self, place: u64) -> u64 {
        assert!(place < self.n, "Permutation::at: {place} of {}", self.n);
        let mut word = place;
        loop {
            word = self.encrypt(word);
            if word < self.n {
                return word; // the domain is below 4n (+ 3), so few steps are expected
            }
        }
    }

    fn encrypt(&self, word: u64) -> u64 {
        let low = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (word >> self.half_bits, word & low);
        for round in 0..6 {
            let mixed = left ^ (hash_key(&[self.key, round, right]) & low);
            (left, right) = (right, mixed);
        }
        (left << self.half_bits) | right
    }
}

/// One question with the answer to be learned, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Shown, not learned.
    pub prompt: Vec<u32>,
    /// Learned, with the EOS that packing puts behind it.
    pub response: Vec<u32>,
}

/// What to do with an example longer than a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// Cut the end of the response, EOS included. A prompt that fills the row is skipped all the same.
    Truncate,
    /// Leave the example out.
    Skip,
}

/// Examples in rows of at most a budget of tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackedExamples {
    /// One batch per row; each example is one segment.
    pub rows: Vec<TokenBatch>,
    /// Indices of the examples in each row, segment for segment.
    pub members: Vec<Vec<usize>>,
    /// Examples whose response was cut.
    pub n_truncated: usize,
    /// Examples left out: too long, or without a response.
    pub n_skipped: usize,
}

/// Packs whole examples into rows of at most `budget_tokens`: each, in the order given, goes to
/// the first open row with room for it, else it opens a new row. No example is split.
pub fn pack_examples(
    examples: &[Example],
    budget_tokens: usize,
    eos: u32,
    too_long: TooLong,
) -> PackedExamples {
    let mut packed = PackedExamples::default();
    let mut open = 0; // rows before this one are closed
    for (idx, example) in examples.iter().enumerate() {
        let mut response = example.response.clone();
        if !response.is_empty() && response.last() != Some(&eos) {
            response.push(eos);
        }
        let room = budget_tokens.saturating_sub(example.prompt.len());
        let fits = response.len() <= room;
        if response.is_empty() || room == 0 || (!fits && too_long == TooLong::Skip) {
            packed.n_skipped += 1;
            continue;
        }
        if !fits {
            response.truncate(room);
            packed.n_truncated += 1;
        }
        let need = example.prompt.len() + response.len();
        let with_room = |row: &TokenBatch| row.n_tokens() + need <= budget_tokens;
        let row = match packed.rows[open..].iter().position(with_room) {
            Some(offset) => open + offset,
            None => {
                packed.rows.push(TokenBatch::default());
                packed.members.push(Vec::new());
                open = open.max(packed.rows.len().saturating_sub(OPEN_ROWS));
                packed.rows.len() - 1
            }
        };
        packed.rows[row].push_example(&example.prompt, &response);
        packed.members[row].push(idx);
    }
    packed
}

#[cfg(test)]
mod tests;
