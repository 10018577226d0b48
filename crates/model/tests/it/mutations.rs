//! Thousands of damaged files, the same at every run; see `claims`.

use fathom_checkpoint::Gguf;
use fathom_model::gguf::config;

use crate::allocation::bounded;
use crate::claims;
use crate::mutation::{deep_json, hold};

#[test]
fn no_damage_to_a_configuration_breaks_its_reader() {
    hold(&claims::config_json_seeds(), claims::CONFIG_WORDS, 12000, claims::config_json);
    deep_json().iter().for_each(|json| claims::config_json(json));
}

#[test]
fn no_damage_to_a_gguf_breaks_the_reading_of_its_configuration() {
    let words: &[&[u8]] = &[
        b"\x20\0\0\0\0\0\0\0llama.attention.head_count_kv\x04\0\0\0",
        b"deepseek2",
        b"qwen2",
        b"\0\0\0\0",
    ];
    hold(&claims::gguf_seeds(), words, 12000, claims::gguf);
}

#[test]
fn no_damage_to_reference_values_breaks_their_reader() {
    let words: &[&[u8]] = &[b"[[],[]],", b"\"logits\":[[1e39]],", b"{\"ids\":[4294967296]},"];
    hold(&claims::golden_json_seeds(), words, 6000, claims::golden_json);
    deep_json().iter().for_each(|json| claims::golden_json(json));
}

#[test]
fn frequencies_in_an_unknown_format_are_refused_before_room_is_made_for_them() {
    // The format's size is not known, so nothing but the format says that the table is a lie.
    let mut seed = claims::gguf_seeds().swap_remove(0);
    let mut put = |after: &[u8], bytes: &[u8]| {
        let at = seed.windows(after.len()).position(|w| w == after).unwrap() + after.len();
        seed[at..at + bytes.len()].copy_from_slice(bytes);
    };
    for key in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
        put(
            &[b"llama.".as_slice(), key.as_bytes(), &[4, 0, 0, 0]].concat(),
            &[0xfe, 0xff, 0xff, 0xff],
        );
    }
    // One dimension of 2^31 - 1, format 99.
    let described = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 99, 0, 0, 0];
    put(b"rope_freqs.weight", &described);
    let file = Gguf::from_bytes("dir/x.gguf", seed.clone()).unwrap();
    let error = bounded(&seed, 8, 64 << 10, || config(&file)).unwrap_err().to_string();
    assert!(error.contains("`rope_freqs.weight` is stored as unknown type 99"), "{error}");
    claims::gguf(&seed);
}
