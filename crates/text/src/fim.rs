//! Prompts that ask for the text between two others, and for the rest of a repository's file.
//!
//! DeepSeek-Coder (arXiv:2401.14196, section 3.1.2): prefix, suffix, middle; the marks are tokens
//! of Coder, Coder-V2 and V3 under the same names. What stands around the hole is plain text.

use crate::special::{FIM_BEGIN, FIM_END, FIM_HOLE};
use crate::{Error, Result, Tokenizer};

/// Token ids that make a model write what belongs between `prefix` and `suffix`; it ends with EOS.
///
/// `bos` stands in front: the models were trained so. Errors: `NoFim`.
pub fn prompt(
    tokenizer: &Tokenizer,
    prefix: &str,
    suffix: &str,
    bos: Option<u32>,
) -> Result<Vec<u32>> {
    let id = |token: &'static str| tokenizer.token_id(token).ok_or(Error::NoFim { token });
    let [begin, hole, end] = [id(FIM_BEGIN)?, id(FIM_HOLE)?, id(FIM_END)?];
    let mut ids: Vec<u32> = bos.into_iter().collect();
    ids.push(begin);
    ids.extend(tokenizer.encode_plain(prefix));
    ids.push(hole);
    ids.extend(tokenizer.encode_plain(suffix));
    ids.push(end);
    Ok(ids)
}

/// Whether the tokenizer has what [`prompt`] needs.
pub fn is_possible(tokenizer: &Tokenizer) -> bool {
    [FIM_BEGIN, FIM_HOLE, FIM_END].iter().all(|token| tokenizer.token_id(token).is_some())
}

/// A file of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepositoryFile<'a> {
    pub path: &'a str,
    pub content: &'a str,
}

/// The text that base models of Coder continue at repository level: each file under a line with
/// its path. The last file is the one to go on with, so nothing follows its content.
///
/// Source: DeepSeek-Coder README, section 4.
pub fn repository_text(files: &[RepositoryFile<'_>]) -> String {
    let mut text = String::new();
    for file in files {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("#{}\n{}", file.path, file.content));
    }
    text
}
