//! The answer as a message of blocks, whole or as events.

use super::request::MessagesRequest;
use super::shape;
use crate::answer::{Answers, FinishReason, Piece, Usage};
use crate::refusal::Refusal;
use crate::sse::{Collector, Narrator};
use crate::unique;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What a block is.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Thinking,
    Text,
    ToolUse { id: String, name: String },
}

/// A step of the message.
#[derive(Debug, PartialEq)]
enum Step {
    Begin(Kind),
    /// More of its text, or of the JSON of its input.
    More(String),
    End,
}

/// Divides pieces into blocks, one after the other.
#[derive(Default)]
struct Divider {
    open: Option<Kind>,
    /// White space that counts only if text follows: clients refuse blocks that hold nothing else.
    space: String,
}

impl Divider {
    fn piece(&mut self, piece: Piece) -> Vec<Step> {
        let mut steps = Vec::new();
        match piece {
            Piece::Reasoning { text, .. } => self.text(Kind::Thinking, &text, &mut steps),
            Piece::Content { text, .. } => self.text(Kind::Text, &text, &mut steps),
            Piece::CallBegin { id, name, .. } => {
                let id = format!("toolu_{}", id.strip_prefix("call_").unwrap_or(&id));
                self.begin(Kind::ToolUse { id, name }, &mut steps);
            }
            Piece::CallArguments { text, .. } if !text.is_empty() => steps.push(Step::More(text)),
            Piece::Done { .. } => self.end(&mut steps),
            _ => {}
        }
        steps
    }

    fn text(&mut self, kind: Kind, text: &str, steps: &mut Vec<Step>) {
        if self.open.as_ref() != Some(&kind) {
            self.space.push_str(text);
            if self.space.trim().is_empty() {
                return;
            }
            let text = std::mem::take(&mut self.space);
            self.begin(kind, steps);
            steps.push(Step::More(text));
        } else if !text.is_empty() {
            steps.push(Step::More(text.to_owned()));
        }
    }

    fn begin(&mut self, kind: Kind, steps: &mut Vec<Step>) {
        self.end(steps);
        self.open = Some(kind.clone());
        steps.push(Step::Begin(kind));
    }

    fn end(&mut self, steps: &mut Vec<Step>) {
        self.space.clear();
        if self.open.take().is_some() {
            steps.push(Step::End);
        }
    }
}

/// What is the same in all parts of an answer.
struct Head {
    id: String,
    model: String,
}

impl Head {
    fn new(request: &MessagesRequest) -> Head {
        Head { id: unique::name("msg_"), model: request.model.clone() }
    }

    fn message(&self, content: Vec<Value>, stop: (Value, Value), usage: Value) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop.0,
            "stop_sequence": stop.1,
            "usage": usage,
        })
    }
}

/// A block that is complete.
struct Block {
    kind: Kind,
    text: String,
}

impl Block {
    fn value(&self) -> Value {
        match &self.kind {
            Kind::Thinking => json!({
                "type": "thinking", "thinking": self.text, "signature": signature(&self.text),
            }),
            Kind::Text => json!({"type": "text", "text": self.text}),
            Kind::ToolUse { id, name } => {
                // An input that was cut off is no JSON; the interface has no place for pieces.
                let input: Value = serde_json::from_str(&self.text).unwrap_or_else(|_| json!({}));
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
        }
    }
}

/// An answer that is told once it is complete.
pub(super) struct Whole {
    head: Head,
    divider: Divider,
    blocks: Vec<Block>,
    stop: (Value, Value),
    usage: Usage,
}

impl Whole {
    pub(super) fn new(request: &MessagesRequest) -> Whole {
        Whole {
            head: Head::new(request),
            divider: Divider::default(),
            blocks: Vec::new(),
            stop: (Value::Null, Value::Null),
            usage: Usage::default(),
        }
    }
}

impl Collector for Whole {
    fn piece(&mut self, _: usize, piece: Piece) -> Result<(), Refusal> {
        if let Piece::Failed(refusal) = piece {
            return Err(refusal);
        }
        if let Piece::Done { finish, stop, usage } = &piece {
            self.stop = stopped(*finish, stop.as_deref());
            self.usage = *usage;
        }
        for step in self.divider.piece(piece) {
            match step {
                Step::Begin(kind) => self.blocks.push(Block { kind, text: String::new() }),
                Step::More(text) => {
                    if let Some(block) = self.blocks.last_mut() {
                        block.text.push_str(&text);
                    }
                }
                Step::End => {}
            }
        }
        Ok(())
    }

    fn body(self) -> Value {
        let content = self.blocks.iter().map(Block::value).collect();
        self.head.message(content, self.stop, usage_value(&self.usage))
    }

    fn refused(refusal: &Refusal) -> Value {
        shape::body(refusal)
    }
}

/// An answer that is told while it comes.
pub(super) struct Events {
    head: Head,
    divider: Divider,
    prompt_tokens: usize,
    n_begun: usize,
    kind: Option<Kind>,
    thought: Sha256,
    has_begun: bool,
}

impl Events {
    pub(super) fn new(request: &MessagesRequest, answers: &Answers) -> Events {
        Events {
            head: Head::new(request),
            divider: Divider::default(),
            prompt_tokens: answers.prompt_tokens,
            n_begun: 0,
            kind: None,
            thought: Sha256::new(),
            has_begun: false,
        }
    }

    /// Every stream begins with this, whatever comes first.
    fn begin(&mut self, n_cached: usize, out: &mut String) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let prompt_cache_hit_tokens = n_cached.min(self.prompt_tokens);
            let usage = Usage {
                prompt_tokens: self.prompt_tokens,
                prompt_cache_hit_tokens,
                ..Usage::default()
            };
            let none = (Value::Null, Value::Null);
            let message = self.head.message(Vec::new(), none, usage_value(&usage));
            event("message_start", json!({"message": message}), out);
        }
    }

    fn step(&mut self, step: Step, out: &mut String) {
        let index = self.n_begun.saturating_sub(1);
        let delta = |delta: Value, out: &mut String| {
            event("content_block_delta", json!({"index": index, "delta": delta}), out);
        };
        match (step, &self.kind) {
            (Step::Begin(kind), _) => {
                let block = match &kind {
                    Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
                    Kind::Text => json!({"type": "text", "text": ""}),
                    Kind::ToolUse { id, name } => {
                        json!({"type": "tool_use", "id": id, "name": name, "input": {}})
                    }
                };
                let fields = json!({"index": self.n_begun, "content_block": block});
                event("content_block_start", fields, out);
                self.n_begun += 1;
                self.kind = Some(kind);
            }
            (Step::More(text), Some(Kind::Thinking)) => {
                self.thought.update(&text);
                delta(json!({"type": "thinking_delta", "thinking": text}), out);
            }
            (Step::More(text), Some(Kind::ToolUse { .. })) => {
                delta(json!({"type": "input_json_delta", "partial_json": text}), out);
            }
            (Step::More(text), _) => delta(json!({"type": "text_delta", "text": text}), out),
            (Step::End, kind) => {
                if *kind == Some(Kind::Thinking) {
                    let signature = hex(&self.thought.finalize_reset());
                    delta(json!({"type": "signature_delta", "signature": signature}), out);
                }
                event("content_block_stop", json!({"index": index}), out);
                self.kind = None;
            }
        }
    }
}

impl Narrator for Events {
    fn piece(&mut self, _: usize, piece: Piece, out: &mut String) -> bool {
        let n_cached = if let Piece::Began { n_cached } = piece { n_cached } else { 0 };
        if let Piece::Failed(refusal) = &piece {
            event("error", shape::body(refusal), out);
            return false;
        }
        self.begin(n_cached, out);
        let end = match &piece {
            Piece::Done { finish, stop, usage } => {
                Some((stopped(*finish, stop.as_deref()), usage_value(usage)))
            }
            _ => None,
        };
        for step in self.divider.piece(piece) {
            self.step(step, out);
        }
        if let Some(((reason, sequence), usage)) = end {
            let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
            event("message_delta", json!({"delta": delta, "usage": usage}), out);
        }
        true
    }

    fn end(&mut self, out: &mut String) {
        event("message_stop", json!({}), out);
    }

    fn waiting(&mut self, out: &mut String) {
        self.begin(0, out);
        event("ping", json!({}), out);
    }
}

/// Writes an event of this name; its data carry the name too.
fn event(name: &str, mut data: Value, out: &mut String) {
    let mut fields = serde_json::Map::new();
    fields.insert("type".to_owned(), Value::from(name));
    if let Some(more) = data.as_object_mut() {
        fields.append(more);
    }
    out.push_str(&format!("event: {name}\ndata: {}\n\n", Value::Object(fields)));
}

/// Why the answer ended, and at which stop sequence.
fn stopped(finish: FinishReason, stop: Option<&str>) -> (Value, Value) {
    let reason = match (finish, stop) {
        (_, Some(_)) => "stop_sequence",
        (FinishReason::Stop, None) => "end_turn",
        (FinishReason::ToolCalls, None) => "tool_use",
        // The interface has no word for time that is over; the answer is cut off either way.
        (FinishReason::Length | FinishReason::InsufficientResource, None) => "max_tokens",
    };
    (Value::from(reason), stop.map_or(Value::Null, Value::from))
}

/// Tokens that were cached are not among `input_tokens`.
fn usage_value(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_cache_miss_tokens(),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.prompt_cache_hit_tokens,
        "output_tokens": usage.completion_tokens,
    })
}

/// A checksum where Anthropic has a signature. Clients send it back; nothing is proven by it.
fn signature(thinking: &str) -> String {
    hex(&Sha256::digest(thinking))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
