//! A chat template with a conversation.
#![no_main]
#![allow(dead_code)] // the seeds, and the claims of other targets

#[path = "../shared/allocation.rs"]
mod allocation;
#[path = "../../crates/text/tests/it/claims.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::chat_template(bytes));
