//! The HTTP server: DeepSeek's, OpenAI's and Anthropic's interfaces and a chat page over one engine.
//!
//! This room knows text and token ids; it never sees weights or tensors.
#![forbid(unsafe_code)]

pub mod answer;
pub mod anthropic;
pub mod app;
mod aside;
pub mod ask;
pub mod auth;
pub mod block_files;
pub mod caller;
pub mod grammar;
mod guarded;
mod host_names;
pub mod metrics;
mod origins;
pub mod page;
mod protocol;
pub mod refusal;
mod route;
pub mod router;
pub mod served;
pub mod server;
mod sse;
mod stall;
pub mod store;
#[cfg(test)]
mod testing;
mod unique;
