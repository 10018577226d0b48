//! Our way through the pieces gives the ids of the `tokenizers` crate's own way.

use super::Tokenizer;
use crate::train::{BpeSettings, PretokenizerStyle, train_bpe};

const TEXTS: [&str; 9] = [
    "",
    "Hello, world!  It's 348+275 = 623.\n\n\tDone. ",
    "小明有12个苹果，又买了 3 个。一共有多少个？",
    "fn main() {\n    let x_1 = [0u8; 16];\n\treturn   x_1;\r\n}\n",
    "🙂👩‍👩‍👧‍👦 e\u{301} ｱｲｳ ｜▁｜ \u{0} \u{7f} \u{85}\u{a0}\u{2028}",
    "<think>\nab</think><｜User｜> <｜Assistant｜",
    "\\boxed{623} $x^2$ \"quotes\" don't",
    "٣٤٥ ½ Ⅷ 〇 123456",
    "ÀÁõöü Führer ÿ",
];

fn trained(style: PretokenizerStyle) -> Tokenizer {
    let settings = BpeSettings {
        vocab_size: 400,
        special_tokens: ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
            .map(String::from)
            .into(),
        pretokenizer: style,
        min_frequency: 2,
    };
    train_bpe(TEXTS.iter().map(|text| text.repeat(2)), &settings).unwrap()
}

/// A tokenizer, and the same as the `tokenizers` crate reads it.
struct Pair {
    ours: Tokenizer,
    reference: tokenizers::Tokenizer,
}

impl Pair {
    fn new(ours: Tokenizer) -> Pair {
        let reference = tokenizers::Tokenizer::from_bytes(ours.json()).unwrap();
        Pair { ours, reference }
    }

    fn check(&self, text: &str) {
        let expected = self.reference.encode_fast(text, false).unwrap();
        assert_eq!(self.ours.encode(text), expected.get_ids(), "{text:?}");
        let decoded = self.reference.decode(expected.get_ids(), false).unwrap();
        assert_eq!(self.ours.decode(expected.get_ids()), decoded, "{text:?}");
    }
}

/// Characters that make the expressions disagree, if anything does, in random order.
fn random_text(seed: u64) -> String {
    let characters: Vec<char> =
        "  \t\n\r\u{a0}\u{3000}aZéß中文かカ0９½.,!?'｜_{}<>/\\+=$🙂\u{301}\u{200d}\u{0}"
            .chars()
            .collect();
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        characters[(state >> 33) as usize % characters.len()]
    };
    (0..80).map(|_| next()).collect()
}

fn check_all(ours: Tokenizer) {
    let pair = Pair::new(ours);
    TEXTS.iter().for_each(|text| pair.check(text));
    (0..200).for_each(|seed| pair.check(&random_text(seed)));
}

#[test]
fn trained_tokenizers_encode_as_the_reference_does() {
    check_all(trained(PretokenizerStyle::DigitWords));
    check_all(trained(PretokenizerStyle::Code));
}

#[test]
fn the_deepseek_tokenizer_encodes_as_the_reference_does() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/tokenizers/deepseek-v4-tokenizer.json"
    );
    if !std::path::Path::new(path).exists() {
        eprintln!("skipped: no {path}");
        return;
    }
    let tokenizer = Tokenizer::open(path).unwrap();
    assert_eq!(tokenizer.encode("Hello!"), [19923, 3]);
    assert_eq!(tokenizer.token_id(crate::special::BOS), Some(0));
    assert_eq!(tokenizer.vocab_size(), 129_280);
    check_all(tokenizer);
}
