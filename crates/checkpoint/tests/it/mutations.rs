//! Thousands of damaged files, the same at every run; the fuzzer tries the same claims with luck.

use crate::claims;
use crate::mutation::{deep_json, hold};

#[test]
fn no_damage_to_a_safetensors_file_breaks_its_reader() {
    hold(&claims::safetensors_seeds(), claims::JSON_WORDS, 4000, claims::safetensors);
    for json in deep_json() {
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(&json);
        claims::safetensors(&file);
    }
}

#[test]
fn no_damage_to_an_index_breaks_its_reader() {
    hold(&claims::safetensors_index_seeds(), claims::JSON_WORDS, 1000, claims::safetensors_index);
    deep_json().iter().for_each(|json| claims::safetensors_index(json));
}

#[test]
fn no_damage_to_a_gguf_breaks_its_reader() {
    hold(&claims::gguf_seeds(), claims::GGUF_WORDS, 5000, claims::gguf);
}
