//! Decides whether a final answer to a mathematical question equals the reference ("gold") answer.
//!
//! In the spirit of the MATH reference comparison (hendrycks/math) and the PRM800K grader, rewritten:
//! LaTeX is tidied, then numbers are compared as exact fractions, lists, tuples, intervals and
//! matrices part by part, other expressions by their values at fixed points, and the rest as text.
//! The answer is a reward, so doubt counts against it:
//! 1. where the gold is a plain number the answer must be one too: `348+275` does not equal 623,
//!    nor `6/2` equal 3, or a model would learn to repeat the question;
//! 2. a gold that cannot be read is reported as such and never rewarded;
//! 3. units are ignored unless both sides name known ones that differ (`5 km`, `5 m`);
//! 4. `25%` equals 25 and 0.25, as references write both.
//!
//! Not here: proofs, inequalities rewritten, answers equal only after solving, base conversion.

mod expression;
mod latex;
mod number;

use expression::{Value, equal_at_points};
use number::Scalar;

/// Longest text that is looked into, in bytes; beyond, an answer is wrong and a gold unreadable.
const MAX_ANSWER_BYTES: usize = 2000;
/// Lists in tuples in lists: deeper nesting is compared as text.
const MAX_DEPTH: usize = 8;
/// Boxes without an end that are passed over on the way to the last complete one.
const MAX_OPEN_BOXES: usize = 16;
/// Longer lists are compared in order: finding partners takes quadratic time.
const MAX_UNORDERED: usize = 64;

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Equal.
    Correct,
    /// Not equal, or not recognisably so.
    Wrong,
    /// The reference is empty or broken; nothing can be said about the answer.
    GoldUnreadable,
    /// There is no answer.
    NoAnswer,
}

impl Verdict {
    /// 1 for `Correct`, else 0.
    pub fn reward(self) -> f64 {
        if self == Self::Correct { 1.0 } else { 0.0 }
    }
}

/// Finds the final answer in a response and compares it with the gold answer.
pub fn grade(response: &str, gold: &str) -> Verdict {
    match final_answer(response) {
        Some(answer) => check(answer, gold),
        None => check("", gold),
    }
}

/// Compares a bare answer with the gold answer.
///
/// ```
/// use fathom_data::math_answer::{Verdict, check};
/// assert_eq!(check(r"\frac{1}{2}", "0.5"), Verdict::Correct);
/// assert_eq!(check("348+275", "623"), Verdict::Wrong);
/// assert_eq!(check("1", ""), Verdict::GoldUnreadable);
/// ```
pub fn check(answer: &str, gold: &str) -> Verdict {
    if gold.len() > MAX_ANSWER_BYTES {
        return Verdict::GoldUnreadable;
    }
    let tidy_gold = latex::tidy(gold);
    if !is_readable(&tidy_gold) {
        return Verdict::GoldUnreadable;
    }
    if answer.len() > MAX_ANSWER_BYTES {
        return Verdict::Wrong;
    }
    let tidy_answer = latex::tidy(answer);
    if tidy_answer.is_empty() {
        return Verdict::NoAnswer;
    }
    if same(&tidy_answer, &tidy_gold, 0) { Verdict::Correct } else { Verdict::Wrong }
}

/// The final answer that a response names: the last `\boxed{}`; else the line after the last
/// `####`; else what follows the last "answer is" or "答案是" up to the end of the sentence.
pub fn final_answer(response: &str) -> Option<&str> {
    if let Some(inner) = last_boxed(response) {
        return Some(inner);
    }
    let from_mark = response.rfind("####").map(|at| &response[at + 4..]);
    let from_words = || {
        ["answer is", "Answer is", "answer:", "Answer:", "答案是", "答案为", "答案："]
            .iter()
            .filter_map(|words| response.rfind(words).map(|at| at + words.len()))
            .max()
            .map(|at| first_sentence(&response[at..]))
    };
    let line = from_mark.or_else(from_words)?.trim_start().lines().next()?;
    let line = line.trim_matches(|c: char| c.is_whitespace() || c == '*' || c == ':' || c == '：');
    if line.is_empty() { None } else { Some(line) }
}

/// The inside of the last complete `\boxed{…}` (or `\fbox{…}`); `\boxed 5` gives `5`.
pub fn last_boxed(text: &str) -> Option<&str> {
    let mut end = text.len();
    for _ in 0..MAX_OPEN_BOXES {
        let at = text[..end].rfind(r"\boxed").max(text[..end].rfind(r"\fbox"))?;
        let after = text[at + 1..].trim_start_matches(|c: char| c.is_ascii_alphabetic());
        if let Some(inside) = after.trim_start().strip_prefix('{') {
            if let Some(close) = latex::closing_brace(inside) {
                return Some(inside[..close].trim());
            }
        } else if after.starts_with(' ') {
            let word = after.trim_start().split([' ', '\n', '$']).next().unwrap_or("");
            if !word.is_empty() {
                return Some(word);
            }
        }
        end = at;
    }
    None
}

/// Up to a full stop that ends a sentence; a decimal point does not.
fn first_sentence(text: &str) -> &str {
    let is_end = |(at, c): (usize, char)| match c {
        '。' | '\n' => Some(at),
        '.' => text[at + 1..].chars().next().is_none_or(char::is_whitespace).then_some(at),
        _ => None,
    };
    // The separator right behind the words may be a newline.
    let start = text.len() - text.trim_start_matches([' ', ':', '：', '\n']).len();
    let end = text.char_indices().skip_while(|&(at, _)| at < start).find_map(is_end);
    &text[start..end.unwrap_or(text.len())]
}

/// A gold must have content, closed braces, and no number that cannot be formed.
fn is_readable(gold: &str) -> bool {
    gold.chars().any(|c| c.is_alphanumeric() || c == '∞')
        && latex::braces_balance(gold)
        && !number::has_zero_denominator(gold)
}

/// Whether two tidied answers are equal.
fn same(answer: &str, gold: &str, depth: usize) -> bool {
    let (answer, gold) = (peel(answer), peel(gold));
    if answer.is_empty() || gold.is_empty() {
        return false;
    }
    if answer == gold {
        return true;
    }
    if depth >= MAX_DEPTH {
        return false;
    }
    if let Some(equal) = same_number(answer, gold) {
        return equal;
    }
    if let Some(equal) = same_parts(answer, gold, depth) {
        return equal;
    }
    match (latex::split_left_side(answer), latex::split_left_side(gold)) {
        ((Some(left), right), (Some(gold_left), gold_right)) => {
            return left == gold_left && same(right, gold_right, depth + 1);
        }
        ((None, right), (Some(_), gold_right)) | ((Some(_), right), (None, gold_right)) => {
            return same(right, gold_right, depth + 1);
        }
        ((None, _), (None, _)) => {}
    }
    same_expression(answer, gold) || same_text(answer, gold)
}

/// Takes off brackets that change nothing: those of a set, which is an unordered list without
/// them too, and those around a single part.
fn peel(text: &str) -> &str {
    match latex::split_brackets(text) {
        Some((latex::SET_OPEN, inside, _)) => inside,
        Some(('(', inside, ')')) if latex::split_top(inside, ',').len() == 1 => inside,
        _ => text,
    }
}

/// Compares two numbers; `None` if the gold is no plain number, or if a list may be meant.
fn same_number(answer: &str, gold: &str) -> Option<bool> {
    let gold_scalar = Scalar::parse(gold)?;
    match Scalar::parse(answer) {
        Some(scalar) => {
            // `70,110` is also a list of two.
            let both_lists = answer.contains(',') && gold.contains(',');
            let equal = scalar.equals(&gold_scalar);
            if equal || !both_lists { Some(equal) } else { None }
        }
        None if latex::split_left_side(answer).0.is_some() => None, // `x=4`
        None if gold.contains(',') => None,
        None => Some(false), // point 1 above
    }
}

/// Compares brackets and lists part by part; `None` if neither side has parts.
fn same_parts(answer: &str, gold: &str, depth: usize) -> Option<bool> {
    if let (Some((open, inside, close)), Some((gold_open, gold_inside, gold_close))) =
        (latex::split_brackets(answer), latex::split_brackets(gold))
    {
        if (open, close) != (gold_open, gold_close) {
            return Some(false);
        }
        let separator = if open == latex::MATRIX_OPEN { latex::ROW } else { ',' };
        let parts = latex::split_top(inside, separator);
        let gold_parts = latex::split_top(gold_inside, separator);
        return if parts.len() == 1 && gold_parts.len() == 1 {
            Some(same(inside, gold_inside, depth + 1))
        } else {
            Some(same_ordered(&parts, &gold_parts, depth))
        };
    }
    for separator in [latex::ROW, latex::COLUMN] {
        let parts = latex::split_top(answer, separator);
        let gold_parts = latex::split_top(gold, separator);
        if parts.len() > 1 || gold_parts.len() > 1 {
            return Some(same_ordered(&parts, &gold_parts, depth));
        }
    }
    for separator in [latex::UNION, ','] {
        let parts = latex::split_top(answer, separator);
        let gold_parts = latex::split_top(gold, separator);
        if parts.len() > 1 || gold_parts.len() > 1 {
            return Some(same_unordered(&parts, &gold_parts, depth));
        }
    }
    None
}

fn same_ordered(parts: &[&str], gold_parts: &[&str], depth: usize) -> bool {
    parts.len() == gold_parts.len()
        && parts.iter().zip(gold_parts).all(|(part, gold)| same(part, gold, depth + 1))
}

/// Each gold part is met by a part of its own. Equality is close to transitive, so taking the
/// first partner is enough.
fn same_unordered(parts: &[&str], gold_parts: &[&str], depth: usize) -> bool {
    if parts.len() > MAX_UNORDERED {
        return same_ordered(parts, gold_parts, depth);
    }
    let mut left = parts.to_vec();
    parts.len() == gold_parts.len()
        && gold_parts.iter().all(|gold| {
            match left.iter().position(|part| same(part, gold, depth + 1)) {
                Some(at) => {
                    left.swap_remove(at);
                    true
                }
                None => false,
            }
        })
}

fn same_expression(answer: &str, gold: &str) -> bool {
    let is_word = |text: &str| text.chars().all(char::is_alphabetic);
    if is_word(answer) || is_word(gold) {
        return false;
    }
    let (answer, gold) = (number::strip_known_unit(answer), number::strip_known_unit(gold));
    match (expression::value(answer), expression::value(gold)) {
        (Some(Value::Exact(a)), Some(Value::Exact(b))) => a == b,
        (Some(_), Some(_)) => equal_at_points(answer, gold),
        _ => false,
    }
}

/// Letters and digits alone, without case: `(B)` equals `B`, `June 20` equals `june 20`.
fn same_text(answer: &str, gold: &str) -> bool {
    if let Some(choice) = choice_letter(gold) {
        return choice_letter(answer) == Some(choice);
    }
    let fold = |text: &str| -> String {
        text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
    };
    let is_prose = |text: &str| {
        !text.contains('\\') && text.chars().filter(|c| c.is_alphabetic()).count() >= 2
    };
    if is_prose(gold) { fold(answer) == fold(gold) } else { squeeze(answer) == squeeze(gold) }
}

fn squeeze(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The letter of `B` or `(B)`.
fn choice_letter(text: &str) -> Option<char> {
    let bare = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    let mut chars = bare.chars();
    match (chars.next(), chars.next()) {
        (Some(letter), None) if letter.is_ascii_uppercase() => Some(letter),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
