//! Keys, prices and usage from the command line: what is printed once, what is kept, what is refused.

use crate::program::{Ended, fathom, folder};
use std::path::Path;

fn key(dir: &Path, args: &[&str]) -> Ended {
    fathom(dir, &[&["key"], args, &["--store", "data/serve.sqlite"]].concat())
}

#[test]
fn a_key_is_printed_once_and_lists_by_its_beginning() {
    let dir = folder("key_once");
    assert!(key(&dir, &["list"]).stdout.contains("answers everybody"));
    let made = key(&dir, &["add", "ann", "--rpm", "60", "--concurrent", "4"]);
    assert_eq!(made.code, 0, "{made:?}");
    let secret = made.stdout.trim();
    assert!(secret.starts_with("sk-fathom-") && secret.len() == 53, "{secret}");
    assert!(made.stderr.contains("not shown again"), "{made:?}");
    let list = key(&dir, &["list"]).stdout;
    assert!(list.contains(&secret[..16]) && !list.contains(secret), "{list}");
    assert!(list.contains("60 requests/min, 4 at a time"), "{list}");
    let json = key(&dir, &["list", "--json"]).json();
    assert_eq!(json["keys"][0]["name"], "ann");
    assert_eq!(json["keys"][0]["balance"], serde_json::Value::Null);
    let taken = key(&dir, &["add", "ann"]);
    assert!(taken.code == 1 && taken.stderr.contains("a key `ann` already"), "{taken:?}");
    assert_eq!(key(&dir, &["revoke", "ann"]).code, 0);
    let gone = key(&dir, &["revoke", "ann"]);
    assert!(gone.code == 1 && gone.stderr.contains("there is no key `ann`"), "{gone:?}");
    assert!(key(&dir, &["list"]).stdout.contains("revoked 2"));
    let bytes = std::fs::read(dir.join("data/serve.sqlite")).unwrap();
    assert!(!bytes.windows(secret.len()).any(|at| at == secret.as_bytes()));
}

#[test]
fn balances_and_prices_are_kept_as_typed() {
    let dir = folder("key_money");
    let made = key(&dir, &["add", "bob", "--balance", "5.00", "--json"]);
    assert!(made.json()["key"].as_str().unwrap().starts_with("sk-fathom-"));
    assert!(made.stderr.contains("no prices in USD"), "{made:?}");
    let set = key(&dir, &["prices", "--input", "0.28", "--cached", "0.028", "--output", "0.42"]);
    assert!(set.code == 0 && set.stdout.contains("0.028"), "{set:?}");
    let own = ["prices", "--model", "m", "--input", "1", "--output", "2", "--json"];
    let prices = key(&dir, &own).json();
    assert_eq!(prices["prices"][0]["model"], serde_json::Value::Null);
    assert_eq!(prices["prices"][0]["input"], "0.28");
    assert_eq!(prices["prices"][1]["cached"], "1.00");
    let paid = key(&dir, &["top-up", "bob", "0.005"]);
    assert_eq!((paid.stdout.as_str(), paid.stderr.as_str()), ("`bob` has 5.005 USD\n", ""));
    assert_eq!(key(&dir, &["usage"]).stdout, "nothing was used\n");
    assert_eq!(key(&dir, &["usage", "--json"]).json()["usage"], serde_json::json!([]));
    let other = key(&dir, &["top-up", "bob", "1", "--currency", "CNY"]);
    assert!(other.code == 1 && other.stderr.contains("in `USD`, not `CNY`"), "{other:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let dir = folder("key_bad");
    for (args, words) in [
        (&["add", "x", "--balance", "-1"][..], "--balance"),
        (&["add", "x", "--balance", "1e9"], "expected a sum such as `5.00`"),
        (&["add", "x", "--rpm", "0"], "--rpm"),
        (&["add", "x", "--currency", "EUR"], "no effect"),
        (&["prices", "--input", "1"], "--output"),
        (&["prices", "--input", "0.0000001", "--output", "1"], "at most 6 decimals"),
        (&["top-up", "x"], "AMOUNT"),
        (&["top-up", "x", "-5"], "expected a sum such as `5.00`, found \"-5\""),
    ] {
        let ended = key(&dir, args);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(words), "{args:?}: {}", ended.stderr);
    }
    std::fs::write(dir.join("letter.txt"), "Dear all, ".repeat(500)).unwrap();
    let ended = fathom(&dir, &["key", "list", "--store", "letter.txt"]);
    assert!(ended.code == 1 && ended.stderr.contains("`letter.txt` is damaged"), "{ended:?}");
}
