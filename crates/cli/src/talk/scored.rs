//! Tokens of an answer with their log-probabilities, for programs.

use fathom_engine::Drawn;
use fathom_text::Tokenizer;
use serde_json::{Value, json};

/// A token, how likely the model found it, and what it found likeliest there.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    id: u32,
    log_prob: f32,
    top: Vec<(u32, f32)>,
}

impl Scored {
    /// None if log-probabilities were not asked for.
    pub(crate) fn of(drawn: &Drawn<'_>) -> Option<Scored> {
        let log_prob = drawn.log_prob?;
        Some(Scored { id: drawn.token, log_prob, top: drawn.top.to_vec() })
    }

    /// As JSON: the fields of the OpenAI API, and the id. A token that is not text by itself has
    /// its exact bytes beside the text.
    pub(crate) fn json(&self, tokenizer: &Tokenizer) -> Value {
        let token = |id: u32, log_prob: f32| {
            let bytes = tokenizer.id_to_bytes(id).unwrap_or_default();
            let text = String::from_utf8_lossy(bytes);
            json!({ "token": text, "id": id, "bytes": bytes, "logprob": log_prob })
        };
        let mut value = token(self.id, self.log_prob);
        value["top"] = self.top.iter().map(|(id, log_prob)| token(*id, *log_prob)).collect();
        value
    }
}
