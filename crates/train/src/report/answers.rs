//! Sampled answers: the same questions before and after, and how answers change while a stage
//! learns.

use std::fmt::Write;

use super::html::escape;
use crate::metrics::Sample;
use crate::recipe::{Kind, Recipe};

/// Questions shown side by side.
const N_QUESTIONS: usize = 4;
/// Answers shown of the course of a stage.
const N_MOMENTS: usize = 4;

/// Held-out questions with the answers of the first model, of the main one, and (folded) of the
/// others. Empty if no question was put to two models.
pub(super) fn before_and_after(recipe: &Recipe, samples: &[Sample]) -> String {
    let is_evaluation = |sample: &&Sample| {
        matches!(recipe.stage(&sample.stage).map(|s| &s.kind), Some(Kind::Evaluate(_)))
    };
    let samples: Vec<&Sample> = samples.iter().filter(is_evaluation).collect();
    let mut questions: Vec<&str> = Vec::new();
    for sample in &samples {
        if !questions.contains(&sample.question.as_str()) {
            questions.push(&sample.question);
        }
    }
    let mut html = String::new();
    for question in questions {
        // One answer of each model, the first that was sampled.
        let mut answers: Vec<&Sample> = Vec::new();
        for sample in samples.iter().filter(|sample| sample.question == question) {
            if answers.iter().all(|answer| answer.model != sample.model) {
                answers.push(sample);
            }
        }
        if html.matches("<article").count() == N_QUESTIONS {
            break;
        }
        if answers.len() > 1 {
            html.push_str(&question_card(question, &answers, &recipe.main_model));
        }
    }
    html
}

fn question_card(question: &str, answers: &[&Sample], main_model: &str) -> String {
    let main = answers.iter().position(|a| a.model == main_model).unwrap_or(answers.len() - 1);
    let first = if main == 0 { 1 } else { 0 };
    let mut html = format!("<article class=\"question\"><h3>{}</h3>", escape(question));
    if let Some(gold) = answers.iter().find_map(|answer| answer.gold.as_ref()) {
        let _ = write!(html, "<p class=\"gold\">right answer <b>{}</b></p>", escape(gold));
    }
    let _ = write!(
        html,
        "<div class=\"pair\">{}{}</div>",
        answer(answers[first], &answers[first].model),
        answer(answers[main], &answers[main].model)
    );
    let others: Vec<&&Sample> = answers
        .iter()
        .enumerate()
        .filter(|(idx, _)| *idx != first && *idx != main)
        .map(|(_, sample)| sample)
        .collect();
    if !others.is_empty() {
        let _ = write!(
            html,
            "<details><summary>The other answers ({})</summary><div class=\"pair\">",
            others.len()
        );
        for sample in others {
            html.push_str(&answer(sample, &sample.model));
        }
        html.push_str("</div></details>");
    }
    html.push_str("</article>\n");
    html
}

/// Answers from the start, the middle and the end of a stage. Empty if it wrote none.
pub(super) fn course_of(stage: &str, samples: &[Sample]) -> String {
    let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.stage == stage).collect();
    if samples.is_empty() {
        return String::new();
    }
    let n_shown = samples.len().min(N_MOMENTS);
    let mut html =
        String::from("<details><summary>Answers while it learnt</summary><div class=\"pair\">");
    for moment in 0..n_shown {
        // The first and the last sample, and evenly between.
        let sample = samples[moment * (samples.len() - 1) / (n_shown - 1).max(1)];
        let _ = write!(
            html,
            "<div class=\"moment\"><p class=\"asked\">{}</p>{}</div>",
            escape(&sample.question),
            answer(sample, &format!("step {}", sample.step))
        );
    }
    html.push_str("</div></details>");
    html
}

/// One answer: who gave it, whether it is right, the thinking dimmed.
fn answer(sample: &Sample, heading: &str) -> String {
    let verdict = match sample.correct {
        Some(true) => "<span class=\"right\">✓ correct</span>",
        Some(false) => "<span class=\"wrong\">✗ wrong</span>",
        None => "",
    };
    let mut html = format!(
        "<div class=\"answer\"><p class=\"who\"><b>{}</b>{verdict}<small>{} tokens</small></p><pre>",
        escape(heading),
        sample.response_tokens
    );
    let response = sample.response.trim();
    // The prompt of the chat template ends with `<think>`, so the answer may only close it.
    match response.split_once("</think>") {
        Some((thinking, rest)) => {
            let _ = write!(
                html,
                "<span class=\"think\">{}&lt;/think&gt;</span>{}",
                escape(thinking),
                escape(rest)
            );
        }
        None => html.push_str(&escape(response)),
    }
    html.push_str("</pre></div>");
    html
}
