//! Lays out the pages of the corpus: what kind of page, which shape of response, which problems.

use super::{CorpusSettings, zero_prompt, zero_response};
use crate::language::Language;
use crate::random::{Rng, hash_text};
use crate::task::arithmetic::{
    Expression, N_BARE_KINDS, Operation, ProblemMix, draw_problem, mixed, terse, worked,
    wrong_answer,
};
use crate::task::general::General;
use crate::task::{Problem, Split, Task};

/// What a response looks like; all responses of a page have one shape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Terse,
    Worked,
    Tagged,
    TaggedGuess,
    Mixed,
    TaggedMixed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Plain,
    Textbook,
    Dialogue,
}

/// Document `index` of the corpus, without a line feed at its end.
///
/// Panics: if `settings.invalid()` is something.
pub fn document(seed: u64, index: u64, settings: &CorpusSettings) -> String {
    let mut rng = Rng::from_key(&[hash_text("corpus"), seed, index]);
    let (chat, drill) = (settings.chat_share, settings.drill_share);
    match rng.weighted(&[chat, drill, (1.0 - chat - drill).max(0.0)]) {
        0 => chat_page(&mut rng),
        1 => drill_page(&mut rng),
        _ => problem_page(settings, &mut rng),
    }
}

fn problem_page(settings: &CorpusSettings, rng: &mut Rng) -> String {
    let shape = match rng.weighted(&settings.shapes()) {
        0 => Shape::Terse,
        1 => Shape::Worked,
        2 => Shape::Tagged,
        3 => Shape::TaggedGuess,
        _ if rng.chance(settings.mixed_tagged_share) => Shape::TaggedMixed,
        _ => Shape::Mixed,
    };
    let has_tags = matches!(shape, Shape::Tagged | Shape::TaggedGuess | Shape::TaggedMixed);
    let layout = if has_tags {
        if rng.chance(settings.tagged_dialogue_share) { Layout::Dialogue } else { Layout::Plain }
    } else {
        [Layout::Plain, Layout::Textbook, Layout::Dialogue][rng.weighted(&settings.layouts())]
    };
    match layout {
        Layout::Plain => plain_page(shape, settings, rng),
        Layout::Textbook => textbook_page(shape, settings, rng),
        Layout::Dialogue => dialogue_page(shape, settings, rng),
    }
}

/// How many problems of this shape make a page of a good length.
fn n_problems(shape: Shape, rng: &mut Rng) -> u64 {
    if shape == Shape::Terse { rng.between(1, 4) } else { 1 }
}

fn plain_page(shape: Shape, settings: &CorpusSettings, rng: &mut Rng) -> String {
    let pairs: Vec<String> = (0..n_problems(shape, rng))
        .map(|_| {
            let problem = draw_problem(&settings.problems, Split::Train, rng);
            let answer = response(&problem, shape, settings, rng);
            let answer = answer.trim_start();
            match problem.language {
                Language::English => format!("Question: {}\nAnswer: {answer}", problem.question),
                Language::Chinese => format!("问题：{}\n答案：{answer}", problem.question),
            }
        })
        .collect();
    pairs.join("\n\n")
}

/// Two to four bare exercises in one language.
fn textbook_page(shape: Shape, settings: &CorpusSettings, rng: &mut Rng) -> String {
    let is_chinese = rng.chance(settings.problems.chinese);
    let mut mix =
        ProblemMix { chinese: if is_chinese { 1.0 } else { 0.0 }, ..settings.problems.clone() };
    mix.kinds[N_BARE_KINDS..].fill(0.0);
    if mix.invalid().is_some() {
        mix.kinds[..N_BARE_KINDS].fill(1.0); // a mix of stories only still has textbooks
    }
    let n_exercises = if shape == Shape::Terse { rng.between(2, 4) } else { 2 };
    let mut page = String::from(if is_chinese { "练习" } else { "Exercises" });
    for number in 1..=n_exercises {
        let problem = draw_problem(&mix, Split::Train, rng);
        let answer = response(&problem, shape, settings, rng);
        page.push_str(&format!("\n{number}. {} {}", problem.question, answer.trim_start()));
    }
    page
}

/// One exchange under the preamble, as in R1-Zero's template, or a few without it.
fn dialogue_page(shape: Shape, settings: &CorpusSettings, rng: &mut Rng) -> String {
    let has_preamble = rng.chance(settings.preamble_share);
    let preamble = if has_preamble { settings.preamble.as_str() } else { "" };
    let n_exchanges = if has_preamble { 1 } else { n_problems(shape, rng).min(2) };
    let exchanges: Vec<String> = (0..n_exchanges)
        .map(|_| {
            let problem = draw_problem(&settings.problems, Split::Train, rng);
            let answer = response(&problem, shape, settings, rng);
            zero_prompt(preamble, &problem.question) + &answer
        })
        .collect();
    exchanges.join("\n")
}

/// A response with the space that sets it off from what stands before it.
fn response(problem: &Problem, shape: Shape, settings: &CorpusSettings, rng: &mut Rng) -> String {
    match shape {
        Shape::Terse => {
            let answer = guess(problem, settings, rng);
            format!(" {}", terse(problem, &answer, rng))
        }
        Shape::Worked => format!(" {}", worked(problem, problem.language, rng).reasoning),
        Shape::Mixed => format!(" {}", mixed(problem, rng).reasoning),
        Shape::Tagged => {
            zero_response(&worked(problem, problem.language, rng).reasoning, &problem.answer)
        }
        Shape::TaggedMixed => zero_response(&mixed(problem, rng).reasoning, &problem.answer),
        Shape::TaggedGuess => {
            let answer = guess(problem, settings, rng);
            zero_response(&terse(problem, &answer, rng), &answer)
        }
    }
}

/// The answer of somebody who does not calculate; easy problems are always answered right.
fn guess(problem: &Problem, settings: &CorpusSettings, rng: &mut Rng) -> String {
    if problem.difficulty >= 2 && rng.chance(settings.wrong_share) {
        wrong_answer(problem, rng)
    } else {
        problem.answer.clone()
    }
}

/// Two to four exchanges of small talk in one language.
fn chat_page(rng: &mut Rng) -> String {
    let language = *rng.pick(&Language::ALL);
    let n_exchanges = rng.between(2, 4);
    let mut exchanges = Vec::new();
    while exchanges.len() < n_exchanges as usize {
        let problem = General.problem(rng.next_u64(), Split::Train, 0);
        if problem.language == language {
            let gold = General.worked(&problem, language, rng);
            exchanges.push(zero_prompt("", &problem.question) + " " + &gold.final_answer);
        }
    }
    exchanges.join("\n")
}

/// A list of the one-digit facts that worked solutions use.
fn drill_page(rng: &mut Rng) -> String {
    let n_facts = rng.between(6, 12);
    let facts: Vec<String> = (0..n_facts).map(|_| drill_fact(rng)).collect();
    facts.join("\n")
}

/// One fact. Those that are a held-out problem of difficulty 1 are left out.
fn drill_fact(rng: &mut Rng) -> String {
    loop {
        let (x, y) = (rng.below(10) as u32, rng.below(10) as u32);
        let (operation, a, b) = match rng.below(3) {
            0 => (Operation::Add, x, y),
            1 if x >= y => (Operation::Sub, x, y),
            1 => (Operation::Sub, x + 10, y),
            _ => (Operation::Mul, x, y),
        };
        if !Expression::one(operation, a, b).is_in(Split::Train) {
            continue;
        }
        let value = operation.apply(a, b);
        let sign = operation.sign();
        let with_carry = rng.chance(0.4);
        return match operation {
            Operation::Add if with_carry => format!("{a}+{b}+1={}", value + 1),
            Operation::Sub if with_carry && value > 0 => format!("{a}-{b}-1={}", value - 1),
            Operation::Mul if with_carry => {
                let carry = rng.between(1, 8) as u32;
                format!("{a}×{b}={value}, {value}+{carry}={}", value + carry)
            }
            _ => format!("{a}{sign}{b}={value}"),
        };
    }
}
