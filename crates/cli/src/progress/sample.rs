//! A sampled answer between the lines of progress.

use crate::terminal::{Style, cut, harmless};
use fathom_text::chat::split_thinking;
use fathom_text::special::{END_THINK, THINK};
use fathom_train::metrics::Sample;

/// Lines of reasoning and of an answer that are shown, each.
const MAX_LINES: usize = 8;

/// The question, the reasoning dimmed, the answer with its mark; each line with a line break.
pub(super) fn show(sample: &Sample, style: Style, width: usize) -> String {
    let (reasoning, answer) = parts(&sample.response);
    let mark = match sample.correct {
        Some(true) => style.green("✓"),
        Some(false) => style.red("✗"),
        None => "·".to_owned(),
    };
    let gold = match (&sample.gold, sample.correct) {
        (Some(gold), Some(false)) => format!(", right: {gold}"),
        _ => String::new(),
    };
    let about =
        format!("{} step {} · {} tokens{gold}", sample.model, sample.step, sample.response_tokens);
    let mut lines = vec![format!("  {} {}", style.dim("╭"), style.dim(&about))];
    let mut add = |text: &str, first: &str, look: &dyn Fn(&str) -> String| {
        for (idx, line) in lines_of(text).iter().enumerate() {
            let lead = if idx == 0 { first } else { " " };
            lines.push(format!("  {} {lead} {}", style.dim("│"), look(line)));
        }
    };
    add(&sample.question, "?", &|line| style.bold(line));
    add(reasoning, " ", &|line| style.dim(line));
    add(if answer.is_empty() { "(no answer)" } else { answer }, &mark, &str::to_owned);
    lines.push(format!("  {}", style.dim("╰")));
    lines.iter().map(|line| cut(line, width - 1) + "\n").collect()
}

/// Reasoning and answer, whether the prompt opened the thinking or the model did.
fn parts(response: &str) -> (&str, &str) {
    let (reasoning, answer) = split_thinking(response);
    if reasoning.is_empty() && !response.contains(END_THINK) {
        return match response.trim_start().strip_prefix(THINK) {
            Some(cut_off) => (cut_off, ""),
            None => ("", response.trim()),
        };
    }
    (reasoning.trim(), answer.trim())
}

fn lines_of(text: &str) -> Vec<String> {
    let text = harmless(text);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut shown: Vec<String> = all.iter().take(MAX_LINES).map(|line| line.to_string()).collect();
    if all.len() > MAX_LINES {
        shown.push(format!("… {} more lines", all.len() - MAX_LINES));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_shows_question_reasoning_and_verdict() {
        let sample = Sample {
            stage: "r1".into(),
            step: 3,
            model: "r1".into(),
            question: "What is 1 + 2?".into(),
            gold: Some("3".into()),
            response: "<think>\n1 + 2 = 4\n</think>\n\\boxed{4}".into(),
            response_tokens: 9,
            correct: Some(false),
            reward: None,
        };
        let expected = "  ╭ r1 step 3 · 9 tokens, right: 3
  │ ? What is 1 + 2?
  │   1 + 2 = 4
  │ ✗ \\boxed{4}
  ╰
";
        assert_eq!(show(&sample, Style::PLAIN, 80), expected);
    }
}
