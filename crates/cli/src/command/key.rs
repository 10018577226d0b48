//! `fathom key`: who may ask the server, how much, and for what money.

mod shown;

use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stderr, to_stdout};
use crate::store_path::default_store;
use fathom_serve::store::{Currency, KeyLimits, Money, NewKey, PriceRow, Prices, Rate, Store};
use serde_json::json;
use std::path::PathBuf;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,

    /// The server's store [default: $XDG_DATA_HOME/fathom/serve.sqlite]
    #[arg(long, value_name = "FILE", global = true)]
    store: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  fathom key add ann                                 a key without limits
  fathom key add bob --balance 5 --rpm 60            5 USD, 60 requests per minute
  fathom key prices --input 0.28 --cached 0.028 --output 0.42
  fathom key top-up bob 10
  fathom key usage

From the first key on, the server answers nobody without one. Changes count at once, also while it
runs. The store keeps hashes of keys, so a key that is lost is made anew.";

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Make a key and print it, this once
    Add(Add),
    /// Show all keys
    List {
        /// Print one JSON object: keys
        #[arg(long)]
        json: bool,
    },
    /// Make a key worthless, at once and for ever
    Revoke {
        /// Name of the key
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Pay into a key's balance
    #[command(name = "top-up")]
    TopUp {
        /// Name of the key
        #[arg(value_name = "NAME")]
        name: String,
        /// Such as 5 or 5.00
        #[arg(value_name = "AMOUNT", value_parser = Money::parse, allow_negative_numbers = true)]
        amount: Money,
        /// Refuse if the key keeps another currency
        #[arg(long, value_name = "CODE", value_parser = Currency::parse)]
        currency: Option<Currency>,
    },
    /// Show prices, or set them
    Prices(SetPrices),
    /// Sum up what every key used
    Usage {
        /// Print one JSON object: usage
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args, Debug)]
struct Add {
    /// Whose it is or what it is for
    #[arg(value_name = "NAME")]
    name: String,

    /// Grant so much; without it the key costs nothing to use
    #[arg(long, value_name = "AMOUNT", value_parser = Money::parse, allow_negative_numbers = true)]
    balance: Option<Money>,

    /// What balance and costs are counted in [default: USD]
    #[arg(long, value_name = "CODE", value_parser = Currency::parse)]
    currency: Option<Currency>,

    /// Most requests per minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rpm: Option<u32>,

    /// Most tokens per minute, prompts and answers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tpm: Option<u32>,

    /// Most requests at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrent: Option<u32>,

    /// Print one JSON object: name, key
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
struct SetPrices {
    /// The model [default: all that have no prices of their own]
    #[arg(long, value_name = "NAME", requires = "input")]
    model: Option<String>,

    /// Per million tokens of a prompt that are read
    #[arg(long, value_name = "PRICE", value_parser = Rate::parse, allow_negative_numbers = true, requires = "output")]
    input: Option<Rate>,

    /// Per million tokens of a prompt that are cached [default: as --input]
    #[arg(long, value_name = "PRICE", value_parser = Rate::parse, allow_negative_numbers = true, requires = "input")]
    cached: Option<Rate>,

    /// Per million tokens of an answer
    #[arg(long, value_name = "PRICE", value_parser = Rate::parse, allow_negative_numbers = true, requires = "input")]
    output: Option<Rate>,

    /// What prices are counted in [default: USD]
    #[arg(long, value_name = "CODE", value_parser = Currency::parse, requires = "input")]
    currency: Option<Currency>,

    /// Print one JSON object: prices
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let path = args.store.map_or_else(default_store, Ok)?;
    let store = Store::open(&path)?;
    match args.action {
        Action::Add(add) => self::add(&store, &add),
        Action::List { json } => list(&store, json),
        Action::Revoke { name } => {
            let key = store.revoke_key(&name)?;
            to_stdout(&format!("revoked `{}` ({}…)\n", key.name, key.prefix))
        }
        Action::TopUp { name, amount, currency } => {
            let key = store.top_up(&name, amount, currency.as_ref())?;
            warn_of_no_prices(&store, &key.currency)?;
            let total = key.balance.unwrap_or_default().total();
            to_stdout(&format!("`{}` has {} {}\n", key.name, total.exact(), key.currency))
        }
        Action::Prices(asked) => prices(&store, asked),
        Action::Usage { json } => usage(&store, json),
    }
}

fn add(store: &Store, asked: &Add) -> Result<(), Failure> {
    if asked.currency.is_some() && asked.balance.is_none() && store.prices()?.is_empty() {
        return Err(Failure::Usage(
            "--currency has no effect without --balance and without prices".into(),
        ));
    }
    let new = NewKey {
        name: &asked.name,
        currency: asked.currency.clone().unwrap_or_default(),
        balance: asked.balance,
        limits: KeyLimits {
            requests_per_minute: asked.rpm,
            tokens_per_minute: asked.tpm,
            concurrent: asked.concurrent,
        },
    };
    let (key, secret) = store.add_key(&new)?;
    if asked.json {
        json_to_stdout(&json!({ "name": key.name, "key": secret }))?;
    } else {
        to_stdout(&format!("{secret}\n"))?;
        to_stderr("keep it: it is not shown again\n");
    }
    if key.balance.is_some() { warn_of_no_prices(store, &key.currency) } else { Ok(()) }
}

/// A balance that nothing is ever taken from is not what was meant.
fn warn_of_no_prices(store: &Store, currency: &Currency) -> Result<(), Failure> {
    if !store.prices()?.iter().any(|row| row.currency == *currency) {
        to_stderr(&format!(
            "warning: no prices in {currency}, so answers cost nothing\nhint: `fathom key prices \
             --input PRICE --output PRICE`\n"
        ));
    }
    Ok(())
}

fn list(store: &Store, json: bool) -> Result<(), Failure> {
    let keys = store.keys()?;
    if json {
        let keys: Vec<_> = keys.iter().map(shown::key_json).collect();
        return json_to_stdout(&json!({ "keys": keys }));
    }
    if keys.is_empty() {
        return to_stdout("no keys: the server answers everybody\n");
    }
    to_stdout(&shown::keys(&keys))
}

fn prices(store: &Store, asked: SetPrices) -> Result<(), Failure> {
    if asked.model.as_deref() == Some("") {
        return Err(Failure::Usage("--model needs a name".into()));
    }
    if let (Some(input), Some(output)) = (asked.input, asked.output) {
        let prices = Prices { input, cached: asked.cached.unwrap_or(input), output };
        let currency = asked.currency.unwrap_or_default();
        store.set_prices(&PriceRow { model: asked.model, currency, prices })?;
    }
    let rows = store.prices()?;
    if asked.json {
        let rows: Vec<_> = rows.iter().map(shown::price_json).collect();
        return json_to_stdout(&json!({ "prices": rows }));
    }
    if rows.is_empty() {
        return to_stdout("no prices: answers cost nothing\n");
    }
    to_stdout(&shown::prices(&rows))
}

fn usage(store: &Store, json: bool) -> Result<(), Failure> {
    let rows = store.usage(i64::MIN)?;
    if json {
        let rows: Vec<_> = rows.iter().map(shown::usage_json).collect();
        return json_to_stdout(&json!({ "usage": rows }));
    }
    if rows.is_empty() {
        return to_stdout("nothing was used\n");
    }
    to_stdout(&shown::usage(&rows))
}
