//! Text of one answer taken apart as it comes: thinking, content, calls, and where to stop.
//!
//! Order of the steps: bytes become whole characters, these are divided at `</think>`, what is no
//! thinking is searched for calls of tools, and what is no call for stop strings. So neither a
//! thought nor an argument of a call can end an answer. Texts of one kind, joined, do not depend on
//! how tokens are cut.

use super::calls::Calls;
use super::{Piece, Scored};
use crate::unique;
use fathom_text::StopStrings;
use fathom_text::reply::{CallEvent, Part, ThinkingSplitter};
use fathom_text::stream_decoder::Characters;

/// One answer on its way from bytes to pieces.
pub(super) struct Reply {
    characters: Characters,
    /// None for an answer that has no thinking, whose text is then left as it is.
    thinking: Option<ThinkingSplitter>,
    calls: Calls,
    stops: StopStrings,
    /// The stop string that was found, by its place in the list.
    stop: Option<usize>,
    n_calls: usize,
    /// Scored tokens whose text has not come out yet.
    pending: Vec<Scored>,
}

impl Reply {
    pub(super) fn new(
        thinking: Option<ThinkingSplitter>,
        calls: Calls,
        stops: StopStrings,
    ) -> Reply {
        Reply {
            characters: Characters::default(),
            thinking,
            calls,
            stops,
            stop: None,
            n_calls: 0,
            pending: Vec::new(),
        }
    }

    /// Takes in a token: its bytes, and its score if it is wanted.
    pub(super) fn push(&mut self, bytes: &[u8], scored: Option<Scored>) -> Vec<Piece> {
        self.pending.extend(scored);
        let was_thinking = self.is_thinking();
        let mut pieces = Vec::new();
        let text = self.characters.push(bytes);
        self.text(&text, &mut pieces);
        if self.stop.is_some() {
            self.drop_stopped(&pieces);
        }
        if was_thinking && !self.is_thinking() {
            self.attach_to_thinking(&mut pieces);
        }
        self.attach(&mut pieces);
        pieces
    }

    /// What was held, where no more tokens come. `last` is the score of a token without text.
    pub(super) fn finish(&mut self, last: Option<Scored>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let text = self.characters.finish();
        self.text(&text, &mut pieces);
        for (part, text) in self.thinking.take().map(ThinkingSplitter::finish).unwrap_or_default() {
            self.part(part, &text, &mut pieces);
        }
        for event in self.calls.finish() {
            self.event(event, &mut pieces);
        }
        if self.stop.is_none() {
            put_content(self.stops.finish(), &mut pieces);
        }
        self.pending.extend(last);
        self.attach(&mut pieces);
        if !self.pending.is_empty() {
            let tokens = std::mem::take(&mut self.pending);
            pieces.push(Piece::Content { text: String::new(), tokens });
        }
        pieces
    }

    pub(super) fn is_thinking(&self) -> bool {
        self.thinking.as_ref().is_some_and(ThinkingSplitter::is_thinking)
    }

    /// The stop string that ended the answer, by its place in the list.
    pub(super) fn stop(&self) -> Option<usize> {
        self.stop
    }

    /// Calls that have begun.
    pub(super) fn n_calls(&self) -> usize {
        self.n_calls
    }

    fn text(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        if text.is_empty() {
            return;
        }
        match &mut self.thinking {
            None => self.part(Part::Answer, text, pieces),
            Some(thinking) => {
                for (part, text) in thinking.push(text) {
                    self.part(part, &text, pieces);
                }
            }
        }
    }

    fn part(&mut self, part: Part, text: &str, pieces: &mut Vec<Piece>) {
        match part {
            Part::Reasoning => put_reasoning(text, pieces),
            Part::Answer => {
                for event in self.calls.push(text) {
                    self.event(event, pieces);
                }
            }
        }
    }

    fn event(&mut self, event: CallEvent, pieces: &mut Vec<Piece>) {
        if self.stop.is_some() {
            return;
        }
        match event {
            CallEvent::Text(text) => {
                let heard = self.stops.push(&text);
                self.stop = heard.stop;
                put_content(heard.text, pieces);
            }
            CallEvent::Begin { index, name } => {
                put_content(self.stops.finish(), pieces);
                self.n_calls = index + 1;
                pieces.push(Piece::CallBegin { index, id: unique::name("call_"), name });
            }
            CallEvent::Arguments { index, text } => {
                pieces.push(Piece::CallArguments { index, text });
            }
            CallEvent::End { .. } => {}
        }
    }

    /// Forgets the scores of tokens that lie behind the beginning of the stop string.
    fn drop_stopped(&mut self, pieces: &[Piece]) {
        let mut left: usize = pieces.iter().map(|piece| text_of(piece).len()).sum();
        self.pending.retain(|token| {
            let kept = left > 0;
            left = left.saturating_sub(token.bytes.len());
            kept
        });
    }

    /// The token that ends the thinking belongs to it, though its text is nowhere.
    fn attach_to_thinking(&mut self, pieces: &mut Vec<Piece>) {
        if self.pending.is_empty() {
            return;
        }
        let is_reasoning = |piece: &Piece| matches!(piece, Piece::Reasoning { .. });
        if !pieces.iter().any(is_reasoning) {
            pieces.insert(0, Piece::Reasoning { text: String::new(), tokens: Vec::new() });
        }
        if let Some(Piece::Reasoning { tokens, .. }) = pieces.iter_mut().find(|p| is_reasoning(p)) {
            tokens.append(&mut self.pending);
        }
    }

    /// Gives the scores that wait to the last text; tokens of calls to an empty one.
    fn attach(&mut self, pieces: &mut Vec<Piece>) {
        if self.pending.is_empty() || pieces.is_empty() {
            return;
        }
        for piece in pieces.iter_mut().rev() {
            if let Piece::Reasoning { tokens, .. } | Piece::Content { tokens, .. } = piece {
                return tokens.append(&mut self.pending);
            }
        }
        let tokens = std::mem::take(&mut self.pending);
        pieces.insert(0, Piece::Content { text: String::new(), tokens });
    }
}

fn text_of(piece: &Piece) -> &str {
    match piece {
        Piece::Reasoning { text, .. } | Piece::Content { text, .. } => text,
        _ => "",
    }
}

fn put_reasoning(more: &str, pieces: &mut Vec<Piece>) {
    match pieces.last_mut() {
        Some(Piece::Reasoning { text, .. }) => text.push_str(more),
        _ => pieces.push(Piece::Reasoning { text: more.to_owned(), tokens: Vec::new() }),
    }
}

fn put_content(more: String, pieces: &mut Vec<Piece>) {
    if more.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Content { text, .. }) => text.push_str(&more),
        _ => pieces.push(Piece::Content { text: more, tokens: Vec::new() }),
    }
}

#[cfg(test)]
mod tests;
