//! `report.html`: what a run did, on one page that needs nothing else: no script, no network, no
//! fonts, no images. Plots are SVG written by [`plot`]; colours follow the reader's light or dark.
//!
//! The page is a pure function of the files of the run directory, so it can be written again.

mod answers;
mod curves;
mod html;
mod page;
mod plot;
mod scale;
mod summary;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::json_lines::read_all;
use crate::metrics::{Record, Sample};
use crate::recipe::Recipe;
use crate::results::Results;
use crate::run_dir::{RunDirError, read_recipe};

/// Everything the page is made of.
#[derive(Debug, Clone)]
pub struct ReportInput {
    /// The complete recipe.
    pub recipe: Recipe,
    /// Figures per step, in the order in which they were written.
    pub records: Vec<Record>,
    /// Sampled answers.
    pub samples: Vec<Sample>,
    /// Figures of the evaluated models, if there are any yet.
    pub results: Option<Results>,
    /// The run directory as a person would type it.
    pub run_dir: String,
}

impl ReportInput {
    /// Reads what a run directory holds so far; needs no lock.
    ///
    /// Errors: `File` or `Recipe` if a file cannot be read; a missing log counts as empty.
    pub fn read(root: &Path) -> Result<ReportInput, RunDirError> {
        let results_path = root.join("results.json");
        let results = match std::fs::read_to_string(&results_path) {
            Ok(text) => Some(
                Results::from_json(&text)
                    .map_err(|source| RunDirError::State { path: results_path, source })?,
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(RunDirError::File { path: results_path, doing: "read", source });
            }
        };
        Ok(ReportInput {
            recipe: read_recipe(root)?,
            records: read_all(&root.join("metrics.jsonl"))?,
            samples: read_all(&root.join("samples.jsonl"))?,
            results,
            run_dir: root.display().to_string(),
        })
    }
}

/// The whole page.
pub fn render(input: &ReportInput) -> String {
    page::page(input)
}
