//! What this crate promises about text and tokens.
#![allow(clippy::unwrap_used)]

mod chat;
mod hostile;
mod samples;
mod stream;
mod tokenizer;
mod train;
