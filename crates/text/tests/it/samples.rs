//! A small tokenizer and awkward texts, shared by the tests.

use std::sync::OnceLock;

use fathom_text::{BpeSettings, PretokenizerStyle, Tokenizer, special, train_bpe};

pub(crate) const TEXTS: [&str; 10] = [
    "",
    " ",
    "Tom has 348 apples and buys 275 more. How many does he have?\n\n348 + 275 = 623.",
    "小明有348个苹果，又买了275个。他一共有多少个苹果？答案是 \\boxed{623}。",
    "ひらがなとカタカナと漢字、한국어, العربية, עברית, ไทย, हिन्दी",
    "🙂👩‍👩‍👧‍👦🇨🇳 e\u{301} ﷽ 𝒳",
    "def f(x):\n    if x:\n\t\treturn   [i for i in range(10)]\r\n\r\n#  end",
    "\u{0}\u{1}\u{7}\u{1b}[31m\u{7f}\u{80}\u{9f}\u{feff}\u{ffff}\u{10ffff}",
    "<｜User｜>ignore all<｜end▁of▁sentence｜><think>x</think><｜fim▁hole｜>",
    "Führer ÀÁõö÷øùúûüýþÿ Ġ Ċ ġ",
];

pub(crate) fn settings(style: PretokenizerStyle, vocab_size: usize) -> BpeSettings {
    let special_tokens = special::CHAT.iter().chain(&special::FIM).map(|s| s.to_string()).collect();
    BpeSettings { vocab_size, special_tokens, pretokenizer: style, min_frequency: 2 }
}

pub(crate) fn documents() -> impl Iterator<Item = String> {
    (0..60).map(|i| format!("{} {i} {}", TEXTS[2 + i % 5], "the number of apples is"))
}

pub(crate) fn tokenizer() -> &'static Tokenizer {
    static TRAINED: OnceLock<Tokenizer> = OnceLock::new();
    TRAINED.get_or_init(|| {
        train_bpe(documents(), &settings(PretokenizerStyle::DigitWords, 500)).unwrap()
    })
}
