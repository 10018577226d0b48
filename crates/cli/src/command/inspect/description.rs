//! What is known of a model before its weights are read: the one input of a report.
//!
//! A directory, a GGUF file and a preset make one, with tensors under the names of the releases.

use crate::failure::Failure;
use fathom_checkpoint::Checkpoint;
use fathom_checkpoint::gguf::Gguf;
use fathom_model::gguf::{config_with_assumptions, stored_tensors};
use fathom_model::preset::{OWNER, Preset};
use fathom_model::survey::StoredTensor;
use fathom_model::{Config, read_config};
use fathom_text::chat::{ChatFormat, FORMATS, FormatRow, Hints};
use serde_json::Value;
use std::path::Path;

/// Everything that a report speaks of.
pub(crate) struct Description {
    /// What this is, in one word: `directory`, `file`, `preset`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) config: Config,
    /// Positions that the release is published for, where that is known.
    pub(crate) published_context_tokens: Option<u64>,
    /// Repositories with exactly this configuration.
    pub(crate) hub_ids: Vec<String>,
    /// Files of weights and their bytes, by name.
    pub(crate) files: Vec<(String, u64)>,
    /// From the headers; `None` where there are no weights.
    pub(crate) tensors: Option<Vec<StoredTensor>>,
    /// Why the headers cannot be read.
    pub(crate) weights_error: Option<String>,
    /// `None`: there is none.
    pub(crate) tokenizer: Option<Vocabulary>,
    /// Name of a known chat template, or what an unknown one resembles.
    pub(crate) template: Option<String>,
    /// Words of `generation_config.json` that change how a text is sampled.
    pub(crate) generation: Vec<(String, Value)>,
}

/// What a tokenizer is made of.
pub(crate) struct Vocabulary {
    pub(crate) kind: String,
    /// Added tokens included.
    pub(crate) n_tokens: u64,
    pub(crate) n_added: u64,
}

/// Describes a released model by its shape.
pub(crate) fn of_preset(preset: &Preset) -> Description {
    Description {
        kind: "preset",
        name: preset.name.to_owned(),
        config: (preset.config)(),
        published_context_tokens: Some(preset.context_tokens),
        hub_ids: preset.hub_ids.iter().map(|id| format!("{OWNER}/{id}")).collect(),
        files: Vec::new(),
        tensors: None,
        weights_error: None,
        tokenizer: None,
        template: None,
        generation: Vec::new(),
    }
}

/// Describes a directory with `config.json`. Of the weights only the headers are read, so that
/// hundreds of gigabytes take no longer than one.
pub(crate) fn of_directory(dir: &Path) -> Result<Description, Failure> {
    let config = read_config(dir)?;
    let files = weight_files(dir);
    let (tensors, weights_error) = match files.is_empty() {
        true => (None, None),
        false => match Checkpoint::open(dir) {
            Ok(checkpoint) => (Some(tensors(&checkpoint)), None),
            Err(error) => (None, Some(error.to_string())),
        },
    };
    let template = template_text(dir).map(|text| template_name(&text));
    Ok(Description {
        kind: "directory",
        name: dir.display().to_string(),
        config,
        published_context_tokens: None,
        hub_ids: Vec::new(),
        files,
        tensors,
        weights_error,
        tokenizer: json_file(&dir.join("tokenizer.json")).as_ref().and_then(vocabulary),
        template,
        generation: json_file(&dir.join("generation_config.json")).map_or(Vec::new(), defaults),
    })
}

/// Describes a GGUF file, or all parts of a split one.
pub(crate) fn of_gguf(file: &Path) -> Result<Description, Failure> {
    let gguf = Gguf::open(file)?;
    let (config, _) = config_with_assumptions(&gguf)?;
    let bytes = |path: &Path| path.metadata().map_or(0, |found| found.len());
    let files = gguf.paths().map(|path| (path.display().to_string(), bytes(path))).collect();
    let template = gguf.text("tokenizer.chat_template")?.map(template_name);
    let tensors = stored_tensors(&gguf, &config);
    Ok(Description {
        kind: "file",
        name: file.display().to_string(),
        published_context_tokens: None,
        hub_ids: Vec::new(),
        files,
        tensors: Some(tensors),
        weights_error: None,
        tokenizer: gguf_vocabulary(&gguf)?,
        template,
        generation: Vec::new(),
        config,
    })
}

/// The outline of the vocabulary in a GGUF. Type 3 is a control token, 4 one added by its users.
fn gguf_vocabulary(gguf: &Gguf) -> Result<Option<Vocabulary>, Failure> {
    let Some(model) = gguf.text("tokenizer.ggml.model")? else { return Ok(None) };
    let pre = gguf.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let types = gguf.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    Ok(Some(Vocabulary {
        kind: format!("{model}, split as {pre}"),
        n_tokens: gguf.texts("tokenizer.ggml.tokens")?.map_or(0, <[String]>::len) as u64,
        n_added: types.iter().filter(|kind| matches!(kind, 3 | 4)).count() as u64,
    }))
}

fn tensors(checkpoint: &Checkpoint) -> Vec<StoredTensor> {
    let describe = |tensor: fathom_checkpoint::TensorView<'_>| StoredTensor {
        name: tensor.name.to_owned(),
        shape: tensor.shape.to_vec(),
        dtype: tensor.dtype.name(),
        bytes: tensor.bytes.len() as u64,
    };
    checkpoint.tensors().map(describe).collect()
}

/// Files of weights by name, and an index whose shards may be absent.
fn weight_files(dir: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<(String, u64)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let weights =
                name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
            // Links of the hub cache are followed.
            let bytes = entry.path().metadata().ok()?.len();
            weights.then_some((name, bytes))
        })
        .collect();
    files.sort();
    files
}

/// A JSON file, or nothing where it is absent or broken: a description reports what it finds.
fn json_file(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Reads the outline of a `tokenizer.json`.
fn vocabulary(tokenizer: &Value) -> Option<Vocabulary> {
    let model = &tokenizer["model"];
    let ids = match &model["vocab"] {
        Value::Object(vocab) => vocab.len(),
        Value::Array(vocab) => vocab.len(),
        _ => return None,
    };
    let added = tokenizer["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    // Some files list added tokens in the vocabulary as well.
    let beyond = added.iter().filter(|token| {
        let content = token["content"].as_str().unwrap_or_default();
        model["vocab"].get(content).is_none()
    });
    let bytes = [&tokenizer["pre_tokenizer"], &tokenizer["decoder"]]
        .iter()
        .any(|part| part.to_string().contains("\"ByteLevel\""));
    let kind = model["type"].as_str().unwrap_or("unknown kind");
    Some(Vocabulary {
        kind: if bytes { format!("byte-level {kind}") } else { kind.to_owned() },
        n_tokens: (ids + beyond.count()) as u64,
        n_added: added.len() as u64,
    })
}

/// The template of a checkpoint: its own file, or the word of its tokenizer's configuration.
fn template_text(dir: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(dir.join("chat_template.jinja")) {
        return Some(text);
    }
    match &json_file(&dir.join("tokenizer_config.json"))?["chat_template"] {
        Value::String(text) => Some(text.clone()),
        // Several by name; the one called default is used.
        Value::Array(named) => {
            let default = named.iter().find(|one| one["name"] == "default");
            default.or(named.first())?["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// The name of a known layout, or what an unknown one resembles.
fn template_name(text: &str) -> String {
    let known = |row: &&FormatRow| row.template == text || row.format.jinja() == text;
    if let Some(row) = FORMATS.iter().find(known) {
        return row.label.to_owned();
    }
    let n = text.chars().count();
    match ChatFormat::detect(Hints { template: Some(text), ..Hints::default() }) {
        Some(format) => format!("its own, {n} characters, like {}", format.row().label),
        None => format!("its own, {n} characters"),
    }
}

/// The words of `generation_config.json` that bear on sampling.
fn defaults(generation: Value) -> Vec<(String, Value)> {
    const WORDS: [&str; 9] = [
        "do_sample",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "max_new_tokens",
        "bos_token_id",
        "eos_token_id",
    ];
    let known = |word: &str| match &generation[word] {
        Value::Null => None,
        value => Some((word.to_owned(), value.clone())),
    };
    WORDS.into_iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_vocabulary_counts_added_tokens_once() {
        let tokenizer = json!({
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "<eos>": 2}},
            "added_tokens": [{"content": "<eos>", "id": 2}, {"content": "<think>", "id": 3}],
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
        });
        let found = vocabulary(&tokenizer).unwrap();
        assert_eq!((found.kind.as_str(), found.n_tokens, found.n_added), ("byte-level BPE", 4, 2));
        assert!(vocabulary(&json!({"model": 3})).is_none());
    }

    #[test]
    fn defaults_are_those_that_bear_on_sampling() {
        let generation = json!({"top_p": 0.95, "temperature": 0.6, "transformers_version": "4"});
        let words: Vec<String> = defaults(generation).into_iter().map(|(word, _)| word).collect();
        assert_eq!(words, ["temperature", "top_p"]);
        assert!(defaults(json!([1])).is_empty());
    }
}
