//! Training: deterministic, complete, and within its limits.

use fathom_text::{BpeSettings, Error, PretokenizerStyle, special, train_bpe};

use crate::samples::{documents, settings, tokenizer};

#[test]
fn equal_documents_give_equal_bytes_in_any_order() {
    for style in [PretokenizerStyle::DigitWords, PretokenizerStyle::Code] {
        let first = train_bpe(documents(), &settings(style, 600)).unwrap();
        let mut reversed: Vec<String> = documents().collect();
        reversed.reverse();
        let second = train_bpe(reversed.into_iter(), &settings(style, 600)).unwrap();
        assert!(first.json() == second.json(), "{style:?}");
    }
}

#[test]
fn vocabulary_has_specials_then_all_bytes_then_merges() {
    let t = tokenizer();
    let first: Vec<&str> = [&special::FIRST[..], &special::CHAT, &special::FIM].concat();
    for (id, token) in first.iter().enumerate() {
        assert_eq!(t.token_id(token), Some(id as u32));
    }
    let bytes: Vec<u8> = (10..266).map(|id| t.id_to_bytes(id).unwrap()[0]).collect();
    let mut sorted = bytes.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..=255).collect::<Vec<u8>>());
    assert_eq!((bytes[0], bytes[188]), (b'!', 0), "the order of GPT-2");
    assert_eq!(t.vocab_size(), 500);
    assert!((266..500).all(|id| (2..=32).contains(&t.id_to_bytes(id).unwrap().len())));
}

#[test]
fn frequent_words_become_tokens_and_digits_stay_single() {
    let t = tokenizer();
    let pieces = |s: &str| t.encode(s).iter().map(|i| t.decode(&[*i])).collect::<Vec<_>>();
    assert_eq!(pieces(" apples"), [" apples"]);
    assert_eq!(t.encode("答案是").len(), 1);
    for id in 266..500 {
        let text = String::from_utf8_lossy(t.id_to_bytes(id).unwrap()).into_owned();
        let n_digits = text.chars().filter(char::is_ascii_digit).count();
        assert!(n_digits == 0 || text.trim_start_matches(' ').len() == 1, "{text:?}");
    }
    assert_eq!(t.encode("348").len(), 3);
}

#[test]
fn code_keeps_indentation_whole() {
    let code = "fn main() {\n        let first_name = 10;\n        return;\n}\n".to_owned();
    let documents = std::iter::repeat_n(code, 10);
    let t = train_bpe(documents, &settings(PretokenizerStyle::Code, 400)).unwrap();
    assert_eq!(t.encode("        ").len(), 1);
    assert_eq!(t.encode(" first_name").len(), 1);
    assert_eq!(t.encode("10").len(), 2);
}

/// Merges found by counting everything anew at each step.
fn reference_tokens(words: &[(&str, u64)], n_merges: usize) -> Vec<String> {
    let mut words: Vec<(Vec<String>, u64)> =
        words.iter().map(|(w, n)| (w.chars().map(String::from).collect(), *n)).collect();
    let mut vocab: Vec<String> = ('!'..='~').map(String::from).collect();
    for _ in 0..n_merges {
        let mut counts = std::collections::BTreeMap::new();
        for (word, n) in &words {
            for pair in word.windows(2) {
                *counts.entry((pair[0].clone(), pair[1].clone())).or_insert(0) += n;
            }
        }
        let id = |token: &String| vocab.iter().position(|known| known == token).unwrap();
        let best =
            counts.into_iter().max_by_key(|((a, b), n)| (*n, std::cmp::Reverse((id(a), id(b)))));
        let Some(((a, b), _)) = best else { break };
        for (word, _) in &mut words {
            let mut i = 0;
            while i + 1 < word.len() {
                if word[i] == a && word[i + 1] == b {
                    let right = word.remove(i + 1);
                    word[i].push_str(&right);
                }
                i += 1;
            }
        }
        if !vocab.contains(&format!("{a}{b}")) {
            vocab.push(format!("{a}{b}"));
        }
    }
    vocab.split_off(94)
}

#[test]
fn merges_equal_those_of_counting_anew() {
    let words = [
        ("aaaa", 3),
        ("aaa", 2),
        ("abab", 5),
        ("abc", 7),
        ("bcab", 4),
        ("cabbage", 3),
        ("banana", 6),
        ("bandana", 2),
        ("ananas", 3),
        ("cabana", 1),
        ("zzzzzz", 2),
    ];
    let documents = words.iter().flat_map(|(word, n)| vec![word.to_string(); *n as usize]);
    let settings = BpeSettings {
        vocab_size: 3 + 256 + 25,
        special_tokens: vec![],
        pretokenizer: PretokenizerStyle::DigitWords,
        min_frequency: 0,
    };
    let t = train_bpe(documents, &settings).unwrap();
    let expected = reference_tokens(&words, 25);
    let found: Vec<String> = (259..t.vocab_size() as u32)
        .map(|id| String::from_utf8(t.id_to_bytes(id).unwrap().to_vec()).unwrap())
        .collect();
    assert!(found.len() >= 20, "{found:?}");
    let n = found.len().min(expected.len());
    assert_eq!(found[..n], expected[..n]);
}

#[test]
fn impossible_settings_are_refused() {
    let small = train_bpe(documents(), &settings(PretokenizerStyle::Code, 265));
    assert!(matches!(small, Err(Error::VocabTooSmall { found: 265, minimum: 266 })));
    for bad in ["", special::BOS, special::THINK] {
        let mut settings = settings(PretokenizerStyle::Code, 400);
        settings.special_tokens.push(bad.to_owned());
        let result = train_bpe(documents(), &settings);
        assert!(matches!(result, Err(Error::SpecialToken { .. })), "{bad:?}");
    }
}

#[test]
fn an_empty_corpus_gives_the_bytes_alone() {
    let t = train_bpe(std::iter::empty(), &settings(PretokenizerStyle::Code, 4000)).unwrap();
    assert_eq!(t.vocab_size(), 266);
    assert_eq!(t.decode(&t.encode("中 a")), "中 a");
}

#[test]
fn a_merge_never_spells_a_special_token() {
    let mut settings = settings(PretokenizerStyle::Code, 400);
    settings.special_tokens.push("abcd".to_owned());
    let t = train_bpe(std::iter::repeat_n("abcd abcde".to_owned(), 20), &settings).unwrap();
    let special = t.token_id("abcd").unwrap();
    assert!(!t.encode_plain("abcd abcde").contains(&special));
    assert_eq!(t.encode("abcd"), [special]);
}
