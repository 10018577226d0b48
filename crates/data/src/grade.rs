//! Rule-based grading of the generated tasks: finds the final answer in a response, normalises it
//! and compares. A response is judged by what follows its `</think>`, or whole if it has none.
//!
//! It is lenient on form (a bare number counts), so that a base model's terse answers are measured
//! fairly; whoever rewards form asks for it by [`Grade::form`]. For free mathematics, with fractions
//! and symbols, this is too plain.

use serde::Serialize;

use crate::task::{Check, Problem};

/// The verdict on one response.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grade {
    /// 1 if correct, else 0.
    pub score: f32,
    /// What was taken for the final answer, as written.
    pub extracted: Option<String>,
    pub form: AnswerForm,
}

/// Where the final answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AnswerForm {
    /// In the last `\boxed{…}`.
    Boxed,
    /// In the last `<answer>…</answer>`, without a box.
    Tagged,
    /// Free in the text.
    Bare,
    Missing,
}

/// Replies to [`Check::ContainsAny`] longer than this score 0: naming everything is no answer.
pub const MAX_CONTAINING_CHARS: usize = 120;

/// Scores a response to `problem`.
pub fn grade(problem: &Problem, response: &str) -> Grade {
    let visible = visible_part(response);
    let (found, form) = find_answer(visible);
    let is_right = match problem.check {
        Check::Number => {
            let gold = normalise_number(&problem.answer);
            gold.is_some() && gold == found.as_deref().and_then(normalise_number)
        }
        Check::Equals => {
            let reply = normalise_text(reply_text(visible));
            !reply.is_empty() && reply == normalise_text(&problem.answer)
        }
        Check::ContainsAny => contains_any(reply_text(visible), &problem.answer),
    };
    Grade { score: if is_right { 1.0 } else { 0.0 }, extracted: found, form }
}

/// Whether the response answers `problem` correctly.
pub fn correct(problem: &Problem, response: &str) -> bool {
    grade(problem, response).score > 0.0
}

/// The final answer as written: the content of the last `\boxed{…}`, else of the last
/// `<answer>…</answer>`, else the last number; all looked for after `</think>` if there is one.
///
/// ```
/// use fathom_data::grade::extract_answer;
/// assert_eq!(extract_answer(r"8+5 is \boxed{13}."), Some("13".to_string()));
/// assert_eq!(extract_answer("<think> 8+5=13 </think>"), None);
/// ```
pub fn extract_answer(response: &str) -> Option<String> {
    find_answer(visible_part(response)).0
}

/// The one number in `text`, in a single spelling: ASCII digits without thousands commas, leading
/// zeros or a fraction of zeros. `None` if there is no number, or several.
///
/// ```
/// use fathom_data::grade::normalise_number;
/// assert_eq!(normalise_number(" 1,023.0 apples"), Some("1023".to_string()));
/// assert_eq!(normalise_number("１２个"), Some("12".to_string()));
/// assert_eq!(normalise_number("3 or 4"), None);
/// ```
pub fn normalise_number(text: &str) -> Option<String> {
    let text = ascii_digits(text);
    let mut spans = number_spans(&text).into_iter();
    let (Some((start, end)), None) = (spans.next(), spans.next()) else {
        return None;
    };
    let (sign, digits) = match text[start..end].strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", &text[start..end]),
    };
    let digits = digits.replace(',', "");
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        stripped => stripped,
    };
    let fraction = fraction.trim_end_matches('0');
    Some(match (whole, fraction) {
        ("0", "") => "0".to_string(),
        (_, "") => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    })
}

fn visible_part(response: &str) -> &str {
    response.rsplit_once("</think>").map_or(response, |(_, after)| after)
}

/// The reply proper: inside the last `<answer>` tags if it has them.
fn reply_text(visible: &str) -> &str {
    last_tagged(visible).unwrap_or(visible)
}

fn find_answer(visible: &str) -> (Option<String>, AnswerForm) {
    if let Some(boxed) = last_boxed(visible) {
        (Some(boxed.trim().to_string()), AnswerForm::Boxed)
    } else if let Some(tagged) = last_tagged(visible) {
        (Some(tagged.trim().to_string()), AnswerForm::Tagged)
    } else if let Some(number) = last_number(visible) {
        (Some(number), AnswerForm::Bare)
    } else {
        (None, AnswerForm::Missing)
    }
}

/// Content of the last `\boxed{…}` whose braces balance.
fn last_boxed(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed{";
    text.rmatch_indices(OPEN).find_map(|(at, _)| {
        let inside = &text[at + OPEN.len()..];
        let mut depth = 1_usize;
        inside.char_indices().find_map(|(end, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then(|| &inside[..end])
        })
    })
}

fn last_tagged(text: &str) -> Option<&str> {
    let (before, _) = text.rsplit_once("</answer>")?;
    before.rsplit_once("<answer>").map(|(_, inside)| inside)
}

fn last_number(text: &str) -> Option<String> {
    let text = ascii_digits(text);
    number_spans(&text).last().map(|&(start, end)| text[start..end].to_string())
}

/// Full-width digits, signs and the minus sign as their ASCII twins.
fn ascii_digits(text: &str) -> String {
    let twin = |c: char| match c {
        '０'..='９' => char::from(b'0' + (u32::from(c) - u32::from('０')) as u8),
        '，' => ',',
        '．' => '.',
        '−' | '－' => '-',
        _ => c,
    };
    text.chars().map(twin).collect()
}

/// Byte ranges of the numbers in `text`: digits, with commas between groups of three, a fraction,
/// and a minus sign unless it stands behind a digit (then it subtracts).
fn number_spans(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let is_digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let mut spans = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !is_digit(at) {
            at += 1;
            continue;
        }
        let before = text[..at].strip_suffix('-');
        let is_negative =
            before.is_some_and(|left| !left.trim_end().ends_with(|c: char| c.is_ascii_digit()));
        let start = if is_negative { at - 1 } else { at };
        while is_digit(at) {
            at += 1;
        }
        let is_group = |i: usize| (1..=3).all(|k| is_digit(i + k)) && !is_digit(i + 4);
        while bytes.get(at) == Some(&b',') && is_group(at) {
            at += 4;
        }
        if bytes.get(at) == Some(&b'.') && is_digit(at + 1) {
            at += 1;
            while is_digit(at) {
                at += 1;
            }
        }
        spans.push((start, at));
    }
    spans
}

/// Lower case, without punctuation and spaces at the ends, with single spaces inside.
fn normalise_text(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    plain.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a short reply contains one of the `|`-separated alternatives as whole words (Chinese,
/// which has no word borders, anywhere).
fn contains_any(reply: &str, alternatives: &str) -> bool {
    if reply.trim().chars().count() > MAX_CONTAINING_CHARS {
        return false;
    }
    let reply = normalise_text(reply);
    alternatives
        .split('|')
        .map(normalise_text)
        .filter(|wanted| !wanted.is_empty())
        .any(|wanted| reply.match_indices(&wanted).any(|(at, _)| stands_alone(&reply, at, &wanted)))
}

/// Whether `word` at byte `at` of `text` is no part of a longer Latin word. Chinese has no word
/// borders, so a Chinese word always stands alone.
fn stands_alone(text: &str, at: usize, word: &str) -> bool {
    let touches = |neighbour: Option<char>| neighbour.is_some_and(|c| c.is_ascii_alphanumeric());
    let before = text[..at].chars().next_back();
    let after = text[at + word.len()..].chars().next();
    !word.is_ascii() || !(touches(before) || touches(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &str, expected: Option<&str>) {
        assert_eq!(extract_answer(response).as_deref(), expected, "{response}");
    }

    #[test]
    fn the_last_box_wins_over_tags_and_tags_over_numbers() {
        check(r"\boxed{1} and \boxed{2} or 3", Some("2"));
        check(r"<answer> 7 </answer> \boxed{5}", Some("5"));
        check("<answer> 6 </answer> <answer> 7 apples </answer> 9", Some("7 apples"));
        check("first 3, then 1,024.", Some("1,024"));
        check("no number", None);
    }

    #[test]
    fn braces_balance_and_an_open_box_is_passed_over() {
        check(r"\boxed{\text{a}{b}}", Some(r"\text{a}{b}"));
        check(r"\boxed{4} then \boxed{5", Some("4"));
    }

    #[test]
    fn only_what_follows_the_thought_counts() {
        check(r"<think> \boxed{3} </think> 4", Some("4"));
        check(r"<think> \boxed{3} </think>", None);
        check("<think> so 5", Some("5"));
    }

    #[test]
    fn numbers_have_one_spelling() {
        let cases = [
            ("007", Some("7")),
            ("1,234,567", Some("1234567")),
            ("3.50", Some("3.5")),
            ("-0", Some("0")),
            ("−12", Some("-12")),
            ("１，０２３", Some("1023")),
            ("00", Some("0")),
            ("623个苹果", Some("623")),
            ("$ 5", Some("5")),
            ("1,23", None),
            ("8+5", None),
            ("8-5", None),
            ("", None),
            ("six", None),
        ];
        for (text, expected) in cases {
            assert_eq!(normalise_number(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn words_are_found_whole_and_lists_of_everything_are_refused() {
        assert!(contains_any("The opposite is cold.", "cold"));
        assert!(!contains_any("scolded", "cold"));
        assert!(contains_any("它是苹果。", "苹果"));
        assert!(contains_any("Hi there!", "hello|hi"));
        assert!(contains_any("我是Fathom，一个小模型。", "fathom"));
        assert!(!contains_any(&"cold hot ".repeat(40), "cold"));
        assert!(!contains_any("", "cold"));
        assert!(!contains_any("anything", "|"));
    }
}
