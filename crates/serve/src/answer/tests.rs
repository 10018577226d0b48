//! What an answer is asked for, what it costs, and what becomes of it when nobody listens.

use super::*;
use crate::app::Shared;
use crate::ask::{Ask, PromptAsk, SamplingAsk};
use crate::caller::Caller;
use crate::testing::{MODEL, ScriptedEngine, Stage, run};
use fathom_engine::service::{Ended, Failed, Refused};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const CALLER: Caller = Caller { key_id: None, owner: 9 };

fn of_text(text: &str, n: usize) -> Ask {
    Ask {
        prompt: PromptAsk::Text(text.to_owned()),
        sampling: SamplingAsk::default(),
        n,
        max_tokens: None,
        stop: Vec::new(),
        n_top_log_probs: None,
        score_prompt: false,
        explain: false,
    }
}

fn told(answers: &[&str]) -> (Shared, Arc<ScriptedEngine>) {
    Stage::new().answers(answers).both()
}

/// Answers, tokens of prompts, tokens of answers, as the store has written them down.
fn charged(app: &Shared) -> (i64, i64, i64) {
    let rows = app.store.usage(0).unwrap();
    let sum = |value: fn(&crate::store::UsageRow) -> i64| rows.iter().map(value).sum();
    assert!(rows.iter().all(|row| row.model == MODEL));
    (
        sum(|row| row.n_answers),
        sum(|row| row.cache_hit_tokens + row.cache_miss_tokens),
        sum(|row| row.completion_tokens),
    )
}

async fn all(answers: &mut Answers) -> Vec<(usize, Piece)> {
    let mut pieces = Vec::new();
    while let Some(piece) = answers.next().await {
        pieces.push(piece);
    }
    pieces
}

#[test]
fn the_engine_hears_who_asks_and_what_shall_be_explained() {
    let (app, engine) = told(&["x"]);
    let explained = Ask { explain: true, ..of_text("a", 1) };
    ask(&app, CALLER, explained.clone()).unwrap();
    let job = engine.job(0);
    assert_eq!((job.owner, job.n_top_log_probs), (9, Some(EXPLAIN_TOP)));
    ask(&app, CALLER, Ask { n_top_log_probs: Some(2), ..explained }).unwrap();
    assert_eq!(engine.job(1).n_top_log_probs, Some(2));
}

#[test]
fn an_answer_is_charged_once_and_the_prompt_with_the_first_of_several() {
    run(async {
        let (app, engine) = told(&["abc", "de"]);
        *engine.n_cached.lock().unwrap() = 64;
        let mut answers = ask(&app, CALLER, of_text(&"w x ".repeat(50), 2)).unwrap();
        let n_prompt = answers.prompt_tokens;
        let pieces = all(&mut answers).await;
        let usage = pieces.iter().filter_map(|(_, piece)| match piece {
            Piece::Done { usage, .. } => Some(*usage),
            _ => None,
        });
        let usage = usage.fold(Usage::default(), Usage::plus);
        assert_eq!((usage.prompt_tokens, usage.prompt_cache_hit_tokens), (n_prompt, 64));
        drop(answers);
        let (n_answers, prompt, completion) = charged(&app);
        assert_eq!((n_answers, prompt), (2, n_prompt as i64));
        assert_eq!(completion as usize, usage.completion_tokens);
    });
}

#[test]
fn what_nobody_reads_is_charged_as_far_as_it_was_drawn() {
    let (app, _) = told(&["abc"]);
    let n_drawn = app.served.tokenizer.encode("abc").len() as i64 + 1; // and the one that ends it
    drop(ask(&app, CALLER, of_text("a", 1)).unwrap());
    assert_eq!(charged(&app).0, 1);
    assert_eq!(charged(&app).2, n_drawn);
}

#[test]
fn what_never_began_and_what_failed_costs_nothing() {
    run(async {
        let (app, _) = Stage::new().held().both();
        drop(ask(&app, CALLER, of_text("a", 3)).unwrap());
        assert_eq!(charged(&app), (0, 0, 0));

        let (app, engine) = told(&["abc"]);
        *engine.fail.lock().unwrap() = Some(Failed::Constraint("broken".into()));
        let mut answers = ask(&app, CALLER, of_text("a", 1)).unwrap();
        let pieces = all(&mut answers).await;
        assert!(matches!(pieces.last(), Some((0, Piece::Failed(_)))), "{pieces:?}");
        drop(answers);
        assert_eq!(charged(&app), (0, 0, 0));
    });
}

#[test]
fn one_refused_answer_takes_the_others_back() {
    let (app, engine) = told(&["x"]);
    let full = Refused::Full { n_waiting: 1, retry_after_s: 0.1 };
    *engine.refuse.lock().unwrap() = Some(full);
    engine.n_taken_first.store(2, Ordering::SeqCst);
    let refusal = ask(&app, CALLER, of_text("a", 3)).err().unwrap();
    assert_eq!((refusal.status.as_u16(), refusal.retry_after_s), (503, Some(1)));
    let seen = engine.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|job| job.dropped.load(Ordering::SeqCst)));
}

#[test]
fn the_end_of_time_is_told_as_a_lack_of_resources() {
    run(async {
        for ended in [Ended::Deadline, Ended::Shutdown, Ended::Cancelled] {
            let (app, engine) = told(&["abc"]);
            *engine.end.lock().unwrap() = Some(ended);
            let mut answers = ask(&app, CALLER, of_text("a", 1)).unwrap();
            let pieces = all(&mut answers).await;
            let Some((_, Piece::Done { finish, .. })) = pieces.last() else {
                panic!("{pieces:?}");
            };
            assert_eq!(finish.word(), "insufficient_system_resource");
        }
    });
}

#[test]
fn an_engine_that_is_gone_fails_the_answer() {
    run(async {
        let (app, engine) = Stage::new().held().both();
        let mut answers = ask(&app, CALLER, of_text("a", 1)).unwrap();
        engine.forget();
        let pieces = all(&mut answers).await;
        let [(0, Piece::Failed(refusal))] = &pieces[..] else { panic!("{pieces:?}") };
        assert_eq!(refusal.status.as_u16(), 503);
    });
}
