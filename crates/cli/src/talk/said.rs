//! What a line of a chat means.

use super::screen::Think;
use super::settings::{Penalty, max_tokens, min_p, temperature, top_p};
use clap::ValueEnum;

/// A line, understood.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Nothing,
    Question(String),
    Help,
    New,
    Retry,
    /// None shows the last reasoning again.
    Think(Option<Think>),
    Temperature(Option<f32>),
    TopP(Option<f32>),
    TopK(Option<usize>),
    MinP(Option<f32>),
    Penalty(Penalty, Option<f32>),
    Seed(Option<u64>),
    MaxTokens(Option<usize>),
    /// None asks what it is; empty removes it.
    Stop(Option<String>),
    /// None asks what it is; empty removes it.
    System(Option<String>),
    Stats,
    Quit,
}

pub(super) const HELP: &str = "\
/new                begin again
/retry              another answer to the last question
/think              the last reasoning once more
/think on|fold|off  how reasoning is shown
/temperature X      0 always takes the most likely token
/top-p X, /top-k N, /min-p X
                    draw only from the likeliest tokens
/repetition-penalty X, /frequency-penalty X, /presence-penalty X
                    make tokens that came before less likely
/seed N             the same seed and prompt give the same answer
/max-tokens N       longest answer
/stop TEXT          end answers before this text; `/stop -` removes it
/system TEXT        what the model is told first; `/system -` removes it
/stats              what the last answer cost
/quit               end (Ctrl-D too)

Without a value, a setting is shown. A \\ at the end of a line goes on in the
next one, and \"\"\" stands around several lines. Ctrl-C stops an answer.
";

/// Reads a line; the error says what is wrong with it.
pub(super) fn understand(line: &str) -> Result<Said, String> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        let question = Said::Question(line.to_owned());
        return Ok(if line.is_empty() { Said::Nothing } else { question });
    };
    let (word, value) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let value = Some(value.trim()).filter(|value| !value.is_empty());
    let alone = |said: Said| match value {
        None => Ok(said),
        Some(_) => Err(format!("`/{word}` takes no value")),
    };
    match word {
        "help" | "?" => alone(Said::Help),
        "new" | "clear" => alone(Said::New),
        "retry" => alone(Said::Retry),
        "stats" => alone(Said::Stats),
        "quit" | "exit" | "bye" => alone(Said::Quit),
        "think" => Ok(Said::Think(optional(value, |text| Think::from_str(text, true))?)),
        "temperature" => Ok(Said::Temperature(optional(value, temperature)?)),
        "top-p" => Ok(Said::TopP(optional(value, top_p)?)),
        "top-k" => Ok(Said::TopK(optional(value, whole)?)),
        "min-p" => Ok(Said::MinP(optional(value, min_p)?)),
        "repetition-penalty" => penalty(Penalty::Repetition, value),
        "frequency-penalty" => penalty(Penalty::Frequency, value),
        "presence-penalty" => penalty(Penalty::Presence, value),
        "seed" => Ok(Said::Seed(optional(value, whole)?)),
        "max-tokens" => Ok(Said::MaxTokens(optional(value, max_tokens)?)),
        "system" => Ok(Said::System(removable(value))),
        "stop" => Ok(Said::Stop(removable(value))),
        _ => Err(format!("there is no `/{word}`; `/help` lists what there is")),
    }
}

fn penalty(which: Penalty, value: Option<&str>) -> Result<Said, String> {
    Ok(Said::Penalty(which, optional(value, |text| which.parse(text))?))
}

/// A text, where `-` stands for none.
fn removable(value: Option<&str>) -> Option<String> {
    value.map(|text| if text == "-" { String::new() } else { text.to_owned() })
}

fn optional<T>(
    value: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    value.map(|text| parse(text).map_err(|error| format!("`{text}`: {error}"))).transpose()
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "it must be a whole number, 0 or above".into())
}

/// Lines as typed, until they make a whole.
#[derive(Default)]
pub(super) struct Lines {
    so_far: String,
    quoted: bool,
}

impl Lines {
    /// Takes in a line; returns the whole once it is complete.
    pub(super) fn push(&mut self, line: &str) -> Option<String> {
        const QUOTES: &str = "\"\"\"";
        let mut line = line;
        if !self.is_open()
            && let Some(rest) = line.trim_start().strip_prefix(QUOTES)
        {
            (self.quoted, line) = (true, rest);
        }
        if self.quoted {
            let Some(last) = line.trim_end().strip_suffix(QUOTES) else {
                self.so_far.push_str(line);
                self.so_far.push('\n');
                return None;
            };
            self.so_far.push_str(last);
            self.quoted = false;
        } else if let Some(part) = line.strip_suffix('\\') {
            self.so_far.push_str(part);
            self.so_far.push('\n');
            return None;
        } else {
            self.so_far.push_str(line);
        }
        Some(std::mem::take(&mut self.so_far))
    }

    /// Whether something was begun.
    pub(super) fn is_open(&self) -> bool {
        self.quoted || !self.so_far.is_empty()
    }

    /// Forgets what was begun.
    pub(super) fn clear(&mut self) {
        *self = Lines::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood_with_and_without_values() {
        let cases = [
            ("  ", Said::Nothing),
            (" What is 1 + 1? ", Said::Question("What is 1 + 1?".into())),
            ("/temperature 0.5", Said::Temperature(Some(0.5))),
            ("/temperature", Said::Temperature(None)),
            ("/think fold", Said::Think(Some(Think::Fold))),
            ("/min-p 0.1", Said::MinP(Some(0.1))),
            ("/presence-penalty -1", Said::Penalty(Penalty::Presence, Some(-1.0))),
            ("/repetition-penalty", Said::Penalty(Penalty::Repetition, None)),
            ("/stop END", Said::Stop(Some("END".into()))),
            ("/stop -", Said::Stop(Some(String::new()))),
            ("/seed 7", Said::Seed(Some(7))),
            ("/system  Be brief. ", Said::System(Some("Be brief.".into()))),
            ("/system -", Said::System(Some(String::new()))),
            ("/bye", Said::Quit),
        ];
        for (line, expected) in cases {
            assert_eq!(understand(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for line in [
            "/temprature 1",
            "/top-p 2",
            "/seed x",
            "/min-p -1",
            "/presence-penalty 3",
            "/new x",
            "/think maybe",
        ] {
            let error = understand(line).unwrap_err();
            assert!(error.contains('`'), "{error}");
        }
    }

    #[test]
    fn every_command_of_the_help_is_understood() {
        for word in HELP.split_whitespace().filter(|word| word.starts_with('/')) {
            let word = word.trim_end_matches(',');
            assert!(understand(word).is_ok(), "{word}");
        }
    }

    #[test]
    fn several_lines_make_one_question() {
        let check = |lines: &[&str], expected: &str| {
            let mut input = Lines::default();
            for line in &lines[..lines.len() - 1] {
                assert_eq!(input.push(line), None);
                assert!(input.is_open());
            }
            assert_eq!(input.push(lines[lines.len() - 1]).as_deref(), Some(expected));
            assert!(!input.is_open());
        };
        check(&["one"], "one");
        check(&["one\\", "two"], "one\ntwo");
        check(&["\"\"\"one", "", "two\"\"\""], "one\n\ntwo");
        check(&["\"\"\"one\"\"\""], "one");
    }
}
