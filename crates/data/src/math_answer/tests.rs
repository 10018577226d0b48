//! Claims about the checker: what counts as equal, what does not, and that no input breaks it.

use std::path::Path;

use super::*;
use crate::jsonl::{Fields, read_problems};
use crate::random::Rng;

#[track_caller]
fn equal(pairs: &[(&str, &str)]) {
    for (answer, gold) in pairs {
        assert_eq!(check(answer, gold), Verdict::Correct, "`{answer}` for `{gold}`");
    }
}

#[track_caller]
fn differ(pairs: &[(&str, &str)]) {
    for (answer, gold) in pairs {
        assert_eq!(check(answer, gold), Verdict::Wrong, "`{answer}` for `{gold}`");
    }
}

#[test]
fn numbers_are_equal_by_value() {
    equal(&[
        ("18", "18"),
        ("18.0", "18"),
        ("+18", "18"),
        ("018", "18"),
        ("-5", "−5"),
        ("2,125", "2125"),
        ("2125", "2,125"),
        ("1 450 000", "1,450,000"),
        ("10{,}236", "10236"),
        (r"12,\!000,\!085", "12000085"),
        (".5", "0.5"),
        ("1/2", "0.5"),
        (r"\frac{1}{2}", "1/2"),
        (r"-\dfrac{1}{4}", r"\frac{-1}{4}"),
        (r"\tfrac65", r"\frac{6}{5}"),
        ("6/4", "3/2"),
        ("11 2/3", r"11 \frac{2}{3}"),
        ("35/3", r"11\frac{2}{3}"),
        (r"1.2\times 10^3", "1200"),
        ("1.2e3", "1200"),
        ("１８", "18"),
        ("123456789012345678901234567890123456789", "123456789012345678901234567890123456789"),
    ]);
    differ(&[
        ("19", "18"),
        ("-18", "18"),
        ("1.8", "18"),
        ("0.333", "1/3"),
        ("21", "2,1"),
        ("1 12/3", "112/3"),
        ("2125", "2,126"),
        ("100000000000000000001", "100000000000000000000"),
        ("123456789012345678901234567890123456780", "123456789012345678901234567890123456789"),
    ]);
}

#[test]
fn a_question_is_no_answer() {
    differ(&[
        ("348+275", "623"),
        ("348 + 275 = 623", "623"),
        (r"7 \times 8", "56"),
        ("6/2", "3"),
        (r"\frac{6}{2}", "3"),
        ("2^3", "8"),
        (r"\sqrt{16}", "4"),
        ("622 623", "623"),
        ("622, 623", "623"),
        ("622 or 623", "623"),
        ("x=348+275", "623"),
    ]);
}

#[test]
fn dress_is_ignored() {
    equal(&[
        ("$18", "18"),
        (r"\$15,\!000", "15000"),
        ("18 dollars", "$18"),
        ("$18$", "18"),
        ("-$5", "-5"),
        ("18 eggs", "18"),
        ("18 eggs per day", "18"),
        ("5cm", "5"),
        ("575", r"575\text{ students}"),
        (r"575 \text{ students}", "575"),
        (r"12\text{ cm}^2", "12"),
        ("30", r"30^\circ"),
        (r"30^{\circ}", "30°"),
        (r"\boxed{42}", "42"),
        (r"\(42\)", "42"),
        ("42.", "42"),
        ("**42**", "42"),
        ("(42)", "42"),
        ("x = 4", "4"),
        ("4", "x=4"),
        ("3 hours", "3 hrs"),
        ("18元", "18"),
        ("3个苹果", "3"),
        ("￥18", "18元"),
        ("5 m", "5"),
        (r"25\pi \text{ cm}^2", r"25\pi"),
    ]);
    differ(&[
        ("5 km", "5 m"),
        ("5 cents", "$5"),
        ("2x", "2"),
        ("2", "2x"),
        ("2 x", "2"),
        ("2", "3xyz"),
        ("2", "2xyz"),
        ("x=4", "y=4"),
        ("about", "5"),
    ]);
}

#[test]
fn percent_reads_both_ways() {
    equal(&[
        ("25%", "25"),
        ("25", r"25\%"),
        ("0.25", "25%"),
        ("25%", "0.25"),
        ("25 percent", "25%"),
        ("1/4", "25%"),
    ]);
    differ(&[("25%", "0.25%"), ("2.5", "25%"), ("25%", "2500"), ("50/2", "25%")]);
}

#[test]
fn parts_are_compared_one_by_one() {
    equal(&[
        ("(6, 31, -1)", "(6,31,-1)"),
        (r"\left( -\frac{1}{4}, -2 \right)", "(-0.25,-2)"),
        ("[-3,2]", "[-3, 2]"),
        (r"(-\infty, 0) \cup [1,2)", r"[1,2)\cup(-\infty,0)"),
        ("1,0", "0, 1"),
        ("0 and 1", "0,1"),
        (r"7, -2, \text{ and } -5", "-5,-2,7"),
        (r"\{1,2\}", "2,1"),
        ("70, 110", "70,110"),
        ("70110", "70,110"),
        (r"\begin{pmatrix} 6/5 \\ -17/5 \end{pmatrix}", r"\begin{bmatrix}1.2\\-3.4\end{bmatrix}"),
        (
            r"\begin{pmatrix} 4 & 2 \\ -1 & 1 \end{pmatrix}",
            r"\begin{pmatrix}4&2\\-1&1\end{pmatrix}",
        ),
    ]);
    differ(&[
        ("(31,6)", "(6,31)"),
        ("(0,1)", "[0,1]"),
        ("(0,1]", "(0,1)"),
        ("0,1,1", "0,1"),
        ("0,0", "0,1"),
        ("1,2", "(1,2)"),
        ("1", "1,2"),
        ("1,2", "1"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
    ]);
}

#[test]
fn expressions_are_equal_by_value() {
    equal(&[
        (r"4\sqrt{2}", r"4 \sqrt 2"),
        (r"4\sqrt2", r"\sqrt{32}"),
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
        ("3x+2x^2", "2x^2+3x"),
        ("2(x+3)", "2x+6"),
        ("x^10", "x^{10}"),
        (r"\frac{2\pi}{3}", r"2π/3"),
        ("4√2", r"4\sqrt{2}"),
        ("4*sqrt(2)", r"4\sqrt{2}"),
        (r"3\frac{x}{2}", "1.5x"),
        ("6i+4", "4+6i"),
        (r"\sqrt[3]{2}", r"2^{1/3}"),
        (r"1 - \sqrt{2}", r"-\sqrt{2}+1"),
        ("y=2x+1", "1+2x"),
    ]);
    differ(&[
        (r"4\sqrt{3}", r"4\sqrt{2}"),
        ("2x^2+3x+1", "2x^2+3x"),
        ("1.414", r"\sqrt{2}"),
        ("x", "y"),
        ("xy", "x+y"),
        ("4-6i", "4+6i"),
    ]);
}

#[test]
fn text_is_compared_without_case_and_space() {
    equal(&[
        (r"\text{(B)}", "B"),
        ("(B)", r"\text{B}"),
        (r"\text{June 20}", "june 20"),
        ("even", r"\text{even}"),
        ("Parabola.", "parabola"),
        ("1112112_3", "1112112_{3}"),
        (r"\cos 58^\circ", r"\cos 58"),
    ]);
    differ(&[
        ("no", "on"),
        ("C", "B"),
        ("odd", "even"),
        ("1112112", "1112112_3"),
        ("neve", "even"),
    ]);
}

#[test]
fn unreadable_golds_are_never_rewarded() {
    for gold in
        ["", "  ", "$", "...", r"\frac{1}{0}", "1/0", r"\frac{1}{2", "}{", &"1".repeat(3000)]
    {
        for answer in [gold, "1", ""] {
            let verdict = check(answer, gold);
            assert_eq!(verdict, Verdict::GoldUnreadable, "`{answer}` for `{gold}`");
            assert_eq!(verdict.reward(), 0.0);
        }
    }
    assert_eq!(check("", "5"), Verdict::NoAnswer);
    assert_eq!(check(" $$ ", "5"), Verdict::NoAnswer);
    assert_eq!(check(&"5".repeat(3000), "5"), Verdict::Wrong);
    assert_eq!(check(r"\infty", r"\infty"), Verdict::Correct);
}

#[test]
fn the_last_complete_box_is_the_answer() {
    let cases = [
        (r"so \boxed{5}, no, \boxed{\frac{1}{2}}.", Some(r"\frac{1}{2}")),
        (r"\boxed{\boxed{7}}", Some("7")),
        (r"\boxed{\{1,2\}}", Some(r"\{1,2\}")),
        (r"\boxed {7} and \boxed{62", Some("7")),
        (r"$\boxed 5$", Some("5")),
        (r"\fbox{6}", Some("6")),
        ("a\n#### 18\n", Some("18")),
        ("The answer is 3.5. That was easy.", Some("3.5")),
        ("**Answer:** **12**", Some("12")),
        ("所以答案是：42。谢谢", Some("42")),
        ("no idea", None),
        ("", None),
        (r"\boxed", None),
    ];
    for (response, expected) in cases {
        assert_eq!(final_answer(response), expected, "{response}");
    }
    assert_eq!(grade(r"it is $\boxed{18}$", "18"), Verdict::Correct);
    assert_eq!(grade("no idea", "18"), Verdict::NoAnswer);
    assert_eq!(grade("no idea", ""), Verdict::GoldUnreadable);
    assert_eq!(last_boxed(&format!(r"\boxed{{1}} {}", r"\boxed{".repeat(50_000))), None);
}

#[test]
fn no_text_breaks_or_stalls_the_checker() {
    let parts = [
        "\\frac",
        "\\sqrt",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "1",
        "23",
        ",",
        ".",
        "-",
        "^",
        "_",
        "x",
        "\\text",
        "\\boxed",
        " ",
        "$",
        "%",
        "\\",
        "é",
        "中",
        "√",
        "\\{",
        "\\}",
        "=",
        "/",
        "0",
        "*",
        "\\cup",
        "\\begin{pmatrix}",
        "\\\\",
        "&",
        "and",
        "²",
        "e9",
        "#### ",
        "answer is",
    ];
    let mut rng = Rng::from_key(&[11]);
    for _ in 0..4000 {
        let mut text = String::new();
        for _ in 0..rng.between(0, 14) {
            text.push_str(rng.pick::<&str>(&parts));
        }
        let verdict = check(&text, &text);
        assert_ne!(verdict, Verdict::Wrong, "`{text}` for itself");
        let _ = (grade(&text, "5"), check("5", &text), check(&text, "x^2"));
    }
    for unit in
        ["(", "{", "3\\frac{", "-", "\\text{", "\\sqrt{", "^{", "9^", "x(", "1,", "[(", "\\boxed{"]
    {
        let open = unit.repeat(1900 / unit.len());
        let _ = (check(&open, "x+1"), grade(&open, "x+1"));
        let closed = format!("{}x{}", unit.repeat(60), "}{1}".repeat(60));
        let _ = check(&closed, "x+1");
    }
}

#[test]
fn every_gsm8k_gold_equals_itself_and_not_its_successor() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/math/gsm8k-test.jsonl");
    if !Path::new(path).is_file() {
        eprintln!("skipped: `{path}` is not here");
        return;
    }
    let set = read_problems(Path::new(path), &Fields::gsm8k()).unwrap();
    for problem in &set.problems {
        let gold = problem.final_answer.as_str();
        let number: i64 = gold.replace(',', "").parse().unwrap();
        let solution = format!("{}\n#### {gold}", problem.reasoning);
        assert_eq!(grade(&solution, gold), Verdict::Correct);
        for same in [number.to_string(), format!("{number}.00"), format!("\\${number}")] {
            assert_eq!(check(&same, gold), Verdict::Correct, "`{same}` for `{gold}`");
        }
        for other in [(number + 1).to_string(), (-number - 1).to_string(), format!("{number}.5")] {
            assert_eq!(check(&other, gold), Verdict::Wrong, "`{other}` for `{gold}`");
        }
    }
}

#[test]
fn math_golds_equal_themselves_and_their_neighbours_only_by_value() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/math/math-test.json");
    if !Path::new(path).is_file() {
        eprintln!("skipped: `{path}` is not here");
        return;
    }
    let fields =
        Fields { question: "problem".into(), answer: "solution".into(), ..Fields::gsm8k() };
    let set = read_problems(Path::new(path), &fields).unwrap();
    let golds: Vec<_> = set.problems.iter().map(|problem| problem.final_answer.as_str()).collect();
    assert!(golds.len() > 4990, "{} golds, {}", golds.len(), set.skipped);
    for gold in &golds {
        assert_eq!(check(gold, gold), Verdict::Correct, "{gold}");
        let boxed = format!("Thus $\\boxed{{{gold}}}$.");
        assert_eq!(grade(&boxed, gold), Verdict::Correct, "{gold}");
    }
    let differently_written = |pair: &&[&str]| pair[0] != pair[1];
    let pairs = golds.windows(2).filter(differently_written);
    let equal: Vec<_> = pairs.filter(|pair| check(pair[0], pair[1]) == Verdict::Correct).collect();
    let expected = [[r"\frac{3}{4}", r"\frac34"], [r"120^\circ", "120"], [r"7\%", "7"]];
    assert_eq!(equal, expected);
}
