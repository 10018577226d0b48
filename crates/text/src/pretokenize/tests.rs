//! The hand-written splitters cut as the expressions do that they stand for.

use std::path::Path;

use super::families::{FAMILIES, Family};
use super::{Matcher, Splitter, words};

/// Characters at which the expressions decide, and a few of all planes.
const SPECIMENS: &str = "   \t\n\r\u{b}\u{85}\u{a0}\u{2028}\u{3000}aZsStTdmlvrEeLK''éßſüÿѣ\
    中文龥龦か゛・カー가\u{d7ff}0٣９½Ⅷ〇.,!?_{}<>[]~-=+$^`\"/\\｜▁！～：‘‟—🙂\u{301}\u{903}\u{200d}\u{feff}\
    \u{0}\u{7f}\u{378}\u{e000}𝒳𐐀𞤀กสހअאع";

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }

    fn text(&mut self) -> String {
        let specimens: Vec<char> = SPECIMENS.chars().collect();
        let mut text = String::new();
        for _ in 0..self.below(40) {
            let c = match self.below(20) {
                0 => char::from_u32(self.below(0x11_0000) as u32).unwrap_or('\u{fffd}'),
                1 => char::from_u32(self.below(0x3000) as u32).unwrap_or(' '),
                _ => specimens[self.below(specimens.len())],
            };
            text.extend(std::iter::repeat_n(c, 1 + self.below(3)));
        }
        text
    }
}

fn splitter(patterns: &[String]) -> Splitter {
    Splitter::new(Path::new(""), patterns.iter().map(String::as_str)).unwrap()
}

fn check(patterns: &[String], n: usize) {
    let by_hand = splitter(patterns);
    let engine = by_hand.with_engine_alone();
    let mut random = Random(7);
    let (mut found, mut expected, mut spare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n {
        let text = random.text();
        by_hand.split(&text, &mut found, &mut spare);
        engine.split(&text, &mut expected, &mut spare);
        assert_eq!(found, expected, "{patterns:?} {text:?}");
    }
}

#[test]
fn every_family_is_cut_as_its_expressions_say() {
    for family in &FAMILIES {
        check(&family.patterns(), 2000);
    }
}

#[test]
fn every_word_splitter_cuts_as_its_expression_says() {
    for (pattern, _) in words::WORDS {
        check(&[pattern.to_owned()], 2000);
    }
}

#[test]
fn the_known_families_need_no_engine() {
    for family in FAMILIES.iter().filter(|family| family.names != ["default"]) {
        let splitter = splitter(&family.patterns());
        let engine = |stage: &super::Stage| matches!(stage.matcher, Matcher::Regex(_));
        assert!(!splitter.stages.iter().any(engine), "{:?}", family.names);
    }
}

#[test]
fn families_are_found_by_name_and_by_their_expressions() {
    for family in &FAMILIES {
        let patterns = family.patterns();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        assert_eq!(Family::of_patterns(&patterns).unwrap().names, family.names);
        for name in family.names {
            assert_eq!(Family::named(name).unwrap().names, family.names);
        }
    }
    let raw = ["\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", &words::V3.replace("\\r\\n", "\r\n")];
    assert_eq!(Family::of_patterns(&raw).unwrap().names, ["deepseek-v3"]);
    let error = Family::named("falcon").unwrap_err().to_string();
    assert!(error.contains("`falcon`") && error.contains("`deepseek-r1-qwen`"), "{error}");
}
