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

/// A seeded generator of awkward text.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    /// Up to `n` runs of characters of all planes, the usual ones more often.
    pub(crate) fn text(&mut self, n: u64) -> String {
        const USUAL: &str =
            "  \n\r\t\u{a0}aetZé'süöÿ中文かカー가0９½.,!?_<>{}|｜🙂\u{301}\u{200d}\u{0}";
        let usual: Vec<char> = USUAL.chars().collect();
        let mut text = String::new();
        for _ in 0..self.below(n) {
            let c = match self.below(6) {
                0 => char::from_u32(self.below(0x11_0000) as u32).unwrap_or('\u{fffd}'),
                1 => char::from_u32(self.below(0x250) as u32).unwrap_or(' '),
                _ => usual[self.below(usual.len() as u64) as usize],
            };
            text.extend(std::iter::repeat_n(c, 1 + self.below(3) as usize));
        }
        text
    }
}
