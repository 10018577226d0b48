//! The tokens of one model as grammars see them: their bytes, and which of them are no text.

use fathom_text::Tokenizer;
use fathom_text::special::{END_THINK, THINK};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};

/// Longer tokens are never drawn inside a grammar; those of real vocabularies have up to 128 bytes.
const MAX_TOKEN_BYTES: usize = 512;
/// Ids that the tree of tokens can hold.
const MAX_IDS: usize = 1 << 22;
/// Tokens that are written as text inside the formats, whatever the vocabulary says of them.
const WRITTEN: [&str; 2] = [super::style::JSON_CALL_BEGIN, super::style::JSON_CALL_END];

/// Why no grammars can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrammarError {
    /// The vocabulary has no tokens, or too many.
    Ids {
        /// How many.
        found: usize,
    },
}

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GrammarError::Ids { found } = self;
        write!(f, "grammars need a vocabulary of 1 to {MAX_IDS} tokens, found {found}")
    }
}

impl std::error::Error for GrammarError {}

/// Bytes of all tokens, in one buffer.
pub(super) struct Tokens {
    bytes: Vec<u8>,
    ranges: Vec<Range<u32>>,
    /// Control tokens and others that are no text, in ascending order.
    controls: Vec<u32>,
    /// Tokens that end every answer, in ascending order.
    pub(super) stop_ids: Vec<u32>,
    /// Tokens with a `>` in them: only these can end a marker.
    pub(super) closers: Vec<u32>,
}

impl Tokens {
    /// Errors: `Ids`.
    pub(super) fn of(
        tokenizer: &Tokenizer,
        vocab_limit: usize,
        stop_ids: &[u32],
    ) -> Result<Tokens, GrammarError> {
        if vocab_limit == 0 || vocab_limit > MAX_IDS {
            return Err(GrammarError::Ids { found: vocab_limit });
        }
        let ids = || 0..vocab_limit as u32;
        let thinking = [THINK, END_THINK].iter().filter_map(|token| tokenizer.token_id(token));
        let mut controls: BTreeSet<u32> = tokenizer.control_ids().into_iter().collect();
        controls.extend(ids().filter(|id| tokenizer.is_special(*id)));
        controls.extend(thinking.chain(stop_ids.iter().copied()));
        for written in WRITTEN.iter().filter_map(|token| tokenizer.token_id(token)) {
            controls.remove(&written);
        }
        let mut tokens = Tokens {
            bytes: Vec::new(),
            ranges: Vec::with_capacity(vocab_limit),
            controls: controls.into_iter().filter(|id| (*id as usize) < vocab_limit).collect(),
            stop_ids: stop_ids.to_vec(),
            closers: Vec::new(),
        };
        tokens.stop_ids.retain(|id| (*id as usize) < vocab_limit);
        tokens.stop_ids.sort_unstable();
        tokens.stop_ids.dedup();
        for id in ids() {
            let bytes = tokenizer.id_to_bytes(id).unwrap_or(&[]);
            let start = tokens.bytes.len() as u32;
            tokens.bytes.extend_from_slice(bytes);
            tokens.ranges.push(start..tokens.bytes.len() as u32);
            if bytes.contains(&b'>') {
                tokens.closers.push(id);
            }
        }
        Ok(tokens)
    }

    /// Ids from here on are never drawn.
    pub(super) fn n_ids(&self) -> usize {
        self.ranges.len()
    }

    /// The bytes of a token; empty for an id without one.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        match self.ranges.get(id as usize) {
            Some(range) => &self.bytes[range.start as usize..range.end as usize],
            None => &[],
        }
    }

    /// The tree of all tokens. Control tokens begin with a byte that no text has, so that grammars
    /// only meet them by their ids.
    pub(super) fn tree(&self) -> TokEnv {
        let word = |id: u32| {
            let bytes = self.bytes(id);
            let is_control = self.controls.binary_search(&id).is_ok();
            match bytes.len() {
                0 => Vec::new(),
                n if n > MAX_TOKEN_BYTES => Vec::new(),
                _ if is_control => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
                _ => bytes.to_vec(),
            }
        };
        let words: Vec<Vec<u8>> = (0..self.n_ids() as u32).map(word).collect();
        let eos = self.stop_ids.first().copied().unwrap_or(toktrie::INVALID_TOKEN);
        let mut tree = TokTrie::from(&TokRxInfo::new(words.len() as u32, eos), &words);
        if !self.stop_ids.is_empty() {
            tree = tree.with_eos_tokens(&self.stop_ids);
        }
        // Nothing is forced token by token, so a greedy tokenization is good enough.
        std::sync::Arc::new(ApproximateTokEnv::new(tree))
    }
}

/// Leaves in `mask` what is in `allowed` too.
pub(super) fn keep_only(mask: &mut [u32], allowed: &SimpleVob) {
    let allowed = allowed.as_slice();
    let n = allowed.len().min(mask.len());
    for (word, allowed) in mask[..n].iter_mut().zip(allowed) {
        *word &= allowed;
    }
    mask[n..].fill(0);
}

/// Leaves in `mask` what is in `allowed` too.
pub(super) fn keep_ids(mask: &mut [u32], allowed: &[u32]) {
    let kept: Vec<u32> = allowed.iter().copied().filter(|id| is_set(mask, *id)).collect();
    mask.fill(0);
    for id in kept {
        mask[id as usize / 32] |= 1 << (id % 32);
    }
}

/// Takes ids from `first` on out of `mask`.
pub(super) fn cut_from(mask: &mut [u32], first: usize) {
    let word = first / 32;
    if let Some(word) = mask.get_mut(word) {
        *word &= (1 << (first % 32)) - 1;
    }
    if word + 1 < mask.len() {
        mask[word + 1..].fill(0);
    }
}

/// Takes one id out of `mask`.
pub(super) fn cut(mask: &mut [u32], id: u32) {
    if let Some(word) = mask.get_mut(id as usize / 32) {
        *word &= !(1 << (id % 32));
    }
}

fn is_set(mask: &[u32], id: u32) -> bool {
    mask.get(id as usize / 32).is_some_and(|word| word & (1 << (id % 32)) != 0)
}
