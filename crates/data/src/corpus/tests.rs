//! Claims about the corpus: split, shares, lengths, determinism.

use std::collections::BTreeSet;

use super::*;
use crate::language::language_share;
use crate::task::arithmetic::{Expression, Operation};
use crate::task::in_split;

fn settings() -> CorpusSettings {
    CorpusSettings { preamble: "Think, then answer.".to_string(), ..CorpusSettings::default() }
}

#[test]
fn a_document_depends_on_seed_index_and_settings_alone() {
    let settings = settings();
    let forward: Vec<String> = (0..300).map(|i| document(1, i, &settings)).collect();
    let backward: Vec<String> = (0..300).rev().map(|i| document(1, i, &settings)).collect();
    assert!(forward.iter().eq(backward.iter().rev()));
    assert_ne!(forward[0], document(2, 0, &settings));
    let distinct: BTreeSet<&String> = forward.iter().collect();
    assert!(distinct.len() > 295, "{}", distinct.len());
}

#[test]
fn shapes_and_languages_appear_in_their_shares() {
    let settings = settings();
    let pages: Vec<String> = (0..6000).map(|i| document(3, i, &settings)).collect();
    let share = |wanted: &dyn Fn(&str) -> bool| {
        pages.iter().filter(|page| wanted(page)).count() as f64 / pages.len() as f64
    };
    // (shape shares) * (pages about problems): tags are 0.12 + 0.05 + 0.04 of 0.85.
    let tagged = share(&|page| page.contains("<think>"));
    assert!((tagged - 0.21 * 0.85).abs() < 0.02, "tagged {tagged}");
    let chinese = share(&|page| language_share(page, Language::Chinese).unwrap_or(0.0) > 0.4);
    assert!((0.3..0.6).contains(&chinese), "chinese {chinese}");
    let preamble = share(&|page| page.starts_with("Think, then answer."));
    assert!((0.15..0.35).contains(&preamble), "preamble {preamble}");
    assert!(pages.iter().all(|page| page.matches("<think>").count() <= 1));
}

#[test]
fn documents_are_short() {
    let settings = CorpusSettings::default();
    let mut total = 0;
    for index in 0..3000 {
        let page = document(4, index, &settings);
        let n_chars = page.chars().count();
        assert!((10..=700).contains(&n_chars), "{n_chars}: {page}");
        assert!(!page.contains(['{']) || page.contains("\\boxed{"), "{page}");
        assert_eq!(page.trim(), page);
        total += n_chars;
    }
    assert!((80..=220).contains(&(total / 3000)), "mean {} characters", total / 3000);
}

/// Sums `a + b`, `a - b`, `a × b` written in a text, spaced or not.
fn sums_in(text: &str) -> Vec<Expression> {
    let text = text.replace(' ', "");
    let number_before = |at: usize| -> Option<u32> {
        let start = text[..at].rfind(|c: char| !c.is_ascii_digit());
        let start = start.map_or(0, |i| i + text[i..].chars().next().map_or(0, char::len_utf8));
        // In `80+78-12` nobody states what 78-12 is.
        let in_chain = text[..start].ends_with(['+', '-', '×']);
        if in_chain { None } else { text[start..at].parse().ok() }
    };
    let number_after = |at: usize| -> Option<u32> {
        let end = text[at..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |i| at + i);
        text[at..end].parse().ok()
    };
    let signs = [('+', Operation::Add), ('-', Operation::Sub), ('×', Operation::Mul)];
    signs
        .into_iter()
        .flat_map(|(sign, operation)| {
            text.match_indices(sign)
                .filter_map(|(at, found)| {
                    let (a, b) = (number_before(at)?, number_after(at + found.len())?);
                    Some(Expression::one(operation, a, b))
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn no_held_out_sum_of_several_digits_is_written_on_any_page() {
    let settings = CorpusSettings::default();
    for index in 0..8000 {
        let page = document(5, index, &settings);
        for expression in sums_in(&page) {
            let Expression::One { operation, a, b } = expression else { panic!("two steps") };
            let is_problem = match operation {
                Operation::Mul => a >= 10,
                _ => a >= 10 && b >= 10,
            };
            let held_out = in_split(expression.identity(), Split::HeldOut);
            assert!(!(is_problem && held_out), "{a} {operation:?} {b} in {page}");
        }
    }
}

#[test]
fn dialogues_think_and_answer_in_the_language_of_the_question() {
    for index in 0..500 {
        let dialogue = cold_start(1, index, &ProblemMix::default());
        assert_eq!(language_share(&dialogue.reasoning, dialogue.language), Some(1.0));
        assert_eq!(language_share(&dialogue.answer, dialogue.language), Some(1.0));
        assert!(dialogue.answer.contains("\\boxed{"));
        let general = general_dialogue(1, index);
        assert_eq!(language_share(&general.reasoning, general.language), Some(1.0));
    }
    let mix = ProblemMix::default();
    assert_eq!(cold_start(1, 7, &mix), cold_start(1, 7, &mix));
    assert_ne!(cold_start(1, 7, &mix), cold_start(1, 8, &mix));
}

#[test]
fn settings_that_cannot_work_are_named() {
    assert_eq!(CorpusSettings::default().invalid(), None);
    let check = |settings: CorpusSettings, name| {
        assert_eq!(settings.invalid().map(|(found, _)| found), Some(name));
    };
    check(CorpusSettings { wrong_share: 1.5, ..CorpusSettings::default() }, "wrong_share");
    check(CorpusSettings { chat_share: 0.99, ..CorpusSettings::default() }, "drill_share");
    check(CorpusSettings { mixed: -1.0, ..CorpusSettings::default() }, "mixed");
    let none = CorpusSettings { plain: 0.0, textbook: 0.0, dialogue: 0.0, ..settings() };
    check(none, "plain");
}

#[test]
fn settings_refuse_unknown_names() {
    let parsed: Result<CorpusSettings, _> = serde_json::from_str(r#"{"terse": 0.3}"#);
    assert_eq!(parsed.unwrap(), CorpusSettings { terse: 0.3, ..CorpusSettings::default() });
    assert!(serde_json::from_str::<CorpusSettings>(r#"{"terze": 0.3}"#).is_err());
}

/// Prints samples: `cargo test -p fathom-data samples -- --nocapture`.
#[test]
fn samples() {
    let settings = settings();
    for index in 0..24 {
        println!("--- document {index}\n{}", document(1, index, &settings));
    }
    for index in 0..12 {
        let dialogue = cold_start(1, index, &ProblemMix::default());
        println!("--- cold start {index}\n{}", dialogue.question);
        println!("{}", chat_response(&dialogue.reasoning, &dialogue.answer));
    }
    for index in 0..6 {
        let dialogue = general_dialogue(1, index);
        println!("--- general {index}\n{}", dialogue.question);
        println!("{}", chat_response(&dialogue.reasoning, &dialogue.answer));
    }
}
