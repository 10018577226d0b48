//! Answers of a model to questions, sampled in a batch and read as text.

use crate::error::Error;
use crate::prompts::{Item, prompt_ids};
use crate::recipe::Template;
use crate::reward::Judged;
use fathom_engine::{Answer, Finish, Request, Sampling, rollout};
use fathom_model::Model;
use fathom_model::cache::{CacheForm, CacheSpec};
use fathom_text::{Tokenizer, chat, special};

/// Sequences that advance together.
const MAX_SEQUENCES: usize = 512;

/// How answers are sampled.
#[derive(Clone, Copy, Debug)]
pub struct SamplingPlan {
    /// Wording around the question.
    pub template: Template,
    /// Answers per question.
    pub n_samples: usize,
    /// Temperature; 0 is greedy.
    pub temperature: f64,
    /// Probability mass kept.
    pub top_p: f64,
    /// Longest answer.
    pub max_new_tokens: usize,
    /// Seed of all draws.
    pub seed: u64,
}

/// Answers to one question.
pub struct Group {
    /// The prompt that was answered.
    pub prompt: Vec<u32>,
    /// The answers.
    pub answers: Vec<Answer>,
    /// Their text, without the end token.
    pub texts: Vec<String>,
}

impl Group {
    /// Answer `i` as rewards see it.
    pub fn judged<'a>(&'a self, item: &'a Item, i: usize, template: Template) -> Judged<'a> {
        let response = &self.texts[i];
        Judged {
            item,
            response,
            reasoning: reasoning_of(response, template),
            complete: self.answers[i].finish == Finish::Stop,
            opened: template == Template::Chat,
        }
    }
}

/// The reasoning of a response: what stands before `</think>`; all of it where nothing is closed.
pub fn reasoning_of(response: &str, template: Template) -> &str {
    match response.split_once("</think>") {
        Some((before, _)) => before.trim_start().trim_start_matches("<think>").trim(),
        None if template == Template::Chat => response,
        None => chat::split_thinking(response).0,
    }
}

/// Samples answers to `items`, each with its key for the draws. The model is packed already, with
/// the precision it trains at: log-probabilities are those the trainer computes, bit for bit.
/// None if `stop` said so.
pub fn sample(
    model: &Model,
    tokenizer: &Tokenizer,
    items: &[(u64, &Item)],
    plan: &SamplingPlan,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Vec<Group>>, Error> {
    let eos = tokenizer.special_id(special::EOS)?;
    let mut requests = Vec::with_capacity(items.len());
    for (key, item) in items {
        let prompt = prompt_ids(tokenizer, plan.template, item.text())?;
        requests.push(Request { prompt, n_samples: plan.n_samples, key: *key });
    }
    let longest = requests.iter().map(|r| r.prompt.len()).max().unwrap_or(0) + plan.max_new_tokens;
    model.config.check_sequence_tokens(longest).map_err(|error| Error::Model {
        what: format!("prompt and answer of {longest} tokens"),
        source: fathom_model::Error::Config(error),
    })?;
    let sampling = Sampling {
        temperature: plan.temperature as f32,
        top_p: plan.top_p as f32,
        seed: plan.seed,
        stop_ids: vec![eos],
        vocab_limit: tokenizer.vocab_size(),
        ..Sampling::plain(plan.max_new_tokens)
    };
    let spec = CacheSpec::new(&model.config, CacheForm::Expanded);
    let Some(rollout) = rollout(model, spec, &requests, &sampling, MAX_SEQUENCES, stop) else {
        return Ok(None);
    };
    let groups = requests
        .into_iter()
        .zip(rollout)
        .map(|(request, answers)| {
            let text = |answer: &Answer| {
                let end = answer.tokens.len() - usize::from(answer.finish == Finish::Stop);
                tokenizer.decode(&answer.tokens[..end])
            };
            let texts = answers.iter().map(text).collect();
            Group { prompt: request.prompt, answers, texts }
        })
        .collect();
    Ok(Some(groups))
}
