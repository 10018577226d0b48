//! What answers cost and who pays: prices, balances, one row of usage for every answer.
//!
//! Every charge is one transaction, so concurrent ones never lose each other, and money is whole numbers,
//! so that the balance at any time is what was paid in minus the costs of all rows, to the last digit.

use super::Store;
use super::error::StoreError;
use super::keys::{Key, named};
use super::money::{Currency, Money, Rate};
use crate::answer::Usage;
use crate::caller::Caller;
use crate::refusal::Refusal;
use axum::http::StatusCode;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

/// Characters of a model's name that are kept.
const MAX_MODEL_CHARS: usize = 200;

/// What a key has left. The granted part is spent first and never goes below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Given with the key.
    pub granted: Money,
    /// Paid in later. Below zero when answers that had begun cost more than there was.
    pub topped_up: Money,
}

impl Balance {
    /// Both parts.
    pub fn total(&self) -> Money {
        self.granted.plus(self.topped_up)
    }

    /// Refuses whoever has nothing left.
    ///
    /// Errors: 402.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.total() > Money::ZERO {
            return Ok(());
        }
        let message = "the balance of this key is spent\nhint: `fathom key top-up NAME AMOUNT` adds \
                       to it";
        let status = StatusCode::PAYMENT_REQUIRED;
        Err(Refusal::new(status, "insufficient_balance_error", message)
            .code("insufficient_balance"))
    }

    /// What is left after a charge.
    fn after(self, cost: Money) -> Balance {
        let from_granted = cost.min(self.granted);
        Balance {
            granted: self.granted.minus(from_granted),
            topped_up: self.topped_up.minus(cost.minus(from_granted)),
        }
    }
}

/// What tokens cost, per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Tokens of a prompt that had to be read.
    pub input: Rate,
    /// Tokens of a prompt that were cached.
    pub cached: Rate,
    /// Tokens of an answer, thinking included.
    pub output: Rate,
}

impl Prices {
    /// What an answer costs.
    pub fn cost(&self, usage: &Usage) -> Money {
        self.input
            .times(usage.prompt_cache_miss_tokens())
            .plus(self.cached.times(usage.prompt_cache_hit_tokens))
            .plus(self.output.times(usage.completion_tokens))
    }
}

/// Prices of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRow {
    /// The model; none: any that has no row of its own.
    pub model: Option<String>,
    /// What they are counted in.
    pub currency: Currency,
    /// The prices.
    pub prices: Prices,
}

/// What one key used of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The key's name; none: requests without a key, or with one from a file.
    pub key: Option<String>,
    /// The model.
    pub model: String,
    /// Answers.
    pub n_answers: i64,
    /// Tokens of prompts that were cached.
    pub cache_hit_tokens: i64,
    /// Tokens of prompts that had to be read.
    pub cache_miss_tokens: i64,
    /// Tokens of answers.
    pub completion_tokens: i64,
    /// What it cost.
    pub cost: Money,
    /// What the cost is counted in.
    pub currency: Currency,
}

/// Takes the right to write at once: a transaction that began by reading could not get it later.
pub(super) fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

impl Store {
    /// Writes down what an answer took, and takes its cost from the caller's balance if the key has one.
    /// Returns the cost.
    ///
    /// Takes tens of microseconds; not to be called on the engine's thread.
    ///
    /// Errors: the file cannot be written.
    pub fn charge(&self, caller: Caller, usage: &Usage, model: &str) -> Result<Money, StoreError> {
        let failed = self.failed("charge an answer");
        let model: String = model.chars().take(MAX_MODEL_CHARS).collect();
        let mut accounts = self.accounts();
        let transaction = begin(&mut accounts).map_err(&failed)?;
        let charge = Charge { caller, usage, model: &model, now: self.clock.unix_ms() };
        let (cost, tokens_per_minute) = charge.write(&transaction).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        drop(accounts);
        if let Some((key_id, limit)) = caller.key_id.zip(tokens_per_minute) {
            self.limiter.spend(key_id, usage.total_tokens(), limit, self.clock.elapsed());
        }
        Ok(cost)
    }

    /// What the caller's key has left, with its currency; none where no balance is kept.
    ///
    /// Errors: the file cannot be read.
    pub fn balance(&self, caller: Caller) -> Result<Option<(Currency, Balance)>, StoreError> {
        let Some(key_id) = caller.key_id else { return Ok(None) };
        let ask = "SELECT currency, granted, topped_up
             FROM balances JOIN keys ON keys.id = balances.key WHERE balances.key = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let granted = Money::from_parts(row.get(1)?);
            let topped_up = Money::from_parts(row.get(2)?);
            Ok((Currency::stored(row.get(0)?), Balance { granted, topped_up }))
        };
        let accounts = self.accounts();
        accounts.query_row(ask, [key_id], read).optional().map_err(self.failed("read a balance"))
    }

    /// Refuses a caller whose balance is spent.
    ///
    /// Errors: 402, or 500 if the store cannot be read.
    pub fn check_funds(&self, caller: Caller) -> Result<(), Refusal> {
        let balance = self.balance(caller);
        // The store's own text names files, which are no business of clients.
        let balance =
            balance.map_err(|_| Refusal::internal("the server cannot read its accounts"))?;
        balance.map_or(Ok(()), |(_, balance)| balance.check())
    }

    /// Pays into a key's balance. A key that cost nothing to use lives on its balance from then on.
    ///
    /// Errors: no valid key is called so, it keeps another currency, or the balance would pass
    /// [`Money::MOST`].
    pub fn top_up(
        &self,
        name: &str,
        sum: Money,
        currency: Option<&Currency>,
    ) -> Result<Key, StoreError> {
        let failed = self.failed("top up a balance");
        let mut accounts = self.accounts();
        let transaction = begin(&mut accounts).map_err(&failed)?;
        let key = named(&transaction, name, &failed)?;
        if let Some(found) = currency.filter(|found| **found != key.currency) {
            return Err(StoreError::OtherCurrency {
                name: name.to_owned(),
                found: found.to_string(),
                expected: key.currency.to_string(),
            });
        }
        let before = key.balance.unwrap_or_default();
        let balance = Balance { topped_up: before.topped_up.plus(sum), ..before };
        if balance.total() > Money::MOST {
            return Err(StoreError::TooMuch { found: balance.total(), limit: Money::MOST });
        }
        save_balance(&transaction, key.id, balance).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(Key { balance: Some(balance), ..key })
    }

    /// Sets the prices of a model, or those of all that have none of their own. What was charged before
    /// stays as it is.
    ///
    /// Errors: the file cannot be written.
    pub fn set_prices(&self, row: &PriceRow) -> Result<(), StoreError> {
        let values = params![
            row.model.as_deref().unwrap_or_default(),
            row.currency.as_str(),
            row.prices.input.parts(),
            row.prices.cached.parts(),
            row.prices.output.parts(),
        ];
        let write = "INSERT OR REPLACE INTO prices (model, currency, input, cached, output)
             VALUES (?1, ?2, ?3, ?4, ?5)";
        let written = self.accounts().execute(write, values);
        written.map(drop).map_err(self.failed("set prices"))
    }

    /// All prices, those for any model first.
    ///
    /// Errors: the file cannot be read.
    pub fn prices(&self) -> Result<Vec<PriceRow>, StoreError> {
        let failed = self.failed("list prices");
        let accounts = self.accounts();
        let mut statement = accounts
            .prepare("SELECT model, currency, input, cached, output FROM prices ORDER BY 1, 2")
            .map_err(&failed)?;
        let rows = statement.query_map([], |row| {
            let model: String = row.get(0)?;
            Ok(PriceRow {
                model: Some(model).filter(|model| !model.is_empty()),
                currency: Currency::stored(row.get(1)?),
                prices: read_prices(row, 2)?,
            })
        });
        rows.map_err(&failed)?.collect::<Result<_, _>>().map_err(&failed)
    }

    /// What every key used of every model, from a time in milliseconds since 1970 on.
    ///
    /// Errors: the file cannot be read.
    pub fn usage(&self, since_ms: i64) -> Result<Vec<UsageRow>, StoreError> {
        let failed = self.failed("sum up usage");
        let accounts = self.accounts();
        let mut statement = accounts
            .prepare(
                "SELECT keys.name, usage.model, count(*), sum(cache_hit_tokens),
                     sum(cache_miss_tokens), sum(completion_tokens), sum(cost), usage.currency
                 FROM usage LEFT JOIN keys ON keys.id = usage.key
                 WHERE usage.at >= ?1
                 GROUP BY usage.key, usage.model, usage.currency
                 ORDER BY usage.key, usage.model, usage.currency",
            )
            .map_err(&failed)?;
        let rows = statement.query_map([since_ms], |row| {
            Ok(UsageRow {
                key: row.get(0)?,
                model: row.get(1)?,
                n_answers: row.get(2)?,
                cache_hit_tokens: row.get(3)?,
                cache_miss_tokens: row.get(4)?,
                completion_tokens: row.get(5)?,
                cost: Money::from_parts(row.get(6)?),
                currency: Currency::stored(row.get(7)?),
            })
        });
        rows.map_err(&failed)?.collect::<Result<_, _>>().map_err(&failed)
    }
}

/// One answer to be paid.
struct Charge<'a> {
    caller: Caller,
    usage: &'a Usage,
    model: &'a str,
    now: i64,
}

impl Charge<'_> {
    /// Returns the cost, and the key's limit of tokens per minute.
    fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<(Money, Option<u32>)> {
        let payer = match self.caller.key_id {
            Some(key_id) => read_payer(transaction, key_id)?,
            None => None,
        };
        let (currency, tokens_per_minute, balance) = payer.unwrap_or_default();
        let prices = read_prices_of(transaction, self.model, &currency)?.unwrap_or_default();
        let cost = prices.cost(self.usage);
        transaction.execute(
            "INSERT INTO usage (key, at, model, cache_hit_tokens, cache_miss_tokens,
                 completion_tokens, cost, currency)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                self.caller.key_id,
                self.now,
                self.model,
                count(self.usage.prompt_cache_hit_tokens),
                count(self.usage.prompt_cache_miss_tokens()),
                count(self.usage.completion_tokens),
                cost.parts(),
                currency.as_str(),
            ],
        )?;
        if let Some((key_id, balance)) = self.caller.key_id.zip(balance) {
            save_balance(transaction, key_id, balance.after(cost))?;
        }
        Ok((cost, tokens_per_minute))
    }
}

/// Currency, tokens per minute and balance of a key.
type Payer = (Currency, Option<u32>, Option<Balance>);

fn read_payer(connection: &Connection, key_id: i64) -> rusqlite::Result<Option<Payer>> {
    let ask = "SELECT currency, tokens_per_minute, granted, topped_up
         FROM keys LEFT JOIN balances ON balances.key = keys.id WHERE keys.id = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        let parts = row.get::<_, Option<i64>>(2)?.zip(row.get::<_, Option<i64>>(3)?);
        let balance = parts.map(|(granted, topped_up)| Balance {
            granted: Money::from_parts(granted),
            topped_up: Money::from_parts(topped_up),
        });
        Ok((Currency::stored(row.get(0)?), row.get(1)?, balance))
    };
    connection.query_row(ask, [key_id], read).optional()
}

/// The model's own prices, else those for any model.
fn read_prices_of(
    connection: &Connection,
    model: &str,
    currency: &Currency,
) -> rusqlite::Result<Option<Prices>> {
    let ask = "SELECT input, cached, output FROM prices
         WHERE model IN (?1, '') AND currency = ?2 ORDER BY model DESC LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| read_prices(row, 0);
    connection.query_row(ask, params![model, currency.as_str()], read).optional()
}

fn read_prices(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Prices> {
    Ok(Prices {
        input: Rate::from_parts(row.get(from)?),
        cached: Rate::from_parts(row.get(from + 1)?),
        output: Rate::from_parts(row.get(from + 2)?),
    })
}

fn save_balance(connection: &Connection, key: i64, balance: Balance) -> rusqlite::Result<()> {
    let write = "INSERT OR REPLACE INTO balances (key, granted, topped_up) VALUES (?1, ?2, ?3)";
    let values = params![key, balance.granted.parts(), balance.topped_up.parts()];
    connection.execute(write, values).map(drop)
}

/// As SQLite counts.
fn count(n_tokens: usize) -> i64 {
    i64::try_from(n_tokens).unwrap_or(i64::MAX)
}
