//! What `MODEL` stands for: a checkpoint directory, a run directory, or nothing yet.

use crate::failure::Failure;
use crate::output::{program, quoted};
use fathom_train::run_dir::{checkpoint_of, is_run_dir, model_stage};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where runs are kept.
pub(crate) const RUNS: &str = "runs";

/// A directory with `config.json`, and what to call it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) dir: PathBuf,
    pub(crate) label: String,
}

/// Finds the model that was typed; without one, that of the newest run under `runs/`.
pub(crate) fn find(typed: Option<&str>) -> Result<Source, Failure> {
    match typed {
        Some(typed) => named(typed),
        None => newest_run(Path::new(RUNS)).ok_or_else(none_yet),
    }
}

fn named(typed: &str) -> Result<Source, Failure> {
    let path = Path::new(typed);
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
        return Err(Failure::hinted(
            format!("`{typed}`: GGUF files cannot be read yet"),
            "use the same model as a Hugging Face directory with safetensors",
        ));
    }
    if !path.exists() {
        return Err(missing(typed));
    }
    if is_run_dir(path) {
        return of_run(path);
    }
    if path.join("config.json").is_file() {
        return Ok(Source { dir: path.to_owned(), label: typed.to_owned() });
    }
    let what = if path.is_dir() { "holds no `config.json`" } else { "is a file" };
    Err(Failure::hinted(
        format!("`{typed}` {what}, so it is no model"),
        "name a directory with `config.json`, or a run directory such as `runs/r1-tiny`",
    ))
}

fn of_run(root: &Path) -> Result<Source, Failure> {
    let stage = model_stage(root)?;
    let dir = checkpoint_of(root, &stage);
    Ok(Source { dir, label: format!("{} · {stage}", root.display()) })
}

fn missing(typed: &str) -> Failure {
    let error = format!("there is no `{typed}`");
    let run = Path::new(RUNS).join(typed);
    if is_run_dir(&run) {
        return Failure::hinted(error, format!("did you mean `{}`?", run.display()));
    }
    if is_repo_id(typed) {
        let download = format!("hf download {typed} --local-dir {}", quoted(last_part(typed)));
        return Failure::hinted(
            error,
            format!(
                "if it is a Hugging Face repository: these cannot be fetched yet; `{download}` \
                 makes a directory that can be named here"
            ),
        );
    }
    Failure::hinted(error, "name a directory with `config.json`, or a run directory")
}

/// Whether it looks like `deepseek-ai/DeepSeek-R1`.
fn is_repo_id(typed: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    typed.matches('/').count() == 1
        && typed.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()))
        && !typed.starts_with("runs/")
        && typed.chars().all(allowed)
}

fn last_part(typed: &str) -> &str {
    typed.rsplit('/').next().unwrap_or(typed)
}

/// The run with the newest state that has a model.
fn newest_run(runs: &Path) -> Option<Source> {
    let entries = std::fs::read_dir(runs).ok()?;
    let mut found: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_run_dir(path))
        .filter_map(|path| Some((path.join("state.json").metadata().ok()?.modified().ok()?, path)))
        .collect();
    found.sort();
    found.iter().rev().find_map(|(_, path)| of_run(path).ok())
}

fn none_yet() -> Failure {
    Failure::hinted(
        "no model was named, and there is no trained one under `runs/`",
        format!("`{} train r1-tiny` trains one in minutes", program()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failure: Failure) -> String {
        match failure {
            Failure::Failed(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_opened_says_why_and_what_to_do() {
        let cases = [
            ("model.gguf", "GGUF files cannot be read yet"),
            (
                "deepseek-ai/DeepSeek-R1",
                "hf download deepseek-ai/DeepSeek-R1 --local-dir DeepSeek-R1",
            ),
            ("./nowhere/at/all", "name a directory with `config.json`"),
            ("src", "holds no `config.json`"),
            ("Cargo.toml", "is a file"),
        ];
        for (typed, expected) in cases {
            let text = text(find(Some(typed)).unwrap_err());
            assert!(text.contains(expected) && text.contains("\nhint: "), "{text}");
        }
    }
}
