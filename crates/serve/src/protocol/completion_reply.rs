//! `POST /completions`: the answers, whole or in chunks.

use super::completion_request::CompletionRequest;
use super::warnings::Warnings;
use super::{FINGERPRINT, scores};
use crate::answer::{FinishReason, Piece, Scored, Usage};
use crate::refusal::Refusal;
use crate::sse::{self, Narrator};
use crate::unique;
use serde_json::{Value, json};

/// What is the same in all parts of an answer.
struct Head {
    id: String,
    created: u64,
    model: String,
    logprobs: bool,
    warnings: Warnings,
    /// What stands in front of each answer; one for each.
    echoes: Vec<String>,
}

impl Head {
    fn new(request: &CompletionRequest) -> Head {
        let each = request.asks.iter().zip(&request.echoes);
        let echoes = each.flat_map(|(ask, echo)| std::iter::repeat_n(echo.clone(), ask.n));
        Head {
            id: unique::name("cmpl-"),
            created: unique::now_unix(),
            model: request.model.clone(),
            logprobs: request.logprobs,
            warnings: request.warnings.clone(),
            echoes: echoes.collect(),
        }
    }

    fn object(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }
}

/// Answers that are told once they are complete.
pub(crate) struct Whole {
    head: Head,
    choices: Vec<(String, Vec<Scored>, Option<FinishReason>)>,
    usage: Usage,
}

impl Whole {
    pub(crate) fn new(request: &CompletionRequest) -> Whole {
        let head = Head::new(request);
        let choices = head.echoes.iter().map(|echo| (echo.clone(), Vec::new(), None)).collect();
        Whole { head, choices, usage: Usage::default() }
    }
}

impl sse::Collector for Whole {
    fn piece(&mut self, index: usize, piece: Piece) -> Result<(), Refusal> {
        let (text, tokens, end) = &mut self.choices[index];
        match piece {
            Piece::Prompt(more) => tokens.extend(more),
            Piece::Content { text: more, tokens: scored }
            | Piece::Reasoning { text: more, tokens: scored } => {
                text.push_str(&more);
                tokens.extend(scored);
            }
            Piece::Done { finish, usage, .. } => {
                *end = Some(finish);
                self.usage = self.usage.plus(usage);
            }
            Piece::Failed(refusal) => return Err(refusal),
            Piece::Began { .. } | Piece::CallBegin { .. } | Piece::CallArguments { .. } => {}
        }
        Ok(())
    }

    fn body(self) -> Value {
        let choice = |(index, (text, tokens, finish)): (
            usize,
            (String, Vec<Scored>, Option<FinishReason>),
        )| {
            let logprobs = match self.head.logprobs {
                true => scores::completion(&tokens, &mut 0),
                false => Value::Null,
            };
            json!({
                "index": index,
                "text": text,
                "logprobs": logprobs,
                "finish_reason": finish.map(FinishReason::word),
            })
        };
        let choices = self.choices.into_iter().enumerate().map(choice).collect();
        let mut body = self.head.object(choices);
        body["usage"] = super::usage(&self.usage);
        if !self.head.warnings.is_empty() {
            body["warnings"] = json!(self.head.warnings.0);
        }
        body
    }
}

/// Answers that are told while they come.
pub(crate) struct Chunks {
    head: Head,
    include_usage: bool,
    usage: Usage,
    /// Characters of each answer's tokens so far.
    offsets: Vec<usize>,
}

impl Chunks {
    pub(crate) fn new(request: &CompletionRequest) -> Chunks {
        let head = Head::new(request);
        let offsets = vec![0; head.echoes.len()];
        Chunks { head, include_usage: request.include_usage, usage: Usage::default(), offsets }
    }

    fn chunk(&mut self, choices: Vec<Value>, usage: Value, out: &mut String) {
        let mut chunk = self.head.object(choices);
        if self.include_usage {
            chunk["usage"] = usage;
        }
        let warnings = std::mem::take(&mut self.head.warnings);
        if !warnings.is_empty() {
            chunk["warnings"] = json!(warnings.0);
        }
        sse::data(&chunk, out);
    }

    fn text(
        &mut self,
        index: usize,
        said: (String, Vec<Scored>),
        finish: Option<FinishReason>,
        out: &mut String,
    ) {
        let (text, tokens) = said;
        let logprobs = match self.head.logprobs && !tokens.is_empty() {
            true => scores::completion(&tokens, &mut self.offsets[index]),
            false => Value::Null,
        };
        let choice = json!({
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish.map(FinishReason::word),
        });
        self.chunk(vec![choice], Value::Null, out);
    }
}

impl Narrator for Chunks {
    fn piece(&mut self, index: usize, piece: Piece, out: &mut String) -> bool {
        match piece {
            // The echo waits for the scores of its tokens, if there are to be any.
            Piece::Prompt(tokens) => {
                let echo = std::mem::take(&mut self.head.echoes[index]);
                self.text(index, (echo, tokens), None, out);
            }
            Piece::Content { text, tokens } | Piece::Reasoning { text, tokens } => {
                let text = std::mem::take(&mut self.head.echoes[index]) + &text;
                self.text(index, (text, tokens), None, out);
            }
            Piece::Done { finish, usage, .. } => {
                self.usage = self.usage.plus(usage);
                let echo = std::mem::take(&mut self.head.echoes[index]);
                self.text(index, (echo, Vec::new()), Some(finish), out);
            }
            Piece::Failed(refusal) => {
                sse::data(&refusal.body(), out);
                return false;
            }
            Piece::Began { .. } | Piece::CallBegin { .. } | Piece::CallArguments { .. } => {}
        }
        true
    }

    fn end(&mut self, out: &mut String) {
        if self.include_usage {
            let usage = super::usage(&self.usage);
            self.chunk(Vec::new(), usage, out);
        }
        out.push_str("data: [DONE]\n\n");
    }
}
