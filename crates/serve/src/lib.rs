//! The HTTP server: DeepSeek's, OpenAI's and Anthropic's interfaces and a chat page over one engine.
//!
//! This room knows text and token ids; it never sees weights or tensors.
#![forbid(unsafe_code)]

pub mod answer;
pub mod anthropic;
pub mod app;
mod aside;
pub mod ask;
pub mod block_files;
pub mod caller;
pub mod grammar;
mod host_names;
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
mod stand_in;
#[cfg(test)]
mod testing;
mod unique;

pub use stand_in::{auth, metrics, store};
