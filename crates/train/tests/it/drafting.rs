//! Drafts of a trained run. Measurements are of a finished run of `r1-tiny`; nothing is claimed that
//! depends on time.
//!
//! `FATHOM_RUN=runs/r1-tiny cargo test --release -p fathom-train --test it drafting -- --ignored --nocapture`
//! (`FATHOM_THREADS=1` for one thread, `FATHOM_MODEL=r1` for one model). `fathom bench drafts` measures what a
//! chat sees; here are fixed numbers of guesses, and sessions that know nothing yet.

use crate::small::{StopAfter, folder, recipe};
use fathom_engine::speculate::{LOOKUP_TOKENS, MTP_TOKENS};
use fathom_engine::{Drafting, Drawn, GenerateRequest, Sampling, Session};
use fathom_model::cache::{CacheForm, CacheSpec};
use fathom_model::{LoadOptions, Model, PackedRows, Precision, Rows, Source};
use fathom_tensor::{Tape, op};
use fathom_text::{Tokenizer, special};
use fathom_train::bench::{DraftWork, draft_rates};
use fathom_train::prompts::{Prompts, prompt_ids};
use fathom_train::recipe::{Recipe, Template};
use fathom_train::run;
use fathom_train::run_dir::Start;
use std::path::PathBuf;
use std::time::Instant;

/// Questions asked.
const N_QUESTIONS: u64 = 100;
/// Models that are measured, and how they are asked.
const MODELS: [(&str, Template); 3] =
    [("base", Template::R1Zero), ("r1", Template::Chat), ("student-distilled", Template::Chat)];

struct Subject {
    model: Model,
    spec: CacheSpec,
    prompts: Vec<Vec<u32>>,
    stop: u32,
    vocab: usize,
}

/// The models that were asked for.
fn models() -> impl Iterator<Item = (&'static str, Template)> {
    let wanted = std::env::var("FATHOM_MODEL").ok();
    MODELS.into_iter().filter(move |(name, _)| wanted.as_deref().is_none_or(|w| w == *name))
}

/// The run's model `name` with its held-out questions; none if there is no such run.
fn subject(name: &str, template: Template) -> Option<Subject> {
    let run = std::env::var_os("FATHOM_RUN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../runs/r1-tiny")),
        PathBuf::from,
    );
    let dir = run.join("checkpoints").join(name);
    if !dir.is_dir() {
        eprintln!("skipped: there is no `{}`", dir.display());
        return None;
    }
    let recipe = std::fs::read_to_string(run.join("recipe.toml")).unwrap();
    let recipe = Recipe::parse(&recipe, &[]).unwrap();
    let questions = Prompts::open(&recipe.task, recipe.seed, name, &mut |_| ()).unwrap();
    let tokenizer = Tokenizer::open(dir.join("tokenizer.json")).unwrap();
    let prompt = |i| prompt_ids(&tokenizer, template, questions.held_out(i).unwrap().text());
    let prompts = (0..N_QUESTIONS).map(|i| prompt(i).unwrap()).collect();
    let source = Source::open(&dir).unwrap();
    let options = LoadOptions { mtp: source.has_mtp(), ..LoadOptions::default() };
    let mut model = Model::load(&source, &options, &mut |_, _| ()).unwrap().model;
    let spec = model.pack_for_cache(Precision::F32, CacheForm::Latent);
    let stop = tokenizer.special_id(special::EOS).unwrap();
    Some(Subject { model, spec, prompts, stop, vocab: tokenizer.vocab_size() })
}

impl Subject {
    fn sampling(&self, temperature: f32, top_p: f32, seed: u64) -> Sampling {
        let (stop_ids, vocab_limit) = (vec![self.stop], self.vocab);
        Sampling { temperature, top_p, seed, stop_ids, vocab_limit, ..Sampling::plain(200) }
    }
}

#[test]
#[ignore = "a measurement"]
fn time_of_greedy_answers_by_who_drafts() {
    let mtp = |n_tokens, adaptive| Drafting::Mtp { n_tokens, adaptive };
    let lookup = |n_tokens, adaptive| Drafting::Lookup { n_tokens, adaptive };
    for (name, template) in models() {
        let Some(mut subject) = subject(name, template) else { return };
        subject.model.lighten_mtp();
        let mut ways = vec![Drafting::Off];
        if subject.model.has_mtp() {
            ways.extend((1..=4).map(|n| mtp(n, false)));
            ways.push(mtp(MTP_TOKENS, true));
        }
        ways.extend([lookup(4, false), lookup(LOOKUP_TOKENS, true)]);
        println!("{name}");
        measure(&subject, &ways);
    }
}

/// Asks every question in every way, three times each, and keeps the best time of each.
fn measure(subject: &Subject, ways: &[Drafting]) {
    // Seconds after the first token, tokens after it, passes, guesses, right ones.
    let mut sums = vec![(0.0, 0, 0, 0, 0); ways.len()];
    let sampling = subject.sampling(0.0, 1.0, 0);
    for prompt in &subject.prompts {
        let mut plain = Vec::new();
        for (drafting, sum) in ways.iter().zip(&mut sums) {
            let request =
                GenerateRequest { drafting: *drafting, ..GenerateRequest::new(prompt, &sampling) };
            let (mut best, mut counts, mut tokens) = (f64::INFINITY, None, Vec::new());
            for _ in 0..3 {
                tokens.clear();
                let mut first = None;
                let mut session = Session::new(subject.spec);
                let hear = |drawn: &Drawn<'_>| {
                    first.get_or_insert_with(Instant::now);
                    tokens.push(drawn.token);
                    true
                };
                counts = Some(session.generate(&subject.model, &request, hear).unwrap().drafts);
                best = best.min(first.unwrap().elapsed().as_secs_f64());
            }
            if *drafting == Drafting::Off {
                plain = tokens.clone();
            }
            assert_eq!(tokens, plain, "{drafting:?}");
            let counts = counts.unwrap();
            sum.0 += best;
            sum.1 += tokens.len() - 1;
            sum.2 += counts.n_passes;
            sum.3 += counts.n_drafted;
            sum.4 += counts.n_accepted;
        }
    }
    let plain = sums[0].1 as f64 / sums[0].0;
    for (drafting, (seconds, tokens, passes, drafted, accepted)) in ways.iter().zip(sums) {
        let rate = tokens as f64 / seconds;
        println!(
            "{rate:7.0} tokens/s {:5.3}x, {:.2} tokens per pass, {:.3} of drafts accepted: {drafting:?}",
            rate / plain,
            tokens as f64 / passes as f64,
            accepted as f64 / (drafted as f64).max(1.0),
        );
    }
}

/// Probabilities as the sampler orders them: by id, or likeliest first where top-p cuts.
fn distribution(logits: &[f32], temperature: f64, top_p: f64) -> Vec<(usize, f64)> {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weight = |logit: &f32| ((f64::from(*logit) - max) / temperature).exp();
    let mut tokens: Vec<(usize, f64)> = logits.iter().map(weight).enumerate().collect();
    let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
    if top_p < 1.0 {
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut sum = 0.0;
        let kept = tokens.iter().take_while(|(_, weight)| {
            let goes_on = sum < top_p * total;
            sum += weight;
            goes_on
        });
        let n = kept.count();
        tokens.truncate(n);
    }
    let kept: f64 = tokens.iter().map(|(_, weight)| weight).sum();
    tokens.iter().map(|(id, weight)| (*id, weight / kept)).collect()
}

/// How often a guess from `q` is accepted for `p`: drawn and accepted by Leviathan's rule; the likeliest
/// one; drawn with the number that draws from `p`.
fn acceptance(p: &[(usize, f64)], q: &[(usize, f64)], vocab: usize) -> [f64; 3] {
    let mut spans = [vec![(0.0, 0.0); vocab], vec![(0.0, 0.0); vocab]];
    for (spans, of) in spans.iter_mut().zip([p, q]) {
        let mut sum = 0.0;
        for (id, share) in of {
            spans[*id] = (sum, sum + share);
            sum += share;
        }
    }
    let [in_p, in_q] = spans;
    let width = |span: &(f64, f64)| span.1 - span.0;
    let both = in_p.iter().zip(&in_q);
    let rejection = both.clone().map(|(a, b)| width(a).min(width(b))).sum();
    let same_number = both.map(|(a, b)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0)).sum();
    let likeliest = q.iter().fold(q[0], |best, token| if token.1 > best.1 { *token } else { best });
    [rejection, width(&in_p[likeliest.0]), same_number]
}

#[test]
#[ignore = "a measurement"]
fn acceptance_of_the_modules_first_guess() {
    for (name, template) in models() {
        let Some(subject) = subject(name, template) else { return };
        let Subject { model, spec, prompts, vocab, .. } = &subject;
        if !model.has_mtp() {
            continue;
        }
        for (temperature, top_p) in [(1.0, 1.0), (0.6, 0.95)] {
            let (mut sums, mut n) = ([0.0; 3], 0);
            for (seed, prompt) in (0..).zip(prompts) {
                let sampling = subject.sampling(temperature as f32, top_p as f32, seed);
                let mut tokens = prompt.clone();
                let request = GenerateRequest::new(prompt, &sampling);
                let hear = |drawn: &Drawn<'_>| {
                    tokens.push(drawn.token);
                    true
                };
                Session::new(*spec).generate(model, &request, hear).unwrap();
                let rows = PackedRows::sequence(&tokens[..tokens.len() - 1]);
                let (tape, rows) = (Tape::forgetting(), Rows::Packed(&rows));
                let hidden = model.forward(&tape, rows, None).hidden;
                let guessed = model.forward_mtp(&tape, rows, None, &hidden, &tokens[1..]).unwrap();
                let (p, q) =
                    (op::logits(&hidden, model.head()), op::logits(&guessed.hidden, model.head()));
                let row = |logits: &[f32], at: usize| {
                    let width = model.head().n_out();
                    distribution(&logits[at * width..][..*vocab], temperature, top_p)
                };
                for at in prompt.len()..tokens.len() - 1 {
                    let shares = acceptance(&row(p.data(), at), &row(q.data(), at - 1), *vocab);
                    sums.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
                    n += 1;
                }
            }
            let [rejection, likeliest, same] = sums.map(|sum| 100.0 * sum / f64::from(n));
            println!(
                "{name}, temperature {temperature}, top-p {top_p}: {rejection:.1} % by rejection, \
                 {likeliest:.1} % of likeliest guesses, {same:.1} % with the same number ({n} places)"
            );
        }
    }
}

#[test]
fn drafts_leave_the_answers_of_a_run_as_they_are() {
    let root = folder("drafts");
    let _ = run(&recipe(&["base.steps=2"]), &root, Start::New, &mut StopAfter(3));
    let work = DraftWork {
        n_questions: 4,
        max_new_tokens: 30,
        n_rounds: 2,
        drafting: Drafting::Mtp { n_tokens: 3, adaptive: false },
    };
    let (name, rates) = draft_rates(&root, Some("base"), work).unwrap();
    assert_eq!((name.as_str(), rates.n_questions, rates.n_answers), ("base", 4, 8));
    assert_eq!(rates.n_same, rates.n_answers);
    assert!(rates.counts.n_drafted > 0 && rates.tokens_per_s.len() == 2, "{rates:?}");
    assert!(draft_rates(&root, Some("nobody"), work).is_err());
    assert!(draft_rates(&root.join("nowhere"), None, work).is_err());
    std::fs::remove_dir_all(root).unwrap();
}
