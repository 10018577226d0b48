//! Finding a preset by any of its names, and the nearest one to a wrong name.

use std::fmt;

use super::{OWNER, PRESETS, Preset};
use crate::config::edits;

/// No preset has this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPreset {
    /// What was asked for.
    pub found: String,
    /// The name most like it, if any is.
    pub nearest: Option<&'static str>,
}

impl fmt::Display for UnknownPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no preset `{}`", self.found)
    }
}

impl std::error::Error for UnknownPreset {}

/// The preset of this name in any case: ours, or a repository, with or without its owner and the
/// word `deepseek-` that all of them begin with.
pub fn find(name: &str) -> Result<&'static Preset, UnknownPreset> {
    let wanted = plain(name);
    let known = |preset: &&Preset| {
        preset.name == wanted || preset.hub_ids.iter().any(|id| plain(id) == wanted)
    };
    PRESETS
        .iter()
        .find(known)
        .ok_or_else(|| UnknownPreset { found: name.to_owned(), nearest: nearest(&wanted) })
}

/// A name as it is compared: lower case, without what all repositories share.
fn plain(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let lower = lower.strip_prefix(OWNER).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&lower);
    lower.strip_prefix("deepseek-").unwrap_or(lower).to_owned()
}

/// Our name of the row with the most similar name, unless it differs in half of its letters.
fn nearest(wanted: &str) -> Option<&'static str> {
    let spellings = PRESETS.iter().flat_map(|preset| {
        let ids = preset.hub_ids.iter().map(|id| plain(id));
        ids.chain([preset.name.to_owned()]).map(|spelling| (spelling, preset.name))
    });
    let (edits, length, name) = spellings
        .map(|(spelling, name)| (edits(wanted, &spelling), spelling.len(), name))
        .min_by_key(|(edits, length, _)| (*edits, *length))?;
    (edits * 2 < length.max(wanted.len())).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_preset_is_sound_and_found_by_its_names() {
        for preset in PRESETS {
            let config = (preset.config)();
            assert_eq!(config.check(), Ok(()), "{}", preset.name);
            assert!(preset.context_tokens <= config.max_position_embeddings as u64);
            let found = |name: &str| find(name).map(|found| found.name);
            assert_eq!(found(preset.name), Ok(preset.name));
            for id in preset.hub_ids {
                assert_eq!(found(id), Ok(preset.name));
                assert_eq!(found(&format!("{OWNER}/{id}")), Ok(preset.name));
                assert_eq!(found(&id.to_uppercase()), Ok(preset.name));
            }
        }
        for (short, name) in
            [("v3-0324", "v3"), ("R1-0528", "r1"), ("r1-distill-qwen-7b", "distill-qwen-7b")]
        {
            assert_eq!(find(short).map(|found| found.name), Ok(name));
        }
    }

    #[test]
    fn no_name_stands_for_two_presets() {
        let mut names = BTreeSet::new();
        for preset in PRESETS {
            let spellings = preset.hub_ids.iter().map(|id| plain(id));
            let own: BTreeSet<String> = spellings.chain([preset.name.to_owned()]).collect();
            for name in own {
                assert!(names.insert(name.clone()), "{name}");
            }
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_nearest_right_one() {
        let nearest = |name: &str| find(name).expect_err("no such preset").nearest;
        assert_eq!(nearest("v4"), None);
        assert_eq!(nearest("v2-light"), Some("v2-lite"));
        assert_eq!(nearest("deepseek-ai/DeepSeek-R1-Distil-Qwen-7B"), Some("distill-qwen-7b"));
        assert_eq!(nearest("coder-33"), Some("coder-33b"));
        assert_eq!(nearest("gpt-2"), None);
    }
}
