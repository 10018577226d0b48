//! A GGUF file, its values and tensors, and the configuration that it describes.
#![no_main]
#![allow(dead_code)] // the seeds, and the claims of other targets

#[path = "../shared/allocation.rs"]
mod allocation;
#[path = "../../crates/model/tests/it/claims.rs"]
mod claims;
#[path = "../../crates/checkpoint/tests/it/claims.rs"]
mod reader_claims;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reader_claims::gguf(bytes);
    claims::gguf(bytes);
});
