//! What this crate promises about text and tokens.
#![allow(clippy::unwrap_used)]

#[path = "../../../../fuzz/shared/allocation.rs"]
mod allocation;
mod chat;
mod claims;
mod config;
mod families;
mod golden_chat;
mod hostile;
mod hostile_templates;
#[path = "../../../../fuzz/shared/mutation.rs"]
mod mutation;
mod mutations;
mod prompts;
mod reply;
mod samples;
mod stream;
mod tokenizer;
mod train;
mod vocabulary;
