//! Stop strings in a stream of text: an answer ends before the first of them.
//!
//! First is the one whose last byte comes first; of several that end there, the longest. So a
//! decision never waits for text to come, and how the text was cut into pieces makes no difference.
//! All strings are looked for at once, byte by byte (Knuth, Morris and Pratt).

/// Strings that end an answer, and how much of each the text so far ends with.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<Stop>,
    /// Text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

/// What a piece of text made certain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Text of the answer, whole characters.
    pub text: String,
    /// The stop string that ended the answer, by its place in the list.
    pub stop: Option<usize>,
}

#[derive(Clone, Debug)]
struct Stop {
    idx: usize,
    bytes: Vec<u8>,
    /// For each number of matched bytes, less one: the longest shorter beginning that these end
    /// with.
    shorter: Vec<usize>,
    n_matched: usize,
}

impl StopStrings {
    /// Looks for any of `stops`. An empty one is never found.
    pub fn new<S: Into<String>>(stops: impl IntoIterator<Item = S>) -> StopStrings {
        let stops = stops.into_iter().map(Into::into).enumerate();
        let stops = stops.filter(|(_, stop)| !stop.is_empty());
        StopStrings {
            stops: stops.map(|(idx, stop)| Stop::new(idx, stop.into_bytes())).collect(),
            held: String::new(),
            stopped: false,
        }
    }

    /// Takes in more text. Comes back with what surely belongs to the answer; what may become a stop
    /// string is held until it cannot. After a stop, nothing belongs to the answer.
    pub fn push(&mut self, text: &str) -> Heard {
        if self.stopped {
            return Heard::default();
        }
        let n_held = self.held.len();
        self.held.push_str(text);
        for (at, byte) in text.bytes().enumerate() {
            self.stops.iter_mut().for_each(|stop| stop.take(byte));
            let found = self.stops.iter().filter(|stop| stop.n_matched == stop.bytes.len());
            // Of equal ones, the first.
            let Some(stop) = found.rev().max_by_key(|stop| stop.bytes.len()) else { continue };
            self.stopped = true;
            let start = n_held + at + 1 - stop.bytes.len();
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return Heard { text, stop: Some(stop.idx) };
        }
        // A beginning of a stop string begins with a whole character, so this is a border of one.
        let n_open = self.stops.iter().map(|stop| stop.n_matched).max().unwrap_or(0);
        let open = self.held.split_off(self.held.len() - n_open);
        Heard { text: std::mem::replace(&mut self.held, open), stop: None }
    }

    /// What was held, where no more text comes.
    pub fn finish(&mut self) -> String {
        self.stops.iter_mut().for_each(|stop| stop.n_matched = 0);
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was found.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
}

impl Stop {
    fn new(idx: usize, bytes: Vec<u8>) -> Stop {
        let mut shorter = vec![0; bytes.len()];
        let mut n = 0;
        for at in 1..bytes.len() {
            while n > 0 && bytes[n] != bytes[at] {
                n = shorter[n - 1];
            }
            n += usize::from(bytes[n] == bytes[at]);
            shorter[at] = n;
        }
        Stop { idx, bytes, shorter, n_matched: 0 }
    }

    fn take(&mut self, byte: u8) {
        let n = &mut self.n_matched;
        while *n > 0 && self.bytes[*n] != byte {
            *n = self.shorter[*n - 1];
        }
        *n += usize::from(self.bytes[*n] == byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first stop string of a whole text, by trying every end: text before it, and which.
    fn whole(stops: &[&str], text: &str) -> (String, Option<usize>) {
        for end in 0..=text.len() {
            let ending = (0..stops.len()).filter(|idx| {
                !stops[*idx].is_empty() && text.as_bytes()[..end].ends_with(stops[*idx].as_bytes())
            });
            if let Some(idx) = ending.rev().max_by_key(|idx| stops[*idx].len()) {
                return (text[..end - stops[idx].len()].to_owned(), Some(idx));
            }
        }
        (text.to_owned(), None)
    }

    fn streamed<'t>(
        stops: &[&str],
        pieces: impl Iterator<Item = &'t str>,
    ) -> (String, Option<usize>) {
        let mut matcher = StopStrings::new(stops.iter().copied());
        let (mut text, mut found) = (String::new(), None);
        for piece in pieces {
            let heard = matcher.push(piece);
            text.push_str(&heard.text);
            found = found.or(heard.stop);
        }
        (text + &matcher.finish(), found)
    }

    #[test]
    fn text_goes_on_as_soon_as_it_can_no_longer_stop() {
        let mut stops = StopStrings::new(["END", "\n\n"]);
        let mut check = |piece: &str, text: &str, stop| {
            assert_eq!(stops.push(piece), Heard { text: text.into(), stop }, "{piece:?}");
        };
        check("one\n", "one", None);
        check("E", "\n", None);
        check("EN", "E", None);
        check("x", "ENx", None);
        check("EN", "", None);
        check("D", "", Some(0));
        check("more", "", None);
        assert!(stops.is_stopped());
    }

    #[test]
    fn the_stop_that_ends_first_wins_and_of_those_the_longest() {
        let check = |stops: &[&str], text: &str, expected: &str, found: usize| {
            let expected = (expected.to_owned(), Some(found));
            assert_eq!(streamed(stops, std::iter::once(text)), expected, "{text:?}");
        };
        check(&["abcd", "bc"], "xabcd", "xa", 1);
        check(&["c", "abc", "bc"], "abc", "", 1);
        check(&["", "a", "a"], "xa", "x", 1);
        check(&["aab"], "aaab", "a", 0);
        check(&["苹果"], "一苹苹果", "一苹", 0);
    }

    #[test]
    fn what_was_held_comes_back_at_the_end() {
        let mut stops = StopStrings::new(["<end>"]);
        assert_eq!(stops.push("a<en").text, "a");
        assert_eq!(stops.finish(), "<en");
        assert_eq!(stops.push("d>").text, "d>");
        assert_eq!(StopStrings::new([""; 0]).push("all").text, "all");
    }

    #[test]
    fn random_pieces_stop_where_the_whole_text_does() {
        let mut state = 11u64;
        let mut below = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let letters = ["a", "b", "é", "è", "苹", "🙂"];
        let word = |most: usize, below: &mut dyn FnMut(usize) -> usize| -> String {
            let kinds = 2 + below(5);
            (0..below(most + 1)).map(|_| letters[below(kinds)]).collect()
        };
        let mut n_found = 0;
        for _ in 0..20_000 {
            let stops: Vec<String> = (0..below(4)).map(|_| word(5, &mut below)).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let text = word(20, &mut below);
            let mut pieces = vec![String::new()];
            for character in text.chars() {
                if below(3) == 0 {
                    pieces.push(String::new());
                }
                pieces.last_mut().unwrap().push(character);
            }
            let expected = whole(&stops, &text);
            n_found += usize::from(expected.1.is_some());
            let got = streamed(&stops, pieces.iter().map(String::as_str));
            assert_eq!(got, expected, "{stops:?} in {pieces:?}");
        }
        assert!(n_found > 2000, "{n_found}");
    }
}
