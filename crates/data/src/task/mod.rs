//! Generated tasks: a problem maker and its grader, text in and a number out. Each task is a pure
//! function of `(seed, split, index)`: any problem can be made alone, so a resumed run needs no
//! state. What may occur in training is decided by the *identity* of a problem (what is asked, not
//! how), never by the seed: see [`in_split`].

pub mod arithmetic;
pub mod general;

use serde::Serialize;

use crate::grade::Grade;
use crate::language::Language;
use crate::random::{Rng, hash_key};

/// Every task, in a fixed order.
pub const TASKS: &[&dyn Task] = &[&arithmetic::Arithmetic, &general::General];

/// The task of that name, if there is one.
pub fn task(name: &str) -> Option<&'static dyn Task> {
    TASKS.iter().copied().find(|task| task.name() == name)
}

/// A family of problems with a rule-based grader.
pub trait Task: Sync {
    /// The name recipes use.
    fn name(&self) -> &'static str;

    /// One sentence for a person.
    fn description(&self) -> &'static str;

    /// The kinds of problem, in a fixed order.
    fn kinds(&self) -> &'static [&'static str];

    /// Problem `index` of a split.
    fn problem(&self, seed: u64, split: Split, index: u64) -> Problem;

    /// A model response in `language`: how one gets to the answer, then the answer.
    fn worked(&self, problem: &Problem, language: Language, rng: &mut Rng) -> Worked;

    /// Scores a response by rule.
    fn grade(&self, problem: &Problem, response: &str) -> Grade {
        crate::grade::grade(problem, response)
    }
}

/// Which problems: those one may learn from, or those kept for measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Split {
    Train,
    HeldOut,
}

/// How a response is compared with [`Problem::answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Check {
    /// The extracted answer is the same number.
    Number,
    /// The reply is the same text, apart from case, punctuation and spaces.
    Equals,
    /// The reply is short and contains one of the alternatives, which `|` separates.
    ContainsAny,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// Hash of task and question: equal exactly for equal questions.
    pub id: u64,
    /// Name of the task it belongs to.
    pub task: &'static str,
    pub kind: &'static str,
    /// 1 to 3.
    pub difficulty: u8,
    /// Language of the question, and the one a good response reasons in.
    pub language: Language,
    pub question: String,
    /// The gold answer, as `check` reads it.
    pub answer: String,
    pub check: Check,
    /// Hash of what is asked, whatever the wording and the language; decides the split.
    pub identity: u64,
    pub detail: Detail,
}

/// What the task needs to write a solution.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Detail {
    Arithmetic(arithmetic::Expression),
    General { thought: String, reply: String },
}

/// A worked solution. `final_answer` is a sentence; where the answer is a number it is boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worked {
    pub reasoning: String,
    pub final_answer: String,
}

/// One identity in this many is held out.
pub const HELD_OUT_EVERY: u64 = 8;

/// Whether the problems of an identity belong to `split`. The rule does not depend on the seed, so
/// runs with different seeds measure on the same side of the same line.
pub fn in_split(identity: u64, split: Split) -> bool {
    let held_out = hash_key(&[identity, SPLIT_SALT]).is_multiple_of(HELD_OUT_EVERY);
    held_out == (split == Split::HeldOut)
}

/// Separates the split from other uses of the identity hash. One-digit operations have only some
/// forty identities each, so chance could hold out almost none; 48 holds out 6, 4 and 4 of them, and
/// some of every kind of general prompt (tests hold both).
const SPLIT_SALT: u64 = 48;

/// The generator of problem `index`: every split of every task has its own stream.
fn problem_rng(task: u64, seed: u64, split: Split, index: u64) -> Rng {
    Rng::from_key(&[task, seed, split as u64, index])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{chat_response, zero_response};

    #[test]
    fn gold_answers_score_one_and_empty_ones_zero() {
        for task in TASKS {
            for index in 0..2000 {
                let problem = task.problem(5, Split::HeldOut, index);
                let mut rng = Rng::from_key(&[index]);
                let gold = task.worked(&problem, problem.language, &mut rng);
                let score = |response: &str| task.grade(&problem, response).score;
                assert_eq!(score(&gold.final_answer), 1.0, "{problem:?}");
                assert_eq!(score(&chat_response(&gold.reasoning, &gold.final_answer)), 1.0);
                if problem.check == Check::Number {
                    assert_eq!(score(&problem.answer), 1.0, "{problem:?}");
                    assert_eq!(score(&zero_response(&gold.reasoning, &problem.answer)), 1.0);
                }
                for empty in ["", " ", "<think>\n", "</think>\n\n", r"\boxed{}", "..."] {
                    assert_eq!(score(empty), 0.0, "{empty:?} {problem:?}");
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_kinds_all_occur_in_both_splits() {
        for task in TASKS {
            assert_eq!(super::task(task.name()).map(Task::name), Some(task.name()));
            for split in [Split::Train, Split::HeldOut] {
                let seen: std::collections::BTreeSet<&str> =
                    (0..2000).map(|index| task.problem(1, split, index).kind).collect();
                let listed: std::collections::BTreeSet<&str> =
                    task.kinds().iter().copied().collect();
                assert_eq!(seen, listed, "{split:?}");
            }
        }
    }

    #[test]
    fn the_same_index_gives_the_same_problem_and_seeds_differ() {
        for task in TASKS {
            let draw = |seed| -> Vec<Problem> {
                (0..200).rev().map(|index| task.problem(seed, Split::Train, index)).collect()
            };
            assert_eq!(draw(1), draw(1));
            assert_ne!(draw(1), draw(2));
        }
    }

    #[test]
    fn both_languages_are_equally_frequent() {
        for task in TASKS {
            let chinese = (0..4000)
                .filter(|&index| task.problem(3, Split::Train, index).language == Language::Chinese)
                .count();
            assert!((1850..2150).contains(&chinese), "{}: {chinese} of 4000", task.name());
        }
    }
}
