//! The samples that a `rejection` stage keeps, as a JSON line each.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A kept answer: what a later `sft` stage learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptSample {
    /// The question as asked.
    pub(crate) question: String,
    /// The response after the prompt, without the end token.
    pub(crate) response: String,
}

/// Where the samples of a stage stand in its outcome.
pub(crate) fn path_in(dir: &Path) -> PathBuf {
    dir.join("samples.jsonl")
}

/// Reads up to `count` samples (0: all).
pub(crate) fn read(path: &Path, count: usize) -> Result<Vec<KeptSample>, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::Damaged {
        path: path.into(),
        found: error.to_string(),
        expected: "the samples of a `rejection` stage",
    })?;
    let limit = if count == 0 { usize::MAX } else { count };
    text.lines()
        .take(limit)
        .enumerate()
        .map(|(i, line)| {
            serde_json::from_str(line).map_err(|error| Error::Damaged {
                path: path.into(),
                found: format!("line {}: {error}", i + 1),
                expected: "a sample with `question` and `response`",
            })
        })
        .collect()
}

/// The samples as the text of their file.
pub(crate) fn to_text(samples: &[KeptSample]) -> Result<String, Error> {
    let mut text = String::new();
    for sample in samples {
        let line = serde_json::to_string(sample).map_err(|error| Error::Damaged {
            path: PathBuf::from("samples.jsonl"),
            found: error.to_string(),
            expected: "samples that JSON can hold",
        })?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}
