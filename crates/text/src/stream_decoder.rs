//! Text of tokens as they come, never half a character.

use crate::Tokenizer;

/// Decodes one id at a time. All pieces together are exactly [`Tokenizer::decode`] of all ids.
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    characters: Characters,
}

/// Bytes on their way to becoming characters, for those who hold no tokenizer.
#[derive(Clone, Debug, Default)]
pub struct Characters {
    /// Bytes of a character that has begun but not ended: at most three.
    pending: Vec<u8>,
}

impl<'t> StreamDecoder<'t> {
    /// Writes special tokens out, as [`Tokenizer::decode`] does.
    pub fn new(tokenizer: &'t Tokenizer) -> StreamDecoder<'t> {
        StreamDecoder { tokenizer, skip_special: false, characters: Characters::default() }
    }

    /// Leaves special tokens out, as [`Tokenizer::decode_skip_special`] does.
    pub fn skipping_special(tokenizer: &'t Tokenizer) -> StreamDecoder<'t> {
        StreamDecoder { skip_special: true, ..StreamDecoder::new(tokenizer) }
    }

    /// The text that `id` completes; empty while a character is unfinished.
    pub fn push(&mut self, id: u32) -> String {
        if self.skip_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        self.characters.push(self.tokenizer.id_to_bytes(id).unwrap_or(&[]))
    }

    /// What is left at the end: nothing, or U+FFFD for a character that never ended.
    pub fn finish(mut self) -> String {
        self.characters.finish()
    }
}

impl Characters {
    /// The whole characters that `bytes` complete; bytes that can never be one become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            if chunk.invalid().is_empty() {
                continue;
            }
            let at_end = done + chunk.invalid().len() == self.pending.len();
            if at_end && is_unfinished(chunk.invalid()) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += chunk.invalid().len();
        }
        self.pending.drain(..done);
        text
    }

    /// What is left at the end: nothing, or U+FFFD for a character that never ended.
    pub fn finish(&mut self) -> String {
        let pending = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&pending).into_owned()
    }
}

/// Whether bytes to come could still make these a character.
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
