//! `POST /chat/completions`: the answer, whole or in chunks.

use super::chat_request::ChatRequest;
use super::warnings::Warnings;
use super::{FINGERPRINT, scores};
use crate::answer::{Answers, FinishReason, Piece, Scored, Usage};
use crate::ask::PromptAsk;
use crate::refusal::Refusal;
use crate::sse::{self, Narrator};
use crate::unique;
use serde_json::{Map, Value, json};

/// What is the same in all parts of an answer.
struct Head {
    id: String,
    created: u64,
    model: String,
    logprobs: bool,
    explain: bool,
    /// Tokens that end an answer, whose scores only the explain view shows.
    stop_ids: Vec<u32>,
    /// Whether a reasoning is told of even if it is empty.
    may_think: bool,
    warnings: Warnings,
}

impl Head {
    fn new(request: &ChatRequest, answers: &Answers) -> Head {
        Head {
            id: unique::name("chatcmpl-"),
            created: unique::now_unix(),
            model: request.model.clone(),
            logprobs: request.logprobs,
            explain: request.ask.explain,
            stop_ids: answers.stop_ids.clone(),
            may_think: answers.may_think,
            warnings: request.warnings.clone(),
        }
    }

    fn entries(&self, tokens: &[Scored]) -> Vec<Value> {
        let is_text = |token: &&Scored| self.stop_ids.binary_search(&token.id).is_err();
        tokens.iter().filter(is_text).map(scores::chat_entry).collect()
    }

    fn object(&self, kind: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }
}

/// An answer that is told once it is complete.
pub(crate) struct Whole {
    head: Head,
    choices: Vec<Choice>,
    usage: Usage,
}

#[derive(Default)]
struct Choice {
    reasoning: String,
    content: String,
    calls: Vec<(String, String, String)>,
    reasoning_scores: Vec<Value>,
    content_scores: Vec<Value>,
    explain: Vec<Value>,
    finish: Option<FinishReason>,
}

impl Whole {
    pub(crate) fn new(request: &ChatRequest, answers: &Answers) -> Whole {
        let choices = answers.streams.iter().map(|_| Choice::default()).collect();
        Whole { head: Head::new(request, answers), choices, usage: Usage::default() }
    }
}

impl sse::Collector for Whole {
    fn piece(&mut self, index: usize, piece: Piece) -> Result<(), Refusal> {
        let (head, choice) = (&self.head, &mut self.choices[index]);
        match piece {
            Piece::Began { .. } | Piece::Prompt(_) => {}
            Piece::Reasoning { text, tokens } => {
                choice.reasoning.push_str(&text);
                choice.reasoning_scores.extend(head.entries(&tokens));
                choice.explain.extend(tokens.iter().map(scores::explain_entry));
            }
            Piece::Content { text, tokens } => {
                choice.content.push_str(&text);
                choice.content_scores.extend(head.entries(&tokens));
                choice.explain.extend(tokens.iter().map(scores::explain_entry));
            }
            Piece::CallBegin { id, name, .. } => choice.calls.push((id, name, String::new())),
            Piece::CallArguments { index, text } => {
                if let Some((_, _, arguments)) = choice.calls.get_mut(index) {
                    arguments.push_str(&text);
                }
            }
            Piece::Done { finish, usage, .. } => {
                choice.finish = Some(finish);
                self.usage = self.usage.plus(usage);
            }
            Piece::Failed(refusal) => return Err(refusal),
        }
        Ok(())
    }

    fn body(self) -> Value {
        let choices = self.choices.into_iter().enumerate();
        let choices = choices.map(|(index, choice)| choice.value(index, &self.head)).collect();
        let mut body = self.head.object("chat.completion", choices);
        body["usage"] = super::usage(&self.usage);
        if !self.head.warnings.is_empty() {
            body["warnings"] = json!(self.head.warnings.0);
        }
        body
    }
}

impl Choice {
    fn value(self, index: usize, head: &Head) -> Value {
        let mut message = Map::new();
        message.insert("role".into(), json!("assistant"));
        let is_empty = self.content.trim().is_empty() && !self.calls.is_empty();
        message.insert("content".into(), if is_empty { Value::Null } else { json!(self.content) });
        if head.may_think || !self.reasoning.is_empty() {
            message.insert("reasoning_content".into(), json!(self.reasoning));
        }
        if !self.calls.is_empty() {
            let call = |(id, name, arguments)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
            let calls: Vec<Value> = self.calls.into_iter().map(call).collect();
            message.insert("tool_calls".into(), Value::Array(calls));
        }
        let mut logprobs = Value::Null;
        if head.logprobs {
            logprobs = json!({"content": self.content_scores});
            if head.may_think {
                logprobs["reasoning_content"] = Value::Array(self.reasoning_scores);
            }
        }
        let mut choice = json!({
            "index": index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self.finish.map(FinishReason::word),
        });
        if head.explain {
            choice["explain"] = Value::Array(self.explain);
        }
        choice
    }
}

/// An answer that is told while it comes.
pub(crate) struct Chunks {
    head: Head,
    include_usage: bool,
    usage: Usage,
    /// White space with which each answer began so far, where a call may follow: before a call it is
    /// no content. None once there is content or a call.
    spaces: Vec<Option<String>>,
}

impl Chunks {
    pub(crate) fn new(request: &ChatRequest, answers: &Answers) -> Chunks {
        let head = Head::new(request, answers);
        let may_call = matches!(&request.ask.prompt, PromptAsk::Chat(chat) if !chat.conversation.tools.is_empty());
        let spaces = vec![may_call.then(String::new); answers.streams.len()];
        Chunks { head, include_usage: request.include_usage, usage: Usage::default(), spaces }
    }

    fn chunk(&mut self, choices: Vec<Value>, usage: Value, out: &mut String) {
        let mut chunk = self.head.object("chat.completion.chunk", choices);
        if self.include_usage {
            chunk["usage"] = usage;
        }
        // The first chunk carries them, whichever it is.
        let warnings = std::mem::take(&mut self.head.warnings);
        if !warnings.is_empty() {
            chunk["warnings"] = json!(warnings.0);
        }
        sse::data(&chunk, out);
    }

    fn delta(&mut self, index: usize, delta: Value, out: &mut String) {
        let choice =
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        self.chunk(vec![choice], Value::Null, out);
    }

    /// Content, whose beginning waits until it is more than white space.
    fn content(&mut self, index: usize, said: (String, Vec<Scored>), out: &mut String) {
        let (mut text, tokens) = said;
        if let Some(mut space) = self.spaces[index].take() {
            space.push_str(&text);
            let is_empty = space.trim().is_empty();
            (self.spaces[index], text) =
                if is_empty { (Some(space), String::new()) } else { (None, space) };
        }
        self.text(index, "content", (text, tokens), out);
    }

    /// A chunk with text, which may have scores.
    fn text(&mut self, index: usize, key: &str, said: (String, Vec<Scored>), out: &mut String) {
        let (text, tokens) = said;
        let mut delta = Map::new();
        if !text.is_empty() {
            delta.insert(key.into(), json!(text));
        }
        let mut choice =
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": null});
        let entries = self.head.entries(&tokens);
        if self.head.logprobs && !entries.is_empty() {
            choice["logprobs"] = json!({key: entries});
        } else if text.is_empty() && !self.head.explain {
            return;
        }
        if self.head.explain {
            choice["explain"] = tokens.iter().map(scores::explain_entry).collect();
        }
        self.chunk(vec![choice], Value::Null, out);
    }
}

impl Narrator for Chunks {
    fn piece(&mut self, index: usize, piece: Piece, out: &mut String) -> bool {
        match piece {
            Piece::Began { .. } => {
                self.delta(index, json!({"role": "assistant", "content": ""}), out);
            }
            Piece::Prompt(_) => {}
            Piece::Reasoning { text, tokens } => {
                self.text(index, "reasoning_content", (text, tokens), out);
            }
            Piece::Content { text, tokens } => self.content(index, (text, tokens), out),
            Piece::CallBegin { index: at, id, name } => {
                self.spaces[index] = None;
                let function = json!({"name": name, "arguments": ""});
                let call = json!({"index": at, "id": id, "type": "function", "function": function});
                self.delta(index, json!({"tool_calls": [call]}), out);
            }
            Piece::CallArguments { index: at, text } => {
                let call = json!({"index": at, "function": {"arguments": text}});
                self.delta(index, json!({"tool_calls": [call]}), out);
            }
            Piece::Done { finish, usage, .. } => {
                if let Some(space) = self.spaces[index].take().filter(|space| !space.is_empty()) {
                    self.text(index, "content", (space, Vec::new()), out);
                }
                self.usage = self.usage.plus(usage);
                let choice = json!({
                    "index": index,
                    "delta": {},
                    "logprobs": null,
                    "finish_reason": finish.word(),
                });
                self.chunk(vec![choice], Value::Null, out);
            }
            Piece::Failed(refusal) => {
                sse::data(&refusal.body(), out);
                return false;
            }
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
