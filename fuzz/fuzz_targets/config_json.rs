//! A `config.json`, and what is computed from one.
#![no_main]
#![allow(dead_code)] // the seeds, and the claims of other targets

#[path = "../shared/allocation.rs"]
mod allocation;
#[path = "../../crates/model/tests/it/claims.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::config_json(bytes));
