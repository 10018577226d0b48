//! Cutting text into the pieces inside which BPE merges: a sequence of regular expressions.
//!
//! Each expression splits every piece of the one before; matches and the gaps between them both
//! become pieces, which never join again. Reads the `pre_tokenizer` of a `tokenizer.json` as far
//! as byte-level tokenizers use it.

use std::ops::Range;
use std::path::Path;

use fancy_regex::Regex;
use serde_json::Value;

use crate::{Error, Result};

/// The expression of GPT-2, which `ByteLevel` applies when `use_regex` is true.
const GPT2_PATTERN: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// A compiled sequence of expressions.
#[derive(Debug)]
pub(crate) struct Splitter {
    stages: Vec<Regex>,
}

impl Splitter {
    /// Compiles patterns. Errors: `Pattern`.
    pub(crate) fn new<'a>(
        path: &Path,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Splitter> {
        let compile = |pattern: &str| {
            Regex::new(pattern).map_err(|source| Error::Pattern {
                path: path.to_owned(),
                pattern: pattern.to_owned(),
                source: Box::new(source),
            })
        };
        Ok(Splitter { stages: patterns.into_iter().map(compile).collect::<Result<_>>()? })
    }

    /// Reads the `pre_tokenizer` of a file. Errors: `Unsupported` for any kind but `Split`
    /// (isolated), `Digits` and, once at the end, `ByteLevel`; `Pattern`.
    pub(crate) fn from_json(path: &Path, pre_tokenizer: &Value) -> Result<Splitter> {
        let refuse = |found: &Value, expected| Error::Unsupported {
            path: path.to_owned(),
            part: "pre_tokenizer",
            found: found.to_string().chars().take(200).collect(),
            expected,
        };
        let alone = std::slice::from_ref(pre_tokenizer);
        let stages = match pre_tokenizer["type"].as_str() {
            Some("Sequence") => {
                let list = pre_tokenizer["pretokenizers"].as_array();
                list.ok_or_else(|| refuse(pre_tokenizer, "a list of stages"))?.as_slice()
            }
            _ => alone,
        };
        let Some((last, splits)) = stages.split_last() else {
            return Err(refuse(pre_tokenizer, "a `ByteLevel` stage at the end"));
        };
        let mut patterns = Vec::new();
        for stage in splits {
            let pattern = match stage["type"].as_str() {
                Some("Split") => split_pattern(stage),
                Some("Digits") if stage["individual_digits"] == true => Some(r"\p{N}".into()),
                Some("Digits") => Some(r"\p{N}+".into()),
                _ => None,
            };
            patterns.push(pattern.ok_or_else(|| refuse(stage, "an isolated `Split` or `Digits`"))?);
        }
        if last["type"] != "ByteLevel" || last["add_prefix_space"] != false {
            return Err(refuse(last, "`ByteLevel` without a prefix space"));
        }
        if last["use_regex"] != false {
            patterns.push(GPT2_PATTERN.to_owned());
        }
        Splitter::new(path, patterns.iter().map(String::as_str))
    }

    /// Replaces `pieces` by the byte ranges of the pieces of `text`, in order, gapless.
    pub(crate) fn split(&self, text: &str, pieces: &mut Vec<Range<usize>>) {
        pieces.clear();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        let mut refined = Vec::with_capacity(text.len() / 3);
        for stage in &self.stages {
            for piece in pieces.drain(..) {
                split_piece(stage, text, piece, &mut refined);
            }
            std::mem::swap(pieces, &mut refined);
        }
    }
}

fn split_pattern(stage: &Value) -> Option<String> {
    if stage["behavior"] != "Isolated" || stage["invert"] == true {
        return None;
    }
    let pattern = &stage["pattern"];
    let literal = pattern["String"].as_str().map(|s| fancy_regex::escape(s).into_owned());
    pattern["Regex"].as_str().map(str::to_owned).or(literal)
}

fn split_piece(stage: &Regex, text: &str, piece: Range<usize>, out: &mut Vec<Range<usize>>) {
    let mut done = piece.start;
    // A piece is matched on its own: expressions must not see what stands around it. An error
    // is a hit limit on backtracking; the rest then stays one piece, as in the reference.
    for found in stage.find_iter(&text[piece.clone()]).map_while(|found| found.ok()) {
        let (start, end) = (piece.start + found.start(), piece.start + found.end());
        if start == end {
            continue;
        }
        if done < start {
            out.push(done..start);
        }
        out.push(start..end);
        done = end;
    }
    if done < piece.end {
        out.push(done..piece.end);
    }
}
