//! Hand-written splitters for the alternations that cut text into words.
//!
//! Each function is one regular expression of a model family, written out as what it does at one
//! position: the end of the match that begins there, or nothing. A test compares every one with
//! its expression on random text. Expressions that are not listed here are left to the engine.

use crate::char_class::{LETTER, MARK, NUMBER, PUNCTUATION, SPACE, SYMBOL, categories, code_at};

/// Where the match that begins at `at` ends, if one does.
pub(super) type MatchAt = fn(text: &Text<'_>, at: usize) -> Option<usize>;

/// GPT-2; also what `ByteLevel` applies when `use_regex` is true.
pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Qwen2, with every digit alone.
pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama-3: Qwen2 with up to three digits together.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The last stage of DeepSeek-V3.
pub(super) const V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
/// The last stage of `PretokenizerStyle::DigitWords`.
pub(crate) const PROSE: &str = r" ?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]+|[^\S\r\n]+";
/// The last stage of `PretokenizerStyle::Code`.
pub(crate) const CODE: &str = r" ?[\p{L}\p{M}_]+| ?[^\s\p{L}\p{M}_]+|[\r\n]+|[^\S\r\n]+";

/// Every expression that has a splitter of its own.
pub(super) const WORDS: [(&str, MatchAt); 6] = [
    (GPT2, gpt2),
    (QWEN2, |text, at| qwen2(text, at, 1)),
    (LLAMA3, |text, at| qwen2(text, at, 3)),
    (V3, v3),
    (PROSE, prose),
    (CODE, code),
];

/// The splitter of an expression. Line breaks may stand in it raw, as in the files of V3.
pub(super) fn match_at(pattern: &str) -> Option<MatchAt> {
    let pattern = pattern.replace('\r', r"\r").replace('\n', r"\n");
    WORDS.iter().find(|(known, _)| *known == pattern).map(|(_, found)| *found)
}

/// Calls `emit` with the byte range of every match, from left to right.
pub(super) fn find_all(match_at: MatchAt, text: &str, mut emit: impl FnMut(usize, usize)) {
    let text = Text { bytes: text.as_bytes(), categories: categories() };
    let mut at = 0;
    while at < text.bytes.len() {
        match match_at(&text, at) {
            Some(end) => {
                emit(at, end);
                at = end;
            }
            None => at = code_at(text.bytes, at).1,
        }
    }
}

/// A piece of text with what its characters are.
pub(super) struct Text<'t> {
    bytes: &'t [u8],
    categories: &'static [u8],
}

/// Categories, code point and end of one character. Past the end: no category, end unchanged.
#[derive(Clone, Copy)]
struct Char {
    category: u8,
    code: u32,
    end: usize,
}

impl Char {
    fn is(self, categories: u8) -> bool {
        self.category & categories != 0
    }

    fn is_newline(self) -> bool {
        self.code == 10 || self.code == 13
    }
}

impl Text<'_> {
    #[inline]
    fn char(&self, at: usize) -> Char {
        if at >= self.bytes.len() {
            return Char { category: 0, code: 0, end: at };
        }
        let (code, end) = code_at(self.bytes, at);
        Char { category: self.categories[code as usize], code, end }
    }

    /// The end of the run of characters for which `is` holds.
    #[inline]
    fn run(&self, mut at: usize, is: impl Fn(Char) -> bool) -> usize {
        while at < self.bytes.len() {
            let c = self.char(at);
            if !is(c) {
                break;
            }
            at = c.end;
        }
        at
    }

    fn run_of(&self, at: usize, categories: u8) -> usize {
        self.run(at, |c| c.is(categories))
    }

    fn newlines(&self, at: usize) -> usize {
        self.run(at, Char::is_newline)
    }

    /// ` ?[…]+`: the end of a run that may follow one space; `None` if there is no run.
    fn spaced_run(&self, at: usize, is: impl Fn(Char) -> bool) -> Option<usize> {
        let start = if self.bytes.get(at) == Some(&b' ') { at + 1 } else { at };
        let end = self.run(start, is);
        (end > start).then_some(end)
    }

    /// `\s+(?!\S)|\s+`: white space, of which the last leaves itself to a word that follows.
    /// With `to_newline` `\s*[\r\n]+` comes first: up to the last line break of the run.
    fn white_space(&self, start: usize, to_newline: bool) -> Option<usize> {
        let (mut at, mut last, mut newline) = (start, start, None);
        while at < self.bytes.len() {
            let c = self.char(at);
            if !c.is(SPACE) {
                break;
            }
            (last, at) = (at, c.end);
            if c.is_newline() {
                newline = Some(at);
            }
        }
        if to_newline && newline.is_some() {
            return newline;
        }
        let whole = at == self.bytes.len() || last == start;
        (at > start).then_some(if whole { at } else { last })
    }

    /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d`. In any case also means the long
    /// s, U+017F, which folds to s.
    fn contraction(&self, at: usize, any_case: bool) -> Option<usize> {
        let rest = self.bytes.get(at..)?.strip_prefix(b"'")?;
        let fold = |i: usize| {
            let byte = *rest.get(i)?;
            Some(if any_case { byte.to_ascii_lowercase() } else { byte })
        };
        match (fold(0)?, fold(1)) {
            (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
            (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(at + 3),
            _ if any_case && rest.starts_with("ſ".as_bytes()) => Some(at + 1 + "ſ".len()),
            _ => None,
        }
    }
}

fn gpt2(text: &Text<'_>, at: usize) -> Option<usize> {
    text.contraction(at, false)
        .or_else(|| text.spaced_run(at, |c| c.is(LETTER)))
        .or_else(|| text.spaced_run(at, |c| c.is(NUMBER)))
        .or_else(|| text.spaced_run(at, |c| !c.is(LETTER | NUMBER | SPACE)))
        .or_else(|| text.white_space(at, false))
}

fn qwen2(text: &Text<'_>, at: usize, max_digits: usize) -> Option<usize> {
    if let Some(end) = text.contraction(at, true) {
        return Some(end);
    }
    let c = text.char(at);
    if c.is(LETTER) {
        return Some(text.run_of(c.end, LETTER));
    }
    if c.is(NUMBER) {
        let mut end = c.end;
        for _ in 1..max_digits {
            let digit = text.char(end);
            end = if digit.is(NUMBER) { digit.end } else { break };
        }
        return Some(end);
    }
    if !c.is_newline() && text.char(c.end).is(LETTER) {
        return Some(text.run_of(c.end, LETTER));
    }
    text.spaced_run(at, |c| !c.is(LETTER | NUMBER | SPACE))
        .map(|end| text.newlines(end))
        .or_else(|| text.white_space(at, true))
}

fn v3(text: &Text<'_>, at: usize) -> Option<usize> {
    let c = text.char(at);
    if c.code < 128 && (c.code as u8).is_ascii_punctuation() {
        let end = text.run(c.end, |c| c.code < 128 && (c.code as u8).is_ascii_alphabetic());
        if end > c.end {
            return Some(end);
        }
    }
    let word = LETTER | MARK;
    if c.is(word) {
        return Some(text.run_of(c.end, word));
    }
    if !c.is_newline() && !c.is(PUNCTUATION | SYMBOL) && text.char(c.end).is(word) {
        return Some(text.run_of(c.end, word));
    }
    text.spaced_run(at, |c| c.is(PUNCTUATION | SYMBOL))
        .map(|end| text.newlines(end))
        .or_else(|| text.white_space(at, true))
}

fn prose(text: &Text<'_>, at: usize) -> Option<usize> {
    text.spaced_run(at, |c| c.is(LETTER | MARK))
        .or_else(|| text.spaced_run(at, |c| c.is(PUNCTUATION | SYMBOL)))
        .or_else(|| lines_or_spaces(text, at))
}

fn code(text: &Text<'_>, at: usize) -> Option<usize> {
    let is_name = |c: Char| c.is(LETTER | MARK) || c.code == u32::from(b'_');
    text.spaced_run(at, is_name)
        .or_else(|| text.spaced_run(at, |c| !is_name(c) && !c.is(SPACE)))
        .or_else(|| lines_or_spaces(text, at))
}

/// `[\r\n]+|[^\S\r\n]+`.
fn lines_or_spaces(text: &Text<'_>, at: usize) -> Option<usize> {
    let c = text.char(at);
    if c.is_newline() {
        return Some(text.newlines(at));
    }
    c.is(SPACE).then(|| text.run(at, |c| c.is(SPACE) && !c.is_newline()))
}
