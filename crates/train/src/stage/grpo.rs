//! Reinforcement learning with group-relative advantages, as DeepSeek-R1 runs it
//! (arXiv:2501.12948; objective of DeepSeekMath, arXiv:2402.03300).
//!
//! A step: questions, a group of answers to each from the current weights, rewards, advantages,
//! one or more updates. Prompts are computed once per group in the update too: answers attend to
//! them as a shared prefix. Answers are scored with the log-probabilities they were sampled with,
//! which equal the trainer's own bit for bit, so nothing is recomputed for the ratio.

use super::pretrain::PASS_ROWS;
use super::{Pace, Work, format_of, is_due, stage_seed};
use crate::advantage::group_advantages;
use crate::answers::{Group, SamplingPlan, sample};
use crate::error::Error;
use crate::learner::{Extras, Learner, open_model, save_model, score};
use crate::metrics::{Sample, name};
use crate::mtp_follower::Follower;
use crate::objective::grpo::{Averaging, Grpo as Objective, Token};
use crate::progress::Event;
use crate::prompts::{Fit, Item};
use crate::recipe::{Grpo, GrpoLoss};
use crate::reward::{Reward, language_of_reasoning, reward};
use fathom_engine::Finish;
use fathom_model::{Model, PackedRows};
use fathom_tensor::op::LogProbs;
use std::path::Path;
use std::time::Instant;

/// Answers shown as samples at a time.
const SAMPLES_SHOWN: usize = 2;

/// A question, its answers, and what they earned.
struct Judgement {
    item: Item,
    group: Group,
    rewards: Vec<f64>,
    advantages: Vec<f64>,
}

pub(super) fn run(work: &mut Work, stage: &str, settings: &Grpo) -> Result<(), Error> {
    let tokenizer = work.tokenizer(Some(&settings.from))?;
    let rewards = rewards_of(stage, settings)?;
    let seed = stage_seed(work.recipe, stage);
    let (mut learner, done) =
        work.learner(stage, &settings.optimizer, || work.model(&settings.from))?;
    let mut follower = work.follower(stage, &learner.model, settings.mtp, &settings.optimizer)?;
    let prompts = work.fitting_prompts(&Fit {
        stage,
        tokenizer: &tokenizer,
        template: settings.template,
        max_new_tokens: settings.max_new_tokens,
        n_positions: learner.model.config.max_position_embeddings,
    })?;
    let mut reference = match settings.kl_weight > 0.0 {
        true => Some(open_reference(work, stage, &settings.from, done, &learner)?),
        false => None,
    };
    let mut pace = Pace::new(stage, settings.steps);
    for step in done + 1..=settings.steps {
        let start = Instant::now();
        let first = (step - 1) * settings.prompts_per_step as u64;
        let items: Vec<(u64, Item)> = (first..first + settings.prompts_per_step as u64)
            .map(|index| (index, prompts.train(&settings.prompts, seed ^ index)))
            .collect();
        let plan = SamplingPlan {
            template: settings.template,
            n_samples: settings.group_size,
            temperature: settings.temperature,
            top_p: settings.top_p,
            max_new_tokens: settings.max_new_tokens,
            seed,
        };
        let keyed: Vec<(u64, &Item)> = items.iter().map(|(key, item)| (*key, item)).collect();
        let stop = || work.wants_stop();
        let Some(groups) = sample(&learner.model, &tokenizer, &keyed, &plan, &stop)? else {
            work.save_step(stage, step - 1, |dir| {
                save(dir, &learner, reference.as_ref(), follower.as_ref())
            })?;
            return Err(Error::Interrupted { stage: stage.into(), step: step - 1 });
        };
        let judged = judge(items, groups, &rewards, settings);
        let mut figures = figures_of(&judged, settings);
        let n_tokens = judged.iter().flat_map(|j| &j.group.answers).map(|a| a.tokens.len()).sum();
        let rate =
            settings.schedule.learning_rate(settings.optimizer.learning_rate, step, settings.steps);
        let pupils = Pupils { learner: &mut learner, follower: follower.as_mut() };
        figures.extend(update(pupils, reference.as_ref(), &judged, settings, rate));
        if figures.iter().any(|(_, value)| !value.is_finite()) {
            return Err(Error::Diverged { stage: stage.into(), step, what: "loss or gradient" });
        }
        if is_due(step, settings.samples_every_steps) || step == 1 || step == settings.steps {
            show(work, stage, step, &judged)?;
        }
        pace.step(work, step, &figures, n_tokens, start.elapsed().as_secs_f64())?;
        if reference.is_some() && is_due(step, settings.reference_reset_steps) {
            reference = Some(copy_of(&learner)?);
        }
        let stop = work.wants_stop();
        if (stop && step < settings.steps) || is_due(step, settings.checkpoint_every_steps) {
            work.save_step(stage, step, |dir| {
                save(dir, &learner, reference.as_ref(), follower.as_ref())
            })?;
        }
        if stop && step < settings.steps {
            return Err(Error::Interrupted { stage: stage.into(), step });
        }
        if work.is_over() {
            work.end_by_time(stage, (step, settings.steps), |dir| {
                save(dir, &learner, reference.as_ref(), follower.as_ref())
            })?;
            break;
        }
    }
    work.save_model(stage, &learner.model, &tokenizer, format_of(settings.template))
}

fn rewards_of(stage: &str, settings: &Grpo) -> Result<Vec<(&'static Reward, f64)>, Error> {
    settings
        .rewards
        .iter()
        .map(|wanted| {
            let known = reward(&wanted.name).ok_or_else(|| Error::Unfit {
                stage: stage.into(),
                found: format!("a reward named `{}`", wanted.name),
                expected: crate::reward::REWARDS
                    .iter()
                    .map(|r| r.name)
                    .collect::<Vec<_>>()
                    .join(", "),
                hint: None,
            })?;
            Ok((known, wanted.weight))
        })
        .collect()
}

/// The reference model: that of the step checkpoint, or the one the stage starts from.
fn open_reference(
    work: &Work,
    stage: &str,
    from: &str,
    done: u64,
    learner: &Learner,
) -> Result<Model, Error> {
    let mut model = match done {
        0 => work.model(from)?,
        _ => open_model(&work.dir.step_checkpoint(stage, done).join("reference"))?,
    };
    model.pack(learner.precision(), false);
    Ok(model)
}

fn copy_of(learner: &Learner) -> Result<Model, Error> {
    let weights = learner.model.weights();
    let mut copy =
        Model::build(learner.model.config.clone(), |slot, _| Ok(weights[slot].values().to_vec()))
            .map_err(|source| Error::Model { what: "reference".into(), source })?;
    copy.pack(learner.precision(), false);
    Ok(copy)
}

fn save(
    dir: &Path,
    learner: &Learner,
    reference: Option<&Model>,
    follower: Option<&Follower>,
) -> Result<(), Error> {
    learner.save(dir)?;
    if let Some(follower) = follower {
        follower.save(dir)?;
    }
    let Some(reference) = reference else { return Ok(()) };
    let dir = dir.join("reference");
    std::fs::create_dir(&dir).map_err(|source| {
        Error::RunDir(crate::run_dir::RunDirError::File {
            path: dir.clone(),
            doing: "create",
            source,
        })
    })?;
    save_model(reference, &dir)
}

fn judge(
    items: Vec<(u64, Item)>,
    groups: Vec<Group>,
    rewards: &[(&'static Reward, f64)],
    settings: &Grpo,
) -> Vec<Judgement> {
    let judge_one = |((_, item), group): ((u64, Item), Group)| {
        let earned: Vec<f64> = (0..group.answers.len())
            .map(|i| {
                let judged = group.judged(&item, i, settings.template);
                rewards.iter().map(|(reward, weight)| weight * (reward.score)(&judged)).sum()
            })
            .collect();
        let advantages = group_advantages(&earned, settings.scale_by_std);
        Judgement { item, group, rewards: earned, advantages }
    };
    items.into_iter().zip(groups).map(judge_one).collect()
}

/// Means over all answers of a step; language consistency over those whose reasoning has words.
fn figures_of(judged: &[Judgement], settings: &Grpo) -> Vec<(&'static str, f64)> {
    let n = judged.iter().map(|j| j.rewards.len()).sum::<usize>().max(1) as f64;
    let (mut reward_sum, mut correct, mut form, mut tokens, mut cut) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut languages = Vec::new();
    for j in judged {
        for i in 0..j.rewards.len() {
            let view = j.group.judged(&j.item, i, settings.template);
            reward_sum += j.rewards[i];
            correct += score_of("accuracy", &view);
            form += score_of("format", &view);
            tokens += j.group.answers[i].tokens.len() as f64;
            cut += f64::from(u8::from(j.group.answers[i].finish == Finish::Length));
            languages.extend(language_of_reasoning(view.reasoning, j.item.language()));
        }
    }
    let mut figures = vec![
        (name::REWARD, reward_sum / n),
        (name::ACCURACY, correct / n),
        (name::RESPONSE_TOKENS, tokens / n),
        (name::FORMAT, form / n),
        (name::TRUNCATED, cut / n),
    ];
    if !languages.is_empty() {
        let mean = languages.iter().sum::<f64>() / languages.len() as f64;
        figures.push((name::LANGUAGE_CONSISTENCY, mean));
    }
    figures
}

fn score_of(name: &str, judged: &crate::reward::Judged) -> f64 {
    reward(name).map_or(0.0, |reward| (reward.score)(judged))
}

/// Who learns from the answers.
struct Pupils<'a> {
    learner: &'a mut Learner,
    /// The MTP module.
    follower: Option<&'a mut Follower>,
}

/// The updates of a step: the groups in order, cut into mini-batches.
fn update(
    mut pupils: Pupils<'_>,
    reference: Option<&Model>,
    judged: &[Judgement],
    settings: &Grpo,
    learning_rate: f64,
) -> Vec<(&'static str, f64)> {
    let mut totals = Totals { learning_rate, ..Totals::default() };
    for mini_batch in judged.chunks(judged.len().div_ceil(settings.mini_batches.max(1))) {
        let n_answers: usize = mini_batch.iter().map(|j| j.rewards.len()).sum();
        let n_tokens: usize =
            mini_batch.iter().flat_map(|j| &j.group.answers).map(|a| a.tokens.len()).sum();
        let mut part: Vec<&Judgement> = Vec::new();
        let mut rows = 0;
        for j in mini_batch {
            // A group without differing rewards teaches nothing, unless the reference pulls.
            if settings.kl_weight == 0.0 && j.advantages.iter().all(|a| *a == 0.0) {
                continue;
            }
            part.push(j);
            rows += j.group.prompt.len()
                + j.group.answers.iter().map(|a| a.tokens.len()).sum::<usize>();
            if rows >= PASS_ROWS {
                pass(&mut pupils, reference, &part, settings, (n_answers, n_tokens), &mut totals);
                (part, rows) = (Vec::new(), 0);
            }
        }
        if !part.is_empty() {
            pass(&mut pupils, reference, &part, settings, (n_answers, n_tokens), &mut totals);
        }
        let learner = &mut *pupils.learner;
        let load = learner.worst_expert_load();
        totals.load = [totals.load, load].into_iter().flatten().reduce(f64::max);
        totals.norm += learner.update(learning_rate, settings.bias_update_speed);
        totals.n_updates += 1.0;
    }
    let mut figures = vec![
        (name::LOSS, totals.loss / totals.n_updates),
        (name::GRAD_NORM, totals.norm / totals.n_updates),
        (name::ENTROPY, totals.surprise / totals.n_tokens.max(1.0)),
        (name::LEARNING_RATE, learning_rate),
    ];
    if reference.is_some() {
        figures.push((name::KL, totals.kl / totals.n_tokens.max(1.0)));
    }
    figures.extend(totals.load.map(|load| (name::EXPERT_LOAD, load)));
    figures.extend(pupils.follower.into_iter().flat_map(|follower| follower.figures()));
    figures
}

#[derive(Default)]
struct Totals {
    /// Of the step.
    learning_rate: f64,
    loss: f64,
    kl: f64,
    /// Negative log-probability of the sampled tokens: an unbiased estimate of the entropy.
    surprise: f64,
    n_tokens: f64,
    norm: f64,
    n_updates: f64,
    load: Option<f64>,
}

/// Forward and backward over some groups.
fn pass(
    Pupils { learner, follower }: &mut Pupils<'_>,
    reference: Option<&Model>,
    part: &[&Judgement],
    settings: &Grpo,
    (n_answers, n_tokens): (usize, usize),
    totals: &mut Totals,
) {
    let objective = Objective {
        clip_low: settings.clip_low,
        clip_high: settings.clip_high,
        kl_weight: settings.kl_weight,
    };
    let averaging = match settings.loss {
        GrpoLoss::SequenceMean => Averaging::SequenceMean,
        GrpoLoss::TokenMean => Averaging::TokenMean,
        GrpoLoss::DrGrpo => Averaging::FixedLength(settings.max_new_tokens),
    };
    let laid = lay_out(part);
    let scored = LogProbs {
        rows: &laid.scored_rows,
        targets: &laid.targets,
        inverse_temperature: if settings.temperature > 0.0 {
            1.0 / settings.temperature as f32
        } else {
            1.0
        },
    };
    let reference: Option<Vec<f32>> = reference.map(|model| score(model, &laid.rows, &scored));
    let result = learner.pass(&laid.rows, &scored, Extras::default(), |i, policy| {
        let (j, answer) = laid.owner[i];
        let tokens = part[j].group.answers[answer].tokens.len();
        let weight = averaging.weight(tokens, n_answers, n_tokens);
        let token = objective.token(Token {
            policy: f64::from(policy),
            old: f64::from(laid.old[i]),
            reference: reference.as_ref().map_or(0.0, |r| f64::from(r[i])),
            advantage: part[j].advantages[answer],
        });
        totals.loss += weight * token.loss;
        totals.kl += token.kl;
        totals.surprise -= f64::from(policy);
        totals.n_tokens += 1.0;
        (weight * token.gradient) as f32
    });
    if let Some(follower) = follower {
        learner.lead(follower, (&laid.rows, &scored, &result.hidden), totals.learning_rate);
    }
}

/// Groups as rows of a pass.
struct Laid {
    rows: PackedRows,
    scored_rows: Vec<u32>,
    targets: Vec<u32>,
    /// Log-probabilities at sampling time.
    old: Vec<f32>,
    /// Group and answer of every scored token.
    owner: Vec<(usize, usize)>,
}

/// Every prompt once, its answers behind it as continuations.
fn lay_out(part: &[&Judgement]) -> Laid {
    let mut laid = Laid {
        rows: PackedRows::default(),
        scored_rows: vec![],
        targets: vec![],
        old: vec![],
        owner: vec![],
    };
    for (j, judgement) in part.iter().enumerate() {
        let prompt = laid.rows.push_document(&judgement.group.prompt);
        for (at, answer) in judgement.group.answers.iter().enumerate() {
            // The last token of an answer is predicted, never read.
            let own = laid
                .rows
                .push_continuation(prompt.clone(), &answer.tokens[..answer.tokens.len() - 1]);
            laid.scored_rows.push(prompt.end as u32 - 1);
            laid.scored_rows.extend(own.map(|row| row as u32));
            laid.targets.extend_from_slice(&answer.tokens);
            laid.old.extend_from_slice(&answer.log_probs);
            laid.owner.extend(std::iter::repeat_n((j, at), answer.tokens.len()));
        }
    }
    laid
}

/// Shows some answers of a step: the first answers of the first questions.
fn show(work: &mut Work, stage: &str, step: u64, judged: &[Judgement]) -> Result<(), Error> {
    for j in judged.iter().take(SAMPLES_SHOWN) {
        let sample = Sample {
            stage: stage.into(),
            step,
            model: stage.into(),
            question: j.item.text().into(),
            gold: Some(j.item.gold().into()),
            response: j.group.texts[0].clone(),
            response_tokens: j.group.answers[0].tokens.len(),
            correct: Some(j.item.is_correct(&j.group.texts[0])),
            reward: Some(j.rewards[0]),
        };
        work.logs.sample(&sample)?;
        work.observer.event(&Event::Sample(sample));
    }
    Ok(())
}
