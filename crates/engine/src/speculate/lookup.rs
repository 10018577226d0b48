//! Guesses from the text itself: what followed the last tokens when they stood there before
//! (prompt lookup, A. Saxena 2023; "ngram" in vLLM).
//!
//! The longest match wins, of equals the latest; vLLM takes the earliest. Places are found by their
//! last [`SHORTEST`] tokens, each chained to the place before, so a step costs the same however long
//! the text is.

use std::collections::BTreeMap;

/// Tokens that must be the same for a guess.
const SHORTEST: usize = 2;
/// Matches are not compared further back than this.
const LONGEST: usize = 16;
/// Places that are looked at.
const MOST_PLACES: usize = 32;

/// No earlier place.
const NONE: u32 = u32::MAX;

/// A text, and where each pair of tokens stood in it.
#[derive(Default)]
pub(crate) struct Lookup {
    tokens: Vec<u32>,
    /// The latest place after a pair of tokens.
    latest: BTreeMap<[u32; SHORTEST], u32>,
    /// For each place, the one before after the same pair.
    before: Vec<u32>,
}

impl Lookup {
    /// Appends tokens.
    pub(crate) fn extend(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.tokens.push(token);
            let place = self.tokens.len() as u32;
            let before = match self.tokens.last_chunk::<SHORTEST>() {
                Some(pair) => self.latest.insert(*pair, place).unwrap_or(NONE),
                None => NONE,
            };
            self.before.push(before);
        }
    }

    /// Tokens so far.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Guesses up to `n` tokens, into `drafts`; none if the last tokens are new.
    pub(crate) fn draft(&self, n: usize, drafts: &mut Vec<u32>) {
        let Some(&first) = self.before.last() else { return };
        let (mut place, mut best) = (first, (0, 0));
        for _ in 0..MOST_PLACES {
            if place == NONE {
                break;
            }
            let length = self.match_length(place as usize);
            if length > best.0 {
                best = (length, place as usize);
            }
            if length >= LONGEST {
                break;
            }
            place = self.before[place as usize - 1];
        }
        let (length, place) = best;
        if length == 0 {
            return;
        }
        // A text that repeats itself goes on into its own guess.
        for i in 0..n {
            let at = place + i;
            let token = match at.checked_sub(self.tokens.len()) {
                None => self.tokens[at],
                Some(own) => drafts[own],
            };
            drafts.push(token);
        }
    }

    /// How many tokens before `place` are the last ones of the text.
    fn match_length(&self, place: usize) -> usize {
        let there = self.tokens[..place].iter().rev();
        let here = self.tokens.iter().rev();
        there.zip(here).take(LONGEST).take_while(|(a, b)| a == b).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u32], n: usize, expected: &[u32]) {
        let mut lookup = Lookup::default();
        lookup.extend(text);
        let mut drafts = Vec::new();
        lookup.draft(n, &mut drafts);
        assert_eq!(drafts, expected, "after {text:?}");
    }

    #[test]
    fn what_followed_before_is_guessed() {
        check(&[1, 2, 3, 4, 9, 1, 2], 2, &[3, 4]);
        check(&[], 2, &[]);
        check(&[1], 2, &[]);
        check(&[1, 2, 3], 2, &[]);
        check(&[7, 2, 3, 8, 2], 2, &[]);
    }

    #[test]
    fn the_longest_match_wins_then_the_latest() {
        check(&[5, 1, 2, 3, 6, 1, 2, 4, 5, 1, 2], 1, &[3]);
        check(&[5, 1, 2, 3, 6, 1, 2, 4, 7, 1, 2], 1, &[4]);
    }

    #[test]
    fn a_repetition_goes_on_into_its_own_guess() {
        check(&[4, 1, 2, 1, 2], 5, &[1, 2, 1, 2, 1]);
        check(&[3, 3, 3], 3, &[3, 3, 3]);
    }
}
