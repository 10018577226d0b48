//! What `MODEL` stands for: a checkpoint directory, a GGUF file, a run directory, a repository of a
//! hub, or nothing yet.

use crate::failure::Failure;
use crate::fetching::{fetch, pull_command};
use crate::output::program;
use fathom_hub::{Held, ModelName, Request, Settings};
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

/// What was found under a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A checkpoint.
    Directory(Source),
    /// A GGUF file, the first one if it has parts, and what to call it.
    Gguf { file: PathBuf, label: String },
}

impl Found {
    /// The checkpoint directory, or the GGUF file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Found::Directory(source) => &source.dir,
            Found::Gguf { file, .. } => file,
        }
    }

    /// What to call it.
    pub(crate) fn label(&self) -> &str {
        match self {
            Found::Directory(source) => &source.label,
            Found::Gguf { label, .. } => label,
        }
    }
}

/// What to do about a repository that the cache of downloads lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Download it.
    Fetch,
    /// Say how to download it.
    Refuse,
}

/// Finds a directory, a GGUF file, a run, or a repository in the cache of downloads. What exists as
/// a path is that path; without a name, the newest run under `runs/`.
pub(crate) fn locate(typed: Option<&str>, missing: Missing) -> Result<Found, Failure> {
    let Some(typed) = typed else {
        return newest_run(Path::new(RUNS)).map(Found::Directory).ok_or_else(none_yet);
    };
    let path = Path::new(typed);
    if !path.exists() {
        return match hub_name(typed) {
            Some(name) => on_hub(&name, typed, missing),
            None => Err(absent(typed)),
        };
    }
    if path.is_file() && is_gguf(path) {
        return Ok(Found::Gguf { file: path.to_owned(), label: typed.to_owned() });
    }
    if is_run_dir(path) {
        return of_run(path).map(Found::Directory);
    }
    if path.join("config.json").is_file() {
        return Ok(Found::Directory(Source { dir: path.to_owned(), label: typed.to_owned() }));
    }
    let what = if path.is_dir() { "holds no `config.json`" } else { "is a file" };
    Err(Failure::hinted(
        format!("`{typed}` {what}, so it is no model"),
        "name a directory with `config.json`, or a run directory such as `runs/r1-tiny`",
    ))
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

fn of_run(root: &Path) -> Result<Source, Failure> {
    let stage = model_stage(root)?;
    let dir = checkpoint_of(root, &stage);
    Ok(Source { dir, label: format!("{} · {stage}", root.display()) })
}

/// What was typed as `organisation/name[@revision][:choice]`, unless it looks like a path below a
/// folder of ours.
fn hub_name(typed: &str) -> Option<ModelName> {
    if typed.starts_with("runs/") {
        return None;
    }
    ModelName::parse(typed).ok().filter(|name| name.repo.as_str().contains('/'))
}

/// A model of a hub: from the cache, or fetched into it.
fn on_hub(name: &ModelName, typed: &str, missing: Missing) -> Result<Found, Failure> {
    let settings = Settings::from_env()?;
    let found = |held| match held {
        Held::Directory(dir) => Ok(Found::Directory(Source { dir, label: name.to_string() })),
        Held::Gguf(file) => Ok(Found::Gguf { file, label: name.to_string() }),
        held => Err(held),
    };
    let held = match found(settings.cache.held(name)?) {
        Ok(found) => return Ok(found),
        Err(held) => held,
    };
    // A misspelt path into an existing folder is not worth asking the internet about.
    let is_local = typed.split('/').next().is_some_and(|folder| Path::new(folder).is_dir());
    let request = Request::from(name.clone());
    if missing == Missing::Fetch && !is_local {
        fetch(&settings, &request, &pull_command(&request))?;
        if let Ok(found) = found(settings.cache.held(name)?) {
            return Ok(found);
        }
    }
    let what = match &held {
        Held::Part { missing, .. } => {
            let missing = missing.first().map_or("", String::as_str);
            format!("only a part of `{name}` is in the cache of downloads: `{missing}` is missing")
        }
        _ => format!("there is no `{typed}` here nor in the cache of downloads"),
    };
    let command = pull_command(&request);
    Err(Failure::hinted(what, format!("if it is a Hugging Face repository, fetch it: `{command}`")))
}

fn absent(typed: &str) -> Failure {
    let error = format!("there is no `{typed}`");
    let run = Path::new(RUNS).join(typed);
    if is_run_dir(&run) {
        return Failure::hinted(error, format!("did you mean `{}`?", run.display()));
    }
    Failure::hinted(
        error,
        "name a directory with `config.json`, a run directory, or a Hugging Face repository \
         such as `deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B`",
    )
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
            ("model.gguf", "there is no `model.gguf`"),
            ("nobody/no-such-model", "pull nobody/no-such-model`"),
            ("nobody/no-such-model:Q4_K_M", "pull nobody/no-such-model:Q4_K_M`"),
            ("./nowhere/at/all", "name a directory with `config.json`"),
            ("src/no-such-model", "here nor in the cache"),
            ("src", "holds no `config.json`"),
            ("Cargo.toml", "is a file"),
        ];
        for (typed, expected) in cases {
            let text = text(locate(Some(typed), Missing::Refuse).unwrap_err());
            assert!(text.contains(expected) && text.contains("\nhint: "), "{text}");
        }
    }
}
