//! Waits in free text for markers such as `</think>`, whether they come as one token or in pieces.

use super::vocabulary::{Tokens, cut};
use std::sync::Arc;

/// What a marker is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Something begins behind it.
    Opens,
    /// It must not come.
    Forbidden,
}

/// Text that means something, and ends with `>`.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    pub(super) text: &'static str,
    pub(super) effect: Effect,
}

/// Free text on its way.
#[derive(Clone)]
pub(super) struct Watch {
    tokens: Arc<Tokens>,
    markers: Vec<Marker>,
    /// The last bytes, one less than the longest marker.
    tail: Vec<u8>,
    n_tail: usize,
    /// Tokens that end a marker wrongly all by themselves.
    always: Vec<u32>,
}

impl Watch {
    pub(super) fn new(tokens: Arc<Tokens>, markers: Vec<Marker>) -> Watch {
        let n_tail = markers.iter().map(|marker| marker.text.len()).max().unwrap_or(1) - 1;
        let always = tokens.closers.iter().copied();
        let always =
            always.filter(|id| breaks(&markers, &[], tokens.bytes(*id))).collect::<Vec<u32>>();
        Watch { tokens, markers, tail: Vec::new(), n_tail, always }
    }

    /// Takes away tokens that end a forbidden marker, or one that opens something and go on with
    /// more than white space, which nobody would check.
    pub(super) fn cut(&self, mask: &mut [u32]) {
        self.always.iter().for_each(|id| cut(mask, *id));
        let is_on_its_way = |marker: &Marker| overlap(&self.tail, marker.text.as_bytes()) > 0;
        if self.markers.iter().any(is_on_its_way) {
            let closers = self.tokens.closers.iter();
            let wrong =
                closers.filter(|id| breaks(&self.markers, &self.tail, self.tokens.bytes(**id)));
            wrong.for_each(|id| cut(mask, *id));
        }
    }

    /// Hears a token; the marker that it completes.
    pub(super) fn push(&mut self, id: u32) -> Option<&'static str> {
        let seen = self.tail.len();
        self.tail.extend_from_slice(self.tokens.bytes(id));
        let found = completed(&self.markers, &self.tail, seen).map(|(marker, _)| marker.text);
        let n_old = self.tail.len().saturating_sub(self.n_tail);
        self.tail.drain(..n_old);
        found
    }
}

/// Whether `bytes` behind `tail` end a marker as they must not.
fn breaks(markers: &[Marker], tail: &[u8], bytes: &[u8]) -> bool {
    let text = [tail, bytes].concat();
    completed(markers, &text, tail.len()).is_some_and(|(marker, end)| {
        let rest = &text[end..];
        marker.effect == Effect::Forbidden || !rest.iter().all(u8::is_ascii_whitespace)
    })
}

/// The marker that ends first in `text` behind `seen`, and where it ends.
fn completed<'m>(markers: &'m [Marker], text: &[u8], seen: usize) -> Option<(&'m Marker, usize)> {
    (seen + 1..=text.len()).find_map(|end| {
        let ends = |marker: &&Marker| text[..end].ends_with(marker.text.as_bytes());
        markers.iter().find(ends).map(|marker| (marker, end))
    })
}

/// Bytes at the end of `text` that `marker` begins with.
fn overlap(text: &[u8], marker: &[u8]) -> usize {
    (1..marker.len().min(text.len() + 1)).rev().find(|n| text.ends_with(&marker[..*n])).unwrap_or(0)
}
