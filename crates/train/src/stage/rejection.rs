//! Rejection sampling: many answers per question, only good ones kept
//! (DeepSeek-R1, arXiv:2501.12948, section 2.3.3: correct, readable, in one language).

use super::{Work, samples, stage_seed, write_text};
use crate::answers::{SamplingPlan, sample};
use crate::error::Error;
use crate::metrics::{Record, name};
use crate::prompts::{Fit, Item};
use crate::recipe::{Mix, Rejection};
use crate::reward::{language_of_reasoning, reward};
use crate::stage::samples::KeptSample;
use fathom_checkpoint::atomic;
use fathom_data::corpus;
use std::collections::BTreeSet;
use std::path::Path;

/// Questions sampled at a time, so that a request to stop is heard.
const QUESTIONS_AT_ONCE: usize = 256;

pub(super) fn run(work: &mut Work, stage: &str, settings: &Rejection) -> Result<(), Error> {
    let tokenizer = work.tokenizer(Some(&settings.from))?;
    let mut model = work.model(&settings.from)?;
    model.pack(work.precision(), false);
    let prompts = work.fitting_prompts(&Fit {
        stage,
        tokenizer: &tokenizer,
        template: settings.template,
        max_new_tokens: settings.max_new_tokens,
        n_positions: model.config.max_position_embeddings,
    })?;
    let seed = stage_seed(work.recipe, stage);
    let plan = SamplingPlan {
        template: settings.template,
        n_samples: settings.samples_per_prompt,
        temperature: settings.temperature,
        top_p: settings.top_p,
        max_new_tokens: settings.max_new_tokens,
        seed,
    };
    let mut kept = Vec::new();
    let mut n_sampled = 0;
    for first in (0..settings.prompts).step_by(QUESTIONS_AT_ONCE) {
        let last = (first + QUESTIONS_AT_ONCE).min(settings.prompts);
        let items: Vec<Item> =
            (first..last).map(|i| prompts.train(&Mix::new(), seed ^ i as u64)).collect();
        let keyed: Vec<(u64, &Item)> = (first as u64..).zip(&items).collect();
        let stop = || work.wants_stop();
        let Some(groups) = sample(&model, &tokenizer, &keyed, &plan, &stop)? else {
            return Err(Error::Interrupted { stage: stage.into(), step: 0 });
        };
        for (item, group) in items.iter().zip(groups) {
            n_sampled += group.answers.len();
            let mut seen = BTreeSet::new();
            for i in 0..group.answers.len() {
                let judged = group.judged(item, i, settings.template);
                let language =
                    language_of_reasoning(judged.reasoning, item.language()).unwrap_or(1.0);
                let good = ["accuracy", "format"]
                    .iter()
                    .all(|name| reward(name).is_some_and(|reward| (reward.score)(&judged) == 1.0))
                    && language >= settings.language_min_share;
                if good && seen.len() < settings.keep_per_prompt && seen.insert(judged.response) {
                    kept.push(KeptSample {
                        question: item.text().into(),
                        response: judged.response.into(),
                    });
                }
            }
        }
    }
    let n_good = kept.len();
    for i in 0..settings.general_count as u64 {
        let dialogue = corpus::general_dialogue(seed, i);
        let response = corpus::chat_response(&dialogue.reasoning, &dialogue.answer);
        kept.push(KeptSample { question: dialogue.question, response });
    }
    work.note(format!(
        "kept {n_good} of {n_sampled} sampled answers, and added {} of other kinds",
        settings.general_count
    ));
    let share = n_good as f64 / n_sampled.max(1) as f64;
    work.logs.metrics(&Record::new(
        stage,
        1,
        &[("kept", n_good as f64), (name::ACCURACY, share)],
    ))?;
    let text = samples::to_text(&kept)?;
    atomic::write_dir_atomic(work.dir.checkpoint(stage), |dir: &Path| {
        write_text(&samples::path_in(dir), &text)
    })
    .map_err(|error: Error| error)
}
