//! Requests and answers in the words of OpenAI and DeepSeek.

pub(crate) mod body;
pub(crate) mod chat_reply;
pub(crate) mod chat_request;
pub(crate) mod completion_reply;
pub(crate) mod completion_request;
pub(crate) mod fields;
pub(crate) mod messages;
pub(crate) mod model_name;
pub(crate) mod sampling;
pub(crate) mod scores;
pub(crate) mod tools;
pub(crate) mod warnings;

use crate::answer::Usage;
use serde_json::{Value, json};

/// What `system_fingerprint` says: the same program gives the same answer to the same seed.
pub(crate) const FINGERPRINT: &str = concat!("fathom-", env!("CARGO_PKG_VERSION"));

/// Tokens in the words of both OpenAI and DeepSeek.
pub(crate) fn usage(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens(),
        "prompt_tokens_details": {"cached_tokens": usage.prompt_cache_hit_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "prompt_cache_hit_tokens": usage.prompt_cache_hit_tokens,
        "prompt_cache_miss_tokens": usage.prompt_cache_miss_tokens(),
    })
}
