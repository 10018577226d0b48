//! A server for tests: a small model's tokenizer, and an engine that says what it was told to say.

use crate::app::{App, Settings, Shared};
use crate::grammar::Grammars;
use crate::router::router;
use crate::served::{Defaults, ExpertsShape, Served, Thinking};
use crate::store::Store;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use fathom_engine::Sampling;
use fathom_engine::service::{
    Ended, Engine, Event, Failed, Job, Listener, Refused, Stats, Ticket, Token,
};
use fathom_text::{
    BpeSettings, ChatFormat, ChatRenderer, PretokenizerStyle, Tokenizer, special, train_bpe,
};
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tower::ServiceExt;

/// What the model of all tests is called.
pub(crate) const MODEL: &str = "tiny";
/// Tokens that its context has room for.
pub(crate) const CONTEXT: usize = 2048;

/// A tokenizer with DeepSeek's control tokens, and bytes for all else.
pub(crate) fn tokenizer() -> Tokenizer {
    static JSON: OnceLock<Vec<u8>> = OnceLock::new();
    let json = JSON.get_or_init(|| {
        let calls = [
            special::TOOL_CALLS_BEGIN,
            special::TOOL_CALLS_END,
            special::TOOL_CALL_BEGIN,
            special::TOOL_CALL_END,
            special::TOOL_OUTPUTS_BEGIN,
            special::TOOL_OUTPUTS_END,
            special::TOOL_OUTPUT_BEGIN,
            special::TOOL_OUTPUT_END,
            special::TOOL_SEP,
        ];
        let all = special::CHAT.iter().chain(&special::FIM).chain(&calls);
        let settings = BpeSettings {
            vocab_size: 400,
            special_tokens: all.map(|token| token.to_string()).collect(),
            pretokenizer: PretokenizerStyle::DigitWords,
            min_frequency: 2,
        };
        let texts = ["Hello there, the answer is here.", "the weather in Paris is fine today"];
        train_bpe(texts.iter().map(|text| text.repeat(3)), &settings).unwrap().json().to_vec()
    });
    Tokenizer::from_bytes(json.clone()).unwrap()
}

/// A server in the making.
pub(crate) struct Stage {
    format: Option<ChatFormat>,
    tokenizer: Tokenizer,
    pub(crate) engine: ScriptedEngine,
    pub(crate) settings: Settings,
    store: Option<Store>,
    context_tokens: usize,
}

/// A server of V3's format that gives `answers` in turn.
pub(crate) fn app(answers: &[&str]) -> Shared {
    Stage::new().answers(answers).app()
}

impl Stage {
    /// The format of V3, no answers, usual settings.
    pub(crate) fn new() -> Stage {
        let tokenizer = tokenizer();
        let closers = ["\"", "}", "]"].map(|text| tokenizer.token_id(text).unwrap()).into();
        Stage {
            format: Some(ChatFormat::V3),
            tokenizer,
            engine: ScriptedEngine { closers, ..ScriptedEngine::default() },
            settings: Settings::default(),
            store: None,
            context_tokens: CONTEXT,
        }
    }

    /// Another format; none for a model that only continues text.
    pub(crate) fn format(self, format: impl Into<Option<ChatFormat>>) -> Stage {
        Stage { format: format.into(), ..self }
    }

    /// What the engine says, job after job; the last of them again and again. Control tokens count.
    pub(crate) fn answers(self, answers: &[&str]) -> Stage {
        let ids = answers.iter().map(|text| self.tokenizer.encode(text)).collect();
        *self.engine.answers.lock().unwrap() = ids;
        self
    }

    pub(crate) fn settings(self, change: impl FnOnce(&mut Settings)) -> Stage {
        let mut stage = self;
        change(&mut stage.settings);
        stage
    }

    pub(crate) fn store(self, store: Store) -> Stage {
        Stage { store: Some(store), ..self }
    }

    /// How many tokens the context has room for.
    pub(crate) fn context(self, context_tokens: usize) -> Stage {
        Stage { context_tokens, ..self }
    }

    /// Jobs wait for [`ScriptedEngine::release`].
    pub(crate) fn held(self) -> Stage {
        self.engine.hold.store(true, Ordering::SeqCst);
        self
    }

    pub(crate) fn app(self) -> Shared {
        self.both().0
    }

    /// The server, and its engine to ask what it was told.
    pub(crate) fn both(self) -> (Shared, Arc<ScriptedEngine>) {
        let tokenizer = self.tokenizer;
        let renderer =
            self.format.map(|format| ChatRenderer::built_in(format, &tokenizer).unwrap());
        let stop_ids = vec![tokenizer.token_id(special::EOS).unwrap()];
        let vocab_limit = tokenizer.vocab_size();
        let grammars = Grammars::new(&tokenizer, vocab_limit, &stop_ids).unwrap();
        let thinking = match self.format {
            Some(ChatFormat::R1) => Thinking::Always,
            Some(ChatFormat::V31) => Thinking::Switch,
            _ => Thinking::Never,
        };
        let experts =
            ExpertsShape { layers: vec![1, 2], n_routed_experts: 8, num_experts_per_tok: 2 };
        let served = Served {
            name: MODEL.to_owned(),
            bos: tokenizer.token_id(special::BOS),
            tokenizer,
            renderer,
            thinking,
            stop_ids,
            vocab_limit,
            context_tokens: self.context_tokens,
            defaults: Defaults {
                temperature: 0.0,
                top_p: 1.0,
                top_k: 0,
                min_p: 0.0,
                repetition_penalty: 1.0,
                max_tokens: None,
            },
            experts: Some(experts),
        };
        let engine = Arc::new(self.engine);
        let store = Arc::new(self.store.unwrap_or_else(|| Store::in_memory().unwrap()));
        let app = App::new(served, engine.clone(), grammars, store, self.settings);
        (Arc::new(app), engine)
    }
}

/// Says what it was told to say, at once and on the asking thread, or when it is released.
///
/// Token `t` has log-probability -0.5, after it come `t + 1`, `t + 2`, … with -1.5, -2.5, …. Where the
/// constraint forbids what it was told, it stops if it may, or closes a text, an object, a list, or
/// says the smallest token that is allowed.
#[derive(Default)]
pub(crate) struct ScriptedEngine {
    answers: Mutex<VecDeque<Vec<u32>>>,
    /// What jobs were given, in order.
    pub(crate) seen: Mutex<Vec<Seen>>,
    /// Why the next job is not taken, or the one after `n_taken_first` more.
    pub(crate) refuse: Mutex<Option<Refused>>,
    /// Jobs that are taken before one is refused.
    pub(crate) n_taken_first: AtomicUsize,
    /// What goes wrong with the next job behind its first token.
    pub(crate) fail: Mutex<Option<Failed>>,
    /// How jobs end that are at the end of their script, if not by a stop token.
    pub(crate) end: Mutex<Option<Ended>>,
    /// Tokens of each prompt that count as cached.
    pub(crate) n_cached: Mutex<usize>,
    /// Tokens that end something in JSON.
    closers: Vec<u32>,
    hold: AtomicBool,
    held: Mutex<Vec<Held>>,
}

/// What a job was given.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) prompt: Vec<u32>,
    pub(crate) sampling: Sampling,
    pub(crate) sample_idx: u64,
    pub(crate) owner: u64,
    pub(crate) n_top_log_probs: Option<usize>,
    pub(crate) score_prompt: bool,
    pub(crate) constrained: bool,
    /// Set once nobody wants the answer any more.
    pub(crate) dropped: Arc<AtomicBool>,
}

struct Held {
    job: Job,
    listener: Listener,
    answer: Vec<u32>,
}

impl ScriptedEngine {
    /// Lets the jobs go on that wait.
    pub(crate) fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        held.into_iter().for_each(|held| self.run(held));
    }

    /// Drops the jobs that wait, as an engine does whose thread is gone.
    pub(crate) fn forget(&self) {
        self.held.lock().unwrap().clear();
    }

    /// What the job asked for, from 0.
    pub(crate) fn job(&self, idx: usize) -> Seen {
        self.seen.lock().unwrap()[idx].clone()
    }

    fn run(&self, held: Held) {
        let Held { mut job, mut listener, answer } = held;
        let n_cached = (*self.n_cached.lock().unwrap()).min(job.prompt.len());
        let mut wants_more = listener(Event::Began { n_cached });
        if job.score_prompt {
            let tokens = job.prompt.iter().enumerate();
            let tokens = tokens.map(|(at, id)| token(&job, *id, at > 0)).collect();
            wants_more &= listener(Event::Prompt(tokens));
        }
        let n_most = job.sampling.max_new_tokens;
        for n_said in 0..n_most {
            if !wants_more {
                listener(Event::Ended(Ended::Cancelled));
                return;
            }
            let wanted = answer.get(n_said).copied();
            if let Some(ended) = self.end.lock().unwrap().take_if(|_| wanted.is_none()) {
                listener(Event::Ended(ended));
                return;
            }
            let Some(id) = choose(&mut job, wanted, &self.closers) else {
                listener(Event::Ended(Ended::Stop));
                return;
            };
            wants_more = listener(Event::Token(token(&job, id, true)));
            if let Some(failed) = self.fail.lock().unwrap().take() {
                listener(Event::Failed(failed));
                return;
            }
            if job.sampling.stop_ids.contains(&id) {
                listener(Event::Ended(Ended::Stop));
                return;
            }
        }
        listener(Event::Ended(Ended::Length));
    }
}

impl Engine for ScriptedEngine {
    fn submit(&self, job: Job, listener: Listener) -> Result<Ticket, Refused> {
        let mut refuse = self.refuse.lock().unwrap();
        let order = Ordering::SeqCst;
        let is_later = self.n_taken_first.fetch_update(order, order, |n| n.checked_sub(1)).is_ok();
        if let Some(refused) = refuse.take_if(|_| !is_later) {
            return Err(refused);
        }
        drop(refuse);
        let (ticket, dropped) = Ticket::new();
        self.seen.lock().unwrap().push(Seen {
            prompt: job.prompt.clone(),
            sampling: job.sampling.clone(),
            sample_idx: job.sample_idx,
            owner: job.owner,
            n_top_log_probs: job.n_top_log_probs,
            score_prompt: job.score_prompt,
            constrained: job.constraint.is_some(),
            dropped,
        });
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.len() {
            0 => Vec::new(),
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        };
        drop(answers);
        let held = Held { job, listener, answer };
        match self.hold.load(Ordering::SeqCst) {
            true => self.held.lock().unwrap().push(held),
            false => self.run(held),
        }
        Ok(ticket)
    }

    fn stats(&self) -> Stats {
        Stats { n_waiting: self.held.lock().unwrap().len(), max_waiting: 64, ..Stats::default() }
    }

    fn stop(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        for mut held in held {
            (held.listener)(Event::Ended(Ended::Shutdown));
        }
    }
}

/// The token that was wanted, if it is allowed; a stop token where none was.
fn choose(job: &mut Job, wanted: Option<u32>, closers: &[u32]) -> Option<u32> {
    let stop = job.sampling.stop_ids.first().copied();
    let Some(constraint) = &mut job.constraint else { return wanted.or(stop) };
    let n_words = job.sampling.vocab_limit.div_ceil(32);
    let mut mask = vec![u32::MAX; n_words];
    constraint.allow(&mut mask).unwrap();
    let is_allowed = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
    let all = 0..n_words as u32 * 32;
    let in_order = wanted.into_iter().chain(stop).chain(closers.iter().copied()).chain(all);
    let id = in_order.into_iter().find(is_allowed)?;
    constraint.accept(id).unwrap();
    Some(id)
}

fn token(job: &Job, id: u32, scored: bool) -> Token {
    let n_top = job.n_top_log_probs.filter(|_| scored);
    let top = (0..n_top.unwrap_or(0) as u32).map(|n| (id + n, -0.5 - n as f32));
    Token {
        id,
        log_prob: n_top.map(|_| -0.5),
        top: top.collect(),
        experts: if job.trace_experts { vec![0, 1, 2, 3] } else { Vec::new() },
    }
}

/// What a server said.
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Said {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Status, `param` and `message` of a refusal in OpenAI's shape.
    pub(crate) fn error(&self) -> (u16, Option<String>, String) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        (self.status.as_u16(), text("param"), text("message").unwrap())
    }

    /// The data of events, `[DONE]` left out.
    pub(crate) fn events(&self) -> Vec<Value> {
        let data = self.text().split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let data = data.filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// Asks a server without a network.
pub(crate) async fn send(app: &Shared, request: Request<Body>) -> Response {
    router(app.clone()).oneshot(request).await.unwrap()
}

/// Asks, and waits for all of the response.
pub(crate) async fn ask(app: &Shared, request: Request<Body>) -> Said {
    let (parts, body) = send(app, request).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Said { status: parts.status, headers: parts.headers, body }
}

/// Posts JSON.
pub(crate) async fn post(app: &Shared, path: &str, body: Value) -> Said {
    post_text(app, path, &body.to_string()).await
}

/// Posts anything.
pub(crate) async fn post_text(app: &Shared, path: &str, body: &str) -> Said {
    let request = Request::post(path).header("content-type", "application/json");
    ask(app, request.body(Body::from(body.to_owned())).unwrap()).await
}

/// Gets.
pub(crate) async fn get(app: &Shared, path: &str) -> Said {
    ask(app, Request::get(path).body(Body::empty()).unwrap()).await
}

/// Runs the future of a test.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
