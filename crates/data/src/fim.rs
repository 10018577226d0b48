//! Fill in the middle: turns a share of the documents into prefix, suffix, middle.
//!
//! DeepSeek-Coder (arXiv:2401.14196, section 3.1.2): PSM order, at document level, before packing,
//! `<｜fim▁begin｜>prefix<｜fim▁hole｜>suffix<｜fim▁end｜>middle<eos>`; rate 0.5 for Coder and
//! Coder-V2-Lite, 0.1 for V3. The papers do not state how the cuts are drawn; we take two uniform
//! ones, as Bavarian et al. (arXiv:2207.14255). Cuts fall between characters, never inside one, so
//! each part is valid text of its own. EOS is added by packing.

use fathom_text::special::{FIM_BEGIN, FIM_END, FIM_HOLE};

use crate::random::Rng;

/// Separates the random stream of FIM from others with the same seed.
const FIM_STREAM: u64 = 0x0066_696d; // "fim"

/// A document as it will be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FimDocument<'a> {
    /// As it was written.
    Plain(&'a str),
    /// Cut in three; joined in this order the parts are the document.
    Cut { prefix: &'a str, middle: &'a str, suffix: &'a str },
}

/// What a tokenizer encodes, one by one: a marker is one special token, text is plain text even if
/// it spells a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// [`FIM_BEGIN`], [`FIM_HOLE`] or [`FIM_END`].
    Marker(&'static str),
    /// Text between markers, not empty.
    Text(&'a str),
}

/// Cuts `text` with probability `rate`; `key` (such as seed, epoch and document number) decides
/// whether and where, so a document needs nothing but its own key. An empty text stays plain.
pub fn cut_for_fim<'a>(text: &'a str, rate: f64, key: &[u64]) -> FimDocument<'a> {
    let mut rng = Rng::from_key(&[&[FIM_STREAM], key].concat());
    if text.is_empty() || !rng.chance(rate) {
        return FimDocument::Plain(text);
    }
    let n_places = text.chars().count() as u64 + 1;
    let (one, other) = (rng.below(n_places) as usize, rng.below(n_places) as usize);
    let byte_of = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
    let (start, end) = (byte_of(one.min(other)), byte_of(one.max(other)));
    FimDocument::Cut { prefix: &text[..start], middle: &text[start..end], suffix: &text[end..] }
}

impl<'a> FimDocument<'a> {
    /// The pieces to encode, in PSM order, without EOS.
    pub fn pieces(&self) -> Vec<Piece<'a>> {
        let all = match *self {
            Self::Plain(text) => vec![Piece::Text(text)],
            Self::Cut { prefix, middle, suffix } => vec![
                Piece::Marker(FIM_BEGIN),
                Piece::Text(prefix),
                Piece::Marker(FIM_HOLE),
                Piece::Text(suffix),
                Piece::Marker(FIM_END),
                Piece::Text(middle),
            ],
        };
        all.into_iter().filter(|piece| *piece != Piece::Text("")).collect()
    }
}

/// The prompt that asks a model for the text between `prefix` and `suffix`.
pub fn fim_prompt<'a>(prefix: &'a str, suffix: &'a str) -> Vec<Piece<'a>> {
    FimDocument::Cut { prefix, middle: "", suffix }.pieces()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fn größe() -> usize { 42 } // 注释";

    fn render(pieces: &[Piece]) -> String {
        pieces
            .iter()
            .map(|piece| match *piece {
                Piece::Marker(marker) => marker,
                Piece::Text(text) => text,
            })
            .collect()
    }

    #[test]
    fn cut_parts_join_to_the_document() {
        for number in 0..200 {
            let FimDocument::Cut { prefix, middle, suffix } = cut_for_fim(TEXT, 1.0, &[number])
            else {
                panic!("rate 1 cuts every document");
            };
            assert_eq!([prefix, middle, suffix].concat(), TEXT);
        }
    }

    #[test]
    fn pieces_stand_in_psm_order() {
        let cut = FimDocument::Cut { prefix: "ab", middle: "cd", suffix: "ef" };
        assert_eq!(render(&cut.pieces()), "<｜fim▁begin｜>ab<｜fim▁hole｜>ef<｜fim▁end｜>cd");
        assert_eq!(render(&fim_prompt("ab", "")), "<｜fim▁begin｜>ab<｜fim▁hole｜><｜fim▁end｜>");
        assert_eq!(cut_for_fim("", 1.0, &[1]).pieces(), []);
    }

    #[test]
    fn rate_is_kept_and_a_key_decides_alone() {
        let cut = |number| matches!(cut_for_fim(TEXT, 0.5, &[3, number]), FimDocument::Cut { .. });
        let share = (0..4000).filter(|&number| cut(number)).count();
        assert!((1850..2150).contains(&share), "{share} of 4000");
        assert_eq!(cut_for_fim(TEXT, 0.5, &[3, 8]), cut_for_fim(TEXT, 0.5, &[3, 8]));
        assert!((0..500).all(|n| cut_for_fim(TEXT, 0.0, &[n]) == FimDocument::Plain(TEXT)));
    }

    #[test]
    fn cuts_reach_both_ends() {
        let cuts: Vec<_> = (0..400).map(|number| cut_for_fim("abc", 1.0, &[number])).collect();
        for (prefix, middle, suffix) in [("", "abc", ""), ("abc", "", ""), ("", "", "abc")] {
            assert!(cuts.contains(&FimDocument::Cut { prefix, middle, suffix }));
        }
    }
}
