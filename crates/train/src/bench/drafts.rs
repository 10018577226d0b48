//! What drafts bring on a trained run: held-out questions, one after the other, greedy, with drafts and
//! without in turns. Sessions stay, as in a chat: what drafting learns from one answer serves the next.

use crate::error::Error;
use crate::learner::precision_of;
use crate::prompts::{Prompts, prompt_ids};
use crate::recipe::Recipe;
use crate::run_dir::RunDirError;
use crate::stage::template_of;
use fathom_engine::{DraftCounts, Drafting, Drawn, GenerateRequest, Sampling, Session};
use fathom_model::cache::CacheForm;
use fathom_model::{LoadOptions, Model, Source};
use fathom_text::{Tokenizer, special};
use std::path::Path;
use std::time::Instant;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct DraftWork {
    /// Held-out questions; fewer if the task has no more.
    pub n_questions: usize,
    /// Longest answer.
    pub max_new_tokens: usize,
    /// Times that all questions are asked in both ways.
    pub n_rounds: usize,
    /// Who guesses in the one way; in the other nobody does.
    pub drafting: Drafting,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct DraftRates {
    /// Questions asked.
    pub n_questions: usize,
    /// Answers, of all rounds, and how many were the same with drafts and without.
    pub n_answers: usize,
    pub n_same: usize,
    /// Tokens of the answers after their first one, in one round.
    pub n_tokens: usize,
    /// Tokens per second after the first of each answer, by round: without drafts, with them.
    pub tokens_per_s: Vec<[f64; 2]>,
    /// What guesses brought, in all rounds.
    pub counts: DraftCounts,
}

/// Asks the model of a run, as its evaluation asks it. `model` is a stage; none: the run's main model.
/// Returns the stage's name with the figures.
///
/// Errors: a folder that is no run, a stage without a model, a module asked for where there is none.
pub fn draft_rates(
    run: &Path,
    model: Option<&str>,
    work: DraftWork,
) -> Result<(String, DraftRates), Error> {
    let path = run.join("recipe.toml");
    let text = std::fs::read_to_string(&path)
        .map_err(|source| Error::RunDir(RunDirError::File { path, doing: "read", source }))?;
    let recipe = Recipe::parse(&text, &[]).map_err(Error::Recipe)?;
    let stage = model.unwrap_or(&recipe.main_model).to_owned();
    let subject = Subject::open(&recipe, &run.join("checkpoints").join(&stage), &stage, work)?;
    let mut rates = DraftRates { n_questions: subject.prompts.len(), ..DraftRates::default() };
    let ways = [Drafting::Off, work.drafting];
    let mut sessions = ways.map(|_| Session::new(subject.spec));
    for (session, drafting) in sessions.iter_mut().zip(ways) {
        // Memory is taken and times are known before the clock runs.
        for prompt in subject.prompts.iter().take(2) {
            subject.ask(session, prompt, drafting)?;
        }
    }
    for round in 0..work.n_rounds {
        let (mut seconds, mut n_tokens) = ([0.0; 2], 0);
        for (at, prompt) in subject.prompts.iter().enumerate() {
            let first = (round + at) % 2;
            let mut answers = [Vec::new(), Vec::new()];
            for way in [first, 1 - first] {
                let (answer, after_first_s, counts) =
                    subject.ask(&mut sessions[way], prompt, ways[way])?;
                answers[way] = answer;
                seconds[way] += after_first_s;
                rates.counts.n_passes += counts.n_passes * way;
                rates.counts.n_drafted += counts.n_drafted * way;
                rates.counts.n_accepted += counts.n_accepted * way;
            }
            n_tokens += answers[0].len().saturating_sub(1);
            rates.n_answers += 1;
            rates.n_same += usize::from(answers[0] == answers[1]);
        }
        rates.n_tokens = n_tokens;
        rates.tokens_per_s.push(seconds.map(|s| n_tokens as f64 / f64::max(s, 1e-9)));
    }
    Ok((stage, rates))
}

/// A model of the run and its questions.
struct Subject {
    model: Model,
    spec: fathom_model::cache::CacheSpec,
    prompts: Vec<Vec<u32>>,
    sampling: Sampling,
    stage: String,
}

impl Subject {
    fn open(recipe: &Recipe, dir: &Path, stage: &str, work: DraftWork) -> Result<Self, Error> {
        let as_model = |source| Error::Model { what: stage.to_owned(), source };
        let source = Source::open(dir).map_err(as_model)?;
        let options = LoadOptions { mtp: source.has_mtp(), ..LoadOptions::default() };
        let loaded = Model::load(&source, &options, &mut |_, _| ()).map_err(as_model)?;
        let mut model = loaded.model;
        model.pack_small();
        let spec = model.pack_for_cache(precision_of(recipe.precision), CacheForm::Latent);
        model.lighten_mtp();
        let questions = Prompts::open(&recipe.task, recipe.seed, stage, &mut |_| ())?;
        let tokenizer = Tokenizer::open(dir.join("tokenizer.json"))?;
        let template = template_of(recipe, stage);
        let held_out = (0..work.n_questions as u64).map_while(|i| questions.held_out(i));
        let ids = held_out.map(|item| prompt_ids(&tokenizer, template, item.text()));
        let prompts = ids.collect::<Result<Vec<_>, _>>()?;
        let sampling = Sampling {
            stop_ids: vec![tokenizer.special_id(special::EOS)?],
            vocab_limit: tokenizer.vocab_size(),
            ..Sampling::greedy(work.max_new_tokens)
        };
        Ok(Subject { model, spec, prompts, sampling, stage: stage.to_owned() })
    }

    /// An answer, the seconds it took after its first token, and what guesses brought.
    fn ask(
        &self,
        session: &mut Session,
        prompt: &[u32],
        drafting: Drafting,
    ) -> Result<(Vec<u32>, f64, DraftCounts), Error> {
        let request = GenerateRequest { drafting, ..GenerateRequest::new(prompt, &self.sampling) };
        let (mut answer, mut first) = (Vec::new(), None);
        let hear = |drawn: &Drawn<'_>| {
            first.get_or_insert_with(Instant::now);
            answer.push(drawn.token);
            true
        };
        let generated =
            session.generate(&self.model, &request, hear).map_err(|error| Error::Unfit {
                stage: self.stage.clone(),
                found: error.to_string(),
                expected: "a model that can answer this way".into(),
                hint: None,
            })?;
        let seconds = first.map_or(0.0, |first: Instant| first.elapsed().as_secs_f64());
        Ok((answer, seconds, generated.drafts))
    }
}
