//! Claims about conversations.

use super::*;
use crate::tiny::Tiny;
use fathom_model::cache::CacheForm;
use fathom_model::{Config, Precision};

fn model() -> (Model, CacheSpec) {
    let tiny = Tiny::Grouped { vocab_size: 37, positions: 64 };
    let config = Config { initializer_range: 0.2, ..tiny.config() };
    let mut model = Model::random(config, 3).unwrap();
    let spec = model.pack_for_cache(Precision::F32, CacheForm::Expanded);
    (model, spec)
}

/// A token, its log-probability, and the likeliest ones.
type Heard = (u32, f32, Vec<(u32, f32)>);

fn answer(model: &Model, session: &mut Session, sampling: &Sampling, n_top: usize) -> Vec<Heard> {
    let request = GenerateRequest {
        n_top_log_probs: Some(n_top),
        ..GenerateRequest::new(&[5, 17, 3], sampling)
    };
    let mut heard = Vec::new();
    let generated = session.generate(model, &request, |drawn| {
        heard.push((drawn.token, drawn.log_prob.unwrap(), drawn.top.to_vec()));
        true
    });
    assert_eq!(generated.unwrap().finish, Some(Finish::Length));
    heard
}

#[test]
fn an_answer_repeats_whatever_the_cache_held() {
    let (model, spec) = model();
    let sampling = Sampling { frequency_penalty: 0.5, seed: 4, ..Sampling::plain(12) };
    let mut session = Session::new(spec);
    let first = answer(&model, &mut session, &sampling, 2);
    assert_eq!(answer(&model, &mut session, &sampling, 2), first);
    assert_ne!(answer(&model, &mut session, &Sampling { seed: 5, ..sampling }, 2), first);
}

#[test]
fn log_probabilities_do_not_depend_on_how_tokens_are_drawn() {
    let (model, spec) = model();
    let greedy = answer(&model, &mut Session::new(spec), &Sampling::greedy(6), 1);
    for (token, log_prob, top) in &greedy {
        assert_eq!(*top, [(*token, *log_prob)]);
    }
    let cut = Sampling { temperature: 0.1, top_k: 1, ..Sampling::plain(6) };
    assert_eq!(answer(&model, &mut Session::new(spec), &cut, 1), greedy);
}

#[test]
fn a_heavy_penalty_keeps_an_answer_from_repeating_itself() {
    let (model, spec) = model();
    let sampling = Sampling {
        repetition_penalty: 2.0,
        frequency_penalty: 2.0,
        presence_penalty: 2.0,
        ..Sampling::greedy(10)
    };
    let heard = answer(&model, &mut Session::new(spec), &sampling, 0);
    let mut tokens: Vec<u32> = heard.iter().map(|(token, ..)| *token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 10, "{heard:?}");
}

#[test]
fn what_cannot_work_is_refused_and_the_session_goes_on() {
    let (model, spec) = model();
    let mut session = Session::new(spec);
    let plain = Sampling::plain(3);
    let empty = GenerateRequest::new(&[], &plain);
    assert_eq!(session.generate(&model, &empty, |_| true), Err(Error::EmptyPrompt));
    let wrong = Sampling { top_p: 2.0, ..Sampling::plain(3) };
    let request = GenerateRequest::new(&[5], &wrong);
    assert!(matches!(
        session.generate(&model, &request, |_| true),
        Err(Error::Setting { name: "top_p", .. })
    ));
    assert_eq!(answer(&model, &mut session, &plain, 0).len(), 3);
}
