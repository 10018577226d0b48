//! Shows a reply as it comes: thinking dimmed or folded on a terminal, marked where text is plain.

use super::reply::Part;
use crate::terminal::{Style, harmless};
use std::io::{self, Write};

/// How reasoning is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Think {
    /// Shown, dimmed
    #[default]
    On,
    /// Counted while it comes, then one line
    Fold,
    /// Not shown
    Off,
}

/// Where a reply appears.
pub(crate) struct Screen<W: Write> {
    out: W,
    style: Style,
    /// Whether lines can be drawn over and text must be harmless.
    terminal: bool,
    think: Think,
    state: State,
    n_reasoning: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    Reasoning,
    Answer,
}

impl<W: Write> Screen<W> {
    pub(crate) fn new(out: W, style: Style, terminal: bool, think: Think) -> Screen<W> {
        Screen { out, style, terminal, think, state: State::Nothing, n_reasoning: 0 }
    }

    /// Shows a piece of a reply; also called for tokens that complete no text yet.
    pub(crate) fn show(&mut self, part: Part, text: &str) -> io::Result<()> {
        match part {
            Part::Reasoning => self.reasoning(text)?,
            Part::Answer if text.is_empty() => {}
            Part::Answer => {
                if self.state != State::Answer {
                    self.close_reasoning()?;
                    self.state = State::Answer;
                }
                let text = if self.terminal { harmless(text) } else { text.to_owned() };
                self.out.write_all(text.as_bytes())?;
            }
        }
        self.out.flush()
    }

    /// Ends the reply with a line break.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.state == State::Reasoning {
            self.close_reasoning()?; // cut off while thinking
        }
        if self.state == State::Answer {
            self.out.write_all(b"\n")?;
        }
        self.state = State::Nothing;
        self.out.flush()
    }

    /// Whether markers stand around the reasoning: wherever it cannot be dimmed.
    fn marks(&self) -> bool {
        !self.style.has_colour()
    }

    fn reasoning(&mut self, text: &str) -> io::Result<()> {
        self.n_reasoning += 1;
        let first = self.state != State::Reasoning;
        match self.think {
            Think::Off => {}
            Think::Fold if self.terminal => {
                let line = self.style.dim(&format!("thinking … {} tokens", self.n_reasoning));
                write!(self.out, "\r{line}")?;
            }
            Think::Fold => {}
            Think::On if text.is_empty() => return Ok(()),
            Think::On => {
                if first && self.marks() {
                    self.out.write_all(b"<think>\n")?;
                }
                let text = if self.terminal { harmless(text) } else { text.to_owned() };
                self.out.write_all(self.style.dim(&text).as_bytes())?;
            }
        }
        self.state = State::Reasoning;
        Ok(())
    }

    fn close_reasoning(&mut self) -> io::Result<()> {
        if self.state != State::Reasoning {
            return Ok(());
        }
        match self.think {
            Think::Fold if self.terminal => {
                let line = format!("▸ thought for {} tokens (/think shows it)", self.n_reasoning);
                writeln!(self.out, "\r\x1b[K{}", self.style.dim(&line))
            }
            Think::On if self.marks() => self.out.write_all(b"\n</think>\n"),
            Think::On => self.out.write_all(b"\n\n"),
            Think::Fold | Think::Off => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(terminal: bool, think: Think, parts: &[(Part, &str)]) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, Style::PLAIN, terminal, think);
        for (part, text) in parts {
            screen.show(*part, text).unwrap();
        }
        screen.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    const REPLY: &[(Part, &str)] = &[
        (Part::Reasoning, "2 + 3"),
        (Part::Reasoning, ""),
        (Part::Reasoning, " = 5"),
        (Part::Answer, ""),
        (Part::Answer, "5\x1b"),
    ];

    #[test]
    fn plain_text_marks_the_thinking_and_keeps_every_byte() {
        assert_eq!(shown(false, Think::On, REPLY), "<think>\n2 + 3 = 5\n</think>\n5\x1b\n");
        assert_eq!(shown(false, Think::Off, REPLY), "5\x1b\n");
        assert_eq!(shown(false, Think::On, &REPLY[..1]), "<think>\n2 + 3\n</think>\n");
    }

    #[test]
    fn folded_thinking_is_one_line() {
        let text = shown(true, Think::Fold, REPLY);
        assert!(
            text.ends_with("\r\x1b[K▸ thought for 3 tokens (/think shows it)\n5�\n"),
            "{text:?}"
        );
    }
}
