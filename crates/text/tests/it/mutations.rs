//! Thousands of damaged files and replies, the same at every run; see `claims`.

use fathom_text::Tokenizer;

use crate::allocation::bounded;
use crate::claims;
use crate::mutation::{deep_json, hold};

#[test]
fn no_damage_to_a_tokenizer_file_breaks_its_reader() {
    hold(&claims::tokenizer_json_seeds(), claims::TOKENIZER_WORDS, 1500, claims::tokenizer_json);
    deep_json().iter().for_each(|json| claims::tokenizer_json(json));
}

#[test]
fn no_damage_to_a_tokenizer_configuration_breaks_its_reader() {
    let words: &[&[u8]] = &[b"\"chat_template\":[", b"{\"name\":\"x\",\"template\":\"y\"},"];
    hold(&claims::tokenizer_config_seeds(), words, 3000, claims::tokenizer_config);
    deep_json().iter().for_each(|json| claims::tokenizer_config(json));
}

#[test]
fn no_damage_to_a_vocabulary_breaks_its_reader() {
    hold(&claims::gguf_vocabulary_seeds(), claims::VOCABULARY_WORDS, 1500, claims::gguf_vocabulary);
}

#[test]
fn no_damage_to_a_template_breaks_its_renderer() {
    hold(&claims::chat_template_seeds(), claims::TEMPLATE_WORDS, 1200, claims::chat_template);
    for json in deep_json() {
        claims::chat_template(&[b"{{ messages }}\0", json.as_slice()].concat());
        claims::chat_template(&json);
    }
}

#[test]
fn replies_are_taken_apart_the_same_however_they_are_cut() {
    hold(
        &claims::chat_reply_seeds(),
        &[b"\x00\x02", b"\x05\x04", b"\x06"],
        6000,
        claims::chat_reply,
    );
}

/// The seed with `from` replaced.
fn changed(from: &str, to: &str) -> Vec<u8> {
    let seed = String::from_utf8(claims::tokenizer_json_seeds().swap_remove(1)).unwrap();
    assert!(seed.contains(from), "{from}");
    seed.replacen(from, to, 1).into_bytes()
}

#[test]
fn a_long_added_token_costs_a_multiple_of_its_length() {
    // Many different bytes, so that an automaton with a row for each would be large.
    let long: String =
        (0..100_000_u32).filter_map(|i| char::from_u32(0x4e00 + i * 7 % 20_000)).collect();
    let json = changed("<s>\",\"special", &format!("{long}\",\"special"));
    let tokenizer = bounded(&json, 200, 8 << 20, || Tokenizer::from_bytes(json.clone())).unwrap();
    assert_eq!(tokenizer.encode(&format!("a{long}b")), [0, 7, 1]);
}

#[test]
fn more_expressions_than_any_release_has_are_refused_before_they_are_compiled() {
    let digits = "{\"type\":\"Digits\",\"individual_digits\":true}";
    let stage = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}{1,60}x\"},\"behavior\":\"Isolated\"}";
    let json = changed(digits, &[stage; 300].join(","));
    let refused = bounded(&json, 64, 1 << 20, || Tokenizer::from_bytes(json.clone()));
    let Err(error) = refused else { panic!("accepted") };
    assert!(error.to_string().contains("at most 16 stages"), "{error}");
}
