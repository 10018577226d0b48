//! Encoding and decoding.

use fathom_text::{Tokenizer, special};

use crate::samples::{TEXTS, tokenizer};

#[test]
fn every_text_comes_back() {
    for text in TEXTS {
        assert_eq!(tokenizer().decode(&tokenizer().encode(text)), text);
        assert_eq!(tokenizer().decode(&tokenizer().encode_plain(text)), text);
    }
}

#[test]
fn plain_text_never_gives_a_control_token() {
    let n_special = special::FIRST.len() + special::CHAT.len() + special::FIM.len();
    let all = [special::FIRST.concat(), special::CHAT.concat(), special::FIM.concat()].concat();
    for text in TEXTS.into_iter().chain([all.as_str()]) {
        let ids = tokenizer().encode_plain(text);
        assert!(ids.iter().all(|id| *id as usize >= n_special), "{text}: {ids:?}");
    }
    assert_eq!(tokenizer().encode(&all), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn special_tokens_can_be_left_out_but_thinking_stays() {
    let ids =
        tokenizer().encode("<｜User｜>2+2<｜Assistant｜><think>\n4</think>4<｜end▁of▁sentence｜>");
    assert_eq!(tokenizer().decode_skip_special(&ids), "2+2<think>\n4</think>4");
}

#[test]
fn batches_equal_single_texts_in_order() {
    let texts: Vec<String> =
        (0..50).map(|i| TEXTS[i % TEXTS.len()].repeat(1 + (i * 7) % 5)).collect();
    let trusted: Vec<_> = texts.iter().map(|text| tokenizer().encode(text)).collect();
    let plain: Vec<_> = texts.iter().map(|text| tokenizer().encode_plain(text)).collect();
    assert_eq!(tokenizer().encode_batch(&texts), trusted);
    assert_eq!(tokenizer().encode_batch_plain(&texts), plain);
    assert!(tokenizer().encode_batch::<&str>(&[]).is_empty());
}

#[test]
fn ids_know_their_bytes() {
    let t = tokenizer();
    assert_eq!(t.id_to_bytes(t.token_id("Ġ").unwrap()), Some(&b" "[..]));
    assert_eq!(t.id_to_bytes(5), Some("<think>".as_bytes()));
    assert_eq!(t.id_to_bytes(t.vocab_size() as u32), None);
    assert_eq!(t.decode(&[u32::MAX]), "");
    assert!(t.is_special(0) && !t.is_special(5) && !t.is_special(u32::MAX));
}

#[test]
fn a_saved_tokenizer_opens_again() {
    let dir = std::env::temp_dir().join(format!("fathom-text-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    tokenizer().save(dir.join("tokenizer.json")).unwrap();
    let opened = Tokenizer::open(&dir).unwrap();
    assert_eq!(opened.json(), tokenizer().json());
    assert_eq!(opened.encode(TEXTS[3]), tokenizer().encode(TEXTS[3]));
    let blocked = tokenizer().save(dir.join("tokenizer.json/inside")).unwrap_err();
    assert!(blocked.to_string().contains("inside"), "{blocked}");
    std::fs::remove_dir_all(dir).unwrap();
}
