//! The part of a model's `generation_config.json` that is used: how its makers draw answers.

use crate::failure::Failure;
use fathom_engine::Sampling;
use serde::Deserialize;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::Path;

/// What the file states; it may hold more, and any of it may be missing.
#[derive(Deserialize, Default)]
pub(super) struct Generation {
    pub(super) do_sample: Option<bool>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<usize>,
    pub(super) min_p: Option<f32>,
    pub(super) repetition_penalty: Option<f32>,
    pub(super) max_new_tokens: Option<NonZeroUsize>,
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

impl Generation {
    /// Reads the file of the model in `dir`; nothing is stated where there is none, as beside a GGUF.
    pub(super) fn of(dir: &Path) -> Result<Generation, Failure> {
        let path = dir.join("generation_config.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(Generation::default());
            }
            Err(error) => {
                return Err(Failure::Failed(format!("cannot read `{}`: {error}", path.display())));
            }
        };
        let refused = |what: String| {
            Failure::hinted(
                format!("`{}` {what}", path.display()),
                "without this file the program's own defaults are used",
            )
        };
        let generation: Generation = serde_json::from_str(&text)
            .map_err(|error| refused(format!("cannot be understood: {error}")))?;
        generation.check().map_err(|error| refused(format!("cannot be used: {error}")))?;
        Ok(generation)
    }

    /// Ids that end an answer.
    pub(super) fn stop_ids(&self) -> Vec<u32> {
        match &self.eos_token_id {
            Ids::One(id) => vec![*id],
            Ids::Many(ids) => ids.clone(),
            Ids::None => Vec::new(),
        }
    }

    fn check(&self) -> Result<(), fathom_engine::Error> {
        let plain = Sampling::plain(1);
        let stated = Sampling {
            temperature: self.temperature.unwrap_or(plain.temperature),
            top_p: self.top_p.unwrap_or(plain.top_p),
            min_p: self.min_p.unwrap_or(plain.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(plain.repetition_penalty),
            ..plain
        };
        stated.check()
    }
}
