//! Training a byte-level BPE vocabulary.
//!
//! Source: Sennrich et al. 2016 (pair merging), GPT-2 (bytes as alphabet), and the layout of the
//! DeepSeek-V3 vocabulary: begin, end and padding first, further special tokens, 256 bytes, merges.
//! The trainer is our own because the one of the `tokenizers` crate breaks some ties by a randomly
//! seeded hash; here the same documents give the same file, byte for byte.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::path::Path;

use crate::added::AddedToken;
use crate::byte_alphabet::BYTE_TO_CHAR;
use crate::pretokenize::{CODE, PROSE, Splitter};
use crate::special;
use crate::tokenizer_json::{self, Contents, split_stage};
use crate::{Error, Result, Tokenizer};

/// No token grows longer: without spaces between words, Chinese text from templates would
/// otherwise end as whole sentences in one token.
const MAX_TOKEN_BYTES: usize = 32;

/// How text is cut before merging. No expression looks ahead, which keeps them fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PretokenizerStyle {
    /// Prose and arithmetic: every digit alone, words with a leading
    /// space, runs of Chinese and kana, runs of punctuation, line breaks, other spaces.
    DigitWords,
    /// Source code: indentation and other runs of spaces whole, identifiers with their
    /// underscores and one leading space, every digit alone, runs of punctuation, line breaks.
    Code,
}

impl PretokenizerStyle {
    /// The expressions, in the order in which they split.
    pub fn patterns(self) -> &'static [&'static str] {
        match self {
            PretokenizerStyle::DigitWords => &[r"\p{N}", r"[一-龥぀-ゟ゠-ヿ]+", PROSE],
            PretokenizerStyle::Code => &[r"\p{N}", r"[一-龥぀-ゟ゠-ヿ]+", CODE],
        }
    }
}

/// What vocabulary to train.
#[derive(Clone, Debug)]
pub struct BpeSettings {
    /// Tokens in all. A small corpus may have too few pairs and give fewer.
    pub vocab_size: usize,
    /// Special tokens that follow [`special::FIRST`], which every vocabulary has; ids from 3.
    pub special_tokens: Vec<String>,
    pub pretokenizer: PretokenizerStyle,
    /// Pairs seen less often than this are not merged.
    pub min_frequency: u64,
}

/// Trains a vocabulary on `documents`, whose text is taken plain.
///
/// Deterministic: depends on the multiset of documents alone, not even on their order.
/// Errors: `VocabTooSmall`, `SpecialToken`.
pub fn train_bpe(
    documents: impl Iterator<Item = String>,
    settings: &BpeSettings,
) -> Result<Tokenizer> {
    let specials = special_tokens(settings)?;
    let splitter = Splitter::new(Path::new(""), settings.pretokenizer.patterns().iter().copied())?;
    let words = count_words(documents, &splitter);
    let first_byte_id = specials.len() as u32;
    let mut tokens: Vec<String> = specials.clone();
    let mut alphabet = BYTE_TO_CHAR;
    alphabet.sort_unstable(); // the order of GPT-2 and V3: `!` is the first byte token
    tokens.extend(alphabet.iter().map(char::to_string));
    let merges = Merger::new(&words, &alphabet, first_byte_id).run(
        &specials,
        &mut tokens,
        settings.vocab_size,
        settings.min_frequency.max(1),
    );
    let file = tokenizer_json(&specials, &tokens, &merges, settings.pretokenizer);
    Tokenizer::from_bytes(file.into_bytes())
}

fn special_tokens(settings: &BpeSettings) -> Result<Vec<String>> {
    let mut all: Vec<String> = special::FIRST.map(str::to_owned).to_vec();
    all.extend(settings.special_tokens.iter().cloned());
    let mut seen = BTreeSet::new();
    for token in &all {
        if token.is_empty() || !seen.insert(token) {
            return Err(Error::SpecialToken { token: token.clone() });
        }
    }
    let (found, minimum) = (settings.vocab_size, all.len() + BYTE_TO_CHAR.len());
    if found < minimum {
        return Err(Error::VocabTooSmall { found, minimum });
    }
    Ok(all)
}

/// Every distinct piece of two bytes or more and how often it occurs, sorted.
fn count_words(documents: impl Iterator<Item = String>, splitter: &Splitter) -> Vec<(String, u64)> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let (mut pieces, mut spare) = (Vec::new(), Vec::new());
    for document in documents {
        splitter.split(&document, &mut pieces, &mut spare);
        for piece in pieces.iter().map(|range| &document[range.clone()]) {
            match counts.get_mut(piece) {
                Some(count) => *count += 1,
                None if piece.len() > 1 => {
                    counts.insert(piece.to_owned(), 1);
                }
                None => {}
            }
        }
    }
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_unstable();
    words
}

type Pair = (u32, u32);

/// Words as ids, and where each pair of neighbours occurs. Maps are only looked up, never walked.
struct Merger {
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// Words that hold a pair, or held it before another merge took it away.
    places: HashMap<Pair, Vec<u32>>,
    /// Candidates, most frequent first, then smallest ids. An entry may be out of date.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Merger {
    fn new(words: &[(String, u64)], alphabet: &[char; 256], first_byte_id: u32) -> Merger {
        let byte_id = |byte: u8| {
            let rank = alphabet.binary_search(&BYTE_TO_CHAR[usize::from(byte)]);
            first_byte_id + rank.expect("the alphabet holds all bytes, sorted") as u32
        };
        let words: Vec<(Vec<u32>, u64)> =
            words.iter().map(|(word, n)| (word.bytes().map(byte_id).collect(), *n)).collect();
        let (mut counts, mut places) = (HashMap::new(), HashMap::<Pair, Vec<u32>>::new());
        for (i, (ids, n)) in words.iter().enumerate() {
            for pair in ids.windows(2).map(|w| (w[0], w[1])) {
                *counts.entry(pair).or_insert(0) += n;
                let list = places.entry(pair).or_default();
                if list.last() != Some(&(i as u32)) {
                    list.push(i as u32);
                }
            }
        }
        let queue = counts.iter().map(|(pair, n)| (*n, Reverse(*pair))).collect();
        Merger { words, counts, places, queue }
    }

    /// Merges until there are `vocab_size` tokens; returns the merges in order of rank.
    fn run(
        mut self,
        specials: &[String],
        tokens: &mut Vec<String>,
        vocab_size: usize,
        min_count: u64,
    ) -> Vec<Pair> {
        let mut ids: HashMap<String, u32> = HashMap::new();
        let mut merged: HashMap<Pair, u32> = HashMap::new();
        let mut merges = Vec::new();
        while tokens.len() < vocab_size {
            let Some((queued, Reverse(pair))) = self.queue.pop() else { break };
            let count = self.counts.get(&pair).copied().unwrap_or(0);
            if count != queued {
                // Every rise was queued at once, so only a fall can be news.
                if count < queued && count > 0 {
                    self.queue.push((count, Reverse(pair)));
                }
                continue;
            }
            if count < min_count {
                break;
            }
            let text = format!("{}{}", tokens[pair.0 as usize], tokens[pair.1 as usize]);
            // A character of the alphabet stands for one byte. Plain text must never give the id
            // of a special token, so a merge that spells one is left out as well.
            if text.chars().count() > MAX_TOKEN_BYTES || specials.contains(&text) {
                continue;
            }
            // Two ways of cutting a word can meet in one token (`ab`+`c`, `a`+`bc`), and can make
            // a pair occur anew that was merged before.
            let next_id = tokens.len() as u32;
            let id = *ids.entry(text).or_insert_with_key(|text| {
                tokens.push(text.clone());
                next_id
            });
            if merged.insert(pair, id).is_none() {
                merges.push(pair);
            }
            self.apply(pair, id);
        }
        merges
    }

    /// Replaces `pair` by `id` in all words and brings the counts of its neighbours up to date.
    fn apply(&mut self, pair: Pair, id: u32) {
        self.counts.remove(&pair);
        let mut risen = BTreeSet::new();
        for word_idx in self.places.remove(&pair).unwrap_or_default() {
            let (word, n) = &mut self.words[word_idx as usize];
            let before: Vec<u32> = std::mem::take(word);
            *word = replace_pair(&before, pair, id);
            if word.len() == before.len() {
                continue;
            }
            for old in before.windows(2).map(|w| (w[0], w[1])).filter(|old| *old != pair) {
                if let Some(count) = self.counts.get_mut(&old) {
                    *count -= *n;
                }
            }
            for new in word.windows(2).map(|w| (w[0], w[1])) {
                *self.counts.entry(new).or_insert(0) += *n;
                if new.0 == id || new.1 == id {
                    risen.insert(new);
                    let list = self.places.entry(new).or_default();
                    if list.last() != Some(&word_idx) {
                        list.push(word_idx);
                    }
                }
            }
        }
        for new in risen {
            self.queue.push((self.counts[&new], Reverse(new)));
        }
    }
}

/// Replaces from left to right, without overlap.
fn replace_pair(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(word.len());
    let mut i = 0;
    while i < word.len() {
        if word.get(i..i + 2) == Some(&[pair.0, pair.1]) {
            out.push(id);
            i += 2;
        } else {
            out.push(word[i]);
            i += 1;
        }
    }
    out
}

/// The file: its layout is that of every `tokenizer.json` written here.
fn tokenizer_json(
    specials: &[String],
    tokens: &[String],
    merges: &[Pair],
    style: PretokenizerStyle,
) -> String {
    let added = |(id, content): (usize, &String)| AddedToken {
        id: id as u32,
        content: content.clone(),
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: !special::is_visible(content),
    };
    let text = |id: u32| tokens[id as usize].clone();
    tokenizer_json::write(&Contents {
        added_tokens: &specials.iter().enumerate().map(added).collect::<Vec<_>>(),
        normalizer: "null".into(),
        splits: style.patterns().iter().map(|p| split_stage(p, "Isolated")).collect(),
        first_token: None,
        ignore_merges: false,
        vocab: tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect(),
        merges: merges.iter().map(|pair| (text(pair.0), text(pair.1))).collect(),
    })
}
