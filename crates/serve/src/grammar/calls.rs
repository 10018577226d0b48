//! Calls of tools in what models without DeepSeek's tool tokens say, as the text arrives.
//!
//! A call is `<tool_call>{"name": NAME, "arguments": {…}}</tool_call>`. Arguments are passed on as
//! written. What does not begin like a call is given back as text.

use super::style::{JSON_CALL_BEGIN, JSON_CALL_END};
use fathom_text::reply::CallEvent;
use serde_json::Value;

/// Names under which models give the arguments.
const ARGUMENTS: [&str; 2] = ["arguments", "parameters"];

/// A reply on its way. The events, texts joined, do not depend on how it is cut into pieces.
#[derive(Clone, Debug, Default)]
pub struct JsonCalls {
    state: State,
    held: String,
    n_calls: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// `after_call`: line breaks that only part two calls are left out.
    #[default]
    Text,
    AfterCall,
    /// Behind the marker, in front of the arguments.
    Head,
    /// Inside the arguments.
    Arguments(Nesting),
    /// Behind the arguments, in front of the end marker.
    Tail,
}

/// Where in a JSON value the text is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Nesting {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonCalls {
    /// At the beginning of an answer.
    pub fn new() -> JsonCalls {
        JsonCalls::default()
    }

    /// Takes in text; returns what is certain now.
    pub fn push(&mut self, text: &str) -> Vec<CallEvent> {
        self.held.push_str(text);
        let mut events = Vec::new();
        while self.step(false, &mut events) {}
        events
    }

    /// What is left at the end; a call that was cut off ends here.
    pub fn finish(mut self) -> Vec<CallEvent> {
        let mut events = Vec::new();
        while self.step(true, &mut events) {}
        events
    }

    /// Whether a call has begun and not ended.
    pub fn is_in_call(&self) -> bool {
        !matches!(self.state, State::Text | State::AfterCall)
    }

    fn step(&mut self, ended: bool, events: &mut Vec<CallEvent>) -> bool {
        match self.state.clone() {
            State::Text => self.text(ended, events),
            State::AfterCall => self.after_call(ended),
            State::Head => self.head(ended, events),
            State::Arguments(nesting) => self.arguments(nesting, ended, events),
            State::Tail => self.tail(ended),
        }
    }

    fn text(&mut self, ended: bool, events: &mut Vec<CallEvent>) -> bool {
        let found = self.held.find(JSON_CALL_BEGIN);
        let n_text = match found {
            Some(at) => at,
            None if ended => self.held.len(),
            None => self.held.len() - overlap(&self.held, JSON_CALL_BEGIN),
        };
        if n_text > 0 {
            events.push(CallEvent::Text(self.held.drain(..n_text).collect()));
        }
        if found.is_some() {
            self.held.drain(..JSON_CALL_BEGIN.len());
            self.state = State::Head;
        }
        found.is_some()
    }

    /// White space between two calls is nobody's text.
    fn after_call(&mut self, ended: bool) -> bool {
        let body = self.held.trim_start();
        if body.is_empty() || (JSON_CALL_BEGIN.starts_with(body) && body != JSON_CALL_BEGIN) {
            if ended {
                self.held = body.to_owned();
                self.state = State::Text;
            }
            return ended && !self.held.is_empty();
        }
        if body.starts_with(JSON_CALL_BEGIN) {
            self.held = body.to_owned();
        }
        self.state = State::Text;
        true
    }

    /// Reads members until the arguments begin. The name stands in front of them.
    fn head(&mut self, ended: bool, events: &mut Vec<CallEvent>) -> bool {
        match read_head(&self.held) {
            Head::Begins { name, at } => {
                self.held.drain(..at);
                events.push(CallEvent::Begin { index: self.n_calls, name });
                self.n_calls += 1;
                self.state = State::Arguments(Nesting::default());
                true
            }
            // A whole call in another order of members, which a model writes only unconstrained.
            Head::Whole { name, arguments, at } => {
                self.held.drain(..at);
                let index = self.n_calls;
                self.n_calls += 1;
                events.push(CallEvent::Begin { index, name });
                events.push(CallEvent::Arguments { index, text: arguments });
                events.push(CallEvent::End { index });
                self.state = State::Tail;
                true
            }
            Head::Unfinished if !ended => false,
            Head::Unfinished | Head::Wrong => {
                self.held.insert_str(0, JSON_CALL_BEGIN);
                // The marker itself is given, so that the search does not find it again.
                let n = if ended { self.held.len() } else { JSON_CALL_BEGIN.len() };
                events.push(CallEvent::Text(self.held.drain(..n).collect()));
                self.state = State::Text;
                true
            }
        }
    }

    fn arguments(
        &mut self,
        mut nesting: Nesting,
        ended: bool,
        events: &mut Vec<CallEvent>,
    ) -> bool {
        let index = self.n_calls - 1;
        let end = nesting.end_in(&self.held);
        let n_text = end.unwrap_or(self.held.len());
        if n_text > 0 {
            let text = self.held.drain(..n_text).collect();
            events.push(CallEvent::Arguments { index, text });
        }
        if end.is_none() && !ended {
            self.state = State::Arguments(nesting);
            return false;
        }
        events.push(CallEvent::End { index });
        self.state = State::Tail;
        true
    }

    /// Leaves out the rest of the call with its end marker.
    fn tail(&mut self, ended: bool) -> bool {
        let body = self.held.trim_start_matches(|c: char| c.is_whitespace() || c == '}');
        if let Some(rest) = body.strip_prefix(JSON_CALL_END) {
            self.held = rest.to_owned();
            self.state = State::AfterCall;
            return true;
        }
        if JSON_CALL_END.starts_with(body) && !ended {
            return false;
        }
        self.held =
            if ended && JSON_CALL_END.starts_with(body) { String::new() } else { body.to_owned() };
        self.state = State::AfterCall;
        true
    }
}

impl Nesting {
    /// Reads on; where the value that `text` is in ends, if it does.
    fn end_in(&mut self, text: &str) -> Option<usize> {
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

enum Head {
    /// More must come before anything can be said.
    Unfinished,
    /// The arguments begin at `at`.
    Begins { name: String, at: usize },
    /// All of it, which ends at `at`.
    Whole { name: String, arguments: String, at: usize },
    /// No call.
    Wrong,
}

/// Reads `{"name": NAME, "arguments": `, or a whole object with these members in any order.
fn read_head(text: &str) -> Head {
    let body = text.trim_start();
    if body.is_empty() {
        return Head::Unfinished;
    }
    if !body.starts_with('{') {
        return Head::Wrong;
    }
    if let Some((name, at)) = usual_head(body) {
        return Head::Begins { name, at: text.len() - body.len() + at };
    }
    let Some(end) = Nesting::default().end_in(body) else {
        return Head::Unfinished;
    };
    let Ok(call) = serde_json::from_str::<Value>(&body[..end]) else { return Head::Wrong };
    let Some(name) = call.get("name").and_then(Value::as_str) else { return Head::Wrong };
    let arguments = ARGUMENTS.iter().find_map(|key| call.get(key));
    let arguments = match arguments {
        // Some models write the arguments as a text of JSON.
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "{}".to_owned(),
    };
    Head::Whole { name: name.to_owned(), arguments, at: text.len() - body.len() + end }
}

/// The name, and where the arguments begin, if they are an object and stand second.
fn usual_head(body: &str) -> Option<(String, usize)> {
    let mut rest = body.strip_prefix('{')?;
    let key = |rest: &mut &str| -> Option<String> {
        let (text, after) = string(rest.trim_start())?;
        *rest = after.trim_start().strip_prefix(':')?.trim_start();
        Some(text)
    };
    if key(&mut rest)? != "name" {
        return None;
    }
    let (name, after) = string(rest)?;
    rest = after.trim_start().strip_prefix(',')?;
    if !ARGUMENTS.contains(&key(&mut rest)?.as_str()) {
        return None;
    }
    rest.starts_with('{').then(|| (name, body.len() - rest.len()))
}

/// The JSON string that `text` begins with, and what follows.
fn string(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let value = serde_json::from_str(&text[..end + 2]).ok()?;
    Some((value, &inside[end + 1..]))
}

/// Bytes at the end of `text` that `marker` begins with.
fn overlap(text: &str, marker: &str) -> usize {
    (1..marker.len()).rev().find(|n| text.ends_with(&marker[..*n])).unwrap_or(0)
}
