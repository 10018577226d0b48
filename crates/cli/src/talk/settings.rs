//! How answers are drawn: what the flags, the chat commands and the model's own file say.

use super::generation::Generation;
use crate::failure::Failure;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::Path;

/// Temperature where the model states none.
const TEMPERATURE: f32 = 0.6;
/// Probability mass kept where the model states none.
const TOP_P: f32 = 0.95;

/// How the next answer is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    pub(crate) top_k: usize,
    pub(crate) min_p: f32,
    pub(crate) repetition_penalty: f32,
    pub(crate) frequency_penalty: f32,
    pub(crate) presence_penalty: f32,
    pub(crate) logit_bias: BTreeMap<u32, f32>,
    pub(crate) seed: u64,
    /// Most tokens of an answer; none leaves as many as the model has positions.
    pub(crate) max_tokens: Option<usize>,
    /// Texts that an answer ends before.
    pub(crate) stop: Vec<String>,
    /// Likeliest tokens kept beside each token of the answer; none keeps no log-probabilities.
    pub(crate) n_top_log_probs: Option<usize>,
}

/// A penalty on tokens that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Penalty {
    Repetition,
    Frequency,
    Presence,
}

/// What was typed about it.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Typed {
    /// Randomness: 0 always takes the most likely token [default: what the model states, else 0.6]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    temperature: Option<f32>,

    /// Draw only from the likeliest tokens that together have this probability [default: what the model states, else 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = top_p)]
    top_p: Option<f32>,

    /// Draw only from the K likeliest tokens; 0 is all [default: what the model states, else 0]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,

    /// Draw only tokens at least P times as likely as the likeliest [default: what the model states, else 0]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = min_p)]
    min_p: Option<f32>,

    /// Divide the logits of tokens that came before, in prompt or answer, by X; 1 does nothing [default: what the model states, else 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = repetition_penalty)]
    repetition_penalty: Option<f32>,

    /// Subtract X from a token's logit for each time the answer holds it
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = penalty, default_value_t = 0.0)]
    frequency_penalty: f32,

    /// Subtract X from the logits of tokens that the answer holds
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = penalty, default_value_t = 0.0)]
    presence_penalty: f32,

    /// Add VALUE, -100 to 100, to the logit of a token; may be repeated
    #[arg(long, value_name = "ID=VALUE", value_parser = logit_bias)]
    logit_bias: Vec<(u32, f32)>,

    /// The same seed and prompt give the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Longest answer, in tokens [default: what the model states or has room for]
    #[arg(long, value_name = "N", value_parser = max_tokens)]
    max_tokens: Option<usize>,

    /// End the answer before this text; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, value_parser = stop)]
    stop: Vec<String>,
}

impl Typed {
    /// The settings that a server has for requests which state none.
    pub(crate) fn for_requests(
        temperature: Option<f32>,
        top_p: Option<f32>,
        max_tokens: Option<usize>,
    ) -> Typed {
        Typed { temperature, top_p, max_tokens, ..Typed::default() }
    }

    /// Settings for the model in `dir`, and the ids that its own file ends answers with.
    pub(crate) fn over_defaults_of(&self, dir: &Path) -> Result<(Settings, Vec<u32>), Failure> {
        let stated = Generation::of(dir)?;
        let own = match stated.do_sample {
            Some(false) => 0.0,
            _ => stated.temperature.unwrap_or(TEMPERATURE),
        };
        let repetition_penalty = self.repetition_penalty.or(stated.repetition_penalty);
        let settings = Settings {
            temperature: self.temperature.unwrap_or(own),
            top_p: self.top_p.or(stated.top_p).unwrap_or(TOP_P),
            top_k: self.top_k.or(stated.top_k).unwrap_or(0),
            min_p: self.min_p.or(stated.min_p).unwrap_or(0.0),
            repetition_penalty: repetition_penalty.unwrap_or(1.0),
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            logit_bias: self.logit_bias.iter().copied().collect(),
            seed: self.seed,
            max_tokens: self.max_tokens.or(stated.max_new_tokens.map(|n| n.get())),
            stop: self.stop.clone(),
            n_top_log_probs: None,
        };
        Ok((settings, stated.stop_ids()))
    }
}

impl Penalty {
    /// What it is called where it is typed.
    pub(super) fn word(self) -> &'static str {
        match self {
            Penalty::Repetition => "repetition-penalty",
            Penalty::Frequency => "frequency-penalty",
            Penalty::Presence => "presence-penalty",
        }
    }

    /// Its value as typed.
    pub(super) fn parse(self, text: &str) -> Result<f32, String> {
        match self {
            Penalty::Repetition => repetition_penalty(text),
            Penalty::Frequency | Penalty::Presence => penalty(text),
        }
    }
}

impl Settings {
    /// Where the value of a penalty stands.
    pub(super) fn penalty(&mut self, which: Penalty) -> &mut f32 {
        match which {
            Penalty::Repetition => &mut self.repetition_penalty,
            Penalty::Frequency => &mut self.frequency_penalty,
            Penalty::Presence => &mut self.presence_penalty,
        }
    }

    /// A line for people; steps that do nothing are left out.
    pub(crate) fn in_words(&self) -> String {
        let Settings { temperature, top_p, top_k, .. } = self;
        let mut words = format!("temperature {temperature}, top-p {top_p}, top-k {top_k}");
        for (name, value, idle) in [
            ("min-p", self.min_p, 0.0),
            ("repetition penalty", self.repetition_penalty, 1.0),
            ("frequency penalty", self.frequency_penalty, 0.0),
            ("presence penalty", self.presence_penalty, 0.0),
        ] {
            if value != idle {
                let _ = write!(words, ", {name} {value}"); // a string takes everything
            }
        }
        let _ = write!(words, ", seed {}", self.seed);
        words
    }
}

/// A temperature as typed.
pub(crate) fn temperature(text: &str) -> Result<f32, String> {
    within(text, 0.0..=100.0)
}

/// A probability as typed.
pub(crate) fn top_p(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("it must be a number above 0 and at most 1".into()),
    }
}

/// A share of a probability as typed.
pub(super) fn min_p(text: &str) -> Result<f32, String> {
    within(text, 0.0..=1.0)
}

fn repetition_penalty(text: &str) -> Result<f32, String> {
    within(text, 0.01..=100.0)
}

fn penalty(text: &str) -> Result<f32, String> {
    within(text, -2.0..=2.0)
}

/// A number of tokens as typed.
pub(crate) fn max_tokens(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if value > 0 => Ok(value),
        _ => Err("it must be a whole number above 0".into()),
    }
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let wrong = || "it must be a token id and a number, such as 42=-100".to_owned();
    let (id, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok((id.parse().map_err(|_| wrong())?, within(value, -100.0..=100.0)?))
}

fn stop(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".into()) } else { Ok(text.to_owned()) }
}

fn within(text: &str, range: RangeInclusive<f32>) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("it must be a number from {} to {}", range.start(), range.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_work_are_refused() {
        for text in ["-0.1", "x", "nan", "inf"] {
            assert!(temperature(text).is_err(), "{text}");
        }
        for text in ["0", "1.01", "nan"] {
            assert!(top_p(text).is_err(), "{text}");
        }
        for text in ["5", "5=", "=1", "-1=2", "5=101", "5=nan"] {
            assert!(logit_bias(text).is_err(), "{text}");
        }
        assert!(max_tokens("0").is_err() && stop("").is_err());
        assert!(penalty("2.5").is_err() && repetition_penalty("0").is_err() && min_p("2").is_err());
        assert_eq!((temperature("0"), top_p("1"), max_tokens("7")), (Ok(0.0), Ok(1.0), Ok(7)));
        assert_eq!((logit_bias("42=-100"), penalty("-2")), (Ok((42, -100.0)), Ok(-2.0)));
    }

    #[test]
    fn what_was_typed_wins_over_the_model_and_the_model_over_us() {
        let dir = std::env::temp_dir().join(format!("fathom-settings-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("generation_config.json");
        let read = |text: &str, typed: Typed| {
            std::fs::write(&file, text).unwrap();
            typed.over_defaults_of(&dir)
        };
        let all = r#"{"temperature": 0.3, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05,
            "top_p": null, "max_new_tokens": 9, "eos_token_id": [1, 7], "_from_model_config": true}"#;
        let (settings, stop) = read(all, Typed::default()).unwrap();
        assert_eq!((settings.temperature, settings.top_p, stop), (0.3, TOP_P, vec![1, 7]));
        assert_eq!((settings.top_k, settings.min_p, settings.max_tokens), (20, 0.1, Some(9)));
        assert_eq!(settings.repetition_penalty, 1.05);
        let typed =
            Typed { temperature: Some(0.9), repetition_penalty: Some(1.0), ..Typed::default() };
        let (settings, _) = read(all, typed).unwrap();
        assert_eq!((settings.temperature, settings.repetition_penalty), (0.9, 1.0));
        let greedy = r#"{"do_sample": false, "temperature": 0.3, "eos_token_id": 4}"#;
        let (settings, stop) = read(greedy, Typed::default()).unwrap();
        assert_eq!((settings.temperature, stop), (0.0, vec![4]));
        for wrong in ["{", r#"{"top_p": 1.5}"#, r#"{"max_new_tokens": 0}"#, r#"{"min_p": -1}"#] {
            assert!(read(wrong, Typed::default()).is_err(), "{wrong}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn steps_that_do_nothing_are_not_worded() {
        let (mut settings, _) = Typed::default().over_defaults_of(Path::new("none")).unwrap();
        assert_eq!(settings.in_words(), "temperature 0.6, top-p 0.95, top-k 0, seed 0");
        settings.min_p = 0.1;
        assert_eq!(settings.in_words(), "temperature 0.6, top-p 0.95, top-k 0, min-p 0.1, seed 0");
    }
}
