//! Claims about money: it adds up to the last digit, whoever charges when.

use super::*;
use crate::answer::Usage;
use crate::caller::Caller;

fn money(text: &str) -> Money {
    Money::parse(text).unwrap()
}

fn prices(input: &str, cached: &str, output: &str) -> Prices {
    let rate = |text| Rate::parse(text).unwrap();
    Prices { input: rate(input), cached: rate(cached), output: rate(output) }
}

fn any_model(prices: Prices) -> PriceRow {
    PriceRow { model: None, currency: Currency::default(), prices }
}

fn key_with(store: &Store, name: &str, granted: &str) -> Caller {
    let new = NewKey { name, balance: Some(money(granted)), ..NewKey::default() };
    let (key, _) = store.add_key(&new).unwrap();
    Caller { key_id: Some(key.id), owner: key.owner }
}

/// A fixed sequence that looks random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % end as u64) as usize
    }

    fn usage(&mut self) -> Usage {
        let prompt_tokens = self.below(100_000);
        Usage {
            prompt_tokens,
            prompt_cache_hit_tokens: self.below(prompt_tokens + 1),
            completion_tokens: self.below(8_000),
            reasoning_tokens: 0,
        }
    }
}

#[test]
fn a_hundred_thousand_charges_add_up_to_the_last_digit() {
    let store = Store::in_memory().unwrap();
    store.set_prices(&any_model(prices("0.27", "0.07", "1.1"))).unwrap();
    let row = PriceRow {
        model: Some("deepseek-reasoner".into()),
        ..any_model(prices("0.550001", "0.139999", "2.19"))
    };
    store.set_prices(&row).unwrap();
    let caller = key_with(&store, "ann", "1000.000000000001");
    store.top_up("ann", money("900000"), None).unwrap();
    let mut numbers = Numbers(1);
    let mut expected: i128 = 0;
    for n in 0..100_000 {
        let usage = numbers.usage();
        let (model, [miss, hit, out]) = match n % 3 {
            0 => ("deepseek-reasoner", [550_001, 139_999, 2_190_000]),
            1 => ("deepseek-chat", [270_000, 70_000, 1_100_000]),
            _ => ("'; DELETE FROM usage; --", [270_000, 70_000, 1_100_000]),
        };
        let cost = store.charge(caller, &usage, model).unwrap();
        let by_hand = miss * usage.prompt_cache_miss_tokens() as i128
            + hit * usage.prompt_cache_hit_tokens as i128
            + out * usage.completion_tokens as i128;
        assert_eq!(i128::from(cost.parts()), by_hand);
        expected += by_hand;
    }
    let (currency, left) = store.balance(caller).unwrap().unwrap();
    assert_eq!(currency.as_str(), "USD");
    let paid_in = i128::from(money("901000.000000000001").parts());
    assert_eq!(i128::from(left.total().parts()), paid_in - expected);
    let rows = store.usage(0).unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows.iter().map(|row| row.n_answers).sum::<i64>(), 100_000);
    let told: i128 = rows.iter().map(|row| i128::from(row.cost.parts())).sum();
    assert_eq!(told, expected);
}

#[test]
fn charges_at_the_same_time_lose_nothing() {
    let folder = Folder::new();
    let path = folder.file("serve.sqlite");
    let stores = [Store::open(&path).unwrap(), Store::open(&path).unwrap()];
    stores[0].set_prices(&any_model(prices("1", "1", "1"))).unwrap();
    let caller = key_with(&stores[0], "ann", "1");
    let usage = Usage { prompt_tokens: 1, completion_tokens: 2, ..Usage::default() };
    std::thread::scope(|scope| {
        for idx in 0..8 {
            let store = &stores[idx % 2];
            scope.spawn(move || {
                for _ in 0..50 {
                    store.charge(caller, &usage, "m").unwrap();
                }
            });
        }
    });
    let (_, left) = stores[0].balance(caller).unwrap().unwrap();
    assert_eq!(left.total(), money("1").minus(money("0.0012")));
    assert_eq!(stores[1].usage(0).unwrap()[0].n_answers, 400);
}

#[test]
fn what_was_granted_is_spent_first() {
    let store = Store::in_memory().unwrap();
    store.set_prices(&any_model(prices("1000", "0", "0"))).unwrap();
    let caller = key_with(&store, "ann", "0.01");
    store.top_up("ann", money("0.02"), None).unwrap();
    let spend = |n_tokens| {
        let usage = Usage { prompt_tokens: n_tokens, ..Usage::default() };
        store.charge(caller, &usage, "m").unwrap();
        let (_, left) = store.balance(caller).unwrap().unwrap();
        (left.granted.exact(), left.topped_up.exact())
    };
    assert_eq!(spend(7), ("0.003".into(), "0.02".into()));
    assert_eq!(spend(7), ("0.00".into(), "0.016".into()));
    assert_eq!(store.check_funds(caller), Ok(()));
    // An answer that had begun is not cut short; it is owed.
    assert_eq!(spend(20), ("0.00".into(), "-0.004".into()));
    assert_eq!(store.check_funds(caller).unwrap_err().status.as_u16(), 402);
    store.top_up("ann", money("0.004"), None).unwrap();
    assert_eq!(store.check_funds(caller).unwrap_err().status.as_u16(), 402, "nothing is left");
    store.top_up("ann", money("0.000000000001"), None).unwrap();
    assert_eq!(store.check_funds(caller), Ok(()));
}

#[test]
fn a_key_without_balance_is_written_down_and_pays_nothing() {
    let store = Store::in_memory().unwrap();
    store.set_prices(&any_model(prices("1", "1", "1"))).unwrap();
    let (key, _) = store.add_key(&NewKey { name: "ann", ..NewKey::default() }).unwrap();
    let ann = Caller { key_id: Some(key.id), owner: key.owner };
    let usage = Usage { prompt_tokens: 5, completion_tokens: 5, ..Usage::default() };
    for caller in [ann, Caller::default()] {
        store.charge(caller, &usage, "m").unwrap();
        assert_eq!(store.balance(caller).unwrap(), None);
        assert_eq!(store.check_funds(caller), Ok(()));
    }
    let rows = store.usage(0).unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.key.as_deref(), row.cost)).collect();
    assert_eq!(told, [(None, money("0.00001")), (Some("ann"), money("0.00001"))]);
}

#[test]
fn prices_concern_their_model_and_currency_and_not_the_past() {
    let store = Store::in_memory().unwrap();
    let caller = key_with(&store, "ann", "5");
    let usage = Usage { completion_tokens: 1_000_000, ..Usage::default() };
    assert_eq!(store.charge(caller, &usage, "m").unwrap(), Money::ZERO, "no price, no cost");
    store.set_prices(&any_model(prices("0", "0", "1"))).unwrap();
    let yuan = Currency::parse("CNY").unwrap();
    store.set_prices(&PriceRow { currency: yuan, ..any_model(prices("0", "0", "8")) }).unwrap();
    let own = PriceRow { model: Some("m".into()), ..any_model(prices("0", "0", "2")) };
    store.set_prices(&own).unwrap();
    assert_eq!(store.charge(caller, &usage, "m").unwrap(), money("2"));
    assert_eq!(store.charge(caller, &usage, "other").unwrap(), money("1"));
    store.set_prices(&any_model(prices("0", "0", "0.5"))).unwrap();
    assert_eq!(store.charge(caller, &usage, "other").unwrap(), money("0.5"));
    assert_eq!(store.balance(caller).unwrap().unwrap().1.total(), money("1.5"));
    let told: Vec<_> = store.prices().unwrap();
    assert_eq!(told.len(), 3);
    assert_eq!((told[0].model.as_deref(), told[2].model.as_deref()), (None, Some("m")));
    assert_eq!(told[1].prices.output.exact(), "0.50");
}

#[test]
fn a_balance_cannot_grow_beyond_what_is_exact() {
    let store = Store::in_memory().unwrap();
    key_with(&store, "ann", "999999");
    let told = store.top_up("ann", money("1.5"), None).unwrap_err().to_string();
    assert!(told.contains("1000000.50; the most is 1000000.00"), "{told}");
    assert_eq!(
        store.top_up("ann", money("1"), None).unwrap().balance.unwrap().total(),
        Money::MOST
    );
    let yuan = Currency::parse("CNY").unwrap();
    let told = store.top_up("ann", money("1"), Some(&yuan)).unwrap_err().to_string();
    assert!(told.contains("`ann` keeps its balance in `USD`, not `CNY`"), "{told}");
    assert!(matches!(store.top_up("bob", money("1"), None), Err(StoreError::NoKey { .. })));
    store.set_prices(&any_model(prices("10000", "10000", "10000"))).unwrap();
    let (_, left) = {
        let caller = Caller { key_id: Some(1), owner: 0 };
        let usage = Usage { prompt_tokens: usize::MAX, ..Usage::default() };
        assert_eq!(store.charge(caller, &usage, "m").unwrap(), Money::MOST);
        store.balance(caller).unwrap().unwrap()
    };
    assert_eq!(left.total(), Money::ZERO);
}

#[test]
fn tokens_of_an_answer_count_against_the_minute() {
    let clock = Arc::new(ManualClock::default());
    let store = Store::in_memory().unwrap().with_clock(clock.clone());
    let limits = KeyLimits { tokens_per_minute: Some(100), ..KeyLimits::default() };
    let (key, _) = store.add_key(&NewKey { name: "ann", limits, ..NewKey::default() }).unwrap();
    let caller = Caller { key_id: Some(key.id), owner: key.owner };
    let usage = Usage { prompt_tokens: 60, completion_tokens: 60, ..Usage::default() };
    store.admit(&key).unwrap();
    store.charge(caller, &usage, "m").unwrap();
    let refused = store.admit(&key).unwrap_err();
    assert_eq!(refused, Limited::Tokens { limit: 100, retry_after_s: 13 });
    clock.advance(Duration::from_secs(13));
    store.admit(&key).unwrap();
}

/// `cargo test --release -p fathom-serve --lib cost_of -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn cost_of_a_key_and_of_a_charge() {
    const N: u32 = 10_000;
    let folder = Folder::new();
    let store = Store::open(&folder.file("serve.sqlite")).unwrap();
    store.set_prices(&any_model(prices("1", "1", "1"))).unwrap();
    let caller = key_with(&store, "ann", "1000000");
    let usage = Usage { prompt_tokens: 1, completion_tokens: 2, ..Usage::default() };
    let mut longest = Duration::ZERO;
    let began = std::time::Instant::now();
    for _ in 0..N {
        let one = std::time::Instant::now();
        store.charge(caller, &usage, "m").unwrap();
        longest = longest.max(one.elapsed());
    }
    println!("charge: {:?}, longest {longest:?}", began.elapsed() / N);
    let hash = hash_of("sk-fathom-none");
    let began = std::time::Instant::now();
    for _ in 0..N {
        assert!(store.has_keys().unwrap() && store.find_key(&hash).unwrap().is_none());
    }
    println!("key: {:?}", began.elapsed() / N);
}
