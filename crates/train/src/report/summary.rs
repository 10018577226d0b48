//! A stage in one line, for people who will not read the recipe.

use super::scale::{number, percent};
use crate::recipe::{Kind, Optimizer, Template};

/// What a stage did, in words and its most telling numbers.
pub(super) fn of_stage(kind: &Kind) -> String {
    match kind {
        Kind::Tokenizer(s) => {
            format!(
                "byte-level BPE of {} tokens from {} documents",
                s.vocab_size, s.corpus_documents
            )
        }
        Kind::Pretrain(s) => format!(
            "{} from random weights, {} steps of {} × {} tokens, {}",
            s.model,
            s.steps,
            s.batch_sequences,
            s.sequence_tokens,
            rate(&s.optimizer)
        ),
        Kind::Sft(s) => format!(
            "from {}, {} passes over {} sources of answers, {}",
            s.from,
            s.epochs,
            s.data.len(),
            rate(&s.optimizer)
        ),
        Kind::Grpo(s) => {
            let rewards: Vec<&str> = s.rewards.iter().map(|reward| reward.name.as_str()).collect();
            format!(
                "from {}, {} steps of {} questions × {} answers at temperature {}, {}, rewards: {}",
                s.from,
                s.steps,
                s.prompts_per_step,
                s.group_size,
                number(s.temperature),
                template(s.template),
                rewards.join(" + ")
            )
        }
        Kind::Rejection(s) => format!(
            "{} samples for each of {} questions from {}; correct ones with at least {} of the reasoning in the question's language are kept",
            s.samples_per_prompt,
            s.prompts,
            s.from,
            percent(s.language_min_share)
        ),
        Kind::Evaluate(s) => format!(
            "{} models on the same {} held-out problems, {} answers each at temperature {}",
            s.models.len(),
            s.problems,
            s.samples_per_problem,
            number(s.temperature)
        ),
        Kind::Ablation(s) => format!(
            "{} trained twice for {} steps, with and without the bias update",
            s.model, s.steps
        ),
    }
}

fn rate(optimizer: &Optimizer) -> String {
    format!("learning rate {}", number(optimizer.learning_rate))
}

fn template(template: Template) -> &'static str {
    match template {
        Template::R1Zero => "R1-Zero template",
        Template::Chat => "chat template",
    }
}
