//! The generated pre-training corpus and the dialogues of later stages. Like the web, it holds terse
//! answers (some wrong), worked solutions, pages that mix languages, chat and drills. Document `n` is
//! a pure function of `(seed, n, settings)`; all problems come from the training split.
//!
//! The share of each thing is a field of [`CorpusSettings`]; `docs/tasks.md` shows examples.

mod page;
mod settings;

pub use page::document;
pub use settings::CorpusSettings;

use crate::language::Language;
use crate::random::{Rng, hash_text};
use crate::task::arithmetic::{ProblemMix, draw_problem, worked};
use crate::task::general::General;
use crate::task::{Split, Task};

/// One exchange for supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogue {
    pub question: String,
    /// What is thought before `</think>`.
    pub reasoning: String,
    /// What is said after it.
    pub answer: String,
    /// Language of question, reasoning and answer.
    pub language: Language,
}

/// Cold-start dialogue `index`: a training problem with clean reasoning in its own language and a
/// boxed answer in a sentence.
pub fn cold_start(seed: u64, index: u64, mix: &ProblemMix) -> Dialogue {
    let mut rng = Rng::from_key(&[hash_text("cold start"), seed, index]);
    let problem = draw_problem(mix, Split::Train, &mut rng);
    let solution = worked(&problem, problem.language, &mut rng);
    Dialogue {
        question: problem.question,
        reasoning: solution.reasoning,
        answer: solution.final_answer,
        language: problem.language,
    }
}

/// General dialogue `index`: a training prompt of the task `general` with its gold response.
pub fn general_dialogue(seed: u64, index: u64) -> Dialogue {
    let problem = General.problem(seed, Split::Train, index);
    let gold = General.worked(&problem, problem.language, &mut Rng::from_key(&[seed, index]));
    Dialogue {
        question: problem.question,
        reasoning: gold.reasoning,
        answer: gold.final_answer,
        language: problem.language,
    }
}

/// The prompt of R1-Zero's plain-text template (full stop after the question included). It ends with `Assistant:`, without a space.
///
/// ```
/// use fathom_data::corpus::zero_prompt;
/// assert_eq!(zero_prompt("Think first.", "1+1?"), "Think first. User: 1+1?. Assistant:");
/// assert_eq!(zero_prompt("", "1+1?"), "User: 1+1?. Assistant:");
/// ```
pub fn zero_prompt(preamble: &str, question: &str) -> String {
    let gap = if preamble.is_empty() { "" } else { " " };
    format!("{preamble}{gap}User: {question}. Assistant:")
}

/// A response in R1-Zero's form, to follow [`zero_prompt`] directly.
pub fn zero_response(reasoning: &str, answer: &str) -> String {
    format!(" <think> {reasoning} </think> <answer> \\boxed{{{answer}}} </answer>")
}

/// A response in R1's chat form; the prompt ends with `<think>` and a line feed.
pub fn chat_response(reasoning: &str, answer: &str) -> String {
    format!("{reasoning}</think>\n\n{answer}")
}

#[cfg(test)]
mod tests;
