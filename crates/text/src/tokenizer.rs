//! A byte-level BPE tokenizer, from a Hugging Face `tokenizer.json` or from the lists in a GGUF.
//!
//! Text is split at added tokens (`added`), brought into a normal form where the vocabulary wants
//! one (`normalize`), cut into pieces (`pretokenize`) and merged inside them (`bpe`). All is our
//! own, because alignments, which the `tokenizers` crate keeps for every byte, cost most of the
//! time and nothing here needs them; tests hold it to that crate. No BOS is added unasked:
//! formats write it themselves.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::added::{AddedToken, AddedTokens, Part};
use crate::bpe::Bpe;
use crate::byte_alphabet::{char_to_byte, map_bytes, token_bytes};
use crate::normalize::{self, Form};
use crate::piece_cache::PieceCache;
use crate::pretokenize::Splitter;
use crate::tokenizer_json::{self, Contents, File};
use crate::{Error, Result, TokenizerConfig, special};

/// Larger ids are refused; the largest real vocabulary has about 262,000 tokens.
const MAX_ID: u32 = 1 << 22;
/// More workspaces than this are not kept.
const MAX_CACHES: usize = 16;
/// Begin tokens that a `tokenizer.json` may hold without saying what they are for.
const BEGIN_TOKENS: [&str; 2] = [special::BOS, "<|begin_of_text|>"];

/// Turns text into ids and back.
pub struct Tokenizer {
    added: AddedTokens,
    splitter: Splitter,
    bpe: Bpe,
    /// Tokens of the vocabulary by their written form, in the byte alphabet.
    ids: HashMap<Box<str>, u32>,
    tokens: TokenTable,
    special: SpecialIds,
    json: OnceLock<Vec<u8>>,
    /// Workspaces that no thread is using. What they remember changes no result.
    caches: Mutex<Vec<PieceCache>>,
}

/// Tokens with a part to play.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpecialIds {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) pad: Option<u32>,
    pub(crate) add_bos: bool,
}

/// What a tokenizer is made of, wherever it came from.
pub(crate) struct Parts {
    /// For errors.
    pub(crate) path: PathBuf,
    /// The vocabulary has at least this many ids.
    pub(crate) n_ids: usize,
    /// Tokens in the byte alphabet.
    pub(crate) vocab: Vec<(String, u32)>,
    pub(crate) added: Vec<AddedToken>,
    /// Tokens of single bytes beside the vocabulary.
    pub(crate) bytes: Vec<(u8, u32)>,
    pub(crate) merges: Vec<(String, String)>,
    pub(crate) splitter: Splitter,
    pub(crate) forms: Vec<Form>,
    pub(crate) ignore_merges: bool,
    pub(crate) special: SpecialIds,
}

/// Bytes of every id, in one buffer.
struct TokenTable {
    bytes: Vec<u8>,
    /// Where each id's bytes lie; empty for an id without a token.
    ranges: Vec<Range<u32>>,
    /// Whether the id is a special token, to be left out of what people read.
    special: Vec<bool>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or the one in a directory together with the
    /// `tokenizer_config.json` beside it.
    ///
    /// Errors: `Read`, those of [`Tokenizer::from_bytes`] and of [`TokenizerConfig::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Tokenizer> {
        let path = path.as_ref();
        let read = |path: &Path| {
            fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
        };
        if !path.is_dir() {
            return from_json(path, read(path)?);
        }
        let json_path = path.join("tokenizer.json");
        let mut tokenizer = from_json(&json_path, read(&json_path)?)?;
        if let Some(config) = TokenizerConfig::open(path)? {
            tokenizer.apply_config(&config);
        }
        Ok(tokenizer)
    }

    /// Reads the content of a `tokenizer.json`.
    ///
    /// Errors: `Json`, `Unsupported`, `Pattern`, `Merge`, `TokenId`, `IdTooLarge`, `Inconsistent`.
    pub fn from_bytes(json: impl Into<Vec<u8>>) -> Result<Tokenizer> {
        from_json(Path::new("tokenizer.json"), json.into())
    }

    /// Takes over what a configuration says about begin, end and padding tokens. Names that the
    /// vocabulary lacks change nothing.
    pub fn apply_config(&mut self, config: &TokenizerConfig) {
        let id = |name: &Option<String>| name.as_ref().and_then(|name| self.token_id(name));
        let (bos, eos, pad) = (id(&config.bos_token), id(&config.eos_token), id(&config.pad_token));
        let old = self.special;
        self.special = SpecialIds {
            bos: bos.or(old.bos),
            eos: eos.or(old.eos),
            pad: pad.or(old.pad),
            add_bos: config.add_bos_token.unwrap_or(old.add_bos),
        };
    }

    /// Ids of trusted text: added tokens inside it become their ids.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.with_cache(|cache| self.encode_into(text, cache, &mut ids));
        ids
    }

    /// Ids of text that somebody else wrote: `<｜User｜>` in it is ordinary characters.
    ///
    /// Of the added tokens only those are found that are text themselves: single characters such
    /// as the `ü` of the LLM and Coder vocabularies, and words of letters and digits.
    pub fn encode_plain(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.with_cache(|cache| self.encode_plain_into(text, cache, &mut ids));
        ids
    }

    /// [`Tokenizer::encode`] of many texts on all cores; results in the order of the texts.
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<Vec<u32>> {
        self.encode_in_parallel(texts, Tokenizer::encode_into)
    }

    /// [`Tokenizer::encode_plain`] of many texts on all cores; results in the order of the texts.
    pub fn encode_batch_plain<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<Vec<u32>> {
        self.encode_in_parallel(texts, Tokenizer::encode_plain_into)
    }

    /// Text of `ids`, special tokens written out. Bytes that are not UTF-8 become U+FFFD; ids
    /// without a token are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_where(ids, |_| true)
    }

    /// Text of `ids` without special tokens, for people to read.
    pub fn decode_skip_special(&self, ids: &[u32]) -> String {
        self.decode_where(ids, |id| !self.is_special(id))
    }

    /// The id of a token by its written form: an added token, or a token in the byte alphabet.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        let added = self.added.all();
        let found = added.iter().find(|known| known.content == token).map(|known| known.id);
        found.or_else(|| self.ids.get(token).copied())
    }

    /// The id of a special token. Errors: `MissingToken`.
    pub fn special_id(&self, token: &'static str) -> Result<u32> {
        self.token_id(token).ok_or(Error::MissingToken { token })
    }

    /// The token that begins a text, if the vocabulary has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that ends a text, as the files say.
    pub fn eos_id(&self) -> Option<u32> {
        self.special.eos
    }

    /// The token that fills up batches, as the files say.
    pub fn pad_id(&self) -> Option<u32> {
        self.special.pad
    }

    /// Whether the files want the begin token before plain text. Templates write their own.
    pub fn adds_bos(&self) -> bool {
        self.special.add_bos
    }

    /// Largest id plus one: the rows an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.tokens.ranges.len()
    }

    /// The written form of a token; bytes that are no text are shown as U+FFFD.
    pub fn token_text(&self, id: u32) -> Option<String> {
        Some(String::from_utf8_lossy(self.id_to_bytes(id)?).into_owned())
    }

    /// The bytes of a token; `None` for an id without one.
    pub fn id_to_bytes(&self, id: u32) -> Option<&[u8]> {
        let range = self.tokens.ranges.get(id as usize)?;
        (!range.is_empty()).then(|| &self.tokens.bytes[range.start as usize..range.end as usize])
    }

    /// Whether `id` is a special token (`<think>` is not one).
    pub fn is_special(&self, id: u32) -> bool {
        self.tokens.special.get(id as usize).copied().unwrap_or(false)
    }

    /// Added tokens that are no text, such as `<｜User｜>`: [`Tokenizer::encode_plain`] never gives them.
    pub fn control_ids(&self) -> Vec<u32> {
        let controls = self.added.all().iter().filter(|token| !token.is_text());
        controls.map(|token| token.id).collect()
    }

    /// The content of the `tokenizer.json`, byte for byte as it was read or trained; written
    /// anew for a vocabulary that came without one.
    pub fn json(&self) -> &[u8] {
        self.json.get_or_init(|| self.to_json().into_bytes())
    }

    /// Writes the `tokenizer.json`, through a temporary file beside it. Errors: `Write`.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written =
            fs::write(&temporary, self.json()).and_then(|()| fs::rename(&temporary, path));
        written.map_err(|source| {
            let _ = fs::remove_file(&temporary); // the first error is the one to report
            Error::Write { path: path.to_owned(), source }
        })
    }

    fn encode_into(&self, text: &str, cache: &mut PieceCache, ids: &mut Vec<u32>) {
        self.added.split(text, |part| self.encode_part(part, cache, ids));
    }

    fn encode_plain_into(&self, text: &str, cache: &mut PieceCache, ids: &mut Vec<u32>) {
        self.added.split_plain(text, |part| self.encode_part(part, cache, ids));
    }

    fn encode_part(&self, part: Part<'_>, cache: &mut PieceCache, ids: &mut Vec<u32>) {
        let text = match part {
            Part::Token(id) => return ids.push(id),
            Part::Text(text) => text,
        };
        let (mut pieces, mut spare) =
            (std::mem::take(&mut cache.pieces), std::mem::take(&mut cache.spare));
        self.splitter.split(text, &mut pieces, &mut spare);
        for range in pieces.drain(..) {
            cache.encode(&self.bpe, &text.as_bytes()[range], ids);
        }
        (cache.pieces, cache.spare) = (pieces, spare);
    }

    /// Lends a workspace to `work`, one that knows earlier texts if there is one.
    fn with_cache(&self, work: impl FnOnce(&mut PieceCache)) {
        // A thread that panicked leaves the list itself whole.
        let caches = || self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = caches().pop();
        let mut cache = kept.unwrap_or_else(PieceCache::new);
        work(&mut cache);
        cache.forget_room();
        let mut caches = caches();
        if caches.len() < MAX_CACHES {
            caches.push(cache);
        }
    }

    fn encode_in_parallel<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        encode: fn(&Tokenizer, &str, &mut PieceCache, &mut Vec<u32>),
    ) -> Vec<Vec<u32>> {
        let encode_all = |texts: &[S]| -> Vec<Vec<u32>> {
            let mut ids = Vec::new();
            self.with_cache(|cache| {
                for text in texts {
                    let mut own = Vec::new();
                    encode(self, text.as_ref(), cache, &mut own);
                    ids.push(own);
                }
            });
            ids
        };
        let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
        let shares = shares_by_bytes(texts, n_threads);
        std::thread::scope(|scope| {
            let encode_all = &encode_all;
            let workers: Vec<_> =
                shares.into_iter().map(|share| scope.spawn(move || encode_all(share))).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, _>| match worker.join() {
                Ok(ids) => ids,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            workers.into_iter().flat_map(join).collect()
        })
    }

    fn decode_where(&self, ids: &[u32], keep: impl Fn(u32) -> bool) -> String {
        let kept = ids.iter().filter(|id| keep(**id));
        let bytes: Vec<u8> =
            kept.flat_map(|&id| self.id_to_bytes(id).unwrap_or(&[])).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Cuts `texts` into at most `n` runs of about equally many bytes.
fn shares_by_bytes<S: AsRef<str>>(mut texts: &[S], n: usize) -> Vec<&[S]> {
    let mut left: usize = texts.iter().map(|text| text.as_ref().len() + 1).sum();
    let mut shares = Vec::new();
    for remaining in (1..=n).rev() {
        let goal = left.div_ceil(remaining);
        let (mut count, mut taken) = (0, 0);
        while count < texts.len() && (taken < goal || remaining == 1) {
            taken += texts[count].as_ref().len() + 1;
            count += 1;
        }
        let (share, rest) = texts.split_at(count);
        if !share.is_empty() {
            shares.push(share);
        }
        left -= taken;
        texts = rest;
    }
    shares
}

impl Tokenizer {
    /// Errors: `IdTooLarge`, `TokenId`, `Merge`, `Inconsistent`.
    pub(crate) fn from_parts(parts: Parts) -> Result<Tokenizer> {
        let tokens = token_table(&parts)?;
        let mut ids: HashMap<Box<str>, u32> = HashMap::with_capacity(parts.vocab.len());
        ids.extend(parts.vocab.into_iter().map(|(token, id)| (token.into_boxed_str(), id)));
        for token in &parts.added {
            let expected = ids.get(token.content.as_str()).copied();
            if expected.is_some_and(|expected| expected != token.id) {
                let (path, found) = (parts.path, token.id);
                return Err(Error::TokenId { path, token: token.content.clone(), found, expected });
            }
        }
        let mut joined = String::new();
        let mut merges = Vec::with_capacity(parts.merges.len());
        for (index, (left, right)) in parts.merges.into_iter().enumerate() {
            joined.clear();
            joined.extend([left.as_str(), right.as_str()]);
            let known = |text: &str| ids.get(text).copied();
            match (known(&left), known(&right), known(&joined)) {
                (Some(left), Some(right), Some(result)) => merges.push((left, right, result)),
                _ => return Err(Error::Merge { path: parts.path, index, left, right }),
            }
        }
        let mut bytes = parts.bytes;
        bytes.extend(ids.iter().filter_map(|(token, id)| {
            let mut chars = token.chars();
            let byte = char_to_byte(chars.next()?)?;
            chars.next().is_none().then_some((byte, *id))
        }));
        let whole = parts.ignore_merges.then(|| {
            // A piece of text must never become a mark of structure.
            let added: HashSet<u32> = parts.added.iter().map(|token| token.id).collect();
            let tokens = ids.iter().filter(|(_, id)| !added.contains(id));
            tokens.filter_map(|(t, id)| Some((token_bytes(t)?.into(), *id))).collect()
        });
        Ok(Tokenizer {
            bpe: Bpe::new(bytes, &merges, whole),
            added: AddedTokens::new(parts.added, parts.forms).map_err(|source| {
                Error::Inconsistent { path: parts.path, source: source.into() }
            })?,
            splitter: parts.splitter,
            ids,
            tokens,
            special: parts.special,
            json: OnceLock::new(),
            caches: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn splitter(&self) -> &Splitter {
        &self.splitter
    }

    pub(crate) fn bpe(&self) -> &Bpe {
        &self.bpe
    }

    pub(crate) fn added_tokens(&self) -> &[AddedToken] {
        self.added.all()
    }

    /// The merges in the byte alphabet, the most urgent first.
    pub(crate) fn merge_texts(&self) -> Vec<(String, String)> {
        let merges = self.bpe.merges();
        merges.into_iter().map(|(left, right)| (self.mapped(left), self.mapped(right))).collect()
    }

    /// A token of the vocabulary in the byte alphabet.
    fn mapped(&self, id: u32) -> String {
        let mut text = String::new();
        map_bytes(self.id_to_bytes(id).unwrap_or(&[]), &mut text);
        text
    }

    fn to_json(&self) -> String {
        let mut vocab: Vec<(String, u32)> =
            self.ids.iter().map(|(token, id)| (token.to_string(), *id)).collect();
        vocab.sort_unstable_by_key(|(_, id)| *id);
        let bos = self.special.bos.filter(|_| self.special.add_bos);
        let first_token = bos.and_then(|id| {
            let token = self.added.all().iter().find(|token| token.id == id)?;
            Some((token.content.as_str(), id))
        });
        tokenizer_json::write(&Contents {
            added_tokens: self.added.all(),
            normalizer: normalize::to_json(self.added.forms()).to_string(),
            splits: self.splitter.to_json(),
            first_token,
            ignore_merges: self.bpe.ignores_merges(),
            vocab,
            merges: self.merge_texts(),
        })
    }
}

fn from_json(path: &Path, content: Vec<u8>) -> Result<Tokenizer> {
    let file = File::read(path, &content)?;
    let splitter = Splitter::from_json(path, &file.pre_tokenizer)?;
    let first_token = file.first_token().map(str::to_owned);
    let id_of = |name: &str| {
        let added = file.added_tokens.iter().find(|token| token.content == name);
        added.map(|token| token.id).or_else(|| file.model.vocab.get(name).copied())
    };
    let begin = first_token.as_deref().into_iter().chain(BEGIN_TOKENS);
    let special = SpecialIds {
        bos: begin.filter_map(id_of).next(),
        eos: id_of(special::EOS),
        pad: id_of(special::PAD),
        add_bos: first_token.is_some(),
    };
    let tokenizer = Tokenizer::from_parts(Parts {
        path: path.to_owned(),
        n_ids: 0,
        vocab: file.model.vocab.into_iter().collect(),
        added: file.added_tokens,
        bytes: Vec::new(),
        merges: file.model.merges.into_iter().map(|merge| (merge.0, merge.1)).collect(),
        splitter,
        forms: normalize::from_json(&file.normalizer).unwrap_or_default(),
        ignore_merges: file.model.ignore_merges,
        special,
    })?;
    tokenizer.json.set(content).expect("a new tokenizer has no file yet");
    Ok(tokenizer)
}

fn token_table(parts: &Parts) -> Result<TokenTable> {
    // Sorted by id, so that the buffer is the same every time. An added token comes after the
    // vocabulary's entry of the same id and replaces it: its content is text, not byte alphabet.
    let mut tokens: Vec<(u32, bool, bool, &str)> = Vec::new();
    tokens.extend(parts.vocab.iter().map(|(text, id)| (*id, false, false, text.as_str())));
    tokens.extend(parts.added.iter().map(|t| (t.id, true, t.special, t.content.as_str())));
    tokens.sort_unstable();
    let largest = tokens.last().map_or((0, ""), |(id, _, _, text)| (*id, *text));
    let n_ids = parts.n_ids.max(if tokens.is_empty() { 0 } else { largest.0 as usize + 1 });
    if n_ids > MAX_ID as usize {
        let (path, token) = (parts.path.clone(), largest.1.to_owned());
        let found = (n_ids - 1).min(u32::MAX as usize) as u32;
        return Err(Error::IdTooLarge { path, token, found, limit: MAX_ID - 1 });
    }
    let mut table =
        TokenTable { bytes: Vec::new(), ranges: vec![0..0; n_ids], special: vec![false; n_ids] };
    for (byte, id) in &parts.bytes {
        table.put(*id, &[*byte]);
    }
    for (id, added, special, text) in tokens {
        match token_bytes(text).filter(|_| !added) {
            Some(bytes) => table.put(id, &bytes),
            None => table.put(id, text.as_bytes()),
        }
        table.special[id as usize] = special;
    }
    Ok(table)
}

impl TokenTable {
    fn put(&mut self, id: u32, bytes: &[u8]) {
        let start = self.bytes.len() as u32;
        self.bytes.extend(bytes);
        self.ranges[id as usize] = start..self.bytes.len() as u32;
    }
}

#[cfg(test)]
mod tests;
