//! Divides streamed text into reasoning and answer at `<think>` and `</think>`.
//!
//! Works on text, so a marker may arrive in pieces. The line breaks around the markers belong to
//! neither part.

use crate::special::{END_THINK, THINK};

/// A part of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Reasoning,
    Answer,
}

/// A reply on its way. What it returns, joined by part, does not depend on how text arrives.
#[derive(Clone, Debug)]
pub struct ThinkingSplitter {
    state: State,
    /// Text that may turn out to be a marker, or line breaks that count only if text follows.
    held: String,
    /// Whether the present part has text, so that line breaks count.
    has_text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far: `<think>` may come.
    Start,
    Reasoning,
    Answer,
}

impl ThinkingSplitter {
    /// A reply to a prompt that opened the thinking, or did not.
    pub fn new(opened: bool) -> ThinkingSplitter {
        let state = if opened { State::Reasoning } else { State::Start };
        ThinkingSplitter { state, held: String::new(), has_text: false }
    }

    /// Takes in text; returns what is certain now, at most one piece per part.
    pub fn push(&mut self, text: &str) -> Vec<(Part, String)> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.step(false, &mut pieces) {}
        pieces
    }

    /// What is left at the end. An unfinished marker is text; line breaks at the end are dropped.
    pub fn finish(mut self) -> Vec<(Part, String)> {
        let mut pieces = Vec::new();
        while self.step(true, &mut pieces) {}
        pieces
    }

    /// Whether the reply is inside its reasoning.
    pub fn is_thinking(&self) -> bool {
        self.state == State::Reasoning
    }

    /// Goes on as far as the held text allows; whether to be called again.
    fn step(&mut self, ended: bool, pieces: &mut Vec<(Part, String)>) -> bool {
        match self.state {
            State::Start => {
                let body = self.held.trim_start();
                if let Some(rest) = body.strip_prefix(THINK) {
                    self.held = rest.to_owned();
                    self.state = State::Reasoning;
                    return true;
                }
                // A model may close what it never opened, as R1 does in prompts of its first release.
                if THINK.starts_with(body) && !ended {
                    return false;
                }
                self.state = State::Answer;
                true
            }
            State::Reasoning => {
                if let Some((reasoning, rest)) = self.held.split_once(END_THINK) {
                    let (reasoning, rest) = (reasoning.to_owned(), rest.to_owned());
                    self.give(Part::Reasoning, reasoning.trim_end_matches(['\n', '\r']), pieces);
                    self.held = rest;
                    self.state = State::Answer;
                    self.has_text = false;
                    return true;
                }
                self.give_certain(Part::Reasoning, Some(END_THINK).filter(|_| !ended), pieces)
            }
            State::Answer => self.give_certain(Part::Answer, None, pieces),
        }
    }

    /// Gives all but what may be the beginning of `marker`, and line breaks at the end.
    fn give_certain(
        &mut self,
        part: Part,
        marker: Option<&str>,
        pieces: &mut Vec<(Part, String)>,
    ) -> bool {
        let n_marker = marker.map_or(0, |marker| longest_overlap(&self.held, marker));
        let certain = &self.held[..self.held.len() - n_marker];
        let n_text = certain.trim_end_matches(['\n', '\r']).len();
        let text = self.held[..n_text].to_owned();
        self.held.drain(..n_text);
        self.give(part, &text, pieces);
        false
    }

    fn give(&mut self, part: Part, text: &str, pieces: &mut Vec<(Part, String)>) {
        let text = if self.has_text { text } else { text.trim_start_matches(['\n', '\r']) };
        if !text.is_empty() {
            self.has_text = true;
            pieces.push((part, text.to_owned()));
        }
    }
}

/// Bytes at the end of `text` that `marker` begins with.
pub(super) fn longest_overlap(text: &str, marker: &str) -> usize {
    let lengths = (1..marker.len()).rev().filter(|n| marker.is_char_boundary(*n));
    lengths.into_iter().find(|n| text.ends_with(&marker[..*n])).unwrap_or(0)
}
