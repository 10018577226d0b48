//! The Hugging Face `tokenizer.json`: reading what byte-level BPE uses of it, and writing one.
//!
//! Every kind of pre-tokenizer, normalizer and post-processor of the DeepSeek, Qwen2 and Llama-3
//! families is read. What would change ids and is not known is refused by name, never ignored.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::added::AddedToken;
use crate::normalize;
use crate::{Error, Result};

/// The parts of a file that decide about ids.
#[derive(Deserialize)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub(crate) normalizer: Value,
    pub(crate) pre_tokenizer: Value,
    #[serde(default)]
    pub(crate) post_processor: Value,
    pub(crate) decoder: Value,
    pub(crate) model: Model,
}

/// The `model` of a file.
#[derive(Deserialize)]
pub(crate) struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    unk_token: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    pub(crate) ignore_merges: bool,
    pub(crate) vocab: HashMap<String, u32>,
    pub(crate) merges: Vec<Merge>,
}

/// Left and right of a merge: `"a b"` in older files, `["a", "b"]` in newer ones.
pub(crate) struct Merge(pub(crate) String, pub(crate) String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Merge, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a merge: two tokens, as a list or with a space between")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Merge, E> {
        let invalid = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
        split_merge(text).map(|(l, r)| Merge(l.into(), r.into())).ok_or_else(invalid)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Merge, A::Error> {
        let length = |n| serde::de::Error::invalid_length(n, &"two tokens");
        let left = list.next_element()?.ok_or_else(|| length(0))?;
        let right = list.next_element()?.ok_or_else(|| length(1))?;
        match list.next_element::<serde::de::IgnoredAny>()? {
            Some(_) => Err(length(3)),
            None => Ok(Merge(left, right)),
        }
    }
}

/// Left and right of `"a b"`: exactly one space, since no byte-level token holds one.
pub(crate) fn split_merge(text: &str) -> Option<(&str, &str)> {
    let (left, right) = text.split_once(' ')?;
    (!left.is_empty() && !right.is_empty() && !right.contains(' ')).then_some((left, right))
}

impl File {
    /// Reads a file and refuses what is no deterministic byte-level BPE.
    /// Errors: `Json`, `Unsupported`.
    pub(crate) fn read(path: &Path, content: &[u8]) -> Result<File> {
        let file: File = serde_json::from_slice(content)
            .map_err(|source| Error::Json { path: path.to_owned(), source })?;
        file.check(path)?;
        Ok(file)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let refuse = |part, found: String, expected| {
            let found = found.chars().take(200).collect();
            Err(Error::Unsupported { path: path.to_owned(), part, found, expected })
        };
        if normalize::from_json(&self.normalizer).is_none() {
            return refuse("normalizer", self.normalizer.to_string(), "none or a unicode form");
        }
        if self.decoder["type"] != "ByteLevel" {
            return refuse("decoder", self.decoder.to_string(), "`ByteLevel`");
        }
        let model = &self.model;
        match &model.kind {
            Some(kind) if kind != "BPE" => return refuse("model", format!("`{kind}`"), "`BPE`"),
            _ => {}
        }
        if !model.unk_token.is_null() || model.byte_fallback {
            let found = "one with an unknown token".into();
            return refuse("model", found, "one where bytes suffice");
        }
        let is_empty = |value: &Value| value.is_null() || value == "";
        for (part, value) in [
            ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
            ("model.end_of_word_suffix", &model.end_of_word_suffix),
        ] {
            if !is_empty(value) {
                return refuse(part, value.to_string(), "none");
            }
        }
        if !(model.dropout.is_null() || model.dropout == 0.0) {
            return refuse("model.dropout", model.dropout.to_string(), "none");
        }
        Ok(())
    }

    /// The token that the post-processor puts before every text, if it names one.
    pub(crate) fn first_token(&self) -> Option<&str> {
        let processor = &self.post_processor;
        let alone = std::slice::from_ref(processor);
        let processors = processor["processors"].as_array().map_or(alone, Vec::as_slice);
        let template = processors.iter().find(|p| p["type"] == "TemplateProcessing")?;
        template["single"][0]["SpecialToken"]["id"].as_str()
    }
}

/// What a file says, for [`write`].
pub(crate) struct Contents<'a> {
    pub(crate) added_tokens: &'a [AddedToken],
    /// `normalizer` as JSON.
    pub(crate) normalizer: String,
    /// The `Split` stages as JSON.
    pub(crate) splits: Vec<String>,
    /// A token to put before every text, with its id.
    pub(crate) first_token: Option<(&'a str, u32)>,
    pub(crate) ignore_merges: bool,
    /// Tokens in the byte alphabet and their ids.
    pub(crate) vocab: Vec<(String, u32)>,
    pub(crate) merges: Vec<(String, String)>,
}

/// The file as text. Written by hand because the order of a generic JSON map depends on the
/// features other crates switch on, and equal training must give equal bytes.
pub(crate) fn write(contents: &Contents<'_>) -> String {
    let added = contents.added_tokens.iter().map(|token| {
        let AddedToken { id, content, single_word, lstrip, rstrip, normalized, special } = token;
        let content = quoted(content);
        format!(
            "    {{\"id\": {id}, \"content\": {content}, \"single_word\": {single_word}, \
             \"lstrip\": {lstrip}, \"rstrip\": {rstrip}, \"normalized\": {normalized}, \
             \"special\": {special}}}"
        )
    });
    let byte_level = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \
                      \"trim_offsets\": true, \"use_regex\": false}";
    let splits = contents.splits.iter().map(String::as_str).chain([byte_level]);
    let splits = splits.map(|split| format!("      {split}"));
    let vocab = contents.vocab.iter().map(|(token, id)| format!("      {}: {id}", quoted(token)));
    let merges = contents.merges.iter();
    let merges = merges.map(|(left, right)| format!("      [{}, {}]", quoted(left), quoted(right)));
    format!(
        r#"{{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
{}
  ],
  "normalizer": {},
  "pre_tokenizer": {{
    "type": "Sequence",
    "pretokenizers": [
{}
    ]
  }},
  "post_processor": {},
  "decoder": {{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": {},
    "vocab": {{
{}
    }},
    "merges": [
{}
    ]
  }}
}}
"#,
        lines(added),
        contents.normalizer,
        lines(splits),
        post_processor(contents.first_token),
        contents.ignore_merges,
        lines(vocab),
        lines(merges),
    )
}

fn post_processor(first_token: Option<(&str, u32)>) -> String {
    let Some((token, id)) = first_token else {
        return "{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": false, \
                \"use_regex\": true}"
            .into();
    };
    let token = quoted(token);
    format!(
        "{{\"type\": \"TemplateProcessing\", \"single\": [{{\"SpecialToken\": {{\"id\": {token}, \
         \"type_id\": 0}}}}, {{\"Sequence\": {{\"id\": \"A\", \"type_id\": 0}}}}], \"pair\": \
         [{{\"Sequence\": {{\"id\": \"A\", \"type_id\": 0}}}}, {{\"Sequence\": {{\"id\": \"B\", \
         \"type_id\": 1}}}}], \"special_tokens\": {{{token}: {{\"id\": {token}, \"ids\": [{id}], \
         \"tokens\": [{token}]}}}}}}"
    )
}

/// A `Split` stage.
pub(crate) fn split_stage(pattern: &str, behavior: &str) -> String {
    format!(
        "{{\"type\": \"Split\", \"pattern\": {{\"Regex\": {}}}, \"behavior\": \"{behavior}\", \
         \"invert\": false}}",
        quoted(pattern)
    )
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(",\n")
}

/// A JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}
