//! Which language a text is in, word by word: the measure behind R1's language-consistency reward
//! (DeepSeek-R1, arXiv:2501.12948, section 2.3.2: the share of target-language words in the
//! reasoning). English and Chinese only; any other script counts as neither.
//!
//! What counts as a word: a run of Latin letters (an inner apostrophe belongs to it) is one word;
//! a Chinese character is two thirds of a word, since Chinese words average about 1.5 characters;
//! a run of letters of another script is one word. Digits, operators, punctuation, LaTeX commands
//! (`\boxed`) and tags (`<think>`, `</answer>`) are no words: they look alike in every language.

use serde::{Deserialize, Serialize};

/// A language the generated tasks are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Language {
    #[serde(rename = "en")]
    English,
    #[serde(rename = "zh")]
    Chinese,
}

impl Language {
    /// Every language, in a fixed order.
    pub const ALL: [Language; 2] = [Language::English, Language::Chinese];

    /// `en` or `zh`.
    pub fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Chinese => "zh",
        }
    }

    /// The language of a code, if it is one of ours.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The other of the two.
    pub fn other(self) -> Self {
        match self {
            Language::English => Language::Chinese,
            Language::Chinese => Language::English,
        }
    }
}

/// Words per Chinese character.
const WORDS_PER_CJK_CHAR: f32 = 1.0 / 1.5;

/// Words found in a text, by language.
#[derive(Default)]
struct WordCount {
    english: f32,
    chinese: f32,
    neither: f32,
}

/// The share of words of `text` that are in `language`, in `[0, 1]`; `None` if it has no words.
///
/// ```
/// use fathom_data::language::{Language, language_share};
/// assert_eq!(language_share("ones: 8+5=13", Language::English), Some(1.0));
/// assert_eq!(language_share("个位：8+5=13", Language::English), Some(0.0));
/// assert_eq!(language_share(r"\boxed{13}", Language::English), None);
/// ```
pub fn language_share(text: &str, language: Language) -> Option<f32> {
    let words = count_words(text);
    let total = words.english + words.chinese + words.neither;
    let hits = match language {
        Language::English => words.english,
        Language::Chinese => words.chinese,
    };
    (total > 0.0).then(|| hits / total)
}

fn count_words(text: &str) -> WordCount {
    let mut words = WordCount::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = if first == '\\' {
            1 + run_bytes(&rest[1..], |c| c.is_ascii_alphabetic())
        } else if first == '<' {
            tag_bytes(rest).unwrap_or(1)
        } else if is_cjk(first) {
            words.chinese += WORDS_PER_CJK_CHAR;
            first.len_utf8()
        } else if is_latin(first) {
            words.english += 1.0;
            run_bytes(rest, |c| is_latin(c) || c == '\'' || c == '’')
        } else if first.is_alphabetic() {
            words.neither += 1.0;
            run_bytes(rest, |c| c.is_alphabetic() && !is_latin(c) && !is_cjk(c))
        } else {
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    words
}

/// Bytes of the leading run of characters that satisfy `inside`.
fn run_bytes(text: &str, inside: impl Fn(char) -> bool) -> usize {
    text.find(|c| !inside(c)).unwrap_or(text.len())
}

/// Bytes of the tag that `text` starts with (`<name>` or `</name>`), if it does.
fn tag_bytes(text: &str) -> Option<usize> {
    let name = text[1..].strip_prefix('/').unwrap_or(&text[1..]);
    let n_name = run_bytes(name, |c| c.is_ascii_alphanumeric() || c == '_');
    let closed = n_name > 0 && name[n_name..].starts_with('>');
    closed.then(|| text.len() - name.len() + n_name + 1)
}

fn is_latin(c: char) -> bool {
    c.is_alphabetic() && u32::from(c) < 0x250
}

fn is_cjk(c: char) -> bool {
    matches!(u32::from(c), 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x323AF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, english: Option<f32>) {
        let share = language_share(text, Language::English);
        match (share, english) {
            (Some(got), Some(want)) => assert!((got - want).abs() < 1e-6, "{text}: {got} {want}"),
            _ => assert_eq!(share, english, "{text}"),
        }
    }

    #[test]
    fn pure_texts_score_one_in_their_language_and_zero_in_the_other() {
        check("So 348+275=623. It's done.", Some(1.0));
        check("所以348+275=623。", Some(0.0));
        assert_eq!(language_share("所以348+275=623。", Language::Chinese), Some(1.0));
    }

    #[test]
    fn tags_commands_digits_and_signs_are_no_words() {
        check(r"<think> 1+1=2 </think> <answer> \boxed{2} </answer>", None);
        check(r"<think> 个位 </think> \boxed{2}", Some(0.0));
        check("3 < 5 so yes", Some(1.0));
        check("a < b", Some(1.0));
        check("", None);
    }

    #[test]
    fn mixed_texts_weigh_words_not_letters() {
        check("ones tens 个位十", Some(0.5)); // two words; three characters are two words
        check("write 3, 进1", Some(0.6));
        check("слово word", Some(0.5));
    }

    #[test]
    fn codes_round_trip() {
        for language in Language::ALL {
            assert_eq!(Language::from_code(language.code()), Some(language));
            assert_eq!(language.other().other(), language);
        }
        assert_eq!(Language::from_code("fr"), None);
    }
}
