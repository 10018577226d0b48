//! Written solutions: digit by digit, right to left, so that no single step is harder than a
//! one-digit fact with a carry. There is one canonical form of the computation per language (a
//! small model must learn it from about a million tokens); only the words around it vary.
//!
//! ```text
//! 348 + 275. ones: 8+5=13, write 3, carry 1. tens: 4+7+1=12, write 2, carry 1. hundreds: 3+2+1=6. So 348 + 275 = 623.
//! 523 - 275. ones: 3-5, borrow 1, 13-5=8. tens: 2-7-1, borrow 1, 12-7-1=4. hundreds: 5-2-1=2. So 523 - 275 = 248.
//! 347 × 6. ones: 7×6=42, write 2, carry 4. tens: 4×6=24, 24+4=28, write 8, carry 2. hundreds: 3×6=18, 18+2=20. So 347 × 6 = 2082.
//! ```

use super::{Expression, Operation};
use crate::language::Language;
use crate::random::Rng;
use crate::task::{Detail, Problem, Worked};

/// A solution of `problem` whose reasoning and answer are in `language`.
///
/// Panics: if `problem` is not of the task `arithmetic`.
pub fn worked(problem: &Problem, language: Language, rng: &mut Rng) -> Worked {
    let sentences = sentences(problem, rng);
    let languages = vec![language; sentences.len()];
    Worked {
        reasoning: write_all(&sentences, &languages),
        final_answer: answer_sentence(&problem.answer, language),
    }
}

/// A correct solution that does not keep to the language of the question: it changes over midway,
/// or is in the other language from the start. The final sentence is in either.
///
/// Panics: if `problem` is not of the task `arithmetic`.
pub fn mixed(problem: &Problem, rng: &mut Rng) -> Worked {
    let sentences = sentences(problem, rng);
    let switch_at = if rng.chance(0.4) { 0 } else { rng.between(1, sentences.len() as u64 - 1) };
    let (own, other) = (problem.language, problem.language.other());
    let languages: Vec<Language> = (0..sentences.len() as u64)
        .map(|position| if position < switch_at { own } else { other })
        .collect();
    Worked {
        reasoning: write_all(&sentences, &languages),
        final_answer: answer_sentence(&problem.answer, if rng.chance(0.5) { own } else { other }),
    }
}

/// The sentence that ends a chat response: `The answer is \boxed{623}.`
pub fn answer_sentence(answer: &str, language: Language) -> String {
    match language {
        Language::English => format!("The answer is \\boxed{{{answer}}}."),
        Language::Chinese => format!("答案是\\boxed{{{answer}}}。"),
    }
}

/// `answer`, right or wrong, without any steps: `348 + 275 = 623.`, `The answer is 623.` or just `623`.
///
/// Panics: if `problem` is not of the task `arithmetic`.
pub fn terse(problem: &Problem, answer: &str, rng: &mut Rng) -> String {
    let stop = match problem.language {
        Language::English => '.',
        Language::Chinese => '。',
    };
    match (rng.weighted(&[0.5, 0.25, 0.25]), problem.language) {
        (0, _) => format!("{} = {answer}{stop}", expression_of(problem).text()),
        (1, _) => answer.to_string(),
        (_, Language::English) => format!("The answer is {answer}."),
        (_, Language::Chinese) => format!("答案是{answer}。"),
    }
}

/// An answer that is wrong the way a guess is: right but for one place, which is 1 to 3 off.
pub fn wrong_answer(problem: &Problem, rng: &mut Rng) -> String {
    let right = i64::from(expression_of(problem).value());
    loop {
        let place = 10_i64.pow(rng.below(problem.answer.len() as u64) as u32);
        let step = rng.between(1, 3) as i64;
        let guess = if rng.chance(0.5) { right + step * place } else { right - step * place };
        if guess >= 0 {
            return guess.to_string(); // differs: `step * place` is never zero
        }
    }
}

fn expression_of(problem: &Problem) -> Expression {
    match &problem.detail {
        Detail::Arithmetic(expression) => *expression,
        Detail::General { .. } => panic!("`{}` is not an arithmetic problem", problem.question),
    }
}

/// One sentence of a solution, before it is put into a language.
enum Sentence {
    /// Names the operation; English, then Chinese.
    Opening([&'static str; 2]),
    /// `348 + 275.`; `is_second` for the second operation of two.
    Start { operation: Operation, a: u32, b: u32, is_second: bool },
    /// The work on one digit.
    Column { place: usize, work: Vec<Piece> },
    /// `So 348 + 275 = 623.`
    So { operation: Operation, a: u32, b: u32 },
}

/// What a column says, comma by comma.
enum Piece {
    /// A calculation, finished or not: `8+5=13`, `3-5`.
    Sum(String),
    Write(u32),
    Carry(u32),
    Borrow,
}

fn sentences(problem: &Problem, rng: &mut Rng) -> Vec<Sentence> {
    let expression = expression_of(problem);
    let mut out = Vec::new();
    if let Some(openings) = openings(problem.kind, expression) {
        out.push(Sentence::Opening(*rng.pick(openings)));
    } else if rng.chance(0.3) {
        out.push(Sentence::Opening(["Let me compute.", "我来算。"]));
    }
    for (step, (operation, a, b)) in expression.steps().into_iter().enumerate() {
        out.push(Sentence::Start { operation, a, b, is_second: step > 0 });
        let columns = match operation {
            Operation::Add => add_columns(a, b),
            Operation::Sub => sub_columns(a, b),
            Operation::Mul => mul_columns(a, b),
        };
        let numbered = columns.into_iter().enumerate();
        out.extend(numbered.map(|(place, work)| Sentence::Column { place, work }));
        out.push(Sentence::So { operation, a, b });
    }
    out
}

/// Ways to name the operation of a story; none for a bare exercise, which names it itself.
fn openings(kind: &str, expression: Expression) -> Option<&'static [[&'static str; 2]]> {
    Some(match (kind, expression) {
        (_, Expression::AddSub { .. }) => &[["First add, then subtract.", "先加后减。"]],
        (_, Expression::MulAdd { .. }) => &[["First multiply, then add.", "先乘后加。"]],
        ("add_story", _) => {
            &[["To find the total, add.", "求一共，用加法。"], ["We add.", "用加法。"]]
        }
        ("sub_story", _) => {
            &[["To find what is left, subtract.", "求剩下，用减法。"], ["We subtract.", "用减法。"]]
        }
        ("mul_story", _) => {
            &[["For equal groups, multiply.", "每份相同，用乘法。"], ["We multiply.", "用乘法。"]]
        }
        ("compare_story", _) => &[
            ["To find the difference, subtract.", "求相差，用减法。"],
            ["We subtract.", "用减法。"],
        ],
        _ => return None,
    })
}

/// Digits of `n`, ones first, at least one.
fn digits(n: u32) -> Vec<u32> {
    let mut rest = n;
    let mut out = vec![rest % 10];
    while rest >= 10 {
        rest /= 10;
        out.push(rest % 10);
    }
    out
}

/// A missing digit is written as 0: one form for operands of any length.
fn paired(a: u32, b: u32) -> Vec<(u32, u32)> {
    let (a, b) = (digits(a), digits(b));
    let at = |digits: &[u32], place: usize| digits.get(place).copied().unwrap_or(0);
    (0..a.len().max(b.len())).map(|place| (at(&a, place), at(&b, place))).collect()
}

/// Ends a column: what is above 9 is carried, except out of the last column. Returns the carry.
fn settle(total: u32, is_last: bool, work: &mut Vec<Piece>) -> u32 {
    if is_last || total < 10 {
        return 0;
    }
    work.push(Piece::Write(total % 10));
    work.push(Piece::Carry(total / 10));
    total / 10
}

fn add_columns(a: u32, b: u32) -> Vec<Vec<Piece>> {
    let pairs = paired(a, b);
    let mut carry = 0;
    let column = |(place, &(x, y)): (usize, &(u32, u32))| {
        let total = x + y + carry;
        let carried = if carry > 0 { format!("+{carry}") } else { String::new() };
        let mut work = vec![Piece::Sum(format!("{x}+{y}{carried}={total}"))];
        carry = settle(total, place + 1 == pairs.len(), &mut work);
        work
    };
    pairs.iter().enumerate().map(column).collect()
}

fn sub_columns(a: u32, b: u32) -> Vec<Vec<Piece>> {
    let mut borrow = 0;
    let column = |(x, y): (u32, u32)| {
        let taken = if borrow > 0 { format!("{y}-1") } else { y.to_string() };
        let needed = y + borrow;
        if x >= needed {
            borrow = 0;
            return vec![Piece::Sum(format!("{x}-{taken}={}", x - needed))];
        }
        borrow = 1;
        let raised = x + 10;
        let left = raised - needed;
        vec![
            Piece::Sum(format!("{x}-{taken}")),
            Piece::Borrow,
            Piece::Sum(format!("{raised}-{taken}={left}")),
        ]
    };
    paired(a, b).into_iter().map(column).collect()
}

/// `b` is a single digit.
fn mul_columns(a: u32, b: u32) -> Vec<Vec<Piece>> {
    let tops = digits(a);
    let mut carry = 0;
    let column = |(place, &x): (usize, &u32)| {
        let product = x * b;
        let total = product + carry;
        let mut work = vec![Piece::Sum(format!("{x}×{b}={product}"))];
        if carry > 0 {
            work.push(Piece::Sum(format!("{product}+{carry}={total}")));
        }
        carry = settle(total, place + 1 == tops.len(), &mut work);
        work
    };
    tops.iter().enumerate().map(column).collect()
}

const ENGLISH_PLACES: [&str; 5] = ["ones", "tens", "hundreds", "thousands", "ten thousands"];
const CHINESE_PLACES: [&str; 5] = ["个位", "十位", "百位", "千位", "万位"];

/// The whole text; English sentences are set off by a space, Chinese ones are not.
fn write_all(sentences: &[Sentence], languages: &[Language]) -> String {
    let mut out = String::new();
    for (sentence, &language) in sentences.iter().zip(languages) {
        if out.ends_with('.') {
            out.push(' ');
        }
        out.push_str(&write_sentence(sentence, language));
    }
    out
}

fn write_sentence(sentence: &Sentence, language: Language) -> String {
    let sum = |operation: &Operation, a: &u32, b: &u32| format!("{a} {} {b}", operation.sign());
    let value = |operation: &Operation, a: &u32, b: &u32| operation.apply(*a, *b);
    match (sentence, language) {
        (Sentence::Opening([english, _]), Language::English) => (*english).to_string(),
        (Sentence::Opening([_, chinese]), Language::Chinese) => (*chinese).to_string(),
        (Sentence::Start { operation, a, b, is_second }, Language::English) => {
            format!("{}{}.", if *is_second { "Then " } else { "" }, sum(operation, a, b))
        }
        (Sentence::Start { operation, a, b, is_second }, Language::Chinese) => {
            format!("{}{}。", if *is_second { "再算" } else { "" }, sum(operation, a, b))
        }
        (Sentence::Column { place, work }, Language::English) => {
            let pieces: Vec<String> = work.iter().map(english_piece).collect();
            format!("{}: {}.", ENGLISH_PLACES[*place], pieces.join(", "))
        }
        (Sentence::Column { place, work }, Language::Chinese) => {
            let pieces: Vec<String> = work.iter().map(chinese_piece).collect();
            format!("{}：{}。", CHINESE_PLACES[*place], pieces.join("，"))
        }
        (Sentence::So { operation, a, b }, Language::English) => {
            format!("So {} = {}.", sum(operation, a, b), value(operation, a, b))
        }
        (Sentence::So { operation, a, b }, Language::Chinese) => {
            format!("所以{} = {}。", sum(operation, a, b), value(operation, a, b))
        }
    }
}

fn english_piece(piece: &Piece) -> String {
    match piece {
        Piece::Sum(sum) => sum.clone(),
        Piece::Write(digit) => format!("write {digit}"),
        Piece::Carry(digit) => format!("carry {digit}"),
        Piece::Borrow => "borrow 1".to_string(),
    }
}

fn chinese_piece(piece: &Piece) -> String {
    match piece {
        Piece::Sum(sum) => sum.clone(),
        Piece::Write(digit) => format!("写{digit}"),
        Piece::Carry(digit) => format!("进{digit}"),
        Piece::Borrow => "借1".to_string(),
    }
}
