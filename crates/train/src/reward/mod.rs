//! Rewards: plain functions of a question and an answer, registered in one table.

use crate::prompts::Item;
use fathom_data::language::{Language, language_share};

/// What a reward may look at.
#[derive(Clone, Copy)]
pub struct Judged<'a> {
    /// The question.
    pub item: &'a Item,
    /// The whole response, as text after the prompt.
    pub response: &'a str,
    /// Its reasoning, without tags.
    pub reasoning: &'a str,
    /// Whether the response ended by itself.
    pub complete: bool,
    /// Whether the prompt had already opened the thinking.
    pub opened: bool,
}

/// A named reward in `[0, 1]`.
pub struct Reward {
    /// Name in recipes.
    pub name: &'static str,
    /// One sentence for people.
    pub description: &'static str,
    /// The reward of one answer.
    pub score: fn(&Judged) -> f64,
}

/// All rewards.
pub const REWARDS: &[Reward] = &[
    Reward {
        name: "accuracy",
        description: "1 if the final answer is right (R1: rule-based accuracy reward)",
        score: accuracy,
    },
    Reward {
        name: "format",
        description: "1 if thinking stands in one pair of tags and an answer follows (R1: format reward)",
        score: format,
    },
    Reward {
        name: "language-consistency",
        description: "share of the reasoning's words that are in the question's language (R1, from stage 1 on)",
        score: language_consistency,
    },
];

/// The reward of a name.
pub fn reward(name: &str) -> Option<&'static Reward> {
    REWARDS.iter().find(|reward| reward.name == name)
}

fn accuracy(judged: &Judged) -> f64 {
    if judged.complete && judged.item.is_correct(judged.response) { 1.0 } else { 0.0 }
}

/// One `<think>` (or none, where the prompt opened it), one `</think>` after it, something before and
/// after, and with the R1-Zero template the answer in one pair of `<answer>` tags.
fn format(judged: &Judged) -> f64 {
    let text = judged.response;
    let opens = usize::from(judged.opened) + text.matches("<think>").count();
    let closes = text.matches("</think>").count();
    if !judged.complete || opens != 1 || closes != 1 {
        return 0.0;
    }
    let (before, after) = text.split_once("</think>").unwrap_or((text, ""));
    let starts = judged.opened || before.trim_start().starts_with("<think>");
    let thought = !before.trim_start().trim_start_matches("<think>").trim().is_empty();
    let answered = if judged.opened { !after.trim().is_empty() } else { tagged_answer(after) };
    if starts && thought && answered { 1.0 } else { 0.0 }
}

/// Whether `text` is one pair of `<answer>` tags around something, and nothing else.
fn tagged_answer(text: &str) -> bool {
    let inner =
        text.trim().strip_prefix("<answer>").and_then(|rest| rest.strip_suffix("</answer>"));
    inner.is_some_and(|inner| !inner.trim().is_empty() && !inner.contains("answer>"))
}

fn language_consistency(judged: &Judged) -> f64 {
    language_of_reasoning(judged.reasoning, judged.item.language()).unwrap_or(0.0)
}

/// Share of the words of a reasoning in `language`; none if it has no words or no language is asked for.
pub fn language_of_reasoning(reasoning: &str, language: Option<Language>) -> Option<f64> {
    language_share(reasoning, language?).map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(name: &str, response: &str, opened: bool) -> f64 {
        let item = Item::question("What is 2 + 3?", "5");
        let (reasoning, _) = fathom_text::chat::split_thinking(response);
        let judged = Judged { item: &item, response, reasoning, complete: true, opened };
        (reward(name).expect("registered").score)(&judged)
    }

    #[test]
    fn every_reward_is_finite_and_deterministic() {
        for reward in REWARDS {
            for response in ["", " <think> a </think> <answer> 5 </answer>", "</think>", "\\boxed{"]
            {
                let score = judge(reward.name, response, false);
                assert!((0.0..=1.0).contains(&score), "{} of {response:?}", reward.name);
                assert_eq!(score, judge(reward.name, response, false));
            }
        }
    }

    #[test]
    fn format_wants_thinking_then_an_answer() {
        let good = " <think> 2+3=5 </think> <answer> \\boxed{5} </answer>";
        assert_eq!(judge("format", good, false), 1.0);
        for bad in [
            "5",
            " <think> 2+3=5 <answer> 5 </answer>",
            " <think> </think> <answer> 5 </answer>",
            " <think> a </think> 5",
            " <think> a </think> <answer> 5 </answer> and more",
            " <think> a </think> <think> b </think> <answer> 5 </answer>",
        ] {
            assert_eq!(judge("format", bad, false), 0.0, "{bad}");
        }
        assert_eq!(judge("format", "2+3=5</think>\n\n\\boxed{5}", true), 1.0);
        assert_eq!(judge("format", "2+3=5", true), 0.0);
    }

    #[test]
    fn accuracy_reads_the_final_answer() {
        assert_eq!(judge("accuracy", "2+3=5</think>\n\n\\boxed{5}", true), 1.0);
        assert_eq!(judge("accuracy", "2+3=5</think>\n\n\\boxed{6}", true), 0.0);
    }
}
