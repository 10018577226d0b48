//! The page is whole, safe, and says what the run measured.

use super::*;
use crate::metrics::name;
use crate::results::{ModelResult, Models};

/// A finished run of the built-in recipe with made-up figures.
fn finished() -> ReportInput {
    let recipe = Recipe::load("r1-tiny", &[]).unwrap();
    let mut records = Vec::new();
    for step in 1..=300u64 {
        let t = step as f64 / 300.0;
        let wave = (step as f64 * 1.7).sin() * 0.5 + (step as f64 * 0.53).sin() * 0.5;
        records.push(Record::new(
            "base",
            step,
            &[
                (name::LOSS, 1.1 + 5.0 * (-6.0 * t).exp() + 0.08 * wave),
                (name::MTP_LOSS, 1.6 + 4.8 * (-5.0 * t).exp() + 0.1 * wave),
                (name::EXPERT_LOAD, 1.25 + 1.5 * (-12.0 * t).exp() + 0.1 * wave.abs()),
                (name::LEARNING_RATE, 2e-3 * (step as f64 / 20.0).min(1.0)),
            ],
        ));
    }
    for stage in ["r1-zero", "r1-reasoning", "r1"] {
        for step in 1..=60u64 {
            let t = step as f64 / 60.0;
            let wave = (step as f64 * 2.3).sin() * 0.06;
            let accuracy = (0.15 + 0.7 * (1.0 - (-4.0 * t).exp()) + wave).clamp(0.0, 1.0);
            records.push(Record::new(
                stage,
                step,
                &[
                    (name::REWARD, accuracy + 0.9),
                    (name::ACCURACY, accuracy),
                    (name::RESPONSE_TOKENS, 22.0 + 40.0 * t + 60.0 * wave),
                    (name::LANGUAGE_CONSISTENCY, 0.9 - 0.2 * t + wave),
                    (name::TRUNCATED, 0.08 * (1.0 - t)),
                    (name::KL, 0.02 * t),
                ],
            ));
        }
    }
    let scores = [
        ("base", 0.121, 0.18, 21.0, 0.86),
        ("r1-zero", 0.78, 0.86, 63.0, 0.71),
        ("cold-start", 0.55, 0.69, 58.0, 0.99),
        ("r1-reasoning", 0.89, 0.93, 60.0, 0.995),
        ("r1-sft", 0.87, 0.92, 60.5, 0.99),
        ("r1", 0.934, 0.957, 58.2, 1.0),
        ("student-base", 0.09, 0.11, 20.0, 0.85),
        ("student-distilled", 0.81, 0.88, 59.0, 0.99),
        ("student-grpo", 0.52, 0.6, 48.0, 0.74),
    ];
    let models = scores.map(|(stage, pass, vote, tokens, language)| {
        let result = ModelResult { n: 512, ..Default::default() }
            .with("pass@1", pass)
            .with("pass@8", (pass + 0.12).min(1.0))
            .with("maj@8", vote)
            .with("truncated", 0.011)
            .with("mean_response_tokens", tokens)
            .with("language_consistency", language)
            .with("parameters", if stage.starts_with("student") { 0.81e6 } else { 3.4e6 });
        (stage.to_owned(), result)
    });
    let results = Results {
        models: Models(models.to_vec()),
        seed: 1,
        wall_s: 812.0,
        peak_rss_bytes: 700 << 20,
    };
    ReportInput {
        recipe,
        records,
        samples: samples(),
        results: Some(results),
        run_dir: "runs/r1-tiny".into(),
    }
}

fn sample(stage: &str, step: u64, model: &str, question: &str, response: &str) -> Sample {
    Sample {
        stage: stage.into(),
        step,
        model: model.into(),
        question: question.into(),
        gold: Some("623".into()),
        response: response.into(),
        response_tokens: response.len() / 3,
        correct: Some(response.contains("623")),
        reward: Some(1.0),
    }
}

fn samples() -> Vec<Sample> {
    let english = "What is 348 + 275?";
    let chinese = "小明有348个苹果,又买了275个。他一共有多少个苹果?";
    let good = "348 + 275: 8 + 5 = 13, write 3 carry 1.\n4 + 7 + 1 = 12, write 2 carry 1.\n3 + 2 + 1 = 6.\nSo 623.\n</think>\n\nThe answer is \\boxed{623}.";
    let good_chinese = "348 + 275:8 + 5 = 13,写3进1。\n4 + 7 + 1 = 12,写2进1。\n3 + 2 + 1 = 6。\n所以是623。\n</think>\n\n答案是 \\boxed{623}。";
    let mut all = Vec::new();
    for step in [1, 20, 40, 60] {
        let answer = if step < 30 { "<answer> 512 </answer>" } else { good };
        all.push(sample("r1-zero", step, "r1-zero", english, answer));
    }
    for (idx, model) in ["base", "r1-zero", "r1"].iter().enumerate() {
        let step = idx as u64 + 1;
        let answer = if idx == 0 { "The answer is 513.<script>alert(1)</script>" } else { good };
        all.push(sample("evaluation", step, model, english, answer));
        let answer = if idx == 0 { "答案是 601。" } else { good_chinese };
        all.push(sample("evaluation", step, model, chinese, answer));
    }
    all
}

#[test]
fn page_tells_the_result_and_needs_nothing_from_outside() {
    let page = render(&finished());
    for expected in [
        "<em>93.4 %</em> of 512 held-out problems",
        "up from 12.1 % for <b>base</b>",
        "Response length",
        "fathom run runs/r1-tiny",
        "13 min 32 s",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    for outside in ["<script", "http://", "https://", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    if let Ok(path) = std::env::var("FATHOM_WRITE_REPORT") {
        std::fs::write(path, page).unwrap();
    }
}

#[test]
fn answers_are_shown_as_text() {
    let page = render(&finished());
    assert!(page.contains("513.&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.contains("小明有348个苹果"));
}

#[test]
fn elements_are_closed_in_order() {
    const VOID: &[&str] = &["meta", "!doctype"];
    let page = render(&finished());
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split('>').next().unwrap_or("");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or("").to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop().as_ref(), Some(&name), "at <{tag}>");
        } else if !(tag.ends_with('/') || VOID.contains(&name.as_str())) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<String>::new());
}

#[test]
fn run_that_has_just_begun_has_a_page_too() {
    let begun = ReportInput {
        records: vec![Record::new("base", 1, &[(name::LOSS, 7.0), ("odd", f64::NAN)])],
        samples: Vec::new(),
        results: None,
        ..finished()
    };
    let page = render(&begun);
    assert!(page.contains("stages.") && !page.contains("NaN"));
}

#[test]
fn same_input_gives_the_same_page() {
    assert_eq!(render(&finished()), render(&finished()));
}

#[test]
fn ticks_are_round_and_cover_the_values() {
    use super::scale::Scale;
    assert_eq!(Scale::round(0.13, 0.87, 4).ticks, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    assert_eq!(Scale::round(3.0, 3.0, 4).ticks.len(), 2);
    assert_eq!(Scale::exact(1.0, 300.0, 5).ticks, [100.0, 200.0, 300.0]);
    assert_eq!(Scale::exact(1.0, 3.0, 5).ticks, [1.0, 2.0, 3.0]);
    for (low, high) in [(-3.2, 17.0), (1e-7, 2e-7), (0.0, 1e9), (5.0, 5.0 + 1e-9)] {
        let scale = Scale::round(low, high, 4);
        assert!(scale.low <= low && high <= scale.high && scale.ticks.len() < 20, "{scale:?}");
    }
}

#[test]
fn numbers_are_short() {
    use super::scale::{number, percent};
    let shown = [0.0, 0.002, 1.0, 1.256, 37.25, 1234.0, 20000.0, 3.4e6, 1e-6].map(number);
    assert_eq!(shown, ["0", "0.002", "1", "1.26", "37.2", "1234", "20 k", "3.4 M", "1.0e-6"]);
    assert_eq!([0.5, 0.934, 1.0].map(percent), ["50 %", "93.4 %", "100 %"]);
}
