//! Keeps what people write from becoming control tokens.
//!
//! A rendered template is one text in which a user's `<｜User｜>` looks like the template's own. So
//! before rendering a mark, a character that occurs nowhere else, goes into every string of the
//! conversation that spells a control token: after the first character of each occurrence, where
//! no string method of a template parts them. Where a string begins or ends with part of one, a
//! mark stands beside that part, so that the template's text cannot complete it (only a template
//! that sets two short strings side by side inside a token of its own could). After rendering,
//! whatever still spells a control token was written by the template. Marks are removed before
//! text is encoded, in stretches from one control token to the next, so a conversation that spells
//! none has exactly the ids of the rendered text.

use std::collections::{BTreeMap, BTreeSet};

use crate::special::{END_THINK, THINK};
use crate::{Error, Result, Tokenizer};

/// Characters that serve as marks: a private plane of Unicode, which no tokenizer names.
const MARKS: std::ops::RangeInclusive<char> = '\u{f0000}'..='\u{ffffd}';

/// Whether a character may be a mark.
pub(super) fn is_mark(character: char) -> bool {
    MARKS.contains(&character)
}

/// The added tokens of a tokenizer.
pub(super) struct ControlTokens {
    /// By first character; longest first.
    by_start: BTreeMap<char, Vec<(String, Option<u32>)>>,
}

/// The characters that mark one conversation.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    /// Parts the characters of what must not become a control token.
    pub(super) breaker: char,
    /// Ends the message that is to be continued.
    pub(super) end: char,
}

/// A stretch of a rendered text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stretch<'t> {
    Control(&'t str, Option<u32>),
    Text(&'t str),
}

impl ControlTokens {
    /// Errors: `Json`.
    pub(super) fn of(tokenizer: &Tokenizer) -> Result<ControlTokens> {
        let mut by_start: BTreeMap<char, Vec<(String, Option<u32>)>> = BTreeMap::new();
        let mut tokens: BTreeMap<String, Option<u32>> = BTreeMap::new();
        // Thinking markers steer the reading of replies even where they are ordinary text.
        tokens.extend([THINK, END_THINK].map(|marker| (marker.to_owned(), None)));
        let added = tokenizer.added_tokens().iter();
        tokens.extend(added.map(|token| (token.content.clone(), Some(token.id))));
        for (text, id) in tokens {
            if let Some(first) = text.chars().next() {
                by_start.entry(first).or_default().push((text, id));
            }
        }
        by_start.values_mut().for_each(|tokens| {
            tokens.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.0.cmp(&b.0)));
        });
        Ok(ControlTokens { by_start })
    }

    /// Whether the token says something about roles or structure. Single characters (`ü` in the
    /// LLM and Coder vocabularies) and words are text that anybody may write.
    pub(super) fn controls(text: &str) -> bool {
        let is_plain = |c: char| c.is_alphanumeric() || c.is_whitespace();
        text.chars().nth(1).is_some() && !text.chars().all(is_plain)
    }

    /// The longest token that `text` begins with.
    fn at_start<'c>(&'c self, text: &str) -> Option<(&'c str, Option<u32>)> {
        let tokens = self.by_start.get(&text.chars().next()?)?;
        let found = tokens.iter().find(|(token, _)| text.starts_with(token.as_str()));
        found.map(|(token, id)| (token.as_str(), *id))
    }

    /// `text` with marks, so that nothing in it is a control token except those in `allowed`.
    pub(super) fn guard(&self, text: &str, marks: Marks, allowed: &[&str]) -> String {
        let forbidden = || {
            let all = self.by_start.values().flatten().map(|(token, _)| token.as_str());
            all.filter(|token| ControlTokens::controls(token) && !allowed.contains(token))
        };
        let mut breaks = BTreeSet::new();
        for (at, first) in text.char_indices() {
            let Some(tokens) = self.by_start.get(&first) else { continue };
            let spelt = |(token, _): &(String, Option<u32>)| {
                ControlTokens::controls(token)
                    && !allowed.contains(&token.as_str())
                    && text[at..].starts_with(token.as_str())
            };
            if tokens.iter().any(spelt) {
                breaks.insert(at + first.len_utf8());
            }
        }
        let body = text.trim();
        let start = text.len() - text.trim_start().len();
        if forbidden().any(|token| begins_with_rest(body, token)) {
            breaks.insert(start);
        }
        if forbidden().any(|token| ends_with_part(body, token)) {
            breaks.insert(start + body.len());
        }
        let mut guarded = String::with_capacity(text.len() + 4 * breaks.len());
        let mut from = 0;
        for at in breaks {
            guarded.push_str(&text[from..at]);
            guarded.push(marks.breaker);
            from = at;
        }
        guarded + &text[from..]
    }

    /// Cuts a rendered text, marks included, at its added tokens.
    pub(super) fn stretches<'t>(&'t self, rendered: &'t str) -> Vec<Stretch<'t>> {
        let mut stretches = Vec::new();
        let (mut from, mut at) = (0, 0);
        while at < rendered.len() {
            match self.at_start(&rendered[at..]) {
                Some((token, id)) => {
                    if from < at {
                        stretches.push(Stretch::Text(&rendered[from..at]));
                    }
                    stretches.push(Stretch::Control(token, id));
                    at += token.len();
                    from = at;
                }
                None => at += rendered[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        if from < rendered.len() {
            stretches.push(Stretch::Text(&rendered[from..]));
        }
        stretches
    }

    /// Ids of a rendered text: what still spells an added token is one.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, rendered: &str, marks: Marks) -> Vec<u32> {
        if !rendered.contains(marks.breaker) {
            return tokenizer.encode(rendered);
        }
        let mut ids = Vec::new();
        let mut text = String::new();
        for stretch in self.stretches(rendered) {
            match stretch {
                Stretch::Control(_, Some(id)) => {
                    ids.extend(tokenizer.encode_plain(&text));
                    text.clear();
                    ids.push(id);
                }
                Stretch::Control(token, None) => text.push_str(token),
                Stretch::Text(part) => text.push_str(&marks.remove(part)),
            }
        }
        ids.extend(tokenizer.encode_plain(&text));
        ids
    }
}

impl Marks {
    /// Two marks that do not occur in any of the texts that `visit_all` shows.
    ///
    /// Errors: `MarksTaken` for a conversation that uses all 65,534 of them.
    pub(super) fn unused(visit_all: impl FnOnce(&mut dyn FnMut(&str))) -> Result<Marks> {
        let mut used = BTreeSet::new();
        visit_all(&mut |text| used.extend(text.chars().filter(|c| is_mark(*c))));
        let mut free = MARKS.filter(|mark| !used.contains(mark));
        match (free.next(), free.next()) {
            (Some(breaker), Some(end)) => Ok(Marks { breaker, end }),
            _ => Err(Error::MarksTaken),
        }
    }

    /// The text as its reader sees it.
    pub(super) fn remove(self, text: &str) -> String {
        text.replace(self.breaker, "")
    }
}

/// Whether `text` begins with a proper end of `token`, so that text before it could complete it.
fn begins_with_rest(text: &str, token: &str) -> bool {
    token.char_indices().skip(1).any(|(at, _)| text.starts_with(&token[at..]))
}

/// Whether `text` ends with a proper beginning of `token`.
fn ends_with_part(text: &str, token: &str) -> bool {
    token.char_indices().skip(1).any(|(at, _)| text.ends_with(&token[..at]))
}
