//! Log-probabilities in the shapes of chat, of completions, and of the explain view.

use crate::answer::Scored;
use serde_json::{Map, Value, json};

/// What stands for a probability of zero, as in OpenAI's service: JSON has no infinity.
const LOWEST: f32 = -9999.0;

/// An entry of `logprobs.content`.
pub(crate) fn chat_entry(token: &Scored) -> Value {
    let top = token.top.iter();
    let top: Vec<Value> =
        top.map(|(_, bytes, log_prob)| token_value(bytes, Some(*log_prob))).collect();
    let mut entry = token_value(&token.bytes, token.log_prob);
    entry["top_logprobs"] = Value::Array(top);
    entry
}

/// An entry of `explain`.
pub(crate) fn explain_entry(token: &Scored) -> Value {
    let top = token.top.iter().map(|(id, bytes, log_prob)| {
        json!({"id": id, "text": lossy(bytes), "logprob": finite(Some(*log_prob))})
    });
    json!({
        "id": token.id,
        "text": lossy(&token.bytes),
        "logprob": finite(token.log_prob),
        "top": top.collect::<Vec<_>>(),
        "experts": token.experts,
    })
}

/// `logprobs` of a completion. `offset`: characters of the text in front, which grows.
pub(crate) fn completion(tokens: &[Scored], offset: &mut usize) -> Value {
    let mut offsets = Vec::new();
    for token in tokens {
        offsets.push(*offset);
        *offset += lossy(&token.bytes).chars().count();
    }
    let top = |token: &Scored| match token.log_prob {
        None => Value::Null,
        Some(_) => {
            let entry =
                |(_, bytes, log_prob): &(u32, Vec<u8>, f32)| (name(bytes), finite(Some(*log_prob)));
            // Of tokens with the same text, the likelier one stays.
            Value::Object(token.top.iter().rev().map(entry).collect::<Map<_, _>>())
        }
    };
    json!({
        "tokens": tokens.iter().map(|token| name(&token.bytes)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| finite(token.log_prob)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

fn token_value(bytes: &[u8], log_prob: Option<f32>) -> Value {
    json!({"token": lossy(bytes), "logprob": finite(log_prob), "bytes": bytes})
}

fn finite(log_prob: Option<f32>) -> Value {
    match log_prob {
        None => Value::Null,
        Some(log_prob) if log_prob.is_finite() => json!(log_prob),
        Some(_) => json!(LOWEST),
    }
}

/// A token's text, or its bytes in the way of OpenAI where they are no text.
fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{hex}")
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
