//! How answers are drawn: what the flags, the chat commands and the model's own file say.

use crate::failure::Failure;
use serde::Deserialize;
use std::path::Path;

/// Temperature where the model states none.
const TEMPERATURE: f32 = 0.6;
/// Probability mass kept where the model states none.
const TOP_P: f32 = 0.95;

/// How the next answer is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    pub(crate) top_k: usize,
    pub(crate) seed: u64,
    /// Most tokens of an answer; none leaves as many as the model has positions.
    pub(crate) max_tokens: Option<usize>,
}

/// What was typed about it.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct Typed {
    /// Randomness: 0 always takes the most likely token [default: what the model states, else 0.6]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    temperature: Option<f32>,

    /// Draw only from the likeliest tokens that together have this probability [default: what the model states, else 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = top_p)]
    top_p: Option<f32>,

    /// Draw only from the K likeliest tokens; 0 is all
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,

    /// The same seed and prompt give the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Longest answer, in tokens [default: what the model has room for]
    #[arg(long, value_name = "N", value_parser = max_tokens)]
    max_tokens: Option<usize>,
}

/// The part of `generation_config.json` that is used.
#[derive(Deserialize, Default)]
struct Generation {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    max_new_tokens: Option<usize>,
    #[serde(default)]
    eos_token_id: Ids,
}

/// One id or a list of them.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
    #[default]
    None,
}

impl Typed {
    /// Settings for the model in `dir`, and the ids that its own file ends answers with.
    pub(crate) fn over_defaults_of(&self, dir: &Path) -> Result<(Settings, Vec<u32>), Failure> {
        let stated = read_generation(&dir.join("generation_config.json"))?;
        let own = match stated.do_sample {
            Some(false) => 0.0,
            _ => stated.temperature.unwrap_or(TEMPERATURE),
        };
        let settings = Settings {
            temperature: self.temperature.unwrap_or(own),
            top_p: self.top_p.or(stated.top_p).unwrap_or(TOP_P),
            top_k: self.top_k.or(stated.top_k).unwrap_or(0),
            seed: self.seed,
            max_tokens: self.max_tokens.or(stated.max_new_tokens),
        };
        let stop_ids = match stated.eos_token_id {
            Ids::One(id) => vec![id],
            Ids::Many(ids) => ids,
            Ids::None => Vec::new(),
        };
        Ok((settings, stop_ids))
    }
}

fn read_generation(path: &Path) -> Result<Generation, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Generation::default());
        }
        Err(error) => {
            return Err(Failure::Failed(format!("cannot read `{}`: {error}", path.display())));
        }
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::hinted(
            format!("`{}` cannot be understood: {error}", path.display()),
            "without this file the program's own defaults are used",
        )
    })
}

/// A temperature as typed.
pub(super) fn temperature(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 100".into()),
    }
}

/// A probability as typed.
pub(super) fn top_p(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("it must be a number above 0 and at most 1".into()),
    }
}

/// A number of tokens as typed.
pub(super) fn max_tokens(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if value > 0 => Ok(value),
        _ => Err("it must be a whole number above 0".into()),
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
        assert!(max_tokens("0").is_err());
        assert_eq!((temperature("0"), top_p("1"), max_tokens("7")), (Ok(0.0), Ok(1.0), Ok(7)));
    }

    #[test]
    fn what_was_typed_wins_over_the_model_and_the_model_over_us() {
        let dir = std::env::temp_dir().join(format!("fathom-settings-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("generation_config.json");
        std::fs::write(&file, r#"{"temperature": 0.3, "eos_token_id": [1, 7], "_from": 1}"#)
            .unwrap();
        let (settings, stop) = Typed::default().over_defaults_of(&dir).unwrap();
        assert_eq!((settings.temperature, settings.top_p, stop), (0.3, TOP_P, vec![1, 7]));
        let typed = Typed { temperature: Some(0.9), ..Typed::default() };
        assert_eq!(typed.over_defaults_of(&dir).unwrap().0.temperature, 0.9);
        std::fs::write(&file, "{").unwrap();
        assert!(Typed::default().over_defaults_of(&dir).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
