//! `tokenizer_config.json` as checkpoints write it.

use std::path::Path;

use fathom_text::{Error, Tokenizer, TokenizerConfig};

use crate::samples::tokenizer;

fn read(json: &str) -> Result<TokenizerConfig, Error> {
    TokenizerConfig::from_bytes(Path::new("dir/tokenizer_config.json"), json.as_bytes())
}

#[test]
fn tokens_are_names_or_objects_and_templates_one_or_many() {
    let config = read(
        r#"{"bos_token": {"content": "<｜begin▁of▁sentence｜>", "lstrip": false}, "eos_token": "</s>",
            "pad_token": null, "add_bos_token": true, "model_max_length": 16384,
            "chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#,
    )
    .unwrap();
    assert_eq!(config.bos_token.as_deref(), Some("<｜begin▁of▁sentence｜>"));
    assert_eq!((config.eos_token.as_deref(), config.pad_token.as_deref()), (Some("</s>"), None));
    assert_eq!((config.add_bos_token, config.add_eos_token), (Some(true), None));
    assert_eq!((config.chat_template(), config.model_max_length), (Some("D"), Some(16384)));
    let config = read(r#"{"chat_template": "X", "model_max_length": 1e30}"#).unwrap();
    assert_eq!((config.chat_template(), config.model_max_length), (Some("X"), None));
}

#[test]
fn values_of_a_wrong_kind_are_named() {
    let check = |json: &str, words: &[&str]| {
        let error = read(json).unwrap_err().to_string();
        for word in words.iter().chain(&["dir/tokenizer_config.json"]) {
            assert!(error.contains(word), "{json}: {error}");
        }
    };
    check("{", &["EOF"]);
    check("[]", &["[]", "an object"]);
    check(r#"{"bos_token": 7}"#, &["`bos_token` is 7"]);
    check(r#"{"add_bos_token": "yes"}"#, &["`add_bos_token` is \"yes\"", "`true` or `false`"]);
    check(r#"{"model_max_length": "long"}"#, &["`model_max_length`", "a number"]);
    check(r#"{"chat_template": [{"name": "x"}]}"#, &["`chat_template`", "a list"]);
}

#[test]
fn a_directory_is_opened_with_its_configuration() {
    let dir = std::env::temp_dir().join(format!("fathom-text-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    tokenizer().save(dir.join("tokenizer.json")).unwrap();
    assert_eq!(TokenizerConfig::open(&dir).unwrap(), None);
    assert!(!Tokenizer::open(&dir).unwrap().adds_bos());
    let config = r#"{"add_bos_token": true, "pad_token": "<think>", "chat_template": "old"}"#;
    std::fs::write(dir.join("tokenizer_config.json"), config).unwrap();
    std::fs::write(dir.join("chat_template.jinja"), "new").unwrap();
    let opened = Tokenizer::open(&dir).unwrap();
    assert!(opened.adds_bos());
    assert_eq!((opened.bos_id(), opened.pad_id()), (Some(0), opened.token_id("<think>")));
    let config = TokenizerConfig::open(&dir).unwrap().unwrap();
    assert_eq!(config.chat_template(), Some("new"));
    std::fs::remove_dir_all(dir).unwrap();
}
