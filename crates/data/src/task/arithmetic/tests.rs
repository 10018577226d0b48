//! Claims about the arithmetic task: split, solutions, lengths.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::grade::{correct, grade};
use crate::language::language_share;

/// A problem about fixed operands.
fn problem_about(kind: &'static str, expression: Expression, language: Language) -> Problem {
    let mut problem = problem_from(&ProblemMix::default(), 0, Split::Train, 0);
    problem.kind = kind;
    problem.language = language;
    problem.answer = expression.value().to_string();
    problem.detail = Detail::Arithmetic(expression);
    problem
}

/// The worked solution without its optional opening sentence.
fn reasoning(expression: Expression, language: Language) -> String {
    let problem = problem_about("add", expression, language);
    let text = worked(&problem, language, &mut Rng::from_key(&[4])).reasoning;
    text.replace("Let me compute. ", "").replace("我来算。", "")
}

#[test]
fn solutions_have_the_canonical_form() {
    let check = |operation, a, b, language, expected: &str| {
        assert_eq!(reasoning(Expression::one(operation, a, b), language), expected);
    };
    check(
        Operation::Add,
        348,
        275,
        Language::English,
        "348 + 275. ones: 8+5=13, write 3, carry 1. tens: 4+7+1=12, write 2, carry 1. \
         hundreds: 3+2+1=6. So 348 + 275 = 623.",
    );
    check(
        Operation::Add,
        348,
        275,
        Language::Chinese,
        "348 + 275。个位：8+5=13，写3，进1。十位：4+7+1=12，写2，进1。百位：3+2+1=6。\
         所以348 + 275 = 623。",
    );
    check(
        Operation::Sub,
        503,
        275,
        Language::English,
        "503 - 275. ones: 3-5, borrow 1, 13-5=8. tens: 0-7-1, borrow 1, 10-7-1=2. \
         hundreds: 5-2-1=2. So 503 - 275 = 228.",
    );
    check(
        Operation::Mul,
        347,
        6,
        Language::Chinese,
        "347 × 6。个位：7×6=42，写2，进4。十位：4×6=24，24+4=28，写8，进2。百位：3×6=18，18+2=20。\
         所以347 × 6 = 2082。",
    );
    assert_eq!(
        reasoning(Expression::AddSub { a: 7, b: 8, c: 9 }, Language::English),
        "First add, then subtract. 7 + 8. ones: 7+8=15. So 7 + 8 = 15. \
         Then 15 - 9. ones: 5-9, borrow 1, 15-9=6. tens: 1-0-1=0. So 15 - 9 = 6."
    );
}

/// Every `left=right` in `text`, evaluated; returns how many there were.
fn verify_equations(text: &str) -> usize {
    let text =
        &[" + ", " - ", " × ", " = "].iter().fold(text.to_string(), |t, s| t.replace(s, s.trim()));
    let is_sum = |c: char| c.is_ascii_digit() || "+-×".contains(c);
    let mut n_equations = 0;
    for (at, _) in text.match_indices('=') {
        let left_start = text[..at]
            .rfind(|c| !is_sum(c))
            .map_or(0, |i| i + text[i..].chars().next().map_or(0, char::len_utf8));
        let right = &text[at + 1..];
        let right = &right[..right.find(|c: char| !c.is_ascii_digit()).unwrap_or(right.len())];
        let left = &text[left_start..at];
        assert_eq!(evaluate(left), right.parse::<i64>().unwrap(), "{left}={right} in {text}");
        n_equations += 1;
    }
    n_equations
}

/// Value of a chain of one kind of operation.
fn evaluate(sum: &str) -> i64 {
    let numbers = |sign: char| sum.split(sign).map(|n| n.parse::<i64>().unwrap());
    if sum.contains('×') {
        numbers('×').product()
    } else if sum.contains('+') {
        numbers('+').sum()
    } else {
        numbers('-').reduce(|left, taken| left - taken).unwrap()
    }
}

/// `=13, write 3, carry 1`: what is written and carried is what stands before it.
fn verify_carries(text: &str) {
    let text = text.replace("，写", ", write ").replace("，进", ", carry ");
    for (at, _) in text.match_indices(", write ") {
        let total: String = text[..at].chars().rev().take_while(char::is_ascii_digit).collect();
        let total: String = total.chars().rev().collect();
        let tail: Vec<&str> = text[at..].splitn(3, [',', '.', '。']).collect();
        assert_eq!(tail[1], format!(" write {}", &total[1..]), "{text}");
        let carried = format!(", write {}, carry {}", &total[1..], &total[..1]);
        assert!(text[at..].starts_with(&carried), "{text}");
    }
}

#[test]
fn every_equation_in_every_solution_holds() {
    for index in 0..6000 {
        let problem = problem_from(&ProblemMix::default(), 11, Split::Train, index);
        let mut rng = Rng::from_key(&[index]);
        for language in Language::ALL {
            let worked = worked(&problem, language, &mut rng);
            assert!(verify_equations(&worked.reasoning) >= 2, "{}", worked.reasoning);
            verify_carries(&worked.reasoning);
            let end = format!(" = {}", problem.answer);
            assert!(worked.reasoning.trim_end_matches(['.', '。']).ends_with(&end));
            assert!(correct(&problem, &worked.reasoning), "{}", worked.reasoning);
            assert!(correct(&problem, &worked.final_answer));
            assert_eq!(language_share(&worked.reasoning, language), Some(1.0));
        }
        let mixed = mixed(&problem, &mut rng);
        verify_equations(&mixed.reasoning);
        assert!(correct(&problem, &mixed.reasoning));
        assert!(language_share(&mixed.reasoning, problem.language).unwrap() < 1.0);
        assert!(!correct(&problem, &wrong_answer(&problem, &mut rng)));
        assert!(correct(&problem, &terse(&problem, &problem.answer, &mut rng)));
    }
}

#[test]
fn the_splits_share_no_identity_in_200000_problems() {
    let mix = ProblemMix::default();
    let draw = |seed, split, n: u64| -> BTreeSet<u64> {
        (0..n).map(|index| problem_from(&mix, seed, split, index).identity).collect()
    };
    let train = draw(1, Split::Train, 160_000);
    let held_out = draw(2, Split::HeldOut, 40_000);
    assert_eq!(train.intersection(&held_out).count(), 0);
    assert!(train.len() > 40_000 && held_out.len() > 10_000, "{} {}", train.len(), held_out.len());
}

#[test]
fn training_solutions_never_state_a_held_out_sum() {
    let held: BTreeSet<u64> = (0..20_000)
        .map(|i| problem_from(&ProblemMix::default(), 2, Split::HeldOut, i).identity)
        .collect();
    for index in 0..20_000 {
        let problem = problem_from(&ProblemMix::default(), 1, Split::Train, index);
        let Detail::Arithmetic(expression) = problem.detail else { panic!("not arithmetic") };
        for (operation, a, b) in expression.steps() {
            assert!(!held.contains(&Expression::one(operation, a, b).identity()));
        }
    }
}

#[test]
fn questions_state_their_operands_and_stay_short() {
    let mut wordings: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for index in 0..4000 {
        let problem = problem_from(&ProblemMix::default(), 3, Split::Train, index);
        let question = &problem.question;
        assert!(!question.contains(['{', '}']), "{question}");
        assert!(question.split_whitespace().count() <= 30, "{question}");
        assert!(question.chars().count() <= 110, "{question}");
        let Detail::Arithmetic(expression) = problem.detail else { panic!("not arithmetic") };
        let (_, a, b) = expression.steps()[0];
        assert!(question.contains(&a.to_string()) && question.contains(&b.to_string()));
        assert_eq!(language_share(question, problem.language).unwrap_or(1.0), 1.0, "{question}");
        let shape = question.chars().filter(|c| !c.is_ascii_digit()).collect();
        wordings.entry(problem.kind).or_default().insert(shape);
    }
    assert!(wordings["add_story"].len() > 100);
    let asked = |wanted: &str| {
        (0..400_000).any(|index| {
            let mix = ProblemMix {
                kinds: [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
                difficulties: [1.0, 0.0, 0.0],
                ..ProblemMix::default()
            };
            problem_from(&mix, 1, Split::Train, index).question == wanted
        })
    };
    assert!(asked("What is 2 + 1?") || asked("What is 3 + 1?"));
    assert!(asked("2 + 1 等于多少？") || asked("3 + 1 等于多少？"));
}

/// Tokens a tokenizer with one-digit tokens would make, about: each digit, sign, English word or
/// Chinese character.
fn rough_tokens(text: &str) -> usize {
    let letters = |c: &char| c.is_ascii_alphabetic();
    let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty()).count();
    words + text.chars().filter(|c| !letters(c) && !c.is_whitespace()).count()
}

#[test]
fn solutions_are_of_bounded_length() {
    let mut total = 0;
    for index in 0..3000 {
        let problem = problem_from(&ProblemMix::default(), 9, Split::Train, index);
        let mut rng = Rng::from_key(&[index]);
        let n_tokens = rough_tokens(&worked(&problem, problem.language, &mut rng).reasoning);
        assert!((10..=170).contains(&n_tokens), "{n_tokens}: {}", problem.question);
        total += n_tokens;
    }
    assert!((35..=70).contains(&(total / 3000)), "mean {}", total / 3000);
}

#[test]
fn a_wrong_or_missing_number_is_graded_zero() {
    let problem =
        problem_about("add", Expression::one(Operation::Add, 348, 275), Language::English);
    assert_eq!(grade(&problem, r"\boxed{622}").score, 0.0);
    assert_eq!(grade(&problem, "six hundred").score, 0.0);
    assert_eq!(grade(&problem, r"<think> x </think> <answer> \boxed{623} </answer>").score, 1.0);
}

#[test]
fn a_mix_that_cannot_be_drawn_from_is_named() {
    let mix = ProblemMix { difficulties: [0.0; 3], ..ProblemMix::default() };
    assert_eq!(mix.invalid(), Some(("difficulties", 0.0)));
    let mix = ProblemMix { chinese: 1.5, ..ProblemMix::default() };
    assert_eq!(mix.invalid(), Some(("chinese", 1.5)));
    assert_eq!(ProblemMix::default().invalid(), None);
}
