//! Divides what a model says, token by token, into reasoning and answer.

use fathom_text::special::{END_THINK, THINK};
use fathom_text::{StopStrings, StreamDecoder, Tokenizer};

/// A part of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Reasoning,
    Answer,
}

/// A reply so far. Unless it is plain, neither part begins or ends with white space.
pub(crate) struct Reply<'t> {
    tokenizer: &'t Tokenizer,
    decoder: StreamDecoder<'t>,
    /// Looks for texts that end the reply, in each part by itself.
    stops: StopStrings,
    markers: [Option<u32>; 2],
    part: Part,
    /// Whether parts lose the white space around them.
    trims: bool,
    /// White space that counts only if more text follows.
    held: String,
    pub(crate) reasoning: String,
    pub(crate) answer: String,
    /// Tokens of the reasoning, without the markers.
    pub(crate) n_reasoning: usize,
}

impl<'t> Reply<'t> {
    /// An empty reply, inside the thinking if the prompt opened it. It ends before any of `stops`.
    pub(crate) fn new(tokenizer: &'t Tokenizer, opened: bool, stops: &[String]) -> Reply<'t> {
        Reply {
            tokenizer,
            decoder: StreamDecoder::skipping_special(tokenizer),
            stops: StopStrings::new(stops),
            markers: [THINK, END_THINK].map(|marker| tokenizer.token_id(marker)),
            part: if opened { Part::Reasoning } else { Part::Answer },
            trims: true,
            held: String::new(),
            reasoning: String::new(),
            answer: String::new(),
            n_reasoning: 0,
        }
    }

    /// A continuation of text: no reasoning, and every space counts.
    pub(crate) fn plain(tokenizer: &'t Tokenizer, stops: &[String]) -> Reply<'t> {
        Reply { markers: [None; 2], trims: false, ..Reply::new(tokenizer, false, stops) }
    }

    /// Takes in a token; returns the text it completes and the part that this belongs to.
    pub(crate) fn push(&mut self, id: u32) -> (Part, String) {
        let turns = self.markers.iter().position(|marker| *marker == Some(id));
        if let Some(turns_to) = turns.map(|at| [Part::Reasoning, Part::Answer][at]) {
            // A half character before the marker will never be whole.
            let fresh = StreamDecoder::skipping_special(self.tokenizer);
            let left = std::mem::replace(&mut self.decoder, fresh).finish();
            let left = self.stops.push(&left).text + &self.stops.finish();
            let (part, shown) = (self.part, self.add(&left));
            self.part = turns_to;
            self.held.clear();
            return (part, shown);
        }
        if self.part == Part::Reasoning {
            self.n_reasoning += 1;
        }
        let text = self.decoder.push(id);
        let text = self.stops.push(&text).text;
        (self.part, self.add(&text))
    }

    /// Whether the reply has come to a text that ends it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stops.is_stopped()
    }

    /// Takes in the end; returns text that was held because it could have become one to stop at.
    pub(crate) fn end(&mut self) -> (Part, String) {
        let left = self.stops.finish();
        (self.part, self.add(&left))
    }

    fn add(&mut self, text: &str) -> String {
        let whole = match self.part {
            Part::Reasoning => &mut self.reasoning,
            Part::Answer => &mut self.answer,
        };
        if !self.trims {
            whole.push_str(text);
            return text.to_owned();
        }
        let mut shown = std::mem::take(&mut self.held) + text;
        if whole.is_empty() {
            shown = shown.trim_start().to_owned();
        }
        self.held = shown.split_off(shown.trim_end().len());
        whole.push_str(&shown);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fathom_text::{BpeSettings, PretokenizerStyle, chat, special, train_bpe};

    fn tokenizer() -> Tokenizer {
        let settings = BpeSettings {
            vocab_size: 300,
            special_tokens: special::CHAT.map(str::to_owned).to_vec(),
            pretokenizer: PretokenizerStyle::DigitWords,
            min_frequency: 1,
        };
        train_bpe(std::iter::once("2 + 3 = 5, 五个 apples".to_owned()), &settings).unwrap()
    }

    fn check(text: &str, opened: bool, reasoning: &str, answer: &str) {
        let tokenizer = tokenizer();
        let mut reply = Reply::new(&tokenizer, opened, &[]);
        let mut shown = [String::new(), String::new()];
        for id in chat::encode_reply(&tokenizer, text) {
            let (part, text) = reply.push(id);
            shown[usize::from(part == Part::Answer)].push_str(&text);
        }
        assert_eq!(shown, [reasoning, answer], "{text:?}");
        assert_eq!([reply.reasoning, reply.answer], shown);
    }

    #[test]
    fn parts_are_told_apart_wherever_the_thinking_was_opened() {
        check("\n2 + 3\n</think>\n\n5\n", true, "2 + 3", "5");
        check(
            " <think> 五个\n </think> <answer> 5 </answer>",
            false,
            "五个",
            "<answer> 5 </answer>",
        );
        check("just 5", false, "", "just 5");
        check("cut off", true, "cut off", "");
    }

    #[test]
    fn white_space_inside_a_part_stays() {
        check("a\n\n b</think>c  d\n", true, "a\n\n b", "c  d");
    }

    #[test]
    fn a_reply_ends_before_a_stop_text_and_gives_back_what_only_looked_like_one() {
        let tokenizer = tokenizer();
        let check = |text: &str, stops: &[&str], reasoning: &str, answer: &str, stopped| {
            let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
            let mut reply = Reply::new(&tokenizer, true, &stops);
            for id in chat::encode_reply(&tokenizer, text) {
                reply.push(id);
                if reply.is_stopped() {
                    break;
                }
            }
            let stopped_there = reply.is_stopped();
            reply.end();
            assert_eq!((reply.reasoning.as_str(), reply.answer.as_str()), (reasoning, answer));
            assert_eq!(stopped_there, stopped, "{text:?}");
        };
        check("2 + 3</think>5 apples, 6", &["apples"], "2 + 3", "5", true);
        check("2 + 3</think>5 appl", &["apples"], "2 + 3", "5 appl", false);
        check("2 + app</think>les", &["apples", "3"], "2 + app", "les", false);
        check("2 + 3</think>5", &["+"], "2", "", true);
    }

    #[test]
    fn plain_text_keeps_all_white_space() {
        let tokenizer = tokenizer();
        let mut reply = Reply::plain(&tokenizer, &[]);
        for id in tokenizer.encode("\n    5 \n") {
            reply.push(id);
        }
        assert_eq!(reply.answer, "\n    5 \n");
    }
}
