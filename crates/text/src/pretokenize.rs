//! Cutting text into the pieces inside which BPE merges: a sequence of regular expressions.
//!
//! Each expression splits every piece of the one before; matches and the gaps between them both
//! become pieces, which never join again. Reads the `pre_tokenizer` of a `tokenizer.json` as far
//! as byte-level tokenizers use it. Known expressions run as hand-written code (`class_run`,
//! `words`), all others through `fancy-regex`.

mod class_run;
pub(crate) mod families;
mod words;

use std::ops::Range;
use std::path::Path;

use fancy_regex::Regex;
use serde_json::Value;

use crate::{Error, Result, tokenizer_json};
use class_run::ClassRun;
pub(crate) use words::{CODE, PROSE};

/// Most stages of a file; a short expression can take megabytes once it is compiled. Releases have
/// up to six.
const MAX_STAGES: usize = 16;

/// A compiled sequence of expressions.
#[derive(Debug)]
pub(crate) struct Splitter {
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    pattern: String,
    matcher: Matcher,
    behavior: Behavior,
}

enum Matcher {
    Class(ClassRun),
    Words(words::MatchAt),
    Regex(Box<Regex>),
}

/// What becomes of a match: the `behavior` of a `Split` stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behavior {
    Isolated,
    Removed,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

const BEHAVIORS: [(&str, Behavior); 5] = [
    ("Isolated", Behavior::Isolated),
    ("Removed", Behavior::Removed),
    ("MergedWithPrevious", Behavior::MergedWithPrevious),
    ("MergedWithNext", Behavior::MergedWithNext),
    ("Contiguous", Behavior::Contiguous),
];

impl Splitter {
    /// Compiles patterns whose matches become pieces of their own. Errors: `Pattern`.
    pub(crate) fn new<'a>(
        path: &Path,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Splitter> {
        let isolated = |pattern| Stage::new(path, pattern, Behavior::Isolated, true);
        Ok(Splitter { stages: patterns.into_iter().map(isolated).collect::<Result<_>>()? })
    }

    /// Reads the `pre_tokenizer` of a file. Errors: `Unsupported` for any kind but `Split`,
    /// `Digits` and, once at the end, `ByteLevel`; `Pattern`.
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
        if stages.len() > MAX_STAGES {
            return Err(refuse(pre_tokenizer, "at most 16 stages"));
        }
        let mut read = Vec::new();
        for stage in splits {
            let (pattern, behavior) = match stage["type"].as_str() {
                Some("Split") => split_stage(stage),
                Some("Digits") if stage["individual_digits"] == true => {
                    Some((r"\p{N}".into(), Behavior::Isolated))
                }
                Some("Digits") => Some((r"\p{N}+".into(), Behavior::Isolated)),
                _ => None,
            }
            .ok_or_else(|| refuse(stage, "`Split` or `Digits`"))?;
            read.push(Stage::new(path, &pattern, behavior, true)?);
        }
        if last["type"] != "ByteLevel" || last["add_prefix_space"] != false {
            return Err(refuse(last, "`ByteLevel` without a prefix space"));
        }
        if last["use_regex"] != false {
            read.push(Stage::new(path, words::GPT2, Behavior::Isolated, true)?);
        }
        Ok(Splitter { stages: read })
    }

    /// The same with the engine alone, to compare the hand-written splitters with.
    #[cfg(test)]
    pub(crate) fn with_engine_alone(&self) -> Splitter {
        let again = |stage: &Stage| {
            Stage::new(Path::new(""), &stage.pattern, stage.behavior, false).expect("compiled once")
        };
        Splitter { stages: self.stages.iter().map(again).collect() }
    }

    /// The expressions, if all their matches become pieces of their own.
    pub(crate) fn isolated_patterns(&self) -> Option<Vec<&str>> {
        let isolated = |stage: &Stage| stage.behavior == Behavior::Isolated;
        let all = self.stages.iter().all(isolated);
        all.then(|| self.stages.iter().map(|stage| stage.pattern.as_str()).collect())
    }

    /// The `Split` stages of a `tokenizer.json`, without the `ByteLevel` that ends them.
    pub(crate) fn to_json(&self) -> Vec<String> {
        let stage = |stage: &Stage| {
            let behavior = BEHAVIORS.iter().find(|(_, known)| *known == stage.behavior);
            tokenizer_json::split_stage(&stage.pattern, behavior.expect("the table holds all").0)
        };
        self.stages.iter().map(stage).collect()
    }

    /// Replaces `pieces` by the byte ranges of the pieces of `text`, in order, gapless unless a
    /// stage removes its matches. `spare` is room to work in.
    pub(crate) fn split(
        &self,
        text: &str,
        pieces: &mut Vec<Range<usize>>,
        spare: &mut Vec<Range<usize>>,
    ) {
        pieces.clear();
        if !text.is_empty() {
            pieces.push(0..text.len());
        }
        for stage in &self.stages {
            spare.clear();
            for piece in pieces.drain(..) {
                stage.split(text, piece, spare);
            }
            std::mem::swap(pieces, spare);
        }
    }
}

impl Stage {
    fn new(path: &Path, pattern: &str, behavior: Behavior, by_hand: bool) -> Result<Stage> {
        // Compiled in any case: a pattern that the engine refuses must not pass.
        let regex = Regex::new(pattern).map_err(|source| Error::Pattern {
            path: path.to_owned(),
            pattern: pattern.to_owned(),
            source: Box::new(source),
        })?;
        let class = || ClassRun::from_pattern(pattern).map(Matcher::Class);
        let known = || words::match_at(pattern).map(Matcher::Words).or_else(class);
        let by_hand = if by_hand { known() } else { None };
        let matcher = by_hand.unwrap_or_else(|| Matcher::Regex(Box::new(regex)));
        Ok(Stage { pattern: pattern.to_owned(), matcher, behavior })
    }

    fn split(&self, text: &str, piece: Range<usize>, out: &mut Vec<Range<usize>>) {
        if self.behavior != Behavior::Isolated {
            return self.split_otherwise(text, piece, out);
        }
        let mut done = piece.start;
        self.matcher.find_all(&text[piece.clone()], |start, end| {
            let (start, end) = (piece.start + start, piece.start + end);
            if done < start {
                out.push(done..start);
            }
            out.push(start..end);
            done = end;
        });
        if done < piece.end {
            out.push(done..piece.end);
        }
    }

    /// The rare behaviours, in which a match does not stand alone.
    fn split_otherwise(&self, text: &str, piece: Range<usize>, out: &mut Vec<Range<usize>>) {
        let mut parts: Vec<(Range<usize>, bool)> = Vec::new();
        let mut done = piece.start;
        self.matcher.find_all(&text[piece.clone()], |start, end| {
            let (start, end) = (piece.start + start, piece.start + end);
            if done < start {
                parts.push((done..start, false));
            }
            parts.push((start..end, true));
            done = end;
        });
        if done < piece.end {
            parts.push((done..piece.end, false));
        }
        let first = out.len();
        let mut before = None; // whether the part before was a match
        for (range, is_match) in parts {
            let joins = match self.behavior {
                Behavior::MergedWithPrevious => is_match && before == Some(false),
                Behavior::MergedWithNext => !is_match && before == Some(true),
                Behavior::Contiguous => before == Some(is_match),
                Behavior::Isolated | Behavior::Removed => false,
            };
            before = Some(is_match);
            match out[first..].last_mut() {
                Some(last) if joins => last.end = range.end,
                _ if is_match && self.behavior == Behavior::Removed => {}
                _ => out.push(range),
            }
        }
    }
}

impl Matcher {
    /// Calls `emit` with every match in `text` that is not empty. A piece is matched on its own:
    /// expressions must not see what stands around it.
    fn find_all(&self, text: &str, mut emit: impl FnMut(usize, usize)) {
        match self {
            Matcher::Class(class) => class.find_all(text, emit),
            Matcher::Words(match_at) => words::find_all(*match_at, text, emit),
            Matcher::Regex(regex) => {
                // An error is a hit limit on backtracking; the rest then stays one piece.
                for found in regex.find_iter(text).map_while(|found| found.ok()) {
                    if found.start() < found.end() {
                        emit(found.start(), found.end());
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Matcher::Class(class) => class.fmt(f),
            Matcher::Words(_) => f.write_str("Words"),
            Matcher::Regex(_) => f.write_str("Regex"),
        }
    }
}

fn split_stage(stage: &Value) -> Option<(String, Behavior)> {
    let (_, behavior) = BEHAVIORS.iter().find(|(name, _)| stage["behavior"] == *name)?;
    if stage["invert"] == true {
        return None;
    }
    let pattern = &stage["pattern"];
    let literal = pattern["String"].as_str().map(|s| fancy_regex::escape(s).into_owned());
    Some((pattern["Regex"].as_str().map(str::to_owned).or(literal)?, *behavior))
}

#[cfg(test)]
mod tests;
