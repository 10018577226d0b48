//! The rows of a forward pass: which tokens, at which positions, attending to what.

use crate::cache::KvCache;
use fathom_kernels::attention::{CachedSegment, Segment};
use std::cell::RefCell;
use std::ops::Range;

/// Sequences laid end to end, attending to each other only as `segments` say. Used for training and scoring.
#[derive(Clone, Debug, Default)]
pub struct PackedRows {
    /// Token ids, [N].
    pub tokens: Vec<u32>,
    /// Position of each token in its sequence, [N].
    pub positions: Vec<u32>,
    /// Stretches of rows; together they cover all rows, in ascending order.
    pub segments: Vec<Segment>,
}

impl PackedRows {
    /// One sequence from position 0.
    pub fn sequence(tokens: &[u32]) -> Self {
        PackedRows {
            tokens: tokens.to_vec(),
            positions: (0..tokens.len() as u32).collect(),
            segments: vec![Segment::document(0..tokens.len())],
        }
    }

    /// Appends a sequence of its own; returns its rows.
    pub fn push_document(&mut self, tokens: &[u32]) -> Range<usize> {
        self.push(tokens, 0..0)
    }

    /// Appends a continuation of the rows `prefix`, which other continuations may share; returns its rows.
    pub fn push_continuation(&mut self, prefix: Range<usize>, tokens: &[u32]) -> Range<usize> {
        self.push(tokens, prefix)
    }

    fn push(&mut self, tokens: &[u32], prefix: Range<usize>) -> Range<usize> {
        let own = self.tokens.len()..self.tokens.len() + tokens.len();
        let past = prefix.len() as u32;
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(past..past + tokens.len() as u32);
        self.segments.push(Segment { prefix, own: own.clone() });
        own
    }
}

/// What the rows of a sequence are to a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Text that is read; see [`crate::cache::Prefill`].
    Prompt,
    /// Text that is written, or guessed at.
    Answer,
}

/// New rows of sequences whose earlier rows are in a cache. Used for prefill and decode.
#[derive(Default)]
pub struct CachedRows<'a> {
    /// Token ids, [N].
    pub tokens: Vec<u32>,
    /// Position of each token in its sequence, [N].
    pub positions: Vec<u32>,
    /// Rows of each sequence, with its block table and the length of its past.
    pub segments: Vec<CachedSegment<'a>>,
    /// What the rows of each sequence are.
    pub kinds: Vec<RowKind>,
}

impl<'a> CachedRows<'a> {
    /// Appends the next `tokens` of a sequence with `past` cached tokens; `blocks` has room for them.
    pub fn push(&mut self, blocks: &'a [u32], past: usize, tokens: &[u32]) {
        self.push_as(RowKind::Answer, blocks, past, tokens);
    }

    /// [`CachedRows::push`] of rows of the given kind.
    pub fn push_as(&mut self, kind: RowKind, blocks: &'a [u32], past: usize, tokens: &[u32]) {
        self.kinds.push(kind);
        let rows = self.tokens.len()..self.tokens.len() + tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(past as u32..(past + tokens.len()) as u32);
        self.segments.push(CachedSegment { blocks, past, rows });
    }

    /// Some of these rows, in the order given, each a segment of its own. They see what they saw.
    ///
    /// Panics if a row is outside.
    pub(crate) fn picked(&self, wanted: &[usize]) -> CachedRows<'a> {
        let mut picked = CachedRows::default();
        for &row in wanted {
            let at = self.segments.partition_point(|segment| segment.rows.end <= row);
            let segment = &self.segments[at];
            let past = segment.past + (row - segment.rows.start);
            picked.push_as(self.kinds[at], segment.blocks, past, &self.tokens[row..=row]);
        }
        picked
    }
}

/// What a forward pass runs over.
#[derive(Clone, Copy)]
pub enum Rows<'w> {
    /// Whole sequences.
    Packed(&'w PackedRows),
    /// The next rows of cached sequences.
    Cached(&'w CachedRows<'w>, &'w RefCell<KvCache>),
}

impl<'w> Rows<'w> {
    /// Token ids, [N].
    pub fn tokens(&self) -> &'w [u32] {
        match self {
            Rows::Packed(rows) => &rows.tokens,
            Rows::Cached(rows, _) => &rows.tokens,
        }
    }

    /// Positions, [N].
    pub fn positions(&self) -> &'w [u32] {
        match self {
            Rows::Packed(rows) => &rows.positions,
            Rows::Cached(rows, _) => &rows.positions,
        }
    }
}
