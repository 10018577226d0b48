//! What is refused at once, and with which words.

use super::*;
use crate::Error;

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let settings = ServiceSettings { max_running: 1, max_waiting: 2, ..ServiceSettings::new(16) };
    let service = start(GQA, settings);
    let held = hold(&service);
    // The engine has begun with the job that holds it, but could not say so yet.
    let n_free = 2 - service.stats().n_waiting;
    let asked: Vec<Asked> =
        (0..n_free).map(|_| ask(&service, job(prompt(3, 1), Sampling::plain(4)))).collect();
    match try_ask(&service, job(prompt(3, 1), Sampling::plain(4))) {
        Err(Refused::Full { n_waiting: 2, retry_after_s }) => {
            assert!((1.0..=60.0).contains(&retry_after_s), "{retry_after_s}");
        }
        other => panic!("{:?}", other.map(|asked| asked.ticket)),
    }
    assert_eq!((service.stats().n_waiting, service.stats().max_waiting), (2, 2));
    drop(held);
    asked.into_iter().for_each(|asked| assert_eq!(asked.wait().tokens.len(), 4));
    assert_eq!(ask(&service, job(prompt(3, 1), Sampling::plain(4))).wait().tokens.len(), 4);
}

#[test]
fn jobs_that_make_no_sense_are_refused() {
    let service = start(GQA, ServiceSettings::new(4));
    let check = |prompt: Vec<u32>, sampling: Sampling, expected: Refused| {
        assert_eq!(try_ask(&service, job(prompt, sampling)).map(|_| ()), Err(expected));
    };
    check(vec![], Sampling::plain(3), Refused::Job(Error::EmptyPrompt));
    let outside = Error::TokenOutside { id: 37, vocab_size: 37 };
    check(vec![1, 37], Sampling::plain(3), Refused::Job(outside));
    let wrong = Sampling { top_p: 2.0, ..Sampling::plain(3) };
    let error = wrong.check().unwrap_err();
    check(vec![1], wrong, Refused::Job(error));
    // The cache is smaller than the context.
    let refused = Refused::TooLong { n_prompt: 256, limit: 256 };
    check(prompt(256, 1), Sampling::plain(1), refused);
    assert!(try_ask(&service, job(prompt(256, 1), Sampling::plain(0))).is_ok());
    assert!(try_ask(&service, job(prompt(255, 1), Sampling::plain(1))).is_ok());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |settings: ServiceSettings| {
        let (model, spec) = model(GQA);
        Service::start(model, spec, settings).err().map(|error| error.to_string())
    };
    let expected = "`n_blocks` must be at least 1, not 0";
    assert_eq!(refused(ServiceSettings::new(0)).as_deref(), Some(expected));
    let drafting = Drafting::Mtp { n_tokens: 2, adaptive: true };
    let settings = ServiceSettings { drafting, ..ServiceSettings::new(4) };
    assert!(refused(settings).unwrap().contains("without a multi-token-prediction module"));
}
