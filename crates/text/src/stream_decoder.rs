//! Text of tokens as they come, never half a character.

use crate::Tokenizer;

/// Decodes one id at a time. All pieces together are exactly [`Tokenizer::decode`] of all ids.
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    /// Bytes of a character that has begun but not ended: at most three.
    pending: Vec<u8>,
}

impl<'t> StreamDecoder<'t> {
    /// Writes special tokens out, as [`Tokenizer::decode`] does.
    pub fn new(tokenizer: &'t Tokenizer) -> StreamDecoder<'t> {
        StreamDecoder { tokenizer, skip_special: false, pending: Vec::new() }
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
        self.push_bytes(self.tokenizer.id_to_bytes(id).unwrap_or(&[]))
    }

    /// What is left at the end: nothing, or U+FFFD for a character that never ended.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
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
}

/// Whether bytes to come could still make these a character.
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
