//! `POST /completions`: what is asked, of one prompt or several.

use super::fields::Fields;
use super::model_name;
use super::sampling::{self, MOST_ANSWERS, MOST_TOP, WITHOUT_EFFECT, token_ids};
use super::warnings::Warnings;
use crate::ask::{Ask, PromptAsk};
use crate::refusal::Refusal;
use crate::served::Served;
use fathom_text::chat::Json;

/// Tokens of an answer where neither the request nor the model says how many. OpenAI has 16, which cuts
/// off nearly everything; DeepSeek allows 4K here.
const DEFAULT_MAX_TOKENS: usize = 4096;
/// Answers of a request at most, over all its prompts.
const MOST_CHOICES: usize = 128;

/// A completion request, and how its answer is to be written.
#[derive(Clone, Debug)]
pub(crate) struct CompletionRequest {
    /// One for each prompt.
    pub(crate) asks: Vec<Ask>,
    /// What each prompt is echoed as; empty unless it is.
    pub(crate) echoes: Vec<String>,
    /// The name that the model was called by.
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Whether the usage comes in a chunk of its own.
    pub(crate) include_usage: bool,
    pub(crate) logprobs: bool,
    pub(crate) warnings: Warnings,
}

/// Reads a request.
///
/// Errors: 400 for wrong types and contradictions, 404 for another model, 422 outside a range.
pub(crate) fn read(served: &Served, body: &Json) -> Result<CompletionRequest, Refusal> {
    let fields = Fields::of("", body)?;
    let model = fields.needed_text("model")?.to_owned();
    model_name::thinking_of(served, &model)?;
    let echo = fields.flag("echo")?.unwrap_or(false);
    let suffix = fields.text("suffix")?;
    if echo && suffix.is_some() {
        let message = "`echo` and `suffix` are not allowed together";
        return Err(Refusal::invalid("echo", message));
    }
    let prompts = prompts(&fields, suffix)?;
    let n = fields.count("n", 1..=MOST_ANSWERS)?.unwrap_or(1);
    check_best_of(&fields, n)?;
    if prompts.len() * n > MOST_CHOICES {
        let found = prompts.len() * n;
        let message = format!("`prompt` and `n` ask for {found} answers, at most {MOST_CHOICES}");
        return Err(Refusal::out_of_range("prompt", message));
    }
    let n_top = fields.count("logprobs", 0..=MOST_TOP)?;
    let max_tokens = fields.count("max_tokens", 0..=usize::MAX)?;
    if max_tokens == Some(0) && !echo {
        let message = "`max_tokens` 0 is allowed only with `echo`";
        return Err(Refusal::invalid("max_tokens", message));
    }
    let (stream, include_usage, mut unknown) = sampling::streaming(&fields)?;
    let (sampling, stop) = (sampling::sampling(&fields)?, sampling::stop(&fields)?);
    fields.without_effect(WITHOUT_EFFECT);
    unknown.extend(fields.unknown());
    let default = served.defaults.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    let echoes =
        prompts.iter().map(|prompt| if echo { shown(served, prompt) } else { String::new() });
    Ok(CompletionRequest {
        echoes: echoes.collect(),
        asks: prompts
            .into_iter()
            .map(|prompt| Ask {
                prompt,
                sampling: sampling.clone(),
                n,
                max_tokens: Some(max_tokens.unwrap_or(default)),
                stop: stop.clone(),
                n_top_log_probs: n_top,
                score_prompt: echo && n_top.is_some(),
                explain: false,
            })
            .collect(),
        model,
        stream,
        include_usage,
        logprobs: n_top.is_some(),
        warnings: Warnings::about_unknown(&unknown),
    })
}

/// One text, several, one prompt of token ids, or several.
fn prompts(fields: &Fields, suffix: Option<&str>) -> Result<Vec<PromptAsk>, Refusal> {
    const EXPECTED: &str =
        "a string, a list of strings, a list of token ids, or a list of such lists";
    let with_suffix = |text: &str| match suffix {
        None => PromptAsk::Text(text.to_owned()),
        Some(suffix) => PromptAsk::Fill { prefix: text.to_owned(), suffix: suffix.to_owned() },
    };
    let of_ids = |path: &str, items: &[Json]| match suffix {
        None => Ok(PromptAsk::Ids(token_ids(path, items)?)),
        Some(_) => {
            Err(Refusal::invalid("suffix", "`suffix` needs a `prompt` of text, not of token ids"))
        }
    };
    let items = match fields.any("prompt") {
        None => return Err(fields.missing("prompt", EXPECTED)),
        Some(Json::String(text)) => return Ok(vec![with_suffix(text)]),
        Some(Json::Array(items)) => items,
        Some(other) => return Err(fields.wrong("prompt", EXPECTED, other)),
    };
    let each = |(at, item): (usize, &Json)| match item {
        Json::String(text) => Ok(with_suffix(text)),
        Json::Array(ids) => of_ids(&format!("prompt[{at}]"), ids),
        other => {
            Err(fields.wrong(&format!("prompt[{at}]"), "a string or a list of token ids", other))
        }
    };
    match items.first() {
        None => Err(Refusal::invalid("prompt", "`prompt` must not be an empty list")),
        Some(Json::Number(_)) => Ok(vec![of_ids("prompt", items)?]),
        Some(_) => items.iter().enumerate().map(each).collect(),
    }
}

fn check_best_of(fields: &Fields, n: usize) -> Result<(), Refusal> {
    match fields.count("best_of", 0..=usize::MAX)? {
        Some(best_of) if best_of != n && best_of != 1 => {
            let message =
                format!("`best_of` is not supported, it must be 1 or as `n`, not {best_of}");
            Err(Refusal::invalid("best_of", message))
        }
        _ => Ok(()),
    }
}

/// A prompt as text.
fn shown(served: &Served, prompt: &PromptAsk) -> String {
    match prompt {
        PromptAsk::Text(text) => text.clone(),
        PromptAsk::Ids(ids) => served.tokenizer.decode(ids),
        PromptAsk::Fill { prefix, .. } => prefix.clone(),
        PromptAsk::Chat(_) => String::new(),
    }
}
