//! The HTTP server: DeepSeek's, OpenAI's and Anthropic's interfaces and a chat page over one engine.
//!
//! This room knows text and token ids; it never sees weights or tensors.
#![forbid(unsafe_code)]

pub mod answer;
pub mod ask;
pub mod block_files;
pub mod caller;
pub mod grammar;
pub mod metrics;
pub mod page;
pub mod refusal;
pub mod served;
pub mod store;
