//! Arithmetic, bare and as word problems, in English and Chinese: the family on which the small
//! recipes show every stage of R1. `docs/tasks.md` describes it with examples. Operands are drawn
//! by [`Expression`], told by `story`, solved digit by digit in `solution`.

mod expression;
mod solution;
mod story;

pub use expression::{Expression, Operation};
pub use solution::{answer_sentence, mixed, terse, worked, wrong_answer};

use serde::{Deserialize, Serialize};

use super::{Check, Detail, Problem, Split, Task, Worked, problem_rng};
use crate::language::Language;
use crate::random::{Rng, hash_text};
use expression::Form;

/// The task named `arithmetic`.
pub struct Arithmetic;

/// Kinds of problem; [`ProblemMix::kinds`] is in this order.
pub const KINDS: [&str; 8] =
    ["add", "sub", "mul", "add_story", "sub_story", "mul_story", "compare_story", "two_step_story"];

/// How many of [`KINDS`], from the start, are bare exercises without a story.
pub const N_BARE_KINDS: usize = 3;

/// How often each kind, difficulty and language is drawn. Weights need not add up to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProblemMix {
    /// Weights of [`KINDS`].
    pub kinds: [f64; 8],
    /// Weights of difficulty 1, 2 and 3.
    pub difficulties: [f64; 3],
    /// Share of questions in Chinese, the rest being English, in `[0, 1]`.
    pub chinese: f64,
}

impl Default for ProblemMix {
    fn default() -> Self {
        Self {
            kinds: [2.0, 2.0, 1.5, 1.0, 1.0, 1.0, 1.0, 1.5],
            difficulties: [0.2, 0.4, 0.4],
            chinese: 0.5,
        }
    }
}

impl ProblemMix {
    /// Name and value of the first setting nothing can be drawn with.
    pub fn invalid(&self) -> Option<(&'static str, f64)> {
        let bad_weights = |weights: &[f64]| {
            let total: f64 = weights.iter().sum();
            let bad = weights.iter().copied().find(|w| !w.is_finite() || *w < 0.0);
            bad.or((total <= 0.0).then_some(total))
        };
        if let Some(value) = bad_weights(&self.kinds) {
            return Some(("kinds", value));
        }
        if let Some(value) = bad_weights(&self.difficulties) {
            return Some(("difficulties", value));
        }
        (!(0.0..=1.0).contains(&self.chinese)).then_some(("chinese", self.chinese))
    }
}

/// Problem `index` of a split, drawn from `mix`.
///
/// Panics: if `mix.invalid()` is something.
pub fn problem_from(mix: &ProblemMix, seed: u64, split: Split, index: u64) -> Problem {
    draw_problem(mix, split, &mut problem_rng(hash_text("arithmetic"), seed, split, index))
}

/// The next problem of `rng`, drawn from `mix`.
pub(crate) fn draw_problem(mix: &ProblemMix, split: Split, rng: &mut Rng) -> Problem {
    let kind_idx = rng.weighted(&mix.kinds);
    let difficulty = rng.weighted(&mix.difficulties) as u8 + 1;
    let language = if rng.chance(mix.chinese) { Language::Chinese } else { Language::English };
    let form = match KINDS[kind_idx] {
        "add" | "add_story" => Form::One(Operation::Add),
        "sub" | "sub_story" | "compare_story" => Form::One(Operation::Sub),
        "mul" | "mul_story" => Form::One(Operation::Mul),
        _ if rng.chance(0.5) => Form::AddSub,
        _ => Form::MulAdd,
    };
    let expression = expression::draw(form, difficulty, split, rng);
    let question = story::question(KINDS[kind_idx], expression, language, rng);
    Problem {
        id: hash_text(&question),
        task: "arithmetic",
        kind: KINDS[kind_idx],
        difficulty,
        language,
        question,
        answer: expression.value().to_string(),
        check: Check::Number,
        identity: expression.identity(),
        detail: Detail::Arithmetic(expression),
    }
}

impl Task for Arithmetic {
    fn name(&self) -> &'static str {
        "arithmetic"
    }

    fn description(&self) -> &'static str {
        "sums of one to three digits, bare and as stories, in English and Chinese"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    fn problem(&self, seed: u64, split: Split, index: u64) -> Problem {
        problem_from(&ProblemMix::default(), seed, split, index)
    }

    fn worked(&self, problem: &Problem, language: Language, rng: &mut Rng) -> Worked {
        worked(problem, language, rng)
    }
}

#[cfg(test)]
mod tests;
