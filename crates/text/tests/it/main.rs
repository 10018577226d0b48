//! What this crate promises about text and tokens.
#![allow(clippy::unwrap_used)]

mod chat;
mod config;
mod families;
mod golden_chat;
mod hostile;
mod hostile_templates;
mod prompts;
mod reply;
mod samples;
mod stream;
mod tokenizer;
mod train;
mod vocabulary;
