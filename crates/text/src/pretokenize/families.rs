//! The pre-tokenizers that a GGUF names in `tokenizer.ggml.pre` instead of writing them out.
//!
//! Source: the published `tokenizer.json` of each family; the names are those of llama.cpp.

use super::words;
use crate::{Error, Result};

/// A family of vocabularies that share a way of cutting text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    /// What GGUF files call it; the first is the name to write.
    pub(crate) names: &'static [&'static str],
    /// Letters with upper and lower case count as words; see [`CASED_LETTERS`].
    starts_as_llm: bool,
    /// Expressions, after those of `starts_as_llm`.
    patterns: &'static [&'static str],
    /// Whether text is brought into form NFC first, as its `tokenizer.json` says. llama.cpp
    /// does not do this.
    pub(crate) nfc: bool,
    /// Whether a piece that is a token as a whole is taken without merging.
    pub(crate) ignore_merges: bool,
}

/// Every family, in the order in which they appeared.
pub(crate) const FAMILIES: [Family; 7] = [
    Family {
        names: &["deepseek-llm"],
        starts_as_llm: true,
        patterns: &[LLM_PUNCTUATION, r"\s+$", WIDE_CJK, r"\p{N}"],
        nfc: false,
        ignore_merges: false,
    },
    Family {
        names: &["deepseek-coder"],
        starts_as_llm: false,
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", WIDE_CJK, r"\p{N}"],
        nfc: false,
        ignore_merges: false,
    },
    Family {
        names: &["deepseek-v3"],
        starts_as_llm: false,
        patterns: &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", words::V3],
        nfc: false,
        ignore_merges: false,
    },
    Family {
        names: &["qwen2", "deepseek-r1-qwen"],
        starts_as_llm: false,
        patterns: &[words::QWEN2],
        nfc: true,
        ignore_merges: false,
    },
    Family {
        names: &["llama-bpe", "llama3", "llama-v3"],
        starts_as_llm: false,
        patterns: &[words::LLAMA3],
        nfc: false,
        ignore_merges: true,
    },
    Family {
        names: &["gpt-2"],
        starts_as_llm: false,
        patterns: &[words::GPT2],
        nfc: false,
        ignore_merges: false,
    },
    // Files older than the key. They may hold any vocabulary; this is how llama.cpp reads them.
    Family {
        names: &["default"],
        starts_as_llm: false,
        patterns: &[
            r"[\p{P}\$\+<=>\^~\|]+",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
            r"\p{N}+",
            "[0-9][0-9][0-9]",
        ],
        nfc: false,
        ignore_merges: false,
    },
];

/// Punctuation of the LLM family. `:-~` includes the ASCII letters, so that this stage also cuts
/// words at their other letters: `café` is `caf` and `é`.
const LLM_PUNCTUATION: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";
/// Chinese and Korean, and all that lies between U+0800 and U+4E00.
const WIDE_CJK: &str = "[一-龥ࠀ-一가-퟿]+";

/// First and last of each run of cased letters that the LLM family counts as letters. Uncased
/// scripts (Arabic, Hebrew, Thai, Devanagari …) are not among them.
#[rustfmt::skip]
const CASED_LETTERS: [(u32, u32); 87] = [
    (0x0041, 0x005a), (0x0061, 0x007a), (0x00b5, 0x00b5), (0x00c0, 0x00d6), (0x00d8, 0x00f6),
    (0x00f8, 0x01ba), (0x01bc, 0x01bf), (0x01c4, 0x0293), (0x0295, 0x02af), (0x0370, 0x0373),
    (0x0376, 0x0376), (0x0377, 0x0377), (0x037b, 0x037d), (0x037f, 0x037f), (0x0386, 0x0386),
    (0x0388, 0x038a), (0x038c, 0x038c), (0x038e, 0x03a1), (0x03a3, 0x03f5), (0x03f7, 0x0481),
    (0x048a, 0x052f), (0x0531, 0x0556), (0x10a0, 0x10c5), (0x13a0, 0x13f5), (0x13f8, 0x13fd),
    (0x1c90, 0x1cba), (0x1cbd, 0x1cbf), (0x1d00, 0x1d2b), (0x1d6b, 0x1d77), (0x1d79, 0x1d9a),
    (0x1e00, 0x1f15), (0x1f18, 0x1f1d), (0x1f20, 0x1f45), (0x1f48, 0x1f4d), (0x1f50, 0x1f57),
    (0x1f59, 0x1f59), (0x1f5b, 0x1f5b), (0x1f5d, 0x1f5d), (0x1f5f, 0x1f7d), (0x1f80, 0x1fb4),
    (0x1fb6, 0x1fbc), (0x1fbe, 0x1fbe), (0x1fc2, 0x1fc4), (0x1fc6, 0x1fcc), (0x1fd0, 0x1fd3),
    (0x1fd6, 0x1fdb), (0x1fe0, 0x1fec), (0x1ff2, 0x1ff4), (0x1ff6, 0x1ffc), (0x2102, 0x2102),
    (0x2107, 0x2107), (0x210a, 0x2113), (0x2115, 0x2115), (0x2119, 0x211d), (0x2124, 0x2124),
    (0x2126, 0x2126), (0x2128, 0x2128), (0x212a, 0x212d), (0x212f, 0x2134), (0x2139, 0x2139),
    (0x213c, 0x213f), (0x2145, 0x2149), (0x214e, 0x214e), (0x2183, 0x2183), (0x2184, 0x2184),
    (0x2c00, 0x2c7b), (0x2c7e, 0x2ce4), (0x2ceb, 0x2cee), (0x2cf2, 0x2cf2), (0x2cf3, 0x2cf3),
    (0xa640, 0xa66d), (0xa680, 0xa69b), (0xa722, 0xa76f), (0xa771, 0xa787), (0xa78b, 0xa78e),
    (0xab70, 0xabbf), (0xfb00, 0xfb06), (0xfb13, 0xfb17), (0xff21, 0xff3a), (0xff41, 0xff5a),
    (0x10400, 0x1044f), (0x104b0, 0x104d3), (0x104d8, 0x104fb), (0x10c80, 0x10cb2),
    (0x10cc0, 0x10cf2), (0x118a0, 0x118df), (0x1e900, 0x1e943),
];

impl Family {
    /// The family a GGUF names. Errors: `PreTokenizer`.
    pub(crate) fn named(name: &str) -> Result<&'static Family> {
        let known = FAMILIES.iter().find(|family| family.names.contains(&name));
        known.ok_or_else(|| Error::PreTokenizer { found: name.to_owned() })
    }

    /// The family that cuts text by these expressions.
    pub(crate) fn of_patterns(patterns: &[&str]) -> Option<&'static Family> {
        let plain = |pattern: &str| pattern.replace('\r', r"\r").replace('\n', r"\n");
        let found: Vec<String> = patterns.iter().map(|pattern| plain(pattern)).collect();
        FAMILIES.iter().find(|family| family.patterns() == found)
    }

    /// The expressions, in the order in which they split.
    pub(crate) fn patterns(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        if self.starts_as_llm {
            all.extend([r"[\r\n]".to_owned(), format!(r"\s?[{}]+", cased_letters())]);
        }
        all.extend(self.patterns.iter().map(|pattern| pattern.to_string()));
        all
    }
}

/// Every name that [`Family::named`] accepts, with commas between.
pub(crate) fn names() -> String {
    let all: Vec<&str> = FAMILIES.iter().flat_map(|family| family.names).copied().collect();
    all.join("`, `")
}

fn cased_letters() -> String {
    let char = |code| char::from_u32(code).expect("the table holds letters");
    let range = |(first, last): &(u32, u32)| match last - first {
        0 => char(*first).to_string(),
        _ => format!("{}-{}", char(*first), char(*last)),
    };
    CASED_LETTERS.iter().map(range).collect()
}
