//! Whether a recipe that reads well can also work: names, references between stages, ranges.

use std::fmt::Display;

use super::error::{RecipeError, Where};
use super::parse::{Recipe, TOP_LEVEL_KEYS, is_path};
use super::settings::{FollowMtp, MOST_MTP_TOKENS, Mix, Optimizer, Task};
use super::stage::{Evaluate, Grpo, Kind, Pretrain, Rejection, Sft, SftSource, Stage};
use crate::schedule::Schedule;

type Checked = Result<(), RecipeError>;

/// Checks the whole recipe.
///
/// Errors: the first thing that cannot work, from top to bottom.
pub(super) fn check(recipe: &Recipe) -> Checked {
    check_names(recipe)?;
    check_task(&recipe.task)?;
    if recipe.stages.is_empty() {
        let (key, at) = ("stage".into(), Box::default());
        return Err(RecipeError::MissingKey { key, at });
    }
    check_main_model(recipe)?;
    for (idx, stage) in recipe.stages.iter().enumerate() {
        let context = Context { recipe, stage, idx };
        match &stage.kind {
            Kind::Tokenizer(settings) => {
                context.at("vocab_size").least(settings.vocab_size, 257)?;
                context.at("corpus_documents").positive(settings.corpus_documents)?;
            }
            Kind::Pretrain(settings) => check_pretrain(&context, settings)?,
            Kind::Sft(settings) => check_sft(&context, settings)?,
            Kind::Grpo(settings) => check_grpo(&context, settings)?,
            Kind::Rejection(settings) => check_rejection(&context, settings)?,
            Kind::Evaluate(settings) => check_evaluate(&context, settings)?,
            Kind::Ablation(settings) => {
                context.model(&settings.model)?;
                context.at("steps").positive(settings.steps)?;
                context.at("batch_sequences").positive(settings.batch_sequences)?;
                context.at("sequence_tokens").least(settings.sequence_tokens, 2)?;
                context.at("bias_update_speed").not_negative(settings.bias_update_speed)?;
                check_optimizer(&context, &settings.optimizer, &settings.schedule)?;
            }
        }
    }
    Ok(())
}

fn check_names(recipe: &Recipe) -> Checked {
    let bad = |name: &str, reason| Err(RecipeError::BadName { name: name.to_owned(), reason });
    let stages = recipe.stages.iter().map(|stage| stage.name.as_str());
    let models = recipe.models.keys().map(String::as_str);
    let mut seen = std::collections::BTreeSet::new();
    for name in stages.chain(models) {
        if TOP_LEVEL_KEYS.contains(&name) || name == "model" && recipe.models.len() != 1 {
            return bad(name, "is a key of the recipe itself");
        }
        if !seen.insert(name) {
            return Err(RecipeError::DuplicateName { name: name.to_owned() });
        }
    }
    for name in seen.into_iter().chain([recipe.name.as_str()]) {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(fits) {
            return bad(name, "may hold only ASCII letters, digits, `-` and `_`");
        }
    }
    Ok(())
}

/// A recipe without a model (a tokenizer alone) has an empty `main_model`.
fn check_main_model(recipe: &Recipe) -> Checked {
    let mut makers = recipe.stages.iter().filter(|stage| stage.kind.makes_model());
    let name = &recipe.main_model;
    if name.is_empty() && makers.clone().next().is_none() || makers.any(|s| s.name == *name) {
        return Ok(());
    }
    let makers = recipe.stages.iter().filter(|stage| stage.kind.makes_model());
    Err(RecipeError::UnknownWord {
        key: "main_model".into(),
        found: name.clone(),
        at: Box::default(),
        known: makers.map(|stage| stage.name.clone()).collect(),
    })
}

fn check_task(task: &Task) -> Checked {
    let at = || Box::new(Where { stage: None, tables: vec!["task".into()] });
    let missing = |key: &str| Err(RecipeError::MissingKey { key: key.into(), at: at() });
    let share = |found: f64| match (0.0..1.0).contains(&found) {
        true => Ok(()),
        false => Err(RecipeError::OutOfRange {
            key: "held_out_share".into(),
            at: at(),
            found: found.to_string(),
            allowed: "at least 0 and below 1".into(),
        }),
    };
    match task {
        Task::Arithmetic(mix) => mix.invalid().map_or(Ok(()), |(key, found)| {
            Err(RecipeError::OutOfRange {
                key: key.into(),
                at: at(),
                found: found.to_string(),
                allowed: "weights with a sum above 0, and shares between 0 and 1".into(),
            })
        }),
        Task::Questions(settings) if settings.train.is_empty() => missing("train"),
        Task::Questions(settings) => share(settings.held_out_share),
        Task::Sources(settings) if settings.folder.is_empty() => missing("folder"),
        Task::Sources(settings) => share(settings.held_out_share),
    }
}

fn check_pretrain(context: &Context<'_>, settings: &Pretrain) -> Checked {
    context.model(&settings.model)?;
    if settings.data != "task-corpus" && !is_path(&settings.data) {
        return Err(RecipeError::UnknownWord {
            key: "data".into(),
            found: settings.data.clone(),
            at: context.place(),
            known: vec!["task-corpus".into(), "a path such as `./src`".into()],
        });
    }
    context.at("steps").positive(settings.steps)?;
    context.at("batch_sequences").positive(settings.batch_sequences)?;
    context.at("sequence_tokens").least(settings.sequence_tokens, 2)?;
    context.at("mtp_weight").not_negative(settings.mtp_weight)?;
    context.at("bias_update_speed").not_negative(settings.bias_update_speed)?;
    context.at("balance_alpha").not_negative(settings.balance_alpha)?;
    context.at("fim_rate").share(settings.fim_rate)?;
    context.minutes(settings.minutes)?;
    if let Some((key, found)) = settings.corpus.invalid() {
        let allowed = "a share between 0 and 1, or weights with a sum above 0".into();
        return context.at(&format!("corpus.{key}")).refuse(found, allowed);
    }
    check_optimizer(context, &settings.optimizer, &settings.schedule)
}

fn check_sft(context: &Context<'_>, settings: &Sft) -> Checked {
    context.starts_from(&settings.from)?;
    context.at("epochs").positive(settings.epochs)?;
    context.at("batch_tokens").positive(settings.batch_tokens)?;
    context.at("max_tokens").least(settings.max_tokens, 2)?;
    context.at("bias_update_speed").not_negative(settings.bias_update_speed)?;
    context.minutes(settings.minutes)?;
    check_follow(context, settings.mtp)?;
    context.at("data").positive(settings.data.len())?;
    for (idx, source) in settings.data.iter().enumerate() {
        let key = |name: &str| format!("data.{idx}.{name}");
        match source {
            SftSource::ColdStart(source) | SftSource::General(source) => {
                context.at(&key("count")).positive(source.count)?;
            }
            SftSource::Samples(source) => context
                .refers(&key("stage"), &source.stage, |kind| matches!(kind, Kind::Rejection(_)))?,
            SftSource::Jsonl(source) if source.path.is_empty() => {
                return Err(RecipeError::MissingKey { key: key("path"), at: context.place() });
            }
            SftSource::Jsonl(_) | SftSource::Task(_) => {}
        }
    }
    check_optimizer(context, &settings.optimizer, &settings.schedule)
}

fn check_grpo(context: &Context<'_>, settings: &Grpo) -> Checked {
    context.starts_from(&settings.from)?;
    context.at("steps").positive(settings.steps)?;
    context.at("prompts_per_step").positive(settings.prompts_per_step)?;
    context.at("group_size").least(settings.group_size, 2)?;
    let n_answers = settings.prompts_per_step.saturating_mul(settings.group_size);
    if settings.mini_batches == 0 || !n_answers.is_multiple_of(settings.mini_batches) {
        let allowed =
            format!("a divisor of the {n_answers} answers of a step (prompts times group)");
        return context.at("mini_batches").refuse(settings.mini_batches, allowed);
    }
    check_sampling(context, settings.max_new_tokens, settings.temperature, settings.top_p)?;
    context.at("clip_low").above_zero(settings.clip_low)?;
    context.at("clip_high").above_zero(settings.clip_high)?;
    context.at("kl_weight").not_negative(settings.kl_weight)?;
    context.at("bias_update_speed").not_negative(settings.bias_update_speed)?;
    context.minutes(settings.minutes)?;
    context.mix("prompts", &settings.prompts)?;
    check_follow(context, settings.mtp)?;
    context.at("rewards").positive(settings.rewards.len())?;
    for reward in &settings.rewards {
        if !reward.weight.is_finite() {
            let key = format!("rewards.{}.weight", reward.name);
            return context.at(&key).refuse(reward.weight, "a finite number".into());
        }
    }
    check_optimizer(context, &settings.optimizer, &settings.schedule)
}

fn check_follow(context: &Context<'_>, settings: FollowMtp) -> Checked {
    context.at("mtp.rate_factor").not_negative(settings.rate_factor)?;
    context.at("mtp.share").above_zero(settings.share)?;
    context.at("mtp.share").share(settings.share)?;
    match (1..=MOST_MTP_TOKENS).contains(&settings.tokens) {
        true => Ok(()),
        false => {
            context.at("mtp.tokens").refuse(settings.tokens, format!("1 to {MOST_MTP_TOKENS}"))
        }
    }
}

fn check_rejection(context: &Context<'_>, settings: &Rejection) -> Checked {
    context.starts_from(&settings.from)?;
    context.at("prompts").positive(settings.prompts)?;
    context.at("samples_per_prompt").positive(settings.samples_per_prompt)?;
    check_sampling(context, settings.max_new_tokens, settings.temperature, settings.top_p)?;
    let keep = settings.keep_per_prompt;
    if keep == 0 || keep > settings.samples_per_prompt {
        let allowed = format!("1 to `samples_per_prompt`, {}", settings.samples_per_prompt);
        return context.at("keep_per_prompt").refuse(keep, allowed);
    }
    context.at("language_min_share").share(settings.language_min_share)
}

fn check_evaluate(context: &Context<'_>, settings: &Evaluate) -> Checked {
    context.at("models").positive(settings.models.len())?;
    for model in &settings.models {
        context.refers("models", model, Kind::makes_model)?;
    }
    context.at("problems").positive(settings.problems)?;
    context.at("samples_per_problem").positive(settings.samples_per_problem)?;
    check_sampling(context, settings.max_new_tokens, settings.temperature, settings.top_p)
}

fn check_sampling(
    context: &Context<'_>,
    max_new_tokens: usize,
    temperature: f64,
    top_p: f64,
) -> Checked {
    context.at("max_new_tokens").positive(max_new_tokens)?;
    context.at("temperature").not_negative(temperature)?;
    if top_p > 0.0 && top_p <= 1.0 {
        return Ok(());
    }
    context.at("top_p").refuse(top_p, "above 0 and at most 1".into())
}

fn check_optimizer(context: &Context<'_>, adam: &Optimizer, schedule: &Schedule) -> Checked {
    context.at("optimizer.learning_rate").above_zero(adam.learning_rate)?;
    for (key, beta) in [("optimizer.beta1", adam.beta1), ("optimizer.beta2", adam.beta2)] {
        if !(0.0..1.0).contains(&beta) {
            return context.at(key).refuse(beta, "at least 0 and below 1".into());
        }
    }
    context.at("optimizer.eps").above_zero(adam.eps)?;
    context.at("optimizer.weight_decay").not_negative(adam.weight_decay)?;
    context.at("optimizer.grad_clip").not_negative(adam.grad_clip)?;
    match schedule {
        Schedule::Constant(_) => Ok(()),
        Schedule::Cosine(s) => context.at("schedule.final_factor").share(s.final_factor),
        Schedule::MultiStep(s) => {
            let n_wanted = s.boundaries.len() + 1;
            if s.factors.len() != n_wanted {
                let allowed = format!("{n_wanted} numbers, one more than `boundaries`");
                return context.at("schedule.factors").refuse(s.factors.len(), allowed);
            }
            let rises = s.boundaries.windows(2).all(|pair| pair[0] < pair[1]);
            if !rises || s.boundaries.iter().any(|b| !(0.0..=1.0).contains(b)) {
                let allowed = "rising shares between 0 and 1".into();
                let found = format!("{:?}", s.boundaries);
                return context.at("schedule.boundaries").refuse(found, allowed);
            }
            s.factors.iter().try_for_each(|f| context.at("schedule.factors").not_negative(*f))
        }
        Schedule::Wsd(s) => {
            context.at("schedule.stable_share").share(s.stable_share)?;
            context.at("schedule.decay_share").share(s.decay_share)?;
            context.at("schedule.hold_share").share(s.hold_share)?;
            context.at("schedule.decay_factor").share(s.decay_factor)?;
            context.at("schedule.final_factor").share(s.final_factor)?;
            let sum = s.stable_share + s.decay_share + s.hold_share;
            if sum > 1.0 + 1e-9 {
                let allowed = "shares that together do not pass 1".into();
                return context.at("schedule").refuse(sum, allowed);
            }
            Ok(())
        }
    }
}

/// The stage under check and what came before it.
struct Context<'a> {
    recipe: &'a Recipe,
    stage: &'a Stage,
    idx: usize,
}

impl Context<'_> {
    fn place(&self) -> Box<Where> {
        Box::new(Where { stage: Some(self.stage.name.clone()), tables: Vec::new() })
    }

    /// The value at a dotted key of the stage.
    fn at<'a>(&'a self, path: &'a str) -> Spot<'a> {
        Spot { stage: &self.stage.name, path }
    }

    fn model(&self, name: &str) -> Checked {
        if self.recipe.models.contains_key(name) {
            return Ok(());
        }
        Err(RecipeError::UnknownReference {
            stage: self.stage.name.clone(),
            key: "model".into(),
            refers_to: name.to_owned(),
            known: self.recipe.models.keys().cloned().collect(),
        })
    }

    fn starts_from(&self, from: &str) -> Checked {
        if is_path(from) { Ok(()) } else { self.refers("from", from, Kind::makes_model) }
    }

    /// Checks that `name` is an earlier stage of a fitting kind.
    fn refers(&self, key: &str, name: &str, fits: impl Fn(&Kind) -> bool) -> Checked {
        let (stage, key, refers_to) = (self.stage.name.clone(), key.to_owned(), name.to_owned());
        let earlier = &self.recipe.stages[..self.idx];
        match earlier.iter().find(|other| other.name == name) {
            Some(other) if fits(&other.kind) => Ok(()),
            Some(other) => {
                let kind = other.kind.name();
                Err(RecipeError::WrongKind { stage, key, refers_to, kind })
            }
            None if self.recipe.stage(name).is_some() => {
                Err(RecipeError::LaterStage { stage, key, refers_to })
            }
            None => {
                let fitting = earlier.iter().filter(|other| fits(&other.kind));
                let known = fitting.map(|other| other.name.clone()).collect();
                Err(RecipeError::UnknownReference { stage, key, refers_to, known })
            }
        }
    }

    fn minutes(&self, minutes: Option<f64>) -> Checked {
        minutes.map_or(Ok(()), |minutes| self.at("minutes").above_zero(minutes))
    }

    fn mix(&self, key: &str, mix: &Mix) -> Checked {
        for (name, share) in mix {
            self.at(&format!("{key}.{name}")).share(*share)?;
        }
        if !mix.is_empty() && mix.values().sum::<f64>() <= 0.0 {
            return self.at(key).refuse("only zeros", "a mixture with a share above 0".into());
        }
        Ok(())
    }
}

/// One value of a stage, for the range checks.
struct Spot<'a> {
    stage: &'a str,
    path: &'a str,
}

impl Spot<'_> {
    fn refuse(&self, found: impl Display, allowed: String) -> Checked {
        let mut tables: Vec<String> = self.path.split('.').map(str::to_owned).collect();
        let key = tables.pop().unwrap_or_default();
        let at = Box::new(Where { stage: Some(self.stage.to_owned()), tables });
        Err(RecipeError::OutOfRange { key, at, found: found.to_string(), allowed })
    }

    fn least(&self, found: usize, least: usize) -> Checked {
        if found >= least { Ok(()) } else { self.refuse(found, format!("at least {least}")) }
    }

    fn positive(&self, found: impl Display + PartialEq + Default) -> Checked {
        let zero = Default::default();
        if found != zero { Ok(()) } else { self.refuse(found, "at least 1".into()) }
    }

    // The comparisons below are written so that NaN fails them.
    fn share(&self, found: f64) -> Checked {
        if (0.0..=1.0).contains(&found) {
            Ok(())
        } else {
            self.refuse(found, "between 0 and 1".into())
        }
    }

    fn not_negative(&self, found: f64) -> Checked {
        if found >= 0.0 && found.is_finite() {
            Ok(())
        } else {
            self.refuse(found, "0 or more".into())
        }
    }

    fn above_zero(&self, found: f64) -> Checked {
        if found > 0.0 && found.is_finite() { Ok(()) } else { self.refuse(found, "above 0".into()) }
    }
}
