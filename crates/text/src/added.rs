//! Added tokens: literal strings that are found in the text before it is cut and merged.
//!
//! Tokens with `normalized: false` are found in the text as it is, then the others in what the
//! normalizer makes of the rest; of several that begin at one place the longest is taken. Control
//! tokens are the trap: whoever may write them may write roles. [`AddedTokens::split_plain`] finds
//! only tokens that are text themselves, such as the 13 characters (`ü`, `÷` …) that the LLM and
//! Coder vocabularies add because their bytes alone have no tokens.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde::Deserialize;

use crate::char_class::CharSet;
use crate::normalize::{Form, normalized};

/// With more bytes of added tokens, they are found a little slower; releases have up to 20,000.
const MAX_QUICK_BYTES: usize = 1 << 16;

/// An entry of `added_tokens`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    /// Matches only where no word character touches it.
    #[serde(default)]
    pub(crate) single_word: bool,
    /// Takes the white space before it along.
    #[serde(default)]
    pub(crate) lstrip: bool,
    /// Takes the white space after it along.
    #[serde(default)]
    pub(crate) rstrip: bool,
    /// Matches in normalized text.
    #[serde(default)]
    pub(crate) normalized: bool,
    #[serde(default)]
    pub(crate) special: bool,
}

impl AddedToken {
    /// Whether the token is text that anybody may write, and no mark of roles or structure.
    ///
    /// `special` alone does not say so: `<｜User｜>` and `<think>` are not special in the files of
    /// V3. A token counts as text if it is one character, or letters, digits and spaces alone.
    pub(crate) fn is_text(&self) -> bool {
        let is_plain = |c: char| c.is_alphanumeric() || c.is_whitespace();
        !self.special && (self.content.chars().count() == 1 || self.content.chars().all(is_plain))
    }
}

/// A stretch of text between added tokens, or one of these.
pub(crate) enum Part<'t> {
    Text(&'t str),
    Token(u32),
}

/// The added tokens of a vocabulary, ready to be found.
pub(crate) struct AddedTokens {
    all: Vec<AddedToken>,
    trusted: Finder,
    plain: Finder,
    forms: Vec<Form>,
}

struct Finder {
    raw: Option<Automaton>,
    normalized: Option<Automaton>,
}

struct Automaton {
    search: AhoCorasick,
    tokens: Vec<AddedToken>,
}

impl AddedTokens {
    /// Errors: the automaton would be too large.
    pub(crate) fn new(
        mut all: Vec<AddedToken>,
        forms: Vec<Form>,
    ) -> Result<AddedTokens, aho_corasick::BuildError> {
        all.sort_by_key(|token| token.id);
        let trusted = Finder::new(&forms, all.iter())?;
        let plain = Finder::new(&forms, all.iter().filter(|token| token.is_text()))?;
        Ok(AddedTokens { all, trusted, plain, forms })
    }

    /// All of them, in the order of ids.
    pub(crate) fn all(&self) -> &[AddedToken] {
        &self.all
    }

    /// What the text is brought into before it is cut.
    pub(crate) fn forms(&self) -> &[Form] {
        &self.forms
    }

    /// Calls `emit` with every part of trusted text, normalised.
    pub(crate) fn split(&self, text: &str, emit: impl FnMut(Part<'_>)) {
        self.trusted.split(&self.forms, text, emit);
    }

    /// Calls `emit` with every part of somebody else's text: no mark of structure is found.
    pub(crate) fn split_plain(&self, text: &str, emit: impl FnMut(Part<'_>)) {
        self.plain.split(&self.forms, text, emit);
    }
}

impl Finder {
    fn new<'a>(
        forms: &[Form],
        tokens: impl Iterator<Item = &'a AddedToken>,
    ) -> Result<Finder, aho_corasick::BuildError> {
        let (normalized, raw): (Vec<_>, Vec<_>) =
            tokens.filter(|token| !token.content.is_empty()).cloned().partition(|t| t.normalized);
        Ok(Finder {
            raw: Automaton::new(&[], raw)?,
            normalized: Automaton::new(forms, normalized)?,
        })
    }

    fn split(&self, forms: &[Form], text: &str, mut emit: impl FnMut(Part<'_>)) {
        let mut inner = |part: Part<'_>| match part {
            Part::Token(id) => emit(Part::Token(id)),
            Part::Text(text) => {
                let text = normalized(forms, text);
                match &self.normalized {
                    Some(automaton) => automaton.split(&text, &mut emit),
                    None => emit(Part::Text(&text)),
                }
            }
        };
        match &self.raw {
            Some(automaton) => automaton.split(text, &mut inner),
            None => inner(Part::Text(text)),
        }
    }
}

impl Automaton {
    fn new(
        forms: &[Form],
        tokens: Vec<AddedToken>,
    ) -> Result<Option<Automaton>, aho_corasick::BuildError> {
        if tokens.is_empty() {
            return Ok(None);
        }
        let content = |token: &AddedToken| normalized(forms, &token.content).into_owned();
        let contents: Vec<String> = tokens.iter().map(content).collect();
        let n_bytes: usize = contents.iter().map(String::len).sum();
        // The quickest automaton takes a kilobyte for each byte of a token, which nobody may ask of
        // us with a long one; the other a few dozen.
        let small = (n_bytes > MAX_QUICK_BYTES).then_some(AhoCorasickKind::ContiguousNFA);
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(small)
            .build(contents)?;
        Ok(Some(Automaton { search, tokens }))
    }

    fn split(&self, text: &str, emit: &mut impl FnMut(Part<'_>)) {
        let mut done = 0;
        for found in self.search.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            // White space that an earlier token took along is gone.
            if start < done || (token.single_word && touches_word(text, start, end)) {
                continue;
            }
            if token.lstrip {
                start = text[done..start].trim_end().len() + done;
            }
            if token.rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if done < start {
                emit(Part::Text(&text[done..start]));
            }
            emit(Part::Token(token.id));
            done = end;
        }
        if done < text.len() {
            emit(Part::Text(&text[done..]));
        }
    }
}

fn touches_word(text: &str, start: usize, end: usize) -> bool {
    static WORD: OnceLock<CharSet> = OnceLock::new();
    let word = WORD.get_or_init(|| CharSet::constant(r"\w"));
    let is_word = |c: Option<char>| c.is_some_and(|c| word.contains(c.into()));
    is_word(text[..start].chars().next_back()) || is_word(text[end..].chars().next())
}
