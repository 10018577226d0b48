//! What the sampler promises: distributions, the order of the steps, and that fast is exact.

use super::adjust::adjust;
use super::by_sorting;
use super::cut;
use super::*;
use crate::error::Error;
use fathom_tensor::random::Random;

fn plain() -> Sampling {
    Sampling::plain(1)
}

/// Logits of these probabilities.
fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

/// How often each token is drawn.
fn shares(logits: &[f32], sampling: &Sampling, history: &History) -> Vec<f64> {
    let n = 20_000;
    let mut counts = vec![0.0; logits.len()];
    for i in 0..n {
        let drawn = draw(&mut logits.to_vec(), sampling, history, &[7, i]);
        counts[drawn.token as usize] += 1.0 / n as f64;
    }
    counts
}

#[track_caller]
fn check(logits: &[f32], sampling: &Sampling, expected: &[f64]) {
    let got = shares(logits, sampling, &History::default());
    for (got_one, expected_one) in got.iter().zip(expected) {
        let close = (got_one - expected_one).abs() < 0.015;
        // What has no probability is never drawn at all.
        assert!(close && (*expected_one > 0.0 || *got_one == 0.0), "{got:?}, not {expected:?}");
    }
}

/// Tokens that are drawn at all.
#[track_caller]
fn check_kept(probabilities: &[f32], sampling: &Sampling, expected: &[usize]) {
    let shares = shares(&logits_of(probabilities), sampling, &History::default());
    let kept: Vec<usize> = (0..shares.len()).filter(|id| shares[*id] > 0.0).collect();
    assert_eq!(kept, expected, "{shares:?}");
}

#[test]
fn draws_follow_the_distribution() {
    let logits = [0.0, 1.0, 2.0, f32::NEG_INFINITY];
    let z = 1.0 + 1f64.exp() + 2f64.exp();
    check(&logits, &plain(), &[1.0 / z, 1f64.exp() / z, 2f64.exp() / z, 0.0]);
}

#[test]
fn temperature_divides_the_logits() {
    let hot = Sampling { temperature: 2.0, ..plain() };
    // Square roots of 0.1 and 0.9, made to add up to 1.
    check(&logits_of(&[0.1, 0.9]), &hot, &[0.25, 0.75]);
}

#[test]
fn top_k_keeps_the_likeliest() {
    check(&logits_of(&[0.1, 0.4, 0.5]), &Sampling { top_k: 2, ..plain() }, &[0.0, 0.444, 0.556]);
    check(&[1.0, 1.0, 1.0], &Sampling { top_k: 1, ..plain() }, &[1.0, 0.0, 0.0]);
}

#[test]
fn top_p_keeps_the_smallest_set_that_reaches_it() {
    let sampling = Sampling { top_p: 0.9, ..plain() };
    check(&logits_of(&[0.09, 0.245, 0.665]), &sampling, &[0.0, 0.269, 0.731]);
}

#[test]
fn min_p_keeps_what_is_near_the_likeliest() {
    let sampling = Sampling { min_p: 0.5, ..plain() };
    check(&logits_of(&[0.5, 0.3, 0.2]), &sampling, &[0.625, 0.375, 0.0]);
    check(&logits_of(&[0.5, 0.3, 0.2]), &Sampling { min_p: 1.0, ..plain() }, &[1.0, 0.0, 0.0]);
}

#[test]
fn greedy_takes_the_first_of_the_best() {
    check(&[0.0, 3.0, 3.0, -1.0], &Sampling::greedy(1), &[0.0, 1.0, 0.0, 0.0]);
    let nearly = Sampling { temperature: 1e-30, ..plain() };
    check(&[0.0, 3.0, 3.0, -1.0], &nearly, &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn padding_is_never_drawn() {
    let probabilities = [0.2, 0.3, 0.5];
    for sampling in [
        plain(),
        Sampling::greedy(1),
        Sampling { top_k: 3, ..plain() },
        Sampling { top_p: 0.99, ..plain() },
        Sampling { min_p: 0.01, ..plain() },
    ] {
        let shares = shares(
            &logits_of(&probabilities),
            &Sampling { vocab_limit: 2, ..sampling },
            &History::default(),
        );
        assert_eq!(shares[2], 0.0, "{shares:?}");
    }
}

/// Logits after bias and penalties, where the prompt holds tokens 0 and 1 and the answer token 1
/// twice.
fn adjusted(logits: [f32; 3], sampling: &Sampling) -> [f32; 3] {
    let mut history = History::new(&[0, 1, 1]);
    history.push(1);
    history.push(1);
    let mut logits = logits;
    adjust(&mut logits, sampling, &history);
    logits
}

#[test]
fn repetition_penalty_counts_prompt_and_answer_once_and_looks_at_the_sign() {
    let sampling = Sampling { repetition_penalty: 2.0, ..plain() };
    assert_eq!(adjusted([3.0, -3.0, 3.0], &sampling), [1.5, -6.0, 3.0]);
    assert_eq!(adjusted([f32::NEG_INFINITY, 0.0, 0.0], &sampling), [f32::NEG_INFINITY, 0.0, 0.0]);
}

#[test]
fn frequency_and_presence_penalties_count_the_answer_only() {
    let sampling = Sampling { frequency_penalty: 0.5, ..plain() };
    assert_eq!(adjusted([3.0, 3.0, 3.0], &sampling), [3.0, 2.0, 3.0]);
    let sampling = Sampling { presence_penalty: 0.5, ..plain() };
    assert_eq!(adjusted([3.0, 3.0, 3.0], &sampling), [3.0, 2.5, 3.0]);
}

#[test]
fn bias_is_added_and_ids_outside_are_passed_over() {
    let sampling = Sampling { logit_bias: [(2, 5.0), (9, 1.0)].into(), ..plain() };
    assert_eq!(adjusted([1.0, 2.0, 3.0], &sampling), [1.0, 2.0, 8.0]);
}

#[test]
fn bias_comes_before_the_repetition_penalty() {
    let sampling = Sampling { logit_bias: [(0, 2.0)].into(), repetition_penalty: 2.0, ..plain() };
    // The other way round: −1 · 2 + 2 = 0.
    assert_eq!(adjusted([-1.0, 0.0, 0.0], &sampling), [0.5, 0.0, 0.0]);
}

#[test]
fn the_repetition_penalty_comes_before_those_that_subtract() {
    for sampling in [
        Sampling { frequency_penalty: 0.5, repetition_penalty: 2.0, ..plain() },
        Sampling { presence_penalty: 1.0, repetition_penalty: 2.0, ..plain() },
    ] {
        // The other way round: (2 − 1) / 2 = 0.5.
        assert_eq!(adjusted([0.0, 2.0, 0.0], &sampling), [0.0, 0.0, 0.0]);
    }
}

#[test]
fn penalties_come_before_the_temperature() {
    let mut history = History::default();
    history.push(0);
    let sampling = Sampling { temperature: 2.0, presence_penalty: 2.0, ..plain() };
    let shares = shares(&[2.0, 0.0], &sampling, &history);
    // (2 − 2) / 2 = 0, an even chance; the other way round 2 / 2 − 2 = −1.
    assert!((shares[0] - 0.5).abs() < 0.015, "{shares:?}");
}

#[test]
fn greedy_obeys_bias_and_penalties() {
    let mut history = History::new(&[1]);
    let best = |sampling: &Sampling, history: &History| {
        draw(&mut [1.0, 1.5, 1.2], sampling, history, &[0]).token
    };
    let penalty = Sampling { repetition_penalty: 1.3, ..Sampling::greedy(1) };
    assert_eq!(best(&penalty, &history), 2);
    history.push(2);
    assert_eq!(best(&Sampling { frequency_penalty: 2.0, ..Sampling::greedy(1) }, &history), 1);
    let bias = Sampling { logit_bias: [(0, 1.0)].into(), ..Sampling::greedy(1) };
    assert_eq!(best(&bias, &history), 0);
}

#[test]
fn the_temperature_comes_before_top_p() {
    // 0.81 reaches 0.8 alone; at temperature 2 it is 0.9 of 1.26.
    let probabilities = [0.81, 0.0625, 0.0625, 0.065];
    check_kept(&probabilities, &Sampling { top_p: 0.8, ..plain() }, &[0]);
    let hot = Sampling { top_p: 0.8, temperature: 2.0, ..plain() };
    check_kept(&probabilities, &hot, &[0, 1, 3]);
}

#[test]
fn the_temperature_comes_before_min_p() {
    let hot = Sampling { min_p: 0.4, temperature: 2.0, ..plain() };
    check_kept(&[0.8, 0.2], &hot, &[0, 1]); // 0.25 of the best, but 0.5 once tempered
    check_kept(&[0.8, 0.2], &Sampling { min_p: 0.4, ..plain() }, &[0]);
}

#[test]
fn top_p_is_a_share_of_what_top_k_left() {
    let sampling = Sampling { top_k: 2, top_p: 0.55, ..plain() };
    // 0.4 is more than 0.55 · 0.7; of the whole it would not reach 0.55.
    check_kept(&[0.4, 0.3, 0.2, 0.1], &sampling, &[0]);
}

#[test]
fn top_p_is_not_a_share_of_what_min_p_leaves() {
    let sampling = Sampling { top_p: 0.55, min_p: 0.6, ..plain() };
    // The other way round 0.4 would be more than 0.55 · 0.7, and stay alone.
    check_kept(&[0.4, 0.3, 0.2, 0.1], &sampling, &[0, 1]);
}

#[test]
fn fast_choices_are_those_of_the_sorted_vocabulary() {
    let mut random = Random::from_key(&[3]);
    let mut pick = |n: usize| (random.next_u64() % n as u64) as usize;
    for case in 0..3000u64 {
        let n = [1, 2, 63, 64, 65, 700, 3000][pick(7)];
        let spread = [0.0, 0.3, 2.0, 30.0][pick(4)];
        let mut logits: Vec<f32> = Random::from_key(&[4, case]).normals(n, spread);
        if pick(2) == 0 {
            // Many equals, and tokens without a probability.
            logits.iter_mut().for_each(|logit| *logit = logit.round());
            logits.iter_mut().skip(1).step_by(3).for_each(|logit| *logit = f32::NEG_INFINITY);
        }
        let sampling = Sampling {
            top_k: [0, 0, 1, 2, 40, 100, 5000][pick(7)],
            top_p: [1.0, 0.95, 0.5, 0.9999, 0.01][pick(5)],
            min_p: [0.0, 0.0, 0.05, 0.5, 1.0][pick(5)],
            ..plain()
        };
        if (sampling.top_k, sampling.top_p, sampling.min_p) == (0, 1.0, 0.0) {
            continue; // without a cut, draws go by id
        }
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for uniform in [0.0, 0.3, 0.999, 1.0 - f64::EPSILON / 2.0] {
            let fast = super::cut::choose(&logits, max, &sampling, uniform);
            let sorted = by_sorting::choose(&logits, max, &sampling, uniform);
            assert_eq!(fast, sorted, "case {case}: {n} logits, {sampling:?}, {uniform}");
        }
    }
}

#[test]
fn quick_draws_without_a_cut_are_those_of_the_definition() {
    let (mut n_quick, mut n_all) = (0, 0);
    for (n, spread) in [(1, 1.0), (37, 0.1), (700, 3.0), (4096, 1.0), (4096, 12.0), (20_000, 0.0)] {
        let mut random = Random::from_key(&[n as u64, 7]);
        let logits: Vec<f32> = (0..n).map(|_| random.normal() as f32 * spread).collect();
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for i in 0..400 {
            let uniform = if i < 2 { [0.0, 1.0 - f64::EPSILON / 2.0][i] } else { random.uniform() };
            n_all += 1;
            if let Some(token) = cut::quickly_from_all(&logits, max, uniform) {
                n_quick += 1;
                assert_eq!(token, cut::one_by_one(&logits, max, uniform), "{n}, {uniform}");
            }
        }
    }
    assert!(n_quick > n_all / 2, "{n_quick} of {n_all}");
}

#[test]
fn the_quick_sum_is_as_good_as_it_says() {
    for spread in [0.0, 0.5, 2.0, 10.0, 1000.0] {
        for n in [1, 511, 20_000] {
            let logits = Random::from_key(&[8, n as u64]).normals(n, spread);
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exact: f64 = logits.iter().map(|logit| by_sorting::weight(*logit, max)).sum();
            let error = (super::cut::quick_sum(&logits, max) / exact - 1.0).abs();
            assert!(error < super::cut::SLACK / 4.0, "{error:e} at {n}, {spread}");
        }
    }
}

#[test]
fn the_top_tokens_are_those_of_a_sort() {
    for (n, spread) in [(1, 1.0), (200, 1.0), (5000, 1.0), (5000, 0.0)] {
        let mut logits = Random::from_key(&[n as u64]).normals(n, spread);
        logits[n / 2] = -0.0;
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        for k in [0, 1, 5, 64, 100, n, n + 7] {
            assert_eq!(ranked::top_k(&logits, k), order[..k.min(n)], "{k} of {n}");
        }
    }
}

#[test]
fn a_draw_depends_on_seed_and_place_only() {
    let logits = Random::from_key(&[1]).normals(100, 1.0);
    let mut sampling = Sampling { top_p: 0.95, ..plain() };
    let at = |sampling: &Sampling, place: u64| {
        let key = [sampling.seed, place];
        draw(&mut logits.clone(), sampling, &History::default(), &key)
    };
    let all = |sampling: &Sampling| (0..50).map(|place| at(sampling, place)).collect::<Vec<_>>();
    let first = all(&sampling);
    let backwards: Vec<Draw> = (0..50).rev().map(|place| at(&sampling, place)).rev().collect();
    assert_eq!(backwards, first);
    sampling.seed = 1;
    assert_ne!(all(&sampling), first);
}

#[test]
fn rollout_log_probabilities_are_the_models_own_at_the_temperature() {
    let logits = [0.5f32, 2.0, -1.0, 0.25];
    let cut = Sampling { temperature: 0.5, top_k: 1, vocab_limit: 3, ..plain() };
    let bent = Sampling { logit_bias: [(1, 9.0)].into(), ..cut.clone() };
    let z: f64 = logits.iter().map(|logit| f64::from(*logit * 2.0).exp()).sum();
    for sampling in [cut, bent] {
        let drawn = draw(&mut logits.to_vec(), &sampling, &History::default(), &[1]);
        assert_eq!(drawn.token, 1);
        assert!((f64::from(drawn.log_prob) - (4.0 - z.ln())).abs() < 1e-6, "{drawn:?}");
    }
}

#[test]
fn log_probabilities_are_those_of_a_softmax_and_come_in_order() {
    let logits = [1.0, 3.0, 3.0, f32::NEG_INFINITY];
    let log_probs = LogProbs::of(&logits);
    let z = (1f64.exp() + 2.0 * 3f64.exp()).ln();
    let (low, high) = (log_probs.token(0), log_probs.token(1));
    assert!((f64::from(low) - (1.0 - z)).abs() < 1e-6, "{low}");
    assert!((f64::from(high) - (3.0 - z)).abs() < 1e-6, "{high}");
    assert_eq!((log_probs.token(3), log_probs.token(4)), (f32::NEG_INFINITY, f32::NEG_INFINITY));
    assert_eq!(log_probs.top(2), [(1, high), (2, high)]);
    assert_eq!(log_probs.top(9), [(1, high), (2, high), (0, low)]);
    assert_eq!(log_probs.top(0), []);
}

#[test]
fn logits_that_nothing_can_be_drawn_from_are_refused() {
    let settings = [plain(), Sampling::greedy(1), Sampling { top_k: 2, top_p: 0.9, ..plain() }];
    for sampling in settings {
        let refused = |mut logits: Vec<f32>| {
            let drawn = draw(&mut logits.clone(), &sampling, &History::default(), &[0]);
            assert!(drawn.token == 0 && drawn.log_prob.is_nan(), "{drawn:?}");
            choose(&mut logits, &sampling, &History::default(), &[0]).unwrap_err()
        };
        assert!(matches!(
            refused(vec![1.0, f32::NAN, 2.0]),
            Error::LogitNotFinite { id: 1, value } if value.is_nan()
        ));
        let infinite = Error::LogitNotFinite { id: 2, value: f32::INFINITY };
        assert_eq!(refused(vec![1.0, 0.0, f32::INFINITY]), infinite);
        assert_eq!(refused(vec![f32::NEG_INFINITY; 3]), Error::NothingToDraw);
        assert_eq!(refused(vec![]), Error::NothingToDraw);
    }
}

/// The mask of these tokens.
fn mask_of(ids: &[u32], n_words: usize) -> Vec<u32> {
    let mut mask = vec![0; n_words];
    ids.iter().for_each(|id| mask[*id as usize / 32] |= 1 << (id % 32));
    mask
}

#[test]
fn only_what_the_mask_allows_is_drawn_whatever_cuts_and_bias_say() {
    let allowed = [3, 31, 32, 70];
    // The last word is missing, as of a vocabulary that is padded: what it would hold is not allowed.
    let mask = mask_of(&allowed, 3);
    let usual = Sampling { logit_bias: [(5, 100.0)].into(), ..plain() };
    let penalties = Sampling { repetition_penalty: 0.5, presence_penalty: -2.0, ..usual.clone() };
    let settings = [
        usual.clone(),
        Sampling { top_k: 50, ..usual.clone() },
        Sampling { top_p: 0.9, ..usual.clone() },
        Sampling { min_p: 0.01, ..usual.clone() },
        Sampling { top_k: 2, top_p: 0.5, min_p: 0.1, temperature: 2.0, ..usual },
        Sampling::greedy(1),
        penalties,
    ];
    let history = History::new(&[5, 6, 7, 99]);
    for sampling in &settings {
        let mut drawn = std::collections::BTreeSet::new();
        for key in 0..200 {
            let mut logits = Random::from_key(&[key]).normals(100, 4.0);
            let token = choose_masked(&mut logits, sampling, &history, &[1, key], Some(&mask));
            drawn.insert(token.unwrap());
        }
        assert!(drawn.iter().all(|id| allowed.contains(id)), "{drawn:?} of {sampling:?}");
        assert!(drawn.len() > 1, "{drawn:?}");
    }
}

#[test]
fn a_mask_that_allows_all_changes_no_draw() {
    let all = vec![u32::MAX; 4];
    for key in 0..100 {
        let logits = Random::from_key(&[key]).normals(100, 3.0);
        let sampling = Sampling { top_p: 0.8, temperature: 0.7, ..plain() };
        let history = History::default();
        let draw = |mask| {
            choose_masked(&mut logits.clone(), &sampling, &history, &[2, key], mask).unwrap()
        };
        let plain = choose(&mut logits.clone(), &sampling, &history, &[2, key]).unwrap();
        assert_eq!((draw(None), draw(Some(&all))), (plain, plain));
    }
}

#[test]
fn a_masked_draw_is_that_of_the_remaining_distribution() {
    let logits = logits_of(&[0.5, 0.2, 0.2, 0.1]);
    let mut counts = [0.0_f64; 4];
    for key in 0..20_000 {
        let mask = mask_of(&[1, 3], 1);
        let history = History::default();
        let token = choose_masked(&mut logits.clone(), &plain(), &history, &[3, key], Some(&mask));
        counts[token.unwrap() as usize] += 1.0 / 20_000.0;
    }
    assert!(
        (counts[1] - 2.0_f64 / 3.0).abs() < 0.015 && counts[0] + counts[2] == 0.0,
        "{counts:?}"
    );
}

#[test]
fn an_empty_mask_leaves_nothing_and_broken_logits_behind_it_do_not_matter() {
    let choose = |logits: &[f32], mask: &[u32]| {
        let logits = &mut logits.to_vec();
        choose_masked(logits, &Sampling::greedy(1), &History::default(), &[1], Some(mask))
    };
    assert_eq!(choose(&[1.0, 2.0], &[0]), Err(Error::NothingToDraw));
    assert_eq!(choose(&[1.0, 2.0], &[]), Err(Error::NothingToDraw));
    assert_eq!(choose(&[1.0, f32::NAN, 0.0], &[0b101]), Ok(0));
    assert!(choose(&[1.0, f32::NAN, 0.0], &[0b110]).is_err());
}

#[test]
fn settings_outside_their_ranges_are_named() {
    let refused = |sampling: Sampling| match sampling.check().unwrap_err() {
        Error::Setting { name, .. } => name,
        other => panic!("{other}"),
    };
    assert_eq!(refused(Sampling { temperature: f32::NAN, ..plain() }), "temperature");
    assert_eq!(refused(Sampling { temperature: -1.0, ..plain() }), "temperature");
    assert_eq!(refused(Sampling { top_p: 0.0, ..plain() }), "top_p");
    assert_eq!(refused(Sampling { min_p: 1.5, ..plain() }), "min_p");
    assert_eq!(refused(Sampling { repetition_penalty: 0.0, ..plain() }), "repetition_penalty");
    assert_eq!(refused(Sampling { frequency_penalty: 2.5, ..plain() }), "frequency_penalty");
    assert_eq!(refused(Sampling { presence_penalty: -3.0, ..plain() }), "presence_penalty");
    assert_eq!(refused(Sampling { logit_bias: [(0, 101.0)].into(), ..plain() }), "logit_bias");
    let outside = Sampling { logit_bias: [(7, 1.0)].into(), vocab_limit: 7, ..plain() };
    assert_eq!(outside.check(), Err(Error::BiasOutside { id: 7, vocab_limit: 7 }));
    assert_eq!(plain().check(), Ok(()));
}

/// Prints the shortest time of each; run it with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn time_of_a_draw_from_a_large_vocabulary() {
    let rows = [(9, 1.0), (10, 3.0), (11, 3.0), (12, 4.0)]
        .map(|(key, spread)| Random::from_key(&[key]).normals(151_936, spread));
    let usual = Sampling { temperature: 0.6, top_p: 0.95, ..plain() };
    for (name, sampling) in [
        ("top-p 0.95", usual.clone()),
        ("top-k 50", Sampling { top_k: 50, ..usual.clone() }),
        ("min-p 0.05", Sampling { min_p: 0.05, ..usual }),
        ("no cut", plain()),
        ("greedy", Sampling::greedy(1)),
    ] {
        for logits in &rows {
            let mut scratch = logits.clone();
            let mut spent = std::time::Duration::MAX;
            for key in 0..50 {
                scratch.copy_from_slice(logits);
                let start = std::time::Instant::now();
                draw(&mut scratch, &sampling, &History::default(), &[key]);
                spent = spent.min(start.elapsed());
            }
            eprintln!("{name}: {:.3} ms", spent.as_secs_f64() * 1e3);
        }
    }
}
