//! Deadlines, the end of the context, the size of the cache, the end of the engine.

use super::*;
use std::sync::Arc;

#[test]
fn a_deadline_ends_jobs_that_wait_and_jobs_that_run() {
    let service = start(GQA, ServiceSettings { max_running: 1, ..ServiceSettings::new(32) });
    let held = hold(&service);
    let soon = Some(Instant::now() + Duration::from_millis(5));
    let asked: Vec<Asked> = (0..3)
        .map(|_| ask(&service, Job { deadline: soon, ..job(prompt(9, 1), Sampling::plain(20)) }))
        .collect();
    std::thread::sleep(Duration::from_millis(10));
    drop(held);
    for asked in asked {
        let heard = asked.wait();
        assert_eq!((heard.end, heard.n_cached, heard.tokens.len()), (Ok(Ended::Deadline), None, 0));
    }
    // A listener so slow that the deadline passes while the answer is written.
    let (tell, told) = channel();
    let listener = move |event: Event| {
        std::thread::sleep(Duration::from_millis(3));
        tell.send(event).is_ok()
    };
    let soon = Some(Instant::now() + Duration::from_millis(100));
    let job = Job { deadline: soon, ..job(prompt(9, 1), Sampling::plain(400)) };
    let _ticket = service.submit(job, Box::new(listener)).unwrap();
    let events: Vec<Event> = told.iter().collect();
    assert!(matches!(events.last(), Some(Event::Ended(Ended::Deadline))), "{events:?}");
}

#[test]
fn an_answer_ends_with_the_context() {
    let service = start(GQA, ServiceSettings::new(32));
    let heard = ask(&service, job(prompt(500, 1), Sampling::plain(40))).wait();
    assert_eq!((heard.end, heard.tokens.len()), (Ok(Ended::Length), 12));
}

#[test]
fn an_answer_that_outgrows_the_cache_fails_and_says_so() {
    let service = start(GQA, ServiceSettings::new(2));
    let heard = ask(&service, job(prompt(100, 1), Sampling::plain(200))).wait();
    assert_eq!(heard.end, Err(Failed::TooLarge { n_cache_tokens: 128 }));
    assert_eq!(heard.tokens.len(), 29);
    let heard = ask(&service, job(prompt(100, 2), Sampling::plain(20))).wait();
    assert_eq!(heard.end, Ok(Ended::Length));
}

#[test]
fn a_shutdown_is_told_to_everybody() {
    let service = start(GQA, ServiceSettings { max_running: 2, ..ServiceSettings::new(32) });
    let held = hold(&service);
    let asked: Vec<Asked> =
        (0..5).map(|i| ask(&service, job(prompt(9, i), Sampling::plain(400)))).collect();
    service.shutdown();
    let late = try_ask(&service, job(prompt(9, 1), Sampling::plain(4)));
    assert!(matches!(late, Err(Refused::Stopped)));
    drop(held);
    for asked in asked {
        assert_eq!(asked.wait().end, Ok(Ended::Shutdown));
    }
    drop(service);
}

#[test]
fn dropping_a_service_ends_its_jobs() {
    let service = start(GQA, ServiceSettings::new(32));
    let asked = ask(&service, job(prompt(9, 1), Sampling::plain(400)));
    assert!(asked.events.recv_timeout(PATIENCE).is_ok());
    drop(service);
    let last = std::iter::from_fn(|| asked.events.try_recv().ok()).last();
    assert!(matches!(last, Some(Event::Ended(Ended::Shutdown))), "{last:?}");
}

#[test]
fn a_listener_may_hold_the_last_reference_to_the_service() {
    let service = Arc::new(start(GQA, ServiceSettings::new(32)));
    let (tell, told) = channel();
    let own = service.clone();
    let listener = move |event: Event| {
        assert!(own.stats().n_blocks == 32);
        tell.send(event).is_ok()
    };
    let job = job(prompt(9, 1), Sampling::plain(20));
    let _ticket = service.submit(job, Box::new(listener)).unwrap();
    drop(service);
    assert_eq!(told.iter().count(), 22);
}

#[test]
fn a_listener_that_panics_is_let_go() {
    let service = start(GQA, ServiceSettings::new(32));
    let other = ask(&service, job(prompt(10, 1), Sampling::plain(50)));
    let listener = |event: Event| match event {
        Event::Began { .. } => true,
        _ => panic!("on purpose"),
    };
    let _ticket =
        service.submit(job(prompt(9, 1), Sampling::plain(400)), Box::new(listener)).unwrap();
    assert_eq!(other.wait().tokens.len(), 50);
    let stats = await_stats(&service, |stats| stats.n_finished == 2);
    assert_eq!(stats.n_blocks_used, 0);
}

/// A store that takes the engine with it.
struct Deadly;

impl BlockStore for Deadly {
    fn load(&mut self, _: u128) -> Option<Vec<u8>> {
        panic!("on purpose")
    }

    fn holds(&mut self, _: u128) -> bool {
        panic!("on purpose")
    }

    fn save(&mut self, _: u128, _: &[u8]) {
        panic!("on purpose")
    }
}

#[test]
fn a_panic_of_the_engine_is_told_to_everybody() {
    let settings = ServiceSettings { store: Some(Box::new(Deadly)), ..ServiceSettings::new(3) };
    let service = start(GQA, settings);
    let held = hold(&service);
    let asked: Vec<Asked> =
        (0..4).map(|i| ask(&service, job(prompt(150, i), Sampling::plain(4)))).collect();
    drop(held);
    for asked in asked {
        assert_eq!(asked.wait().end, Err(Failed::Stopped));
    }
    let late = try_ask(&service, job(prompt(9, 1), Sampling::plain(4)));
    assert!(matches!(late, Err(Refused::Stopped)));
}
