//! Blocks are few, and none is lost.

use super::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[test]
fn nothing_is_lost_where_blocks_are_short() {
    for kind in [GQA, MLA, EXPANDED] {
        for drafting in [Drafting::Off, Drafting::Auto] {
            let twin = model(kind);
            let settings =
                ServiceSettings { prefill_rows: 40, drafting, ..ServiceSettings::new(7) };
            let service = start(kind, settings);
            let held = hold(&service);
            let mut asked = Vec::new();
            for i in 0..8 {
                let sampling = Sampling { seed: i, frequency_penalty: 0.1, ..Sampling::plain(170) };
                let job = job(prompt(30 + 5 * i as usize, i), sampling);
                asked.push((ask(&service, again(&job)), job));
            }
            drop(held);
            for (asked, job) in asked {
                let heard = asked.wait();
                assert_eq!(heard.end, Ok(Ended::Length));
                assert_eq!(heard.tokens, alone(&twin, &job), "{drafting:?}");
            }
            let stats = await_stats(&service, |stats| stats.n_running == 0);
            assert!(stats.n_preempted > 0, "{stats:?}");
            assert_eq!(stats.n_blocks_used, 0);
        }
    }
}

#[test]
fn scores_survive_a_loss_of_blocks() {
    let service = start(GQA, ServiceSettings { prefill_rows: 20, ..ServiceSettings::new(5) });
    let scored = || Job { score_prompt: true, ..job(prompt(150, 5), Sampling::plain(60)) };
    let calm = ask(&service, scored()).wait();
    let held = hold(&service);
    let before: Vec<Asked> =
        (0..3).map(|i| ask(&service, job(prompt(10, i), Sampling::plain(180)))).collect();
    let asked = ask(&service, scored());
    drop(held);
    let heard = asked.wait();
    assert_eq!((heard.prompt, heard.tokens), (calm.prompt, calm.tokens));
    before.into_iter().for_each(|asked| assert_eq!(asked.wait().tokens.len(), 180));
}

#[test]
fn a_vanished_listener_frees_its_blocks() {
    let service = start(GQA, ServiceSettings::new(32));
    let asked = ask(&service, job(prompt(100, 1), Sampling::plain(400)));
    assert!(matches!(asked.events.recv_timeout(PATIENCE), Ok(Event::Began { .. })));
    drop(asked.ticket);
    let last = std::iter::from_fn(|| asked.events.recv_timeout(PATIENCE).ok()).last();
    assert!(matches!(last, Some(Event::Ended(Ended::Cancelled))), "{last:?}");
    let stats = await_stats(&service, |stats| stats.n_finished == 1);
    assert_eq!((stats.n_running, stats.n_blocks_used), (0, 0));
    assert!(stats.n_answer_tokens < 400, "{stats:?}");
}

#[test]
fn a_listener_that_has_heard_enough_ends_the_job() {
    let service = start(GQA, ServiceSettings::new(32));
    let (tell, told) = channel();
    let mut n_tokens = 0;
    let listener = move |event: Event| {
        n_tokens += usize::from(matches!(event, Event::Token(_)));
        let _ = tell.send(event);
        n_tokens < 3
    };
    let job = job(prompt(10, 1), Sampling::plain(400));
    let _ticket = service.submit(job, Box::new(listener)).unwrap();
    let events: Vec<Event> = told.iter().collect();
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(matches!(events[4], Event::Ended(Ended::Cancelled)));
}

#[test]
fn a_thousand_jobs_leave_nothing_behind() {
    let settings = ServiceSettings { max_waiting: 1000, ..ServiceSettings::new(40) };
    let service = start(GQA, settings);
    let mut asked = Vec::new();
    for i in 0..1000 {
        let mut job = Job::new(prompt(1 + i as usize % 140, i % 9), Sampling::plain(3));
        job.owner = i % 4;
        let one = ask(&service, job);
        // Every tenth vanishes at once.
        if i % 10 != 0 {
            asked.push(one);
        }
    }
    asked.into_iter().for_each(|asked| assert_eq!(asked.wait().tokens.len(), 3));
    let stats = await_stats(&service, |stats| stats.n_finished == 1000);
    assert_eq!((stats.n_waiting, stats.n_running, stats.n_blocks_used), (0, 0, 0));
    assert!(stats.n_blocks_cached <= 40 && stats.n_cached_tokens > 0, "{stats:?}");
}

#[test]
fn choices_of_one_prompt_read_it_once() {
    let service = start(MLA, ServiceSettings::new(64));
    let held = hold(&service);
    let asked: Vec<Asked> = (0..4)
        .map(|sample_idx| {
            let job = job(prompt(200, 1), Sampling::plain(5));
            ask(&service, Job { sample_idx, ..job })
        })
        .collect();
    drop(held);
    let n_cached: Vec<_> = asked.into_iter().map(|asked| asked.wait().n_cached).collect();
    assert_eq!(n_cached, [Some(0), Some(192), Some(192), Some(192)]);
}

/// A store that outlives its engine.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<u128, Vec<u8>>>>);

impl BlockStore for Shelf {
    fn load(&mut self, key: u128) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(&key).cloned()
    }

    fn holds(&mut self, key: u128) -> bool {
        self.0.lock().unwrap().contains_key(&key)
    }

    fn save(&mut self, key: u128, bytes: &[u8]) {
        self.0.lock().unwrap().insert(key, bytes.to_vec());
    }
}

#[test]
fn prefixes_come_back_from_the_store_where_memory_is_full_and_after_a_restart() {
    for kind in [GQA, MLA, EXPANDED] {
        let (twin, shelf) = (model(kind), Shelf::default());
        let settings = |fingerprint| {
            let store: Option<Box<dyn BlockStore>> = Some(Box::new(shelf.clone()));
            ServiceSettings { store, fingerprint, ..ServiceSettings::new(6) }
        };
        let service = start(kind, settings(1));
        let first = job(prompt(200, 1), Sampling { seed: 5, ..Sampling::plain(9) });
        let wanted = alone(&twin, &first);
        assert_eq!(ask(&service, again(&first)).wait().tokens, wanted);
        for key in 2..6 {
            ask(&service, job(prompt(200, key), Sampling::plain(9))).wait();
        }
        let heard = ask(&service, again(&first)).wait();
        assert_eq!((heard.n_cached, heard.tokens), (Some(192), wanted.clone()));
        let stats = await_stats(&service, |stats| stats.n_finished == 6);
        assert_eq!(stats.n_disk_tokens, 192);
        drop(service);

        let service = start(kind, settings(1));
        let heard = ask(&service, again(&first)).wait();
        assert_eq!((heard.n_cached, heard.tokens), (Some(192), wanted.clone()));
        drop(service);
        // Blocks of another model are not touched.
        let heard = ask(&start(kind, settings(2)), again(&first)).wait();
        assert_eq!((heard.n_cached, heard.tokens), (Some(0), wanted));
    }
}
