//! Nobody's crowd keeps others out, and no prompt keeps answers waiting.

use super::super::plan::{Reader, deal};
use super::*;

fn check(budget: usize, readers: &[(u64, usize)], expected: &[usize]) {
    let readers: Vec<Reader> = (0..)
        .zip(readers)
        .map(|(at, (owner, n_rows))| Reader { at, owner: *owner, n_rows: *n_rows })
        .collect();
    assert_eq!(deal(budget, &readers), expected, "{budget} rows for {readers:?}");
}

#[test]
fn rows_are_dealt_equally_between_owners() {
    check(100, &[], &[]);
    check(100, &[(1, 30)], &[30]);
    check(100, &[(1, 500), (2, 500)], &[50, 50]);
    check(100, &[(1, 500), (1, 500), (1, 500), (2, 500)], &[50, 0, 0, 50]);
    // What one cannot use goes to the others, whoever came first.
    check(100, &[(1, 500), (2, 20)], &[80, 20]);
    check(100, &[(2, 20), (1, 500)], &[20, 80]);
    check(3, &[(1, 9), (2, 9), (3, 9), (4, 9)], &[1, 1, 1, 0]);
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    check(100, &[(1, 5000), (1, 60)], &[50, 50]);
    check(100, &[(1, 5000), (1, 20)], &[80, 20]);
    // Of equal prompts the first is read first.
    check(100, &[(1, 60), (1, 60), (1, 60)], &[60, 40, 0]);
}

#[test]
fn an_owner_with_many_jobs_does_not_keep_others_out() {
    let service = start(GQA, ServiceSettings { max_running: 2, ..ServiceSettings::new(64) });
    let held = hold(&service);
    let (tell, told) = channel();
    let mut tickets = Vec::new();
    for (i, owner) in [1, 1, 1, 1, 1, 1, 2].into_iter().enumerate() {
        let tell = tell.clone();
        let listener = move |event| match event {
            Event::Ended(_) => tell.send(owner).is_ok(),
            _ => true,
        };
        let job = Job { owner, ..job(prompt(100, i as u64), Sampling::plain(20)) };
        tickets.push(service.submit(job, Box::new(listener)).unwrap());
    }
    drop(held);
    let order: Vec<u64> = told.iter().take(7).collect();
    assert!(order[..2].contains(&2), "{order:?}");
}

#[test]
fn answers_go_on_while_a_long_prompt_is_read() {
    let service = start(GQA, ServiceSettings { prefill_rows: 8, ..ServiceSettings::new(64) });
    let held = hold(&service);
    let writing = ask(&service, job(prompt(4, 1), Sampling::plain(300)));
    // 50 passes at 8 rows each.
    let (tell, told) = channel();
    let listener = move |event| match event {
        Event::Token(_) => tell.send(()).is_ok(),
        _ => true,
    };
    let long = job(prompt(400, 2), Sampling::plain(1));
    let _ticket = service.submit(long, Box::new(listener)).unwrap();
    drop(held);
    told.recv_timeout(PATIENCE).unwrap();
    let n_meanwhile = writing.events.try_iter().count();
    assert!(n_meanwhile >= 40, "{n_meanwhile} tokens");
}
