//! Measures models on the same held-out questions, sampled as in training.

use super::{Work, stage_seed};
use crate::answers::{Group, SamplingPlan, sample};
use crate::error::Error;
use crate::eval::{majority, pass_at_k};
use crate::metrics::Sample;
use crate::progress::{Event, Step};
use crate::prompts::{Fit, Item};
use crate::recipe::{Evaluate, Kind, Recipe, Template};
use crate::results::ModelResult;
use crate::reward::{language_of_reasoning, reward};
use fathom_engine::Finish;
use fathom_model::read_config;
use std::time::Instant;

/// Answers of every model kept for the report.
const SAMPLES_KEPT: usize = 8;

pub(super) fn run(work: &mut Work, stage: &str, settings: &Evaluate) -> Result<(), Error> {
    let items = questions(work, stage, settings)?;
    let keyed: Vec<(u64, &Item)> = (0..).zip(&items).collect();
    for (at, model_stage) in settings.models.iter().enumerate() {
        let start = Instant::now();
        let tokenizer = work.tokenizer(Some(model_stage))?;
        let mut model = work.model(model_stage)?;
        model.pack(work.precision(), false);
        let plan = SamplingPlan {
            template: template_of(work.recipe, model_stage),
            n_samples: settings.samples_per_problem,
            temperature: settings.temperature,
            top_p: settings.top_p,
            max_new_tokens: settings.max_new_tokens,
            seed: stage_seed(work.recipe, stage),
        };
        let stop = || work.wants_stop();
        let Some(groups) = sample(&model, &tokenizer, &keyed, &plan, &stop)? else {
            return Err(Error::Interrupted { stage: stage.into(), step: 0 });
        };
        let result = measure(&items, &groups, &plan);
        let n_tokens: usize = groups.iter().flat_map(|g| &g.answers).map(|a| a.tokens.len()).sum();
        keep_samples(work, stage, at as u64 + 1, model_stage, &items, &groups)?;
        work.observer.event(&Event::Step(Step {
            stage: stage.into(),
            step: at as u64 + 1,
            of: settings.models.len() as u64,
            figures: vec![("pass@1", result.figures.get("pass@1").copied().unwrap_or(0.0))],
            tokens_per_s: n_tokens as f64 / start.elapsed().as_secs_f64(),
            remaining_s: None,
        }));
        work.results.0.retain(|(name, _)| name != model_stage);
        work.results.0.push((model_stage.clone(), result));
    }
    Ok(())
}

/// Held-out questions that fit every model, so that all are asked the same.
fn questions(work: &mut Work, stage: &str, settings: &Evaluate) -> Result<Vec<Item>, Error> {
    let prompts = work.prompts(stage)?;
    let mut items: Vec<Item> =
        (0..settings.problems as u64).map_while(|i| prompts.held_out(i)).collect();
    for model in &settings.models {
        let tokenizer = work.tokenizer(Some(model))?;
        let config = read_config(&work.source(model))
            .map_err(|source| Error::Model { what: model.clone(), source })?;
        let fit = Fit {
            stage,
            tokenizer: &tokenizer,
            template: template_of(work.recipe, model),
            max_new_tokens: settings.max_new_tokens,
            n_positions: config.max_position_embeddings,
        };
        let n_all = items.len();
        let mut fitting = Vec::with_capacity(n_all);
        for item in items {
            if fit.holds(&item)? {
                fitting.push(item);
            }
        }
        items = fitting;
        if items.len() < n_all {
            let n = n_all - items.len();
            work.note(format!("left out {n} of {n_all} held-out questions {}", fit.why()));
        }
    }
    if items.is_empty() {
        return Err(Error::Unfit {
            stage: stage.into(),
            found: "no held-out question that the models have room for".into(),
            expected: "at least one".into(),
            hint: Some(format!("lower `{stage}.max_new_tokens`, or raise `task.held_out_share`")),
        });
    }
    Ok(items)
}

/// The template a model was trained with last; base models are asked as R1-Zero is.
pub(crate) fn template_of(recipe: &Recipe, stage: &str) -> Template {
    match recipe.stage(stage).map(|stage| &stage.kind) {
        Some(Kind::Grpo(settings)) => settings.template,
        Some(Kind::Sft(_)) => Template::Chat,
        _ => Template::R1Zero,
    }
}

fn measure(items: &[Item], groups: &[Group], plan: &SamplingPlan) -> ModelResult {
    let k = plan.n_samples;
    let n = items.len().max(1) as f64;
    let (mut pass_1, mut pass_k, mut voted) = (0.0, 0.0, 0.0);
    let (mut cut, mut tokens, mut form) = (0.0, 0.0, 0.0);
    let mut languages = Vec::new();
    for (item, group) in items.iter().zip(groups) {
        let mut n_correct = 0;
        let mut finals = Vec::with_capacity(k);
        for i in 0..k {
            let judged = group.judged(item, i, plan.template);
            let right = judged.complete && item.is_correct(judged.response);
            n_correct += usize::from(right);
            let form_score = reward("format").map_or(0.0, |reward| (reward.score)(&judged));
            form += form_score / k as f64;
            tokens += group.answers[i].tokens.len() as f64 / k as f64;
            cut += f64::from(u8::from(group.answers[i].finish == Finish::Length)) / k as f64;
            languages.extend(language_of_reasoning(judged.reasoning, item.language()));
            finals.push(
                judged
                    .complete
                    .then(|| item.final_answer(judged.response))
                    .flatten()
                    .map(|a| (a, right)),
            );
        }
        pass_1 += pass_at_k(k, n_correct, 1);
        pass_k += pass_at_k(k, n_correct, k);
        voted += f64::from(u8::from(majority(&finals)));
    }
    let mut result = ModelResult { n: items.len() as u64, ..ModelResult::default() }
        .with("pass@1", pass_1 / n)
        .with("truncated", cut / n)
        .with("format", form / n)
        .with("mean_response_tokens", tokens / n);
    if k > 1 {
        result = result.with(&format!("maj@{k}"), voted / n).with(&format!("pass@{k}"), pass_k / n);
    }
    if !languages.is_empty() {
        let mean = languages.iter().sum::<f64>() / languages.len() as f64;
        result = result.with("language_consistency", mean);
    }
    result
}

fn keep_samples(
    work: &mut Work,
    stage: &str,
    step: u64,
    model: &str,
    items: &[Item],
    groups: &[Group],
) -> Result<(), Error> {
    for (item, group) in items.iter().zip(groups).take(SAMPLES_KEPT) {
        work.logs.sample(&Sample {
            stage: stage.into(),
            step,
            model: model.into(),
            question: item.text().into(),
            gold: Some(item.gold().into()),
            response: group.texts[0].clone(),
            response_tokens: group.answers[0].tokens.len(),
            correct: Some(item.is_correct(&group.texts[0])),
            reward: None,
        })?;
    }
    Ok(())
}
