//! Questions to train and measure on: the generated task, or a person's own file.

use crate::error::Error;
use crate::recipe::{Mix, Task, Template};
use crate::stage::expand_home;
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
    ///
    /// `seed` is that of the recipe: every stage must see the same split into training and held-out
    /// questions. `note` is told what was left out of the files.
    pub fn open(
        task: &Task,
        seed: u64,
        stage: &str,
        note: &mut dyn FnMut(String),
    ) -> Result<Prompts, Error> {
        match task {
            Task::Arithmetic(mix) => Ok(Prompts::Generated { mix: mix.clone(), seed }),
            Task::Questions(files) => {
                let mut train = read_items(&files.train, note)?;
                let held_out = if files.test.is_empty() {
                    let n_held_out = (train.len() as f64 * files.held_out_share).ceil() as usize;
                    Rng::from_key(&[seed, 0x7465_7374]).shuffle(&mut train);
                    train.split_off(train.len() - n_held_out.min(train.len()))
                } else {
                    read_items(&files.test, note)?
                };
                if train.is_empty() {
                    return Err(Error::Unfit {
                        stage: stage.into(),
                        found: format!("{} questions in `{}`, all held out", held_out.len(), files.train),
                        expected: "some to train on".into(),
                        hint: Some("give more questions, or held-out ones with `task.test`".into()),
                    });
                }
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

    /// Leaves out training questions that are too long for a model: prompt and answer must fit its
    /// positions. Generated questions are short and stay.
    pub fn keep_fitting(&mut self, fit: &Fit, note: &mut dyn FnMut(String)) -> Result<(), Error> {
        let Prompts::Files { train, .. } = self else { return Ok(()) };
        let n_all = train.len();
        let mut kept = Vec::with_capacity(n_all);
        for item in train.drain(..) {
            if fit.holds(&item)? {
                kept.push(item);
            }
        }
        *train = kept;
        if train.is_empty() {
            return Err(Error::Unfit {
                stage: fit.stage.into(),
                found: format!("{n_all} questions, none of which fits the model"),
                expected: format!(
                    "prompts that leave room for `max_new_tokens` = {} in {} positions",
                    fit.max_new_tokens, fit.n_positions
                ),
                hint: Some(format!("lower `{}.max_new_tokens`", fit.stage)),
            });
        }
        if train.len() < n_all {
            note(format!("left out {} of {n_all} questions {}", n_all - train.len(), fit.why()));
        }
        Ok(())
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
                    && kinds[Rng::from_key(&[*seed, index, 0x006d_6978]).weighted(&shares)].0
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

/// What a model has room for.
pub struct Fit<'a> {
    /// The stage that samples.
    pub stage: &'a str,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Wording around the question.
    pub template: Template,
    /// Longest answer.
    pub max_new_tokens: usize,
    /// Positions of the model.
    pub n_positions: usize,
}

impl Fit<'_> {
    /// Whether the prompt and the longest answer fit.
    pub fn holds(&self, item: &Item) -> Result<bool, Error> {
        let n_prompt = prompt_ids(self.tokenizer, self.template, item.text())?.len();
        Ok(n_prompt + self.max_new_tokens <= self.n_positions)
    }

    /// The reason for which others are left out.
    pub fn why(&self) -> String {
        format!(
            "that with `max_new_tokens` = {} pass the model's {} positions",
            self.max_new_tokens, self.n_positions
        )
    }
}

fn read_items(path: &str, note: &mut dyn FnMut(String)) -> Result<Vec<Item>, Error> {
    let set = jsonl::read_problems(&expand_home(path), &Fields::gsm8k())?;
    let (n, skipped) = (set.problems.len(), &set.skipped);
    if skipped.total() > 0 {
        note(format!("{n} questions read from `{path}`; {skipped}"));
    }
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
