//! Claims about the serving engine. Models are random and tiny; every answer is compared with the one
//! that a session gives alone.

mod answers;
mod fairness;
mod limits;
mod memory;
mod refusals;

use super::*;
use crate::speculate::Drafting;
use crate::tiny::Tiny;
use crate::{GenerateRequest, Sampling, Session};
use fathom_model::cache::{CacheForm, CacheSpec, Prefill};
use fathom_model::{Model, Precision};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const GROUPED: Tiny = Tiny::Grouped { vocab_size: 37, positions: 512 };
const LATENT: Tiny = Tiny::Latent { vocab_size: 11, positions: 512 };

const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration, and how prompts are read.
type Kind = (Tiny, Prefill);

const GQA: Kind = (GROUPED, Prefill::Absorbed);
const MLA: Kind = (LATENT, Prefill::Absorbed);
/// Rows of prompts have other bits than the same rows of answers.
const EXPANDED: Kind = (LATENT, Prefill::Expanded);

fn model((config, prefill): Kind) -> (Model, CacheSpec) {
    let mut model = Model::random(config.config(), 11).unwrap();
    let spec = model.pack_for_cache(Precision::F32, CacheForm::Latent);
    (model, spec.with_prefill(prefill))
}

fn start(kind: Kind, settings: ServiceSettings) -> Service {
    let (model, spec) = model(kind);
    Service::start(model, spec, settings).unwrap()
}

/// A prompt of `n` tokens, another one for each `key`.
fn prompt(n: usize, key: u64) -> Vec<u32> {
    let mut state = key.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(7);
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as u32 % 11
    };
    (0..n).map(|_| next()).collect()
}

/// A job with log-probabilities.
fn job(prompt: Vec<u32>, sampling: Sampling) -> Job {
    Job { n_top_log_probs: Some(2), ..Job::new(prompt, sampling) }
}

/// Many ways to draw.
fn samplings(n_tokens: usize) -> Vec<Sampling> {
    let plain = Sampling::plain(n_tokens);
    vec![
        Sampling::greedy(n_tokens),
        plain.clone(),
        Sampling { temperature: 0.7, top_p: 0.9, ..plain.clone() },
        Sampling { temperature: 1.3, top_k: 4, min_p: 0.05, ..plain.clone() },
        Sampling { logit_bias: [(3, 1.5), (1, -2.0)].into(), vocab_limit: 10, ..plain.clone() },
        Sampling { repetition_penalty: 1.2, frequency_penalty: 0.3, ..plain.clone() },
        Sampling { presence_penalty: 0.5, stop_ids: vec![4], ..plain },
    ]
}

/// What a listener heard.
#[derive(Debug)]
struct Heard {
    n_cached: Option<usize>,
    prompt: Option<Vec<Token>>,
    tokens: Vec<Token>,
    end: Result<Ended, Failed>,
}

impl Heard {
    fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}

/// A job that was taken.
struct Asked {
    ticket: Ticket,
    events: Receiver<Event>,
}

fn try_ask(service: &Service, job: Job) -> Result<Asked, Refused> {
    let (tell, events) = channel();
    let ticket = service.submit(job, Box::new(move |event| tell.send(event).is_ok()))?;
    Ok(Asked { ticket, events })
}

fn ask(service: &Service, job: Job) -> Asked {
    try_ask(service, job).unwrap()
}

impl Asked {
    /// All that the listener hears, in the order that is promised.
    fn wait(self) -> Heard {
        let mut heard =
            Heard { n_cached: None, prompt: None, tokens: Vec::new(), end: Ok(Ended::Stop) };
        loop {
            let event = self.events.recv_timeout(PATIENCE);
            match event.expect("an answer ends before its listener is let go") {
                Event::Began { n_cached } => {
                    assert_eq!(heard.n_cached.replace(n_cached), None);
                }
                Event::Prompt(tokens) => {
                    assert!(heard.n_cached.is_some() && heard.tokens.is_empty());
                    assert_eq!(heard.prompt.replace(tokens), None);
                }
                Event::Token(token) => {
                    assert!(heard.n_cached.is_some());
                    heard.tokens.push(token);
                }
                Event::Ended(ended) => {
                    heard.end = Ok(ended);
                    break;
                }
                Event::Failed(failed) => {
                    heard.end = Err(failed);
                    break;
                }
            }
        }
        assert!(self.events.recv_timeout(PATIENCE).is_err(), "nothing is heard after the end");
        drop(self.ticket);
        heard
    }
}

/// What a session says alone.
fn alone((model, spec): &(Model, CacheSpec), job: &Job) -> Vec<Token> {
    let request = GenerateRequest {
        n_top_log_probs: job.n_top_log_probs,
        ..GenerateRequest::new(&job.prompt, &job.sampling)
    };
    let mut tokens = Vec::new();
    let generated = Session::new(*spec).generate(model, &request, |drawn| {
        let (id, log_prob, top) = (drawn.token, drawn.log_prob, drawn.top.to_vec());
        tokens.push(Token { id, log_prob, top, experts: Vec::new() });
        true
    });
    generated.unwrap();
    tokens
}

/// The same job once more.
fn again(job: &Job) -> Job {
    Job {
        sample_idx: job.sample_idx,
        n_top_log_probs: job.n_top_log_probs,
        score_prompt: job.score_prompt,
        owner: job.owner,
        ..Job::new(job.prompt.clone(), job.sampling.clone())
    }
}

/// Keeps the engine's thread busy until it is let go: what is submitted meanwhile arrives together.
struct Hold {
    _let_go: Sender<()>,
    _ticket: Ticket,
}

fn hold(service: &Service) -> Hold {
    let (let_go, held) = channel::<()>();
    let (tell, told) = channel();
    let listener = move |event| {
        if matches!(event, Event::Began { .. }) {
            let _ = tell.send(());
            let _ = held.recv();
        }
        false
    };
    let mut job = Job::new(vec![1], Sampling::greedy(1));
    job.owner = 99;
    let ticket = service.submit(job, Box::new(listener)).unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    Hold { _let_go: let_go, _ticket: ticket }
}

/// Waits until the figures are as wanted.
fn await_stats(service: &Service, wanted: impl Fn(&Stats) -> bool) -> Stats {
    let start = Instant::now();
    loop {
        let stats = service.stats();
        if wanted(&stats) {
            return stats;
        }
        assert!(start.elapsed() < PATIENCE, "{stats:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
