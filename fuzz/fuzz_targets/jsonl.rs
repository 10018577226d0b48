//! Questions and answers in JSONL, plain or compressed.
#![no_main]
#![allow(dead_code)] // the seeds, and the claims of other targets

#[path = "../shared/allocation.rs"]
mod allocation;
#[path = "../../crates/data/tests/it/claims.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::jsonl(bytes));
