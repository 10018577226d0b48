//! Streamed pieces together are the whole text.

use fathom_text::StreamDecoder;

use crate::samples::{TEXTS, tokenizer};

fn check(ids: &[u32]) {
    let mut decoder = StreamDecoder::new(tokenizer());
    let pieces: Vec<String> = ids.iter().map(|id| decoder.push(*id)).collect();
    let streamed = pieces.concat() + &decoder.finish();
    assert_eq!(streamed, tokenizer().decode(ids), "{ids:?}");
    let mut decoder = StreamDecoder::skipping_special(tokenizer());
    let streamed: String = ids.iter().map(|id| decoder.push(*id)).collect();
    assert_eq!(streamed + &decoder.finish(), tokenizer().decode_skip_special(ids), "{ids:?}");
}

#[test]
fn no_piece_holds_half_a_character() {
    let text = "苹果🙂é";
    let ids: Vec<u32> = text.bytes().map(byte_id).collect();
    let mut decoder = StreamDecoder::new(tokenizer());
    let pieces: Vec<String> = ids.iter().map(|id| decoder.push(*id)).collect();
    assert_eq!(pieces, ["", "", "苹", "", "", "果", "", "", "", "🙂", "", "é"]);
    assert_eq!(decoder.finish(), "");
}

fn byte_id(byte: u8) -> u32 {
    (10..266).find(|id| tokenizer().id_to_bytes(*id) == Some(&[byte])).unwrap()
}

#[test]
fn streams_of_texts_equal_the_whole() {
    for text in TEXTS {
        check(&tokenizer().encode(text));
        check(&text.bytes().map(byte_id).collect::<Vec<_>>());
    }
}

#[test]
fn streams_of_random_tokens_and_bytes_equal_the_whole() {
    let mut state = 7u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let high: Vec<u32> = (0x80..=0xff).map(byte_id).collect();
    for _ in 0..2000 {
        let n = below(12);
        check(&(0..n).map(|_| below(510) as u32).collect::<Vec<_>>());
        check(&(0..n).map(|_| high[below(128) as usize]).collect::<Vec<_>>());
    }
}
