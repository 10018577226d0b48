//! An answer is that of a session alone, to the bit, whatever else runs.

use super::*;
use crate::sampler::LogProbs;
use fathom_model::cache::KvCache;
use fathom_model::{CachedRows, RowKind};
use fathom_tensor::op;
use std::cell::RefCell;

#[test]
fn a_served_answer_is_that_of_a_session() {
    for kind in [GQA, MLA, EXPANDED] {
        let twin = model(kind);
        let service = start(kind, ServiceSettings::new(32));
        for (seed, sampling) in (0..).zip(samplings(20)) {
            for n_prompt in [1, 5, 64, 65, 200] {
                let job = job(prompt(n_prompt, seed), Sampling { seed, ..sampling.clone() });
                let heard = ask(&service, again(&job)).wait();
                assert_eq!(heard.tokens, alone(&twin, &job), "{n_prompt} tokens, {sampling:?}");
                let by_stop =
                    heard.tokens.last().is_some_and(|t| sampling.stop_ids.contains(&t.id));
                assert_eq!(heard.end, Ok(if by_stop { Ended::Stop } else { Ended::Length }));
            }
        }
    }
}

#[test]
fn an_answer_does_not_depend_on_the_crowd() {
    for kind in [GQA, MLA, EXPANDED] {
        let twin = model(kind);
        let settings = ServiceSettings { prefill_rows: 24, ..ServiceSettings::new(200) };
        let service = start(kind, settings);
        let mut asked = Vec::new();
        let samplings = samplings(40);
        for i in 0..21 {
            let sampling = Sampling { seed: i as u64, ..samplings[i % 7].clone() };
            let prompt = prompt([3, 70, 150, 9][i % 4], i as u64 % 5);
            let job = Job { owner: i as u64 % 3, ..job(prompt, sampling) };
            asked.push((ask(&service, again(&job)), job));
            if i % 6 == 0 {
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        for (asked, job) in asked {
            assert_eq!(asked.wait().tokens, alone(&twin, &job), "{:?}", job.sampling);
        }
    }
}

#[test]
fn answers_of_many_clients_that_come_and_go_are_not_mixed() {
    let settings = ServiceSettings { max_running: 5, ..ServiceSettings::new(24) };
    let service = start(MLA, settings);
    let sampling = |seed| Sampling { seed, ..Sampling::plain(30) };
    let wanted: Vec<Vec<Token>> = {
        let twin = model(MLA);
        (0..6).map(|key| alone(&twin, &job(prompt(70, key), sampling(key)))).collect()
    };
    std::thread::scope(|scope| {
        for client in 0..8u64 {
            let (service, wanted) = (&service, &wanted);
            scope.spawn(move || {
                for round in 0..12 {
                    let key = (client + round) % 6;
                    let asked = ask(service, job(prompt(70, key), sampling(key)));
                    if (client + round) % 4 == 0 {
                        continue; // gone at once
                    }
                    assert_eq!(asked.wait().tokens, wanted[key as usize]);
                }
            });
        }
    });
    let stats = await_stats(&service, |stats| stats.n_finished == 96);
    assert_eq!((stats.n_running, stats.n_waiting, stats.n_blocks_used), (0, 0, 0));
}

#[test]
fn without_log_probabilities_the_tokens_are_the_same() {
    let service = start(GQA, ServiceSettings::new(16));
    for sampling in samplings(15) {
        let with = job(prompt(20, 3), sampling);
        let without = Job { n_top_log_probs: None, ..again(&with) };
        let (with, without) = (ask(&service, with).wait(), ask(&service, without).wait());
        assert_eq!(with.ids(), without.ids());
        assert!(without.tokens.iter().all(|token| token.log_prob.is_none()));
    }
}

#[test]
fn a_cached_beginning_changes_no_bit() {
    for kind in [GQA, MLA, EXPANDED] {
        let twin = model(kind);
        let service = start(kind, ServiceSettings::new(32));
        let first = job(prompt(150, 1), Sampling { seed: 3, ..Sampling::plain(60) });
        let cold = ask(&service, again(&first)).wait();
        let warm = ask(&service, again(&first)).wait();
        assert_eq!((cold.n_cached, warm.n_cached), (Some(0), Some(128)));
        assert_eq!(cold.tokens, warm.tokens);

        // The next turn of a conversation finds the answer too: 150 + 59 tokens are three blocks.
        let mut text = first.prompt.clone();
        text.extend(cold.ids());
        text.extend([1, 2, 3]);
        let second = job(text, Sampling { seed: 4, ..Sampling::plain(20) });
        let heard = ask(&service, again(&second)).wait();
        // Where rows of answers have bits of their own, only the prompt is found.
        assert_eq!(heard.n_cached, Some(if kind == EXPANDED { 128 } else { 192 }));
        assert_eq!(heard.tokens, alone(&twin, &second));
        // Another owner finds nothing.
        let stranger = ask(&service, Job { owner: 7, ..again(&second) }).wait();
        assert_eq!((stranger.n_cached, stranger.tokens), (Some(0), heard.tokens));
    }
}

#[test]
fn drafts_change_no_bit() {
    let lookup = Drafting::Lookup { n_tokens: 4, adaptive: false };
    let module = Drafting::Mtp { n_tokens: 2, adaptive: false };
    for (kind, drafting) in [
        (GQA, lookup),
        (MLA, lookup),
        (MLA, module),
        (EXPANDED, Drafting::Auto),
        (GQA, Drafting::Auto),
    ] {
        let twin = model(kind);
        let settings = ServiceSettings { drafting, ..ServiceSettings::new(64) };
        let service = start(kind, settings);
        for (seed, sampling) in (0..).zip(samplings(50)) {
            // Few enough that guesses are made, and as many as come and go meanwhile.
            let jobs: Vec<Job> = (0..3 + seed % 4)
                .map(|i| {
                    let sampling =
                        Sampling { seed, max_new_tokens: 50 - i as usize, ..sampling.clone() };
                    job(prompt(20 + 40 * i as usize, seed), sampling)
                })
                .collect();
            let asked: Vec<Asked> = jobs.iter().map(|job| ask(&service, again(job))).collect();
            for (asked, job) in asked.into_iter().zip(&jobs) {
                let heard = asked.wait();
                assert_eq!(heard.tokens, alone(&twin, job), "{drafting:?} {sampling:?}");
            }
        }
        let stats = service.stats();
        assert!(stats.n_drafted > 0 && stats.n_accepted > 0, "{drafting:?} {stats:?}");
    }
}

#[test]
fn samples_of_one_prompt_differ_and_repeat() {
    let service = start(GQA, ServiceSettings::new(32));
    let sample = |sample_idx| {
        let job = Job { sample_idx, ..job(prompt(30, 2), Sampling::plain(12)) };
        ask(&service, job).wait().ids()
    };
    assert_ne!(sample(0), sample(1));
    assert_eq!(sample(1), sample(1));
}

/// Log-probabilities of the tokens of `text` from one pass over it.
fn in_one_pass((model, spec): &(Model, CacheSpec), text: &[u32], n_top: usize) -> Vec<Token> {
    let cache = RefCell::new(KvCache::new(*spec));
    cache.borrow_mut().grow(text.len().div_ceil(64));
    let blocks: Vec<u32> = (0..text.len().div_ceil(64) as u32).collect();
    let mut rows = CachedRows::default();
    rows.push_as(RowKind::Prompt, &blocks, 0, text);
    let logits = op::logits(&model.hidden_cached(&rows, &cache), model.head());
    let mut tokens = vec![Token { id: text[0], ..Token::default() }];
    for (row, id) in logits.data().chunks(logits.width()).zip(&text[1..]) {
        let of = LogProbs::of(row);
        let (log_prob, top) = (Some(of.token(*id)), of.top(n_top));
        tokens.push(Token { id: *id, log_prob, top, experts: Vec::new() });
    }
    tokens
}

#[test]
fn scores_of_a_prompt_are_those_of_one_pass() {
    for kind in [GQA, MLA, EXPANDED] {
        let twin = model(kind);
        let settings = ServiceSettings { prefill_rows: 50, ..ServiceSettings::new(32) };
        let service = start(kind, settings);
        for n_new in [5, 0] {
            let text = prompt(170, 6);
            let job = Job { score_prompt: true, ..job(text.clone(), Sampling::plain(n_new)) };
            let heard = ask(&service, again(&job)).wait();
            let (wanted, scores) = (in_one_pass(&twin, &text, 2), heard.prompt.unwrap());
            assert_eq!(scores.len(), wanted.len());
            for (token, wanted) in scores.iter().zip(&wanted) {
                assert_eq!(token, wanted);
            }
            // The second time the beginning is cached, and scored all the same.
            assert_eq!(heard.n_cached, Some(0));
            assert_eq!(heard.tokens.len(), n_new);
        }
        let short = Job { score_prompt: true, ..job(vec![5], Sampling::plain(1)) };
        let heard = ask(&service, short).wait();
        assert_eq!(heard.prompt, Some(vec![Token { id: 5, ..Token::default() }]));
    }
}

#[test]
fn experts_are_named_for_each_token_wherever_it_was_computed() {
    let drafting = Drafting::Lookup { n_tokens: 3, adaptive: false };
    let mut answers = Vec::new();
    for drafting in [Drafting::Off, drafting] {
        let service = start(MLA, ServiceSettings { drafting, ..ServiceSettings::new(16) });
        let others: Vec<Asked> =
            (0..2).map(|i| ask(&service, job(prompt(40, i), Sampling::plain(50)))).collect();
        let job = job(prompt(100, 3), Sampling::greedy(40));
        let job = Job { trace_experts: true, score_prompt: true, ..job };
        let heard = ask(&service, job).wait();
        let scores = heard.prompt.unwrap();
        assert!(scores[0].experts.is_empty());
        // One MoE layer, two of four experts each.
        for token in scores[1..].iter().chain(&heard.tokens) {
            assert!(
                token.experts.len() == 2 && token.experts.iter().all(|id| *id < 4),
                "{token:?}"
            );
        }
        assert!(others.into_iter().all(|other| other.wait().tokens[0].experts.is_empty()));
        answers.push((scores, heard.tokens));
    }
    assert_eq!(answers[0], answers[1]);
}

/// Every second token, and the stop token after so many.
struct EvenThenStop {
    n_left: usize,
}

impl Constraint for EvenThenStop {
    fn allow(&mut self, mask: &mut [u32]) -> Result<(), String> {
        mask.iter_mut().for_each(|word| *word &= if self.n_left > 0 { 0x5555_5555 } else { 0 });
        if self.n_left == 0 {
            mask[0] = 1 << 9;
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        match self.n_left {
            0 if token == 9 => Ok(()),
            n if n > 0 && token.is_multiple_of(2) => {
                self.n_left -= 1;
                Ok(())
            }
            _ => Err(format!("{token} was not allowed")),
        }
    }
}

#[test]
fn a_constraint_is_obeyed_with_and_without_drafts() {
    let mut answers = Vec::new();
    for drafting in [Drafting::Off, Drafting::Lookup { n_tokens: 3, adaptive: false }] {
        let settings = ServiceSettings { drafting, ..ServiceSettings::new(16) };
        let service = start(GQA, settings);
        let sampling = Sampling { seed: 2, stop_ids: vec![9], ..Sampling::plain(50) };
        let mut job = job(prompt(30, 1), sampling);
        job.constraint = Some(Box::new(EvenThenStop { n_left: 20 }));
        let heard = ask(&service, job).wait();
        assert_eq!(heard.end, Ok(Ended::Stop));
        let ids = heard.ids();
        assert_eq!((ids.len(), ids[20]), (21, 9));
        assert!(ids[..20].iter().all(|id| id % 2 == 0), "{ids:?}");
        // Log-probabilities are the model's own: tokens that were not allowed are among the likeliest.
        assert!(heard.tokens.iter().any(|token| token.top.iter().any(|(id, _)| id % 2 == 1)));
        answers.push(heard.tokens);
    }
    assert_eq!(answers[0], answers[1]);
}

/// Does one thing wrong.
enum Broken {
    AllowsNothing,
    CannotTell,
    Panics,
}

impl Constraint for Broken {
    fn allow(&mut self, mask: &mut [u32]) -> Result<(), String> {
        match self {
            Broken::AllowsNothing => mask.fill(0),
            Broken::CannotTell => return Err("no idea".to_owned()),
            Broken::Panics => panic!("on purpose"),
        }
        Ok(())
    }

    fn accept(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_broken_constraint_ends_its_own_job_only() {
    let service = start(GQA, ServiceSettings::new(16));
    let other = ask(&service, job(prompt(10, 1), Sampling::plain(100)));
    let ends = [Broken::AllowsNothing, Broken::CannotTell, Broken::Panics].map(|broken| {
        let mut job = job(prompt(5, 1), Sampling::plain(5));
        job.constraint = Some(Box::new(broken));
        ask(&service, job).wait().end
    });
    assert_eq!(ends[0], Ok(Ended::Stop));
    assert_eq!(ends[1], Err(Failed::Constraint("no idea".to_owned())));
    assert_eq!(ends[2], Err(Failed::Constraint("the constraint panicked".to_owned())));
    assert_eq!(other.wait().tokens.len(), 100);
}
