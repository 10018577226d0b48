//! Code with a hole that a model shall fill: fill in the middle.

use super::settings::Settings;
use super::speaker::Speaker;
use crate::failure::Failure;
use fathom_data::fim::{Piece, fim_prompt};
use fathom_text::special::FIM;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

/// Tokens that the middle may take where nothing else was said.
pub(crate) const MAX_MIDDLE_TOKENS: usize = 128;

/// What stands before and after the hole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    prefix: String,
    suffix: String,
}

/// Lines of a file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    first: usize,
    last: usize,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if 1 <= first && first <= last => Ok(Place { first, last }),
            _ => Err("it must be a line from 1, or a range of lines such as 10-14".into()),
        }
    }
}

impl Hole {
    pub(crate) fn between(prefix: &str, suffix: &str) -> Hole {
        Hole { prefix: prefix.to_owned(), suffix: suffix.to_owned() }
    }

    /// The hole that is left when lines of a file are taken out; their line break stays.
    pub(crate) fn in_file(path: &Path, place: Place) -> Result<Hole, Failure> {
        let failed = |what: String| Failure::Failed(format!("`{}` {what}", path.display()));
        let bytes =
            std::fs::read(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|_| failed("is not UTF-8 text".into()))?;
        let n_lines = text.lines().count();
        let Some(lines) = span(&text, place.first..=place.last) else {
            return Err(failed(format!("has {n_lines} lines, there is no line {}", place.last)));
        };
        Ok(Hole::between(&text[..lines.0], &text[lines.1..]))
    }

    /// The prompt for a model, as much of both sides as it can read; ends answers at the control
    /// tokens of the form.
    ///
    /// Errors: a tokenizer without these tokens.
    pub(crate) fn prompt(
        &self,
        speaker: &mut Speaker,
        settings: &Settings,
    ) -> Result<Vec<u32>, Failure> {
        let tokenizer = &speaker.dialect.tokenizer;
        let ids: Vec<u32> = FIM.iter().filter_map(|token| tokenizer.token_id(token)).collect();
        if ids.len() < FIM.len() {
            return Err(Failure::hinted(
                "this model cannot fill holes: its tokenizer has no fill-in-the-middle tokens",
                "the recipe `code-small` trains one that can; `--raw` continues text with any model",
            ));
        }
        let n_positions = speaker.voice.model.config.max_position_embeddings;
        let n_middle = settings.max_tokens.unwrap_or(MAX_MIDDLE_TOKENS).min(n_positions / 2);
        // Control tokens and the end token need room too.
        let room = n_positions.saturating_sub(n_middle + FIM.len() + 2);
        let (mut prefix, mut suffix) =
            (tokenizer.encode_plain(&self.prefix), tokenizer.encode_plain(&self.suffix));
        let (n_before, n_after) = shares(prefix.len(), suffix.len(), room);
        prefix.drain(..prefix.len() - n_before);
        suffix.truncate(n_after);
        let mut prompt: Vec<u32> = speaker.dialect.bos.into_iter().collect();
        // One letter stands for each side; its place in the form is what is asked for.
        for piece in fim_prompt("p", "s") {
            match piece {
                Piece::Marker(marker) => prompt.extend(tokenizer.token_id(marker)),
                Piece::Text("p") => prompt.append(&mut prefix),
                Piece::Text(_) => prompt.append(&mut suffix),
            }
        }
        speaker.voice.stop_at(ids);
        Ok(prompt)
    }
}

/// Bytes of `lines` (from 1) of a text, without the last line break.
fn span(text: &str, lines: RangeInclusive<usize>) -> Option<(usize, usize)> {
    let (mut at, mut start) = (0, None);
    for (idx, line) in text.split_inclusive('\n').enumerate() {
        if idx + 1 == *lines.start() {
            start = Some(at);
        }
        if idx + 1 == *lines.end() {
            let body = line.trim_end_matches('\n').trim_end_matches('\r');
            return Some((start?, at + body.len()));
        }
        at += line.len();
    }
    None
}

/// How much of two sides fits into `room`: half each, and what one leaves goes to the other.
fn shares(before: usize, after: usize, room: usize) -> (usize, usize) {
    let n_after = after.min((room / 2).max(room.saturating_sub(before)));
    (before.min(room - n_after), n_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_out_and_their_break_stays() {
        let check = |text: &str, first, last, expected: Option<(&str, &str)>| {
            let found = span(text, first..=last).map(|(start, end)| (&text[..start], &text[end..]));
            assert_eq!(found, expected, "{text:?} {first}-{last}");
        };
        check("a\nb\nc\n", 2, 2, Some(("a\n", "\nc\n")));
        check("a\nb\nc", 2, 3, Some(("a\n", "")));
        check("a\r\nb\r\n", 1, 1, Some(("", "\r\nb\r\n")));
        check("a\n", 2, 2, None);
        check("", 1, 1, None);
    }

    #[test]
    fn places_are_lines_or_ranges_of_lines() {
        assert_eq!("12".parse(), Ok(Place { first: 12, last: 12 }));
        assert_eq!("3-5".parse(), Ok(Place { first: 3, last: 5 }));
        for wrong in ["0", "5-3", "x", "", "-1"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_short_side_leaves_its_room_to_the_other() {
        assert_eq!(shares(100, 100, 50), (25, 25));
        assert_eq!(shares(10, 100, 50), (10, 40));
        assert_eq!(shares(100, 10, 50), (40, 10));
        assert_eq!(shares(10, 10, 50), (10, 10));
        assert_eq!(shares(0, 0, 0), (0, 0));
    }
}
