//! A byte-level BPE tokenizer read from a Hugging Face `tokenizer.json`.
//!
//! Vocabulary, merges and added tokens are those of the `tokenizers` crate; pieces are cut here
//! (see `pretokenize`), because alignments, which the crate keeps for every byte, cost most of
//! the time and nothing here needs them. No BOS is ever added: formats write it themselves.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, OffsetReferential, OffsetType,
};

use crate::byte_alphabet::{map_bytes, token_bytes};
use crate::pretokenize::Splitter;
use crate::{Error, Result};

/// Larger ids are refused; the largest real vocabulary has about 262,000 tokens.
const MAX_ID: u32 = 1 << 22;
/// Pieces longer than this are merged anew each time instead of being remembered.
const MAX_CACHED_PIECE_BYTES: usize = 64;

/// Turns text into ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    splitter: Splitter,
    tokens: TokenTable,
    /// Whether text changes before it is cut (an empty list of normalizers does nothing).
    normalizes: bool,
    json: Vec<u8>,
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
    /// Reads a `tokenizer.json`, or the one in a directory.
    ///
    /// Errors: `Read`, and those of [`Tokenizer::from_bytes`].
    pub fn open(path: impl AsRef<Path>) -> Result<Tokenizer> {
        let mut path = path.as_ref().to_owned();
        if path.is_dir() {
            path.push("tokenizer.json");
        }
        let json = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        from_json(&path, json)
    }

    /// Reads the content of a `tokenizer.json`.
    ///
    /// Errors: `Json`, `Inconsistent`, `Unsupported`, `Pattern`, `TokenId`, `IdTooLarge`.
    pub fn from_bytes(json: impl Into<Vec<u8>>) -> Result<Tokenizer> {
        from_json(Path::new("tokenizer.json"), json.into())
    }

    /// Ids of trusted text: added tokens inside it become their ids.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut PieceCache::default(), &mut ids);
        ids
    }

    /// Ids of text that somebody else wrote: no added token is matched, so `<｜User｜>` in it is
    /// ordinary characters.
    pub fn encode_plain(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_plain_into(text, &mut PieceCache::default(), &mut ids);
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
        self.inner.token_to_id(token)
    }

    /// The id of a special token. Errors: `MissingToken`.
    pub fn special_id(&self, token: &'static str) -> Result<u32> {
        self.token_id(token).ok_or(Error::MissingToken { token })
    }

    /// Largest id plus one: the rows an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.tokens.ranges.len()
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

    /// The content of the `tokenizer.json`, byte for byte as it was read or trained.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// Writes the `tokenizer.json`, through a temporary file beside it. Errors: `Write`.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = fs::write(&temporary, &self.json).and_then(|()| fs::rename(&temporary, path));
        written.map_err(|source| {
            let _ = fs::remove_file(&temporary); // the first error is the one to report
            Error::Write { path: path.to_owned(), source }
        })
    }

    fn encode_into(&self, text: &str, cache: &mut PieceCache, ids: &mut Vec<u32>) {
        let added = self.inner.get_added_vocabulary();
        let parts = added.extract_and_normalize(self.inner.get_normalizer(), text);
        for (part, _, tokens) in parts.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            match tokens {
                Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                None => self.encode_part(part, cache, ids),
            }
        }
    }

    fn encode_plain_into(&self, text: &str, cache: &mut PieceCache, ids: &mut Vec<u32>) {
        let Some(normalizer) = self.inner.get_normalizer().filter(|_| self.normalizes) else {
            return self.encode_part(text, cache, ids);
        };
        let mut normalized = NormalizedString::from(text);
        normalizer.normalize(&mut normalized).expect("checked when opened: unicode forms only");
        self.encode_part(normalized.get(), cache, ids);
    }

    /// Encodes normalised text that holds no added token.
    fn encode_part(&self, text: &str, cache: &mut PieceCache, ids: &mut Vec<u32>) {
        self.splitter.split(text, &mut cache.pieces);
        for range in std::mem::take(&mut cache.pieces) {
            let piece = &text[range];
            if let Some(known) = cache.known.get(piece) {
                ids.extend_from_slice(known);
                continue;
            }
            map_bytes(piece, &mut cache.mapped);
            let tokens = self.inner.get_model().tokenize(&cache.mapped);
            let tokens = tokens.expect("checked when opened: without `unk_token` nothing fails");
            let start = ids.len();
            ids.extend(tokens.iter().map(|token| token.id));
            if piece.len() <= MAX_CACHED_PIECE_BYTES {
                cache.known.insert(piece.into(), ids[start..].into());
            }
        }
    }

    fn encode_in_parallel<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        encode: fn(&Tokenizer, &str, &mut PieceCache, &mut Vec<u32>),
    ) -> Vec<Vec<u32>> {
        let encode_all = |texts: &[S]| -> Vec<Vec<u32>> {
            let mut cache = PieceCache::default();
            let one = |text: &S| {
                let mut ids = Vec::new();
                encode(self, text.as_ref(), &mut cache, &mut ids);
                ids
            };
            texts.iter().map(one).collect()
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

/// What one thread remembers while it encodes.
#[derive(Default)]
struct PieceCache {
    known: HashMap<Box<str>, Box<[u32]>>,
    pieces: Vec<Range<usize>>,
    mapped: String,
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

/// The parts of the file that are checked before the `tokenizers` crate reads it.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: FileModel,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    special: bool,
}

#[derive(Deserialize)]
struct FileModel {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    byte_fallback: bool,
    vocab: HashMap<String, u32>,
}

fn from_json(path: &Path, content: Vec<u8>) -> Result<Tokenizer> {
    let file: File = serde_json::from_slice(&content)
        .map_err(|source| Error::Json { path: path.to_owned(), source })?;
    check_kind(path, &file)?;
    let splitter = Splitter::from_json(path, &file.pre_tokenizer)?;
    let tokens = token_table(path, &file)?;
    let inner = tokenizers::Tokenizer::from_bytes(&content)
        .map_err(|source| Error::Inconsistent { path: path.to_owned(), source })?;
    for token in &file.added_tokens {
        let expected = inner.token_to_id(&token.content);
        if expected != Some(token.id) {
            let (path, found) = (path.to_owned(), token.id);
            return Err(Error::TokenId { path, token: token.content.clone(), found, expected });
        }
    }
    assert!(matches!(inner.get_model(), ModelWrapper::BPE(_)), "the kind was checked before");
    let normalizes = !file.normalizer.is_null() && file.normalizer["normalizers"] != json!([]);
    Ok(Tokenizer { inner, splitter, tokens, normalizes, json: content })
}

/// Refuses what is not a deterministic byte-level BPE.
fn check_kind(path: &Path, file: &File) -> Result<()> {
    let refuse = |part, found: String, expected| {
        Err(Error::Unsupported { path: PathBuf::from(path), part, found, expected })
    };
    let is_form =
        |stage: &Value| matches!(stage["type"].as_str(), Some("NFC" | "NFD" | "NFKC" | "NFKD"));
    let normalizer_fits = match file.normalizer["normalizers"].as_array() {
        Some(stages) => stages.iter().all(is_form),
        None => file.normalizer.is_null() || is_form(&file.normalizer),
    };
    if !normalizer_fits {
        return refuse("normalizer", file.normalizer.to_string(), "none or a unicode form");
    }
    if file.decoder["type"] != "ByteLevel" {
        return refuse("decoder", file.decoder.to_string(), "`ByteLevel`");
    }
    let model = &file.model;
    match &model.kind {
        Some(kind) if kind != "BPE" => return refuse("model", format!("`{kind}`"), "`BPE`"),
        _ => {}
    }
    if !model.unk_token.is_null() || model.byte_fallback {
        return refuse("model", "one with an unknown token".into(), "one where bytes suffice");
    }
    if !(model.dropout.is_null() || model.dropout == 0.0) {
        return refuse("model.dropout", model.dropout.to_string(), "none");
    }
    Ok(())
}

fn token_table(path: &Path, file: &File) -> Result<TokenTable> {
    // Sorted by id, so that the buffer is the same every time. An added token comes after the
    // vocabulary's entry of the same id and replaces it: its content is text, not byte alphabet.
    let mut tokens: Vec<(u32, bool, bool, &str)> = Vec::new();
    tokens.extend(file.model.vocab.iter().map(|(text, id)| (*id, false, false, text.as_str())));
    tokens.extend(file.added_tokens.iter().map(|t| (t.id, true, t.special, t.content.as_str())));
    tokens.sort_unstable();
    let n_ids = match tokens.last() {
        Some((id, _, _, text)) if *id >= MAX_ID => {
            let (path, token) = (path.to_owned(), (*text).to_owned());
            return Err(Error::IdTooLarge { path, token, found: *id, limit: MAX_ID - 1 });
        }
        Some((id, ..)) => *id as usize + 1,
        None => 0,
    };
    let mut table =
        TokenTable { bytes: Vec::new(), ranges: vec![0..0; n_ids], special: vec![false; n_ids] };
    for (id, added, special, text) in tokens {
        let mapped = if added { None } else { token_bytes(text) };
        let start = table.bytes.len() as u32;
        table.bytes.extend(mapped.unwrap_or_else(|| text.as_bytes().to_vec()));
        table.ranges[id as usize] = start..table.bytes.len() as u32;
        table.special[id as usize] = special;
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
