//! Questions to train and measure on: the generated task, or a person's own file.

use crate::error::Error;
use crate::recipe::{Mix, Task, Template};
use fathom_data::grade;
use fathom_data::jsonl::{self, Fields};
use fathom_data::language::Language;
use fathom_data::math_answer::{self, Verdict};
use fathom_data::random::Rng;
use fathom_data::task::arithmetic::{ProblemMix, problem_from};
use fathom_data::task::{self, Problem, Split};
use fathom_text::{ChatFormat, Message, Tokenizer, chat};

/// A question that can be judged.
#[derive(Clone, Debug)]
pub enum Item {
    /// Of the generated tasks.
    Generated(Problem),
    /// Of a file.
    Question {
        /// As asked.
        question: String,
        /// Worked answer of the file, if there is one.
        worked: Option<String>,
        /// The right final answer.
        gold: String,
    },
}

impl Item {
    /// A question with its gold answer.
    pub fn question(question: &str, gold: &str) -> Item {
        Item::Question { question: question.into(), worked: None, gold: gold.into() }
    }

    /// The question as asked.
    pub fn text(&self) -> &str {
        match self {
            Item::Generated(problem) => &problem.question,
            Item::Question { question, .. } => question,
        }
    }

    /// The right answer.
    pub fn gold(&self) -> &str {
        match self {
            Item::Generated(problem) => &problem.answer,
            Item::Question { gold, .. } => gold,
        }
    }

    /// The language the reasoning should be in, where that is known.
    pub fn language(&self) -> Option<Language> {
        match self {
            Item::Generated(problem) => Some(problem.language),
            Item::Question { .. } => None,
        }
    }

    /// Whether the final answer of `response` is right. A gold answer that cannot be read rewards nothing.
    pub fn is_correct(&self, response: &str) -> bool {
        match self {
            Item::Generated(problem) => grade::correct(problem, response),
            Item::Question { gold, .. } => math_answer::grade(response, gold) == Verdict::Correct,
        }
    }

    /// What majority voting counts: the final answer as far as it can be told from others.
    pub fn final_answer(&self, response: &str) -> Option<String> {
        match self {
            Item::Generated(_) => grade::extract_answer(response),
            Item::Question { .. } => math_answer::final_answer(response).map(str::to_string),
        }
    }
}

/// Where questions come from.
pub enum Prompts {
    /// Generated, endless.
    Generated { mix: ProblemMix, seed: u64 },
    /// From files.
    Files { train: Vec<Item>, held_out: Vec<Item> },
}

impl Prompts {
    /// The questions of a recipe's task.
    pub fn open(task: &Task, seed: u64, stage: &str) -> Result<Prompts, Error> {
        match task {
            Task::Arithmetic(mix) => Ok(Prompts::Generated { mix: mix.clone(), seed }),
            Task::Questions(files) => {
                let mut train = read_items(&files.train)?;
                let held_out = if files.test.is_empty() {
                    let n_held_out = (train.len() as f64 * files.held_out_share).ceil() as usize;
                    Rng::from_key(&[seed, 0x7465_7374]).shuffle(&mut train);
                    train.split_off(train.len() - n_held_out.min(train.len()))
                } else {
                    read_items(&files.test)?
                };
                Ok(Prompts::Files { train, held_out })
            }
            Task::Sources(_) => Err(Error::Unfit {
                stage: stage.into(),
                found: "a task of source files".into(),
                expected: "a task with questions".into(),
                hint: Some("set `task` to `{ kind = \"questions\", train = … }` or `{ kind = \"arithmetic\" }`".into()),
            }),
        }
    }

    /// Training question `index`; `prompts` gives the shares of the kinds (empty: reasoning only).
    pub fn train(&self, prompts: &Mix, index: u64) -> Item {
        match self {
            Prompts::Files { train, .. } => train[(index % train.len() as u64) as usize].clone(),
            Prompts::Generated { mix, seed } => {
                let kinds: Vec<(&str, f64)> =
                    prompts.iter().map(|(k, v)| (k.as_str(), *v)).collect();
                let shares: Vec<f64> = kinds.iter().map(|(_, share)| *share).collect();
                let is_general = !kinds.is_empty()
                    && kinds[Rng::from_key(&[*seed, index, 0x6d69_78]).weighted(&shares)].0
                        == "general";
                match task::task("general").filter(|_| is_general) {
                    Some(general) => Item::Generated(general.problem(*seed, Split::Train, index)),
                    None => Item::Generated(problem_from(mix, *seed, Split::Train, index)),
                }
            }
        }
    }

    /// Held-out question `index`; none past the end of a file.
    pub fn held_out(&self, index: u64) -> Option<Item> {
        match self {
            Prompts::Files { held_out, .. } => held_out.get(index as usize).cloned(),
            Prompts::Generated { mix, seed } => {
                Some(Item::Generated(problem_from(mix, *seed, Split::HeldOut, index)))
            }
        }
    }
}

fn read_items(path: &str) -> Result<Vec<Item>, Error> {
    let set = jsonl::read_problems(path.as_ref(), &Fields::gsm8k())?;
    Ok(set
        .problems
        .into_iter()
        .map(|p| Item::Question {
            question: p.question,
            worked: Some(p.reasoning),
            gold: p.final_answer,
        })
        .collect())
}

/// Token ids of a question in a template, up to where the model answers.
pub fn prompt_ids(
    tokenizer: &Tokenizer,
    template: Template,
    question: &str,
) -> Result<Vec<u32>, Error> {
    Ok(chat::render(tokenizer, &[Message::user(question)], chat_format(template))?)
}

/// The chat format of a template.
pub fn chat_format(template: Template) -> ChatFormat {
    match template {
        Template::R1Zero => ChatFormat::R1Zero,
        Template::Chat => ChatFormat::R1,
    }
}
