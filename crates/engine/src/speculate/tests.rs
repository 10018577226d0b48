//! Claims about drafts: whatever is guessed, answers stay what they are.

use super::*;
use crate::tiny::Tiny;
use crate::{Finish, GenerateRequest, Sampling, Session};
use fathom_model::cache::{CacheForm, KvCache};
use fathom_model::{CachedRows, Precision};
use fathom_tensor::op;
use std::cell::RefCell;

const WITH_MODULE: Tiny = Tiny::Latent { vocab_size: 6, positions: 256 };
const WITHOUT: Tiny = Tiny::Grouped { vocab_size: 9, positions: 256 };

const PROMPT: [u32; 9] = [5, 2, 3, 0, 5, 2, 4, 5, 2];

fn model(config: Tiny, form: CacheForm) -> (Model, CacheSpec) {
    let mut model = Model::random(config.config(), 11).unwrap();
    let spec = model.pack_for_cache(Precision::F32, form);
    (model, spec)
}

/// All that an answer shows: tokens, bits of their log-probabilities, the likeliest two, its end, and
/// what the cache holds afterwards.
#[derive(Debug, PartialEq)]
struct Heard {
    tokens: Vec<u32>,
    log_probs: Vec<u32>,
    top: Vec<(u32, f32)>,
    finish: Option<Finish>,
    cached: Vec<u32>,
}

fn ask(
    (model, session): (&Model, &mut Session),
    prompt: &[u32],
    sampling: &Sampling,
    drafting: Drafting,
    most: usize,
) -> (Heard, DraftCounts) {
    let request = GenerateRequest {
        n_top_log_probs: Some(2),
        drafting,
        ..GenerateRequest::new(prompt, sampling)
    };
    let (mut tokens, mut log_probs, mut top) = (Vec::new(), Vec::new(), Vec::new());
    let generated = session.generate(model, &request, |drawn| {
        tokens.push(drawn.token);
        log_probs.push(drawn.log_prob.unwrap().to_bits());
        top.extend_from_slice(drawn.top);
        tokens.len() < most
    });
    let generated = generated.unwrap();
    let cached = session.tokens().to_vec();
    (Heard { tokens, log_probs, top, finish: generated.finish, cached }, generated.drafts)
}

fn fixed(config: Tiny) -> Vec<Drafting> {
    let lookup = [1, 3, 8].map(|n_tokens| Drafting::Lookup { n_tokens, adaptive: false });
    let mtp = [1, 2, 5].map(|n_tokens| Drafting::Mtp { n_tokens, adaptive: false });
    match config == WITH_MODULE {
        true => [lookup, mtp].concat(),
        false => lookup.to_vec(),
    }
}

/// Asks with every kind of drafts and compares with the answer without. Returns what was accepted.
fn check(config: Tiny, form: CacheForm, sampling: &Sampling, most: usize) -> usize {
    let (mut model, spec) = model(config, form);
    let (plain, _) = ask((&model, &mut Session::new(spec)), &PROMPT, sampling, Drafting::Off, most);
    // A lighter module guesses differently at times; that must not show.
    if sampling.seed % 2 == 1 {
        model.lighten_mtp();
    }
    let ask = |drafting| ask((&model, &mut Session::new(spec)), &PROMPT, sampling, drafting, most);
    let (again, none) = ask(Drafting::Off);
    assert_eq!(again, plain);
    assert_eq!((none.n_drafted, none.n_passes), (0, plain.tokens.len() - 1));
    let mut n_accepted = 0;
    for drafting in fixed(config).into_iter().chain([Drafting::Auto]) {
        let (heard, counts) = ask(drafting);
        assert_eq!(heard, plain, "{drafting:?}, {sampling:?}");
        assert_eq!(1 + counts.n_passes + counts.n_accepted, heard.tokens.len(), "{counts:?}");
        n_accepted += counts.n_accepted;
    }
    n_accepted
}

#[test]
fn greedy_text_is_the_same_with_and_without_drafts() {
    for form in [CacheForm::Latent, CacheForm::Expanded] {
        let sampling = Sampling::greedy(90);
        assert!(check(WITH_MODULE, form, &sampling, usize::MAX) > 20);
        assert!(check(WITHOUT, form, &sampling, usize::MAX) > 20);
    }
}

#[test]
fn sampled_text_is_the_same_with_and_without_drafts() {
    let plain = Sampling::plain(60);
    let settings = [
        plain.clone(),
        Sampling { temperature: 0.5, top_k: 3, ..plain.clone() },
        Sampling { temperature: 1.3, top_p: 0.8, ..plain.clone() },
        Sampling { min_p: 0.2, logit_bias: [(3, 1.5), (1, -2.0)].into(), ..plain.clone() },
        Sampling { repetition_penalty: 1.3, frequency_penalty: 0.3, ..plain.clone() },
        Sampling { temperature: 0.0, presence_penalty: 0.7, frequency_penalty: 0.1, ..plain },
    ];
    for (seed, sampling) in (0..).zip(settings) {
        let sampling = Sampling { seed, ..sampling };
        for config in [WITH_MODULE, WITHOUT] {
            assert!(check(config, CacheForm::Latent, &sampling, usize::MAX) > 0, "{sampling:?}");
        }
    }
}

#[test]
fn an_answer_ends_where_it_would_end_without_drafts() {
    for config in [WITH_MODULE, WITHOUT] {
        for limit in 1..8 {
            check(config, CacheForm::Latent, &Sampling::greedy(limit), usize::MAX);
            check(config, CacheForm::Latent, &Sampling::greedy(30), limit);
        }
        for seed in 0..12 {
            let sampling = Sampling { seed, stop_ids: vec![1, 4], ..Sampling::plain(40) };
            check(config, CacheForm::Latent, &sampling, usize::MAX);
        }
    }
}

#[test]
fn a_conversation_goes_on_whoever_drafted_before() {
    let (model, spec) = model(WITH_MODULE, CacheForm::Latent);
    let sampling = Sampling { seed: 3, ..Sampling::plain(20) };
    let mut shared = Session::new(spec);
    let mtp = Drafting::Mtp { n_tokens: 2, adaptive: false };
    let lookup = Drafting::Lookup { n_tokens: 3, adaptive: false };
    let mut prompt = PROMPT.to_vec();
    for drafting in [mtp, mtp, Drafting::Off, mtp, lookup, mtp, Drafting::Off, Drafting::Auto] {
        let mut fresh = Session::new(spec);
        let (want, _) = ask((&model, &mut fresh), &prompt, &sampling, Drafting::Off, usize::MAX);
        let (heard, _) = ask((&model, &mut shared), &prompt, &sampling, drafting, usize::MAX);
        assert_eq!(heard, want, "{drafting:?} after {} tokens", prompt.len());
        // The next question keeps most of the answer, as a chat template does.
        prompt.extend_from_slice(&heard.tokens[..heard.tokens.len() - 3]);
        prompt.extend([2, 0, 3]);
    }
}

/// Log-probabilities of the token after `prompt`.
fn exact(model: &Model, spec: CacheSpec, prompt: &[u32]) -> Vec<f64> {
    let cache = RefCell::new(KvCache::new(spec));
    cache.borrow_mut().grow(1);
    let mut rows = CachedRows::default();
    rows.push(&[0], 0, prompt);
    let hidden = model.hidden_cached(&rows, &cache);
    let vocab = model.config.vocab_size;
    let mut logits = vec![0.0; vocab * prompt.len()];
    op::logits_into(hidden.data(), model.head(), &mut logits);
    let last = &logits[vocab * (prompt.len() - 1)..];
    let weights: Vec<f64> = last.iter().map(|logit| f64::from(*logit).exp()).collect();
    weights.iter().map(|weight| weight / weights.iter().sum::<f64>()).collect()
}

#[test]
fn drafts_leave_the_distribution_as_it_is() {
    let (model, spec) = model(WITH_MODULE, CacheForm::Latent);
    let (n, vocab) = (6000u32, model.config.vocab_size);
    // How often each pair of first tokens is to be expected.
    let first = exact(&model, spec, &PROMPT);
    let mut expected = Vec::new();
    for (a, p) in (0..).zip(&first) {
        let second = exact(&model, spec, &[&PROMPT[..], &[a]].concat());
        expected.extend(second.iter().map(|q| p * q * f64::from(n)));
    }
    for drafting in [
        Drafting::Mtp { n_tokens: 1, adaptive: false },
        Drafting::Mtp { n_tokens: 3, adaptive: false },
        Drafting::Lookup { n_tokens: 2, adaptive: false },
    ] {
        let (mut counts, mut n_accepted) = (vec![0.0; vocab * vocab], 0);
        let mut session = Session::new(spec);
        for seed in 0..n {
            let sampling = Sampling { seed: u64::from(seed), ..Sampling::plain(3) };
            let request = GenerateRequest { drafting, ..GenerateRequest::new(&PROMPT, &sampling) };
            let mut tokens = Vec::new();
            let hear = |drawn: &crate::Drawn<'_>| {
                tokens.push(drawn.token as usize);
                true
            };
            n_accepted += session.generate(&model, &request, hear).unwrap().drafts.n_accepted;
            counts[tokens[0] * vocab + tokens[1]] += 1.0;
        }
        assert!(n_accepted > 300, "{drafting:?}: {n_accepted}");
        let chi_square: f64 =
            expected.iter().zip(&counts).map(|(e, c): (&f64, &f64)| (c - e).powi(2) / e).sum();
        // 35 degrees of freedom: above 74.9 by chance once in ten thousand.
        assert!(chi_square < 74.9, "{drafting:?}: {chi_square:.1}");
    }
}

#[test]
fn drafts_that_cannot_be_made_are_refused() {
    let sampling = Sampling::greedy(3);
    let ask = |config, drafting| {
        let (model, spec) = model(config, CacheForm::Latent);
        let request = GenerateRequest { drafting, ..GenerateRequest::new(&PROMPT, &sampling) };
        Session::new(spec).generate(&model, &request, |_| true).map(|generated| generated.finish)
    };
    let mtp = |n_tokens| Drafting::Mtp { n_tokens, adaptive: true };
    assert_eq!(ask(WITHOUT, mtp(1)), Err(Error::NoMtp));
    for value in [0, MAX_DRAFT_TOKENS + 1] {
        assert_eq!(ask(WITH_MODULE, mtp(value)), Err(Error::DraftTokens { value }));
    }
    assert_eq!(ask(WITH_MODULE, mtp(MAX_DRAFT_TOKENS)), Ok(Some(Finish::Length)));
    assert_eq!(ask(WITHOUT, Drafting::Auto), Ok(Some(Finish::Length)));
}
