//! From what is asked to jobs of the engine.

use super::answering::{Answering, Reading};
use super::calls::Calls;
use super::meter::Meter;
use super::prompt::{Prompt, prompt};
use super::reply::Reply;
use crate::app::Shared;
use crate::ask::{Ask, ChatAsk, PromptAsk, ToolChoice};
use crate::caller::Caller;
use crate::grammar::{CallStyle, Wanted};
use crate::refusal::Refusal;
use crate::unique;
use axum::http::StatusCode;
use fathom_engine::service::{Constraint, Event, Job, Refused, Ticket};
use fathom_engine::{Error, Sampling};
use fathom_text::StopStrings;
use fathom_text::reply::ThinkingSplitter;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Likeliest tokens that the explain view shows beside each token, unless the request says how many.
pub const EXPLAIN_TOP: usize = 5;

/// All answers to a request.
pub struct Answers {
    /// Tokens of the prompt, or of all prompts together.
    pub prompt_tokens: usize,
    /// Tokens that end an answer: the last of its tokens may be one, which has no text.
    pub stop_ids: Vec<u32>,
    /// Whether the prompt lets the model think.
    pub may_think: bool,
    /// Each answer.
    pub streams: Vec<Answering>,
}

/// Gives the request to the engine.
///
/// Errors: what is wrong with the request (400, 422), or why the engine cannot take it now (503).
pub fn ask(app: &Shared, caller: Caller, ask: Ask) -> Result<Answers, Refusal> {
    let asked = Instant::now();
    let prompt = prompt(&app.served, &ask.prompt)?;
    if prompt.ids.is_empty() {
        return Err(setting_refusal(&Error::EmptyPrompt));
    }
    if app.settings.log_prompts {
        app.log(|| format!("prompt: {}", app.served.tokenizer.decode(&prompt.ids)));
    }
    let sampling = sampling(app, &ask, &prompt)?;
    let constrain = |_| constraint(app, &ask, &prompt);
    let constraints = (0..ask.n).map(constrain).collect::<Result<Vec<_>, _>>()?;
    let mut taken: Vec<(Ticket, UnboundedReceiver<(Instant, Event)>)> = Vec::new();
    for (idx, constraint) in constraints.into_iter().enumerate() {
        let job = Job {
            sample_idx: idx as u64,
            n_top_log_probs: ask.n_top_log_probs.or(ask.explain.then_some(EXPLAIN_TOP)),
            score_prompt: ask.score_prompt,
            constraint,
            owner: caller.owner,
            deadline: asked.checked_add(app.settings.request_limit),
            trace_experts: ask.explain,
            ..Job::new(prompt.ids.clone(), sampling.clone())
        };
        let (sender, events) = unbounded_channel();
        let listener = Box::new(move |event| sender.send((Instant::now(), event)).is_ok());
        // Whoever is refused here takes back what was taken before.
        let ticket = app.engine.submit(job, listener).map_err(|refused| refusal(&refused))?;
        taken.push((ticket, events));
    }
    let n_prompt = prompt.ids.len();
    let streams = taken.into_iter().enumerate().map(|(idx, (ticket, events))| Answering {
        events,
        ticket: Some(ticket),
        reply: reply(&ask, &prompt),
        meter: Meter::new(app.clone(), caller, if idx == 0 { n_prompt } else { 0 }, asked),
        reading: Reading {
            stop_ids: prompt.stop_ids.clone(),
            stop: ask.stop.clone(),
            scored: ask.n_top_log_probs.is_some() || ask.explain,
        },
        ready: VecDeque::new(),
        ended: false,
    });
    Ok(Answers {
        prompt_tokens: n_prompt,
        streams: streams.collect(),
        may_think: prompt.may_think,
        stop_ids: prompt.stop_ids,
    })
}

impl Answers {
    /// What any of the answers says next, and which; none after the end of all.
    pub async fn next(&mut self) -> Option<(usize, super::Piece)> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Answers::next`] for those who wait for more than answers.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, super::Piece)>> {
        let mut all_ended = true;
        for (idx, stream) in self.streams.iter_mut().enumerate() {
            match stream.poll_next(context) {
                Poll::Ready(Some(piece)) => return Poll::Ready(Some((idx, piece))),
                Poll::Ready(None) => {}
                Poll::Pending => all_ended = false,
            }
        }
        if all_ended { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The answers to several prompts, one prompt's after the other's.
    pub fn join(all: Vec<Answers>) -> Answers {
        let mut joined = Answers {
            prompt_tokens: 0,
            stop_ids: Vec::new(),
            may_think: false,
            streams: Vec::new(),
        };
        for answers in all {
            joined.prompt_tokens += answers.prompt_tokens;
            joined.stop_ids = answers.stop_ids;
            joined.may_think |= answers.may_think;
            joined.streams.extend(answers.streams);
        }
        joined
    }
}

fn sampling(app: &Shared, ask: &Ask, prompt: &Prompt) -> Result<Sampling, Refusal> {
    let (served, asked) = (&app.served, &ask.sampling);
    let (temperature, top_p, top_k) = asked.over(&served.defaults);
    let mut logit_bias = asked.logit_bias.clone();
    if asked.ignore_eos {
        // A bias and no ban: an answer that is held to a form must still be able to end.
        logit_bias.extend(prompt.stop_ids.iter().map(|id| (*id, -100.0)));
    }
    let sampling = Sampling {
        temperature,
        top_k,
        top_p,
        min_p: asked.min_p.unwrap_or(served.defaults.min_p),
        repetition_penalty: asked.repetition_penalty.unwrap_or(served.defaults.repetition_penalty),
        frequency_penalty: asked.frequency_penalty,
        presence_penalty: asked.presence_penalty,
        logit_bias,
        seed: asked.seed.unwrap_or_else(unique::number),
        max_new_tokens: max_new_tokens(app, ask, prompt.ids.len())?,
        stop_ids: prompt.stop_ids.clone(),
        vocab_limit: served.vocab_limit,
    };
    sampling.check().map_err(|error| setting_refusal(&error))?;
    Ok(sampling)
}

/// What was asked for, as far as the context has room.
fn max_new_tokens(app: &Shared, ask: &Ask, n_prompt: usize) -> Result<usize, Refusal> {
    let limit = app.served.context_tokens;
    let room = limit.saturating_sub(n_prompt);
    let wanted = ask.max_tokens.or(app.served.defaults.max_tokens);
    if n_prompt > limit || (room == 0 && wanted != Some(0)) {
        return Err(too_long(&ask.prompt, n_prompt, limit));
    }
    Ok(wanted.map_or(room, |wanted| wanted.min(room)))
}

fn too_long(prompt: &PromptAsk, n_prompt: usize, limit: usize) -> Refusal {
    let param = if matches!(prompt, PromptAsk::Chat(_)) { "messages" } else { "prompt" };
    let message = format!(
        "the prompt has {n_prompt} tokens, and prompt and answer together may have {limit}\n\
         hint: shorten `{param}`, or serve with a larger context"
    );
    Refusal::invalid(param, message).code("context_length_exceeded")
}

fn constraint(
    app: &Shared,
    ask: &Ask,
    prompt: &Prompt,
) -> Result<Option<Box<dyn Constraint>>, Refusal> {
    let PromptAsk::Chat(ChatAsk { conversation, tool_choice, parallel_tool_calls, format, .. }) =
        &ask.prompt
    else {
        return Ok(None);
    };
    let no_tools = *tool_choice == ToolChoice::None;
    // Who has no tools need not be kept from calling them.
    let tool_choice = if conversation.tools.is_empty() { &ToolChoice::Auto } else { tool_choice };
    app.grammars.constraint(&Wanted {
        format,
        tools: if no_tools { &[] } else { &conversation.tools },
        tool_choice,
        parallel: *parallel_tool_calls,
        call_style: call_style(app, prompt),
        in_thinking: prompt.opened_thinking,
    })
}

/// How the model writes calls, also where it must write none.
fn call_style(app: &Shared, prompt: &Prompt) -> CallStyle {
    let of = |renderer| CallStyle::of(renderer, &app.served.tokenizer);
    prompt.call_style.or(app.served.renderer.as_ref().map(of)).unwrap_or(CallStyle::Json)
}

fn reply(ask: &Ask, prompt: &Prompt) -> Reply {
    let thinking = prompt.may_think.then(|| ThinkingSplitter::new(prompt.opened_thinking));
    let stops = ask.stop.iter().chain(&prompt.stop_strings).cloned();
    Reply::new(thinking, Calls::of(prompt.call_style), StopStrings::new(stops))
}

fn refusal(refused: &Refused) -> Refusal {
    let unavailable = |message| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).code("overloaded")
    };
    match refused {
        Refused::Full { n_waiting, retry_after_s } => {
            let seconds = retry_after_s.ceil().clamp(1.0, 3600.0) as u64;
            let message = format!(
                "{n_waiting} requests are waiting already\nhint: try again in {seconds} seconds"
            );
            Refusal { retry_after_s: Some(seconds), ..unavailable(message) }
        }
        Refused::Job(error) => setting_refusal(error),
        Refused::TooLong { n_prompt, limit } => {
            let message = format!(
                "the prompt has {n_prompt} tokens, and prompt and answer together may have {limit}"
            );
            Refusal::invalid("messages", message).code("context_length_exceeded")
        }
        Refused::Stopped => unavailable("the server is stopping".to_owned()),
    }
}

fn setting_refusal(error: &Error) -> Refusal {
    match error {
        Error::Setting { name, .. } => Refusal::out_of_range(*name, error.to_string()),
        Error::BiasOutside { .. } => Refusal::out_of_range("logit_bias", error.to_string()),
        Error::EmptyPrompt => Refusal::invalid("prompt", error.to_string()),
        _ => Refusal::internal(error.to_string()),
    }
}
