//! The tokenizer inside a GGUF file, as plain lists, and the way to and from ours.
//!
//! Keys: `tokenizer.ggml.tokens`, `.token_type`, `.merges`, `.pre`, `.bos_token_id`,
//! `.eos_token_id`, `.padding_token_id`, `.add_bos_token`. Reading the file is the caller's part.

use std::path::Path;

use crate::added::AddedToken;
use crate::byte_alphabet;
use crate::normalize::Form;
use crate::pretokenize::Splitter;
use crate::pretokenize::families::Family;
use crate::tokenizer::{Parts, SpecialIds};
use crate::tokenizer_json::split_merge;
use crate::{Error, Result, Tokenizer, special};

/// What errors call a vocabulary that came without a file.
const PLACE: &str = "the vocabulary of the file";

/// `tokenizer.ggml.token_type`: an ordinary token, in the byte alphabet.
pub const NORMAL: i32 = 1;
/// Stands for what cannot be written; byte-level vocabularies have none.
pub const UNKNOWN: i32 = 2;
/// A control token, written as it is.
pub const CONTROL: i32 = 3;
/// An added token, written as it is.
pub const USER_DEFINED: i32 = 4;
/// A row of the embedding without a token.
pub const UNUSED: i32 = 5;
/// One byte, written `<0x0A>`.
pub const BYTE: i32 = 6;

/// The tokenizer of a GGUF. The place of a token in `tokens` is its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    pub tokens: Vec<String>,
    /// One for each token, such as [`NORMAL`]; empty if the file has none, then all are normal
    /// but the begin, end and padding tokens.
    pub token_types: Vec<i32>,
    /// Left and right with a space between, the most urgent first.
    pub merges: Vec<String>,
    /// The way of cutting text; `default` where a file does not say.
    pub pre: String,
    pub bos_id: Option<u32>,
    pub eos_id: Option<u32>,
    pub pad_id: Option<u32>,
    /// Whether the begin token stands before plain text.
    pub add_bos: bool,
}

impl Vocabulary {
    /// The tokenizer of this vocabulary.
    /// Errors: `PreTokenizer`, `VocabularyLengths`, `TokenType`, `MergeForm`, `Merge`,
    /// `IdOutside`, `IdTooLarge`.
    pub(crate) fn into_tokenizer(self) -> Result<Tokenizer> {
        let family = Family::named(&self.pre)?;
        let n_tokens = self.tokens.len();
        if !self.token_types.is_empty() && self.token_types.len() != n_tokens {
            let found = self.token_types.len();
            return Err(Error::VocabularyLengths { tokens: n_tokens, types: found });
        }
        for (which, id) in [("begin", self.bos_id), ("end", self.eos_id), ("padding", self.pad_id)]
        {
            if let Some(id) = id.filter(|id| *id as usize >= n_tokens) {
                return Err(Error::IdOutside { which, id, n_tokens });
            }
        }
        let mut parts = Parts {
            path: PLACE.into(),
            n_ids: n_tokens,
            vocab: Vec::with_capacity(n_tokens),
            added: Vec::new(),
            bytes: Vec::new(),
            merges: Vec::with_capacity(self.merges.len()),
            splitter: {
                let patterns = family.patterns();
                Splitter::new(Path::new(PLACE), patterns.iter().map(String::as_str))?
            },
            forms: if family.nfc { vec![Form::Nfc] } else { Vec::new() },
            ignore_merges: family.ignore_merges,
            special: SpecialIds {
                bos: self.bos_id,
                eos: self.eos_id,
                pad: self.pad_id,
                add_bos: self.add_bos,
            },
        };
        for (index, merge) in self.merges.iter().enumerate() {
            let (left, right) = split_merge(merge)
                .ok_or_else(|| Error::MergeForm { index, merge: merge.clone() })?;
            parts.merges.push((left.to_owned(), right.to_owned()));
        }
        let control = [self.bos_id, self.eos_id];
        let mut n_ids = 0;
        for (id, token) in self.tokens.into_iter().enumerate() {
            let mut kind = self.token_types.get(id).copied().unwrap_or(NORMAL);
            if control.contains(&Some(id as u32)) {
                kind = CONTROL;
            }
            if place(&mut parts, id as u32, token, kind)? {
                n_ids = id + 1;
            }
        }
        // Rows at the end of an embedding that have no token are no ids of ours.
        parts.n_ids = n_ids;
        Tokenizer::from_parts(parts)
    }
}

/// Takes a token in; returns whether it is one, and not a row that only fills up an embedding.
fn place(parts: &mut Parts, id: u32, token: String, kind: i32) -> Result<bool> {
    match kind {
        NORMAL => parts.vocab.push((token, id)),
        UNUSED => return Ok(false),
        // Converters once called such rows user-defined.
        USER_DEFINED if token == format!("[PAD{id}]") => return Ok(false),
        UNKNOWN | CONTROL | USER_DEFINED => parts.added.push(AddedToken {
            id,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: kind != USER_DEFINED && !special::is_visible(&token),
            content: token,
        }),
        BYTE => match byte_of(&token) {
            Some(byte) => parts.bytes.push((byte, id)),
            None => return Err(Error::TokenType { id, token, found: kind }),
        },
        _ => return Err(Error::TokenType { id, token, found: kind }),
    }
    Ok(true)
}

fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

impl Tokenizer {
    /// A tokenizer of the lists that a GGUF holds.
    ///
    /// Errors: `PreTokenizer`, `VocabularyLengths`, `TokenType`, `MergeForm`, `Merge`,
    /// `IdOutside`, `IdTooLarge`.
    pub fn from_vocabulary(vocabulary: Vocabulary) -> Result<Tokenizer> {
        vocabulary.into_tokenizer()
    }

    /// The lists that a GGUF would hold. An id without a token becomes `[PAD…]`, unused.
    ///
    /// Errors: `NoPreTokenizer` if text is cut in a way that no GGUF can name.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        let patterns = self.splitter().isolated_patterns();
        let family = patterns.and_then(|patterns| Family::of_patterns(&patterns));
        let family = family.filter(|family| family.ignore_merges == self.bpe().ignores_merges());
        let pre = family.ok_or(Error::NoPreTokenizer)?.names[0].to_owned();
        let n_tokens = self.vocab_size();
        let mut vocabulary = Vocabulary {
            tokens: (0..n_tokens).map(|id| format!("[PAD{id}]")).collect(),
            token_types: vec![UNUSED; n_tokens],
            merges: self.merge_texts().iter().map(|(l, r)| format!("{l} {r}")).collect(),
            pre,
            bos_id: self.bos_id(),
            eos_id: self.eos_id(),
            pad_id: self.pad_id(),
            add_bos: self.adds_bos(),
        };
        let mut mapped = String::new();
        for id in 0..n_tokens {
            if let Some(bytes) = self.id_to_bytes(id as u32) {
                byte_alphabet::map_bytes(bytes, &mut mapped);
                vocabulary.tokens[id] = mapped.clone();
                vocabulary.token_types[id] = NORMAL;
            }
        }
        for token in self.added_tokens() {
            vocabulary.tokens[token.id as usize] = token.content.clone();
            // llama.cpp hides and trusts by this type alone, so every mark of structure gets it.
            let kind = if token.is_text() { USER_DEFINED } else { CONTROL };
            vocabulary.token_types[token.id as usize] = kind;
        }
        Ok(vocabulary)
    }
}
