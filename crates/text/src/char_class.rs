//! Sets of characters and their general categories, with tests that cost one look-up.
//!
//! The tables come from `regex-syntax`, which the regular expressions are compiled by as well, so
//! that a hand-written splitter and the expression it stands for know the same Unicode.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, Hir, HirKind};

const N_CODES: usize = 0x11_0000;

/// Letters, `\p{L}`.
pub(crate) const LETTER: u8 = 1;
/// Marks, `\p{M}`.
pub(crate) const MARK: u8 = 2;
/// Numbers, `\p{N}`.
pub(crate) const NUMBER: u8 = 4;
/// Punctuation, `\p{P}`.
pub(crate) const PUNCTUATION: u8 = 8;
/// Symbols, `\p{S}`.
pub(crate) const SYMBOL: u8 = 16;
/// White space, `\s`, line breaks included.
pub(crate) const SPACE: u8 = 32;

/// The categories of every code point, one byte each.
pub(crate) fn categories() -> &'static [u8] {
    static TABLE: OnceLock<Box<[u8]>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![0u8; N_CODES].into_boxed_slice();
        let classes = [
            (r"\p{L}", LETTER),
            (r"\p{M}", MARK),
            (r"\p{N}", NUMBER),
            (r"\p{P}", PUNCTUATION),
            (r"\p{S}", SYMBOL),
            (r"\s", SPACE),
        ];
        for (pattern, flag) in classes {
            let hir = regex_syntax::parse(pattern).expect("the pattern is a constant and correct");
            for (first, last) in ranges(&hir).expect("the pattern is a class") {
                for code in first..=last {
                    table[code as usize] |= flag;
                }
            }
        }
        table
    })
}

/// A set of characters, one bit each.
#[derive(Clone)]
pub(crate) struct CharSet {
    ascii: u128,
    bits: Box<[u64]>,
}

impl CharSet {
    /// The set that a class or a single character of a parsed expression stands for.
    pub(crate) fn from_hir(hir: &Hir) -> Option<CharSet> {
        let mut bits = vec![0u64; N_CODES / 64].into_boxed_slice();
        for (first, last) in ranges(hir)? {
            for code in first as usize..=last as usize {
                bits[code / 64] |= 1 << (code % 64);
            }
        }
        Some(CharSet { ascii: u128::from(bits[0]) | u128::from(bits[1]) << 64, bits })
    }

    /// The set of an expression such as `\w`. Panics: the expression is no class.
    pub(crate) fn constant(pattern: &'static str) -> CharSet {
        let hir = regex_syntax::parse(pattern).expect("the pattern is a constant and correct");
        CharSet::from_hir(&hir).expect("the pattern is a class")
    }

    pub(crate) fn contains(&self, code: u32) -> bool {
        if code < 128 {
            return self.ascii >> code & 1 == 1;
        }
        self.bits[code as usize / 64] >> (code % 64) & 1 == 1
    }
}

impl std::fmt::Debug for CharSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count: u32 = self.bits.iter().map(|word| word.count_ones()).sum();
        write!(f, "CharSet({count} characters)")
    }
}

fn ranges(hir: &Hir) -> Option<Vec<(u32, u32)>> {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            Some(class.ranges().iter().map(|r| (r.start().into(), r.end().into())).collect())
        }
        HirKind::Class(Class::Bytes(class)) if class.is_ascii() => {
            Some(class.ranges().iter().map(|r| (r.start().into(), r.end().into())).collect())
        }
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            let mut chars = text.chars();
            let code = u32::from(chars.next()?);
            chars.next().is_none().then(|| vec![(code, code)])
        }
        _ => None,
    }
}

/// The code point that begins at byte `at` of valid UTF-8, and where the next one begins.
/// Panics: `at` is not inside `bytes`.
#[inline]
pub(crate) fn code_at(bytes: &[u8], at: usize) -> (u32, usize) {
    let first = u32::from(bytes[at]);
    let tail = |i: usize| u32::from(bytes[at + i]) & 0x3f;
    match first {
        0..0x80 => (first, at + 1),
        0x80..0xe0 => ((first & 0x1f) << 6 | tail(1), at + 2),
        0xe0..0xf0 => ((first & 0x0f) << 12 | tail(1) << 6 | tail(2), at + 3),
        _ => ((first & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), at + 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_are_read_as_the_standard_library_reads_them() {
        let text = "a\u{7f}\u{80}é\u{7ff}\u{800}中\u{ffff}\u{10000}🙂\u{10ffff}";
        let mut at = 0;
        for c in text.chars() {
            let (code, next) = code_at(text.as_bytes(), at);
            assert_eq!((code, next), (u32::from(c), at + c.len_utf8()));
            at = next;
        }
    }

    #[test]
    fn categories_are_those_of_unicode() {
        let of = |c: char| categories()[c as usize];
        assert_eq!((of('é'), of('中'), of('\u{301}')), (LETTER, LETTER, MARK));
        assert_eq!((of('½'), of('٣'), of('!')), (NUMBER, NUMBER, PUNCTUATION));
        assert_eq!((of('+'), of('🙂'), of('\u{85}')), (SYMBOL, SYMBOL, SPACE));
        assert_eq!((of('\u{0}'), of('\u{200d}')), (0, 0));
        let word = CharSet::constant(r"\w");
        assert!(word.contains('ß'.into()) && word.contains('_'.into()));
        assert!(!word.contains('-'.into()) && !word.contains('　'.into()));
    }
}
