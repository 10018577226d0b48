//! Calls of tools in what V2.5, V3, R1 and V3.1 say, as the text arrives.
//!
//! V3 and R1 write `function<sep>NAME`, then the arguments in a json fence; V3.1 writes
//! `NAME<sep>ARGUMENTS`. Missing end markers, fences and the marker around all calls are
//! tolerated, because models forget them. Arguments are passed on as written, checked by nobody.

use super::thinking::longest_overlap;
use crate::chat::ToolCall;
use crate::special::{TOOL_CALL_BEGIN, TOOL_CALL_END, TOOL_CALLS_BEGIN, TOOL_CALLS_END, TOOL_SEP};

/// What stands in front of the name in the format of V3.
const KIND: &str = "function";
const FENCE: &str = "```";

/// A step of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// Text outside calls.
    Text(String),
    /// A call begins; `index` counts from 0.
    Begin { index: usize, name: String },
    /// More of its arguments.
    Arguments { index: usize, text: String },
    /// It is complete, or all that came of it.
    End { index: usize },
}

/// A reply on its way. The events, texts joined, do not depend on how it is cut into pieces.
///
/// Takes text in which special tokens are written out.
#[derive(Clone, Debug, Default)]
pub struct ToolCallParser {
    state: State,
    held: String,
    n_calls: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Among calls, not in one.
    Between,
    /// In front of the separator.
    Head,
    /// Behind `function<sep>`.
    Name,
    /// Behind the name, in front of the arguments.
    Opening,
    /// `has_text`: whether any of them came.
    Arguments { has_text: bool },
}

impl ToolCallParser {
    pub fn new() -> ToolCallParser {
        ToolCallParser::default()
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
        !matches!(self.state, State::Text | State::Between)
    }

    fn step(&mut self, ended: bool, events: &mut Vec<CallEvent>) -> bool {
        match self.state {
            State::Text => self.text(ended, events),
            State::Between => self.between(ended),
            State::Head => self.head(ended, events),
            State::Name => self.name(ended, events),
            State::Opening => self.opening(ended),
            State::Arguments { has_text } => self.arguments(ended, has_text, events),
        }
    }

    fn text(&mut self, ended: bool, events: &mut Vec<CallEvent>) -> bool {
        let found = first_of(&self.held, &[TOOL_CALLS_BEGIN, TOOL_CALL_BEGIN]);
        let n_text = match found {
            Some((at, _)) => at,
            None if ended => self.held.len(),
            None => {
                self.held.len()
                    - longest_overlap(&self.held, TOOL_CALLS_BEGIN)
                        .max(longest_overlap(&self.held, TOOL_CALL_BEGIN))
            }
        };
        if n_text > 0 {
            events.push(CallEvent::Text(self.held.drain(..n_text).collect()));
        }
        let Some((_, marker)) = found else { return false };
        self.held.drain(..marker.len());
        self.state = if marker == TOOL_CALL_BEGIN { State::Head } else { State::Between };
        true
    }

    fn between(&mut self, ended: bool) -> bool {
        self.held = self.held.trim_start().to_owned();
        for (marker, next) in [(TOOL_CALL_BEGIN, State::Head), (TOOL_CALLS_END, State::Text)] {
            if let Some(rest) = self.held.strip_prefix(marker) {
                self.held = rest.to_owned();
                self.state = next;
                return true;
            }
        }
        let may_come = [TOOL_CALL_BEGIN, TOOL_CALLS_END].iter().any(|m| m.starts_with(&self.held));
        if self.held.is_empty() || (may_come && !ended) {
            return false;
        }
        // Something else: the model went on without an end marker.
        self.state = State::Text;
        true
    }

    fn head(&mut self, ended: bool, events: &mut Vec<CallEvent>) -> bool {
        let found = first_of(&self.held, &[TOOL_SEP, TOOL_CALL_END, TOOL_CALLS_END]);
        let Some((at, marker)) = found else {
            if ended && !self.held.is_empty() {
                self.state = State::Text; // nothing that could be called
                return true;
            }
            return false;
        };
        let head = self.held[..at].trim().to_owned();
        let rest = self.held[at + marker.len()..].to_owned();
        match marker {
            TOOL_SEP if head == KIND => {
                // A function of that very name, in the format of V3.1, is told by its arguments.
                if rest.trim_start().is_empty() && !ended {
                    return false;
                }
                if rest.trim_start().starts_with('{') {
                    self.begin(head, events);
                } else {
                    self.state = State::Name;
                }
            }
            TOOL_SEP => self.begin(head, events),
            _ => {
                events.push(CallEvent::Text(head));
                self.state = if marker == TOOL_CALL_END { State::Between } else { State::Text };
            }
        }
        self.held = rest;
        true
    }

    fn begin(&mut self, name: String, events: &mut Vec<CallEvent>) {
        events.push(CallEvent::Begin { index: self.n_calls, name });
        self.n_calls += 1;
        self.state = State::Opening;
    }

    fn name(&mut self, ended: bool, events: &mut Vec<CallEvent>) -> bool {
        let body = self.held.trim_start();
        let end = body.find(['\n', '`', '{', '<']);
        let Some(end) = end.or(ended.then_some(body.len())) else { return false };
        let (name, rest) = (body[..end].trim().to_owned(), body[end..].to_owned());
        self.held = rest;
        self.begin(name, events);
        true
    }

    /// Leaves out a fence and its language.
    fn opening(&mut self, ended: bool) -> bool {
        let body = self.held.trim_start();
        if (body.is_empty() || FENCE.starts_with(body)) && !ended {
            return false;
        }
        let body = match body.strip_prefix(FENCE) {
            Some(fenced) => {
                let language = fenced.bytes().take_while(u8::is_ascii_alphabetic).count();
                if language == fenced.len() && !ended {
                    return false;
                }
                fenced[language..].trim_start()
            }
            None => body,
        };
        self.held = body.to_owned();
        self.state = State::Arguments { has_text: false };
        true
    }

    fn arguments(&mut self, ended: bool, has_text: bool, events: &mut Vec<CallEvent>) -> bool {
        let index = self.n_calls - 1;
        if !has_text {
            self.held = self.held.trim_start().to_owned();
        }
        let ends = [TOOL_CALL_END, TOOL_CALLS_END, TOOL_CALL_BEGIN];
        let found = first_of(&self.held, &ends);
        let n_before = match found {
            Some((at, _)) => at,
            None if ended => self.held.len(),
            None => {
                let overlaps = ends.iter().map(|marker| longest_overlap(&self.held, marker));
                self.held.len() - overlaps.max().unwrap_or(0)
            }
        };
        // A closing fence may be on its way.
        let n_text = self.held[..n_before].trim_end_matches(['`', '\n', '\r', ' ', '\t']).len();
        if n_text > 0 {
            let text = self.held[..n_text].to_owned();
            events.push(CallEvent::Arguments { index, text });
            self.state = State::Arguments { has_text: true };
        }
        if found.is_none() && !ended {
            self.held.drain(..n_text);
            return false;
        }
        self.held.drain(..n_before);
        events.push(CallEvent::End { index });
        self.state = match found {
            Some((_, marker)) => {
                self.held.drain(..marker.len());
                match marker {
                    TOOL_CALL_BEGIN => State::Head,
                    TOOL_CALLS_END => State::Text,
                    _ => State::Between,
                }
            }
            None => State::Text,
        };
        true
    }
}

/// The text outside calls, and the calls, of a whole reply. Ids are `call_0`, `call_1`, …
pub fn parse_tool_calls(reply: &str) -> (String, Vec<ToolCall>) {
    let mut parser = ToolCallParser::new();
    let mut events = parser.push(reply);
    events.extend(parser.finish());
    let (mut content, mut calls) = (String::new(), Vec::<ToolCall>::new());
    for event in events {
        match event {
            CallEvent::Text(text) => content.push_str(&text),
            CallEvent::Begin { index, name } => {
                let id = format!("call_{index}");
                calls.push(ToolCall { id, name, arguments: String::new() });
            }
            CallEvent::Arguments { index, text } => calls[index].arguments.push_str(&text),
            CallEvent::End { .. } => {}
        }
    }
    (content, calls)
}

/// The earliest of `markers` in `text`, and where it begins.
fn first_of(text: &str, markers: &[&'static str]) -> Option<(usize, &'static str)> {
    markers.iter().filter_map(|marker| Some((text.find(marker)?, *marker))).min()
}
