//! Every way of cutting text that the families use gives the ids of the `tokenizers` package.
//!
//! `golden/tokenizer` at the root of the repository holds the texts, small vocabularies and ids,
//! and the script that made them with Python and Oniguruma.

use std::path::PathBuf;
use std::sync::OnceLock;

use fathom_text::{StreamDecoder, Tokenizer};
use serde_json::Value;

use crate::samples::Random;

/// Files of `golden/tokenizer`; `odd` holds behaviours of `Split` that no family uses.
pub(crate) const FAMILIES: [&str; 7] = ["llm", "coder", "v3", "qwen2", "llama3", "gpt2", "odd"];

fn golden_file(name: &str) -> PathBuf {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/tokenizer");
    PathBuf::from(dir).join(name)
}

fn golden() -> &'static Value {
    static GOLDEN: OnceLock<Value> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let content = std::fs::read(golden_file("golden.json")).unwrap();
        serde_json::from_slice(&content).unwrap()
    })
}

pub(crate) fn family(name: &str) -> Tokenizer {
    Tokenizer::open(golden_file(&format!("{name}.tokenizer.json"))).unwrap()
}

/// Compares with the stored ids, then all at once, and back to text where nothing is lost.
fn check(name: &str, tokenizer: &Tokenizer) {
    let texts = golden()["texts"].as_array().unwrap();
    let lists = golden()["ids"][name].as_array().unwrap();
    assert_eq!(texts.len(), lists.len());
    for (text, list) in texts.iter().zip(lists) {
        let text = text.as_str().unwrap();
        let expected: Vec<u32> =
            list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.encode(text), expected, "{name}: {text:?}");
    }
}

#[test]
fn ids_of_every_family_are_those_of_the_reference() {
    FAMILIES.iter().for_each(|name| check(name, &family(name)));
}

#[test]
fn ids_of_the_published_vocabulary_are_those_of_the_reference() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/tokenizers/deepseek-v4-tokenizer.json"
    );
    if !std::path::Path::new(path).exists() {
        eprintln!("skipped: no {path}");
        return;
    }
    check("deepseek-v4", &Tokenizer::open(path).unwrap());
}

#[test]
fn begin_tokens_are_known_but_never_added_unasked() {
    let llama3 = family("llama3");
    let begin = llama3.token_id("<|begin_of_text|>");
    assert!(begin.is_some() && llama3.adds_bos());
    assert_eq!(llama3.bos_id(), begin);
    assert_ne!(llama3.encode("Hi").first().copied(), begin);
    assert!(!family("v3").adds_bos());
}

#[test]
fn merges_are_ignored_where_the_file_says_so() {
    let json = String::from_utf8(family("llama3").json().to_vec()).unwrap();
    let strict = Tokenizer::from_bytes(json.replacen(
        "\"ignore_merges\":true",
        "\"ignore_merges\":false",
        1,
    ))
    .unwrap();
    let texts = golden()["texts"].as_array().unwrap();
    let differs = |text: &&Value| {
        let text = text.as_str().unwrap();
        strict.encode(text) != family("llama3").encode(text)
    };
    assert!(texts.iter().find(differs).is_some(), "the file was made so that it matters");
}

#[test]
fn nobody_can_write_a_control_token_into_plain_text() {
    for name in FAMILIES {
        let tokenizer = family(name);
        let marks = ["<|im_start|>", "<|im_end|>", "<think>", "</think>", "<mask>", "[LEFT]"];
        let marks_ids: Vec<u32> =
            marks.iter().map(|mark| tokenizer.token_id(mark).unwrap()).collect();
        let text = format!("a {} ü word", marks.concat());
        let ids = tokenizer.encode_plain(&text);
        assert!(!ids.iter().any(|id| marks_ids.contains(id)), "{name}: {ids:?}");
        assert!(ids.contains(&tokenizer.token_id("ü").unwrap()), "{name}: `ü` is text");
        assert!(ids.contains(&tokenizer.token_id("word").unwrap()), "{name}: `word` is text");
        assert_eq!(tokenizer.decode(&ids).replace(' ', ""), text.replace(' ', ""), "{name}");
        let trusted = tokenizer.encode(&text);
        assert!(marks_ids.iter().all(|id| trusted.contains(id)), "{name}: {trusted:?}");
    }
}

#[test]
fn any_text_comes_back_from_every_family() {
    // `odd` removes `#`, and Qwen2 brings text into form NFC.
    for name in FAMILIES.into_iter().filter(|name| !["odd", "qwen2"].contains(name)) {
        let tokenizer = family(name);
        let mut random = Random(11);
        for _ in 0..300 {
            let text = random.text(60);
            let ids = tokenizer.encode_plain(&text);
            assert_eq!(tokenizer.decode(&ids), text, "{name}");
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()), "{name}");
            let mut decoder = StreamDecoder::new(&tokenizer);
            let streamed: String = ids.iter().map(|id| decoder.push(*id)).collect();
            assert_eq!(streamed + &decoder.finish(), text, "{name}");
        }
    }
}

#[test]
fn qwen2_text_comes_back_composed() {
    let tokenizer = family("qwen2");
    assert_eq!(tokenizer.decode(&tokenizer.encode_plain("e\u{302} \u{212b}")), "ê Å");
    assert_eq!(tokenizer.encode_plain("o\u{308}"), tokenizer.encode_plain("ö"));
}

fn check_monsters(name: &str, n_bytes: usize, beginnings: &[&str]) {
    let tokenizer = family(name);
    for beginning in beginnings {
        let text = beginning.repeat(n_bytes / beginning.len()) + "x";
        let started = std::time::Instant::now();
        let ids = tokenizer.encode_plain(&text);
        assert_eq!(tokenizer.decode(&ids), text, "{name}");
        // Work that grows with the length takes a second at most; with its square, hours.
        assert!(started.elapsed().as_secs() < 60, "{name}: {beginning:?}");
    }
}

#[test]
fn monstrous_texts_take_no_monstrous_time() {
    let all = ["a", " ", "ab", "!", "\n", " \n", "1", "中", "\u{301}", "\u{0}", "<", "'"];
    for name in FAMILIES.into_iter().filter(|name| *name != "odd") {
        check_monsters(name, 1 << 15, &all);
    }
    check_monsters("v3", 1 << 20, &["a", " ", "中"]);
}
