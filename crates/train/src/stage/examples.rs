//! Examples of supervised fine-tuning, from the sources a stage names.

use super::{Work, samples, stage_seed};
use crate::error::Error;
use crate::prompts::{Item, Prompts, prompt_ids};
use crate::recipe::{Mix, SftSource, Task, Template};
use fathom_data::corpus;
use fathom_data::jsonl::{self, Fields};
use fathom_data::pack::Example;
use fathom_data::random::Rng;
use fathom_text::{Tokenizer, chat};

/// Question and response (after the opened thinking) of one example.
struct Pair {
    question: String,
    response: String,
}

/// All examples of a stage, in the chat format, shuffled by the stage's seed.
pub(super) fn examples(
    work: &mut Work,
    stage: &str,
    sources: &[SftSource],
    tokenizer: &Tokenizer,
) -> Result<Vec<Example>, Error> {
    let mut pairs = Vec::new();
    for source in sources {
        let found = pairs_of(work, stage, source)?;
        work.note(format!("{} examples from {}", found.len(), name_of(source)));
        pairs.extend(found);
    }
    Rng::from_key(&[stage_seed(work.recipe, stage), 0x0053_4654]).shuffle(&mut pairs);
    pairs
        .iter()
        .map(|pair| {
            Ok(Example {
                prompt: prompt_ids(tokenizer, Template::Chat, &pair.question)?,
                response: chat::render_reply(tokenizer, &pair.response)?,
            })
        })
        .collect()
}

fn name_of(source: &SftSource) -> String {
    match source {
        SftSource::ColdStart(_) => "the cold start".into(),
        SftSource::Samples(samples) => format!("stage `{}`", samples.stage),
        SftSource::General(_) => "general prompts".into(),
        SftSource::Task(_) => "the task".into(),
        SftSource::Jsonl(file) => format!("`{}`", file.path),
    }
}

fn pairs_of(work: &mut Work, stage: &str, source: &SftSource) -> Result<Vec<Pair>, Error> {
    let seed = stage_seed(work.recipe, stage);
    let endless = |count: usize| {
        if count > 0 {
            return Ok(count as u64);
        }
        Err(Error::Unfit {
            stage: stage.into(),
            found: "`count` = 0 for generated examples".into(),
            expected: "a number: they are endless".into(),
            hint: None,
        })
    };
    let dialogue = |d: corpus::Dialogue| Pair {
        response: corpus::chat_response(&d.reasoning, &d.answer),
        question: d.question,
    };
    match (source, &work.recipe.task) {
        (SftSource::ColdStart(settings), Task::Arithmetic(mix)) => {
            Ok((0..endless(settings.count)?)
                .map(|i| dialogue(corpus::cold_start(seed, i, mix)))
                .collect())
        }
        (SftSource::General(settings), _) => Ok((0..endless(settings.count)?)
            .map(|i| dialogue(corpus::general_dialogue(seed, i)))
            .collect()),
        (SftSource::Samples(settings), _) => {
            let path = samples::path_in(&work.dir.checkpoint(&settings.stage));
            let kept = samples::read(&path, settings.count)?;
            Ok(kept
                .into_iter()
                .map(|s| Pair { question: s.question, response: s.response })
                .collect())
        }
        (SftSource::Task(settings), _) => {
            let prompts = work.prompts(stage)?;
            let n = match &prompts {
                Prompts::Files { train, .. } if settings.count == 0 => train.len() as u64,
                Prompts::Files { train, .. } => (settings.count as u64).min(train.len() as u64),
                Prompts::Generated { .. } => endless(settings.count)?,
            };
            Ok((0..n).filter_map(|i| worked_pair(prompts.train(&Mix::new(), i))).collect())
        }
        (SftSource::Jsonl(file), _) => {
            let set = jsonl::read_problems(&work.source_folder(&file.path), &Fields::gsm8k())?;
            if set.skipped.total() > 0 {
                work.note(format!("`{}`: {}", file.path, set.skipped));
            }
            let limit = if file.count == 0 { usize::MAX } else { file.count };
            Ok(set
                .problems
                .into_iter()
                .take(limit)
                .map(|p| Pair {
                    response: corpus::chat_response(&p.reasoning, &boxed(&p.final_answer)),
                    question: p.question,
                })
                .collect())
        }
        (SftSource::ColdStart(_), _) => Err(Error::Unfit {
            stage: stage.into(),
            found: "`cold-start` examples".into(),
            expected: "the arithmetic task, which writes them".into(),
            hint: Some("use `{ kind = \"task\" }` for the worked answers of your own file".into()),
        }),
    }
}

fn worked_pair(item: Item) -> Option<Pair> {
    match item {
        Item::Question { question, worked: Some(worked), gold } => {
            Some(Pair { question, response: corpus::chat_response(&worked, &boxed(&gold)) })
        }
        _ => None,
    }
}

fn boxed(answer: &str) -> String {
    format!("\\boxed{{{answer}}}")
}
