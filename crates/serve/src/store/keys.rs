//! API keys: made, found, listed, revoked.
//!
//! A key is 256 random bits, so a plain SHA-256 of it is what the file holds: there is nothing to guess,
//! and neither salt nor a slow hash would add anything. Whoever reads the file cannot use what it finds.

use super::error::StoreError;
use super::ledger::Balance;
use super::limits::Permit;
use super::money::{Currency, Money};
use super::{Limited, Store};
use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with.
const BEGINNING: &str = "sk-fathom-";

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Letters of 256 bits in base 62.
const N_LETTERS: usize = 43;

/// Letters after the beginning that are kept to tell keys apart.
const N_SHOWN: usize = 6;

/// What a key may do; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Requests for answers in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers in a minute.
    pub tokens_per_minute: Option<u32>,
    /// Requests for answers at the same time.
    pub concurrent: Option<u32>,
}

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub struct NewKey<'a> {
    /// Whose it is or what it is for.
    pub name: &'a str,
    /// What its balance and costs are counted in.
    pub currency: Currency,
    /// Granted at once; none: the key costs nothing to use.
    pub balance: Option<Money>,
    /// What it may do.
    pub limits: KeyLimits,
}

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its row.
    pub id: i64,
    /// Unique among keys that are not revoked.
    pub name: String,
    /// The beginning of the key itself.
    pub prefix: String,
    /// Whose conversations and cached prompts it sees.
    pub owner: u64,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970; none: it is valid.
    pub revoked_at: Option<i64>,
    /// What its balance and costs are counted in.
    pub currency: Currency,
    /// What it may do.
    pub limits: KeyLimits,
    /// What it has left; none: it costs nothing to use.
    pub balance: Option<Balance>,
}

/// The hash that a key is known by.
pub fn hash_of(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl Store {
    /// Makes a key. The second value is the key itself, which is nowhere else.
    ///
    /// Errors: the name is taken or is none; the system gives no random bytes.
    pub fn add_key(&self, new: &NewKey<'_>) -> Result<(Key, String), StoreError> {
        check_name(new.name)?;
        let secret = new_secret()?;
        let prefix = &secret[..BEGINNING.len() + N_SHOWN];
        let owner = i64::from_le_bytes(random()?) & i64::MAX;
        let failed = self.failed("add a key");
        let mut accounts = self.accounts();
        let transaction = super::ledger::begin(&mut accounts).map_err(&failed)?;
        if find_by_name(&transaction, new.name).map_err(&failed)?.is_some() {
            return Err(StoreError::NameTaken { name: new.name.to_owned() });
        }
        transaction
            .execute(
                "INSERT INTO keys (name, hash, prefix, owner, created_at, currency,
                     requests_per_minute, tokens_per_minute, concurrent)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    new.name,
                    hash_of(&secret),
                    prefix,
                    owner.max(1), // 0 is everybody
                    self.clock.unix_ms(),
                    new.currency.as_str(),
                    new.limits.requests_per_minute,
                    new.limits.tokens_per_minute,
                    new.limits.concurrent,
                ],
            )
            .map_err(&failed)?;
        let id = transaction.last_insert_rowid();
        if let Some(granted) = new.balance {
            transaction
                .execute(
                    "INSERT INTO balances (key, granted, topped_up) VALUES (?1, ?2, 0)",
                    params![id, granted.parts()],
                )
                .map_err(&failed)?;
        }
        let sql = format!("{SELECT_KEY} WHERE keys.id = ?1");
        let key = transaction.query_row(&sql, [id], read_key).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok((key, secret))
    }

    /// Makes a key worthless, at once and for ever. Its usage is kept.
    ///
    /// Errors: no valid key is called so.
    pub fn revoke_key(&self, name: &str) -> Result<Key, StoreError> {
        let failed = self.failed("revoke a key");
        let accounts = self.accounts();
        let key = named(&accounts, name, &failed)?;
        let now = self.clock.unix_ms();
        accounts
            .execute("UPDATE keys SET revoked_at = ?2 WHERE id = ?1", params![key.id, now])
            .map_err(&failed)?;
        Ok(Key { revoked_at: Some(now), ..key })
    }

    /// All keys, the oldest first.
    ///
    /// Errors: the file cannot be read.
    pub fn keys(&self) -> Result<Vec<Key>, StoreError> {
        let failed = self.failed("list keys");
        let accounts = self.accounts();
        let mut statement =
            accounts.prepare(&format!("{SELECT_KEY} ORDER BY keys.id")).map_err(&failed)?;
        let rows = statement.query_map([], read_key).map_err(&failed)?;
        rows.collect::<Result<_, _>>().map_err(&failed)
    }

    /// Whether a key was ever made here. Revoked ones count: taking the last key away must not open the
    /// door to everybody.
    ///
    /// Errors: the file cannot be read.
    pub fn has_keys(&self) -> Result<bool, StoreError> {
        let ask = "SELECT EXISTS (SELECT 1 FROM keys)";
        self.accounts().query_row(ask, [], |row| row.get(0)).map_err(self.failed("look for keys"))
    }

    /// The key with this hash, if it is valid.
    ///
    /// Errors: the file cannot be read.
    pub fn find_key(&self, hash: &[u8; 32]) -> Result<Option<Key>, StoreError> {
        let failed = self.failed("look for a key");
        let sql = format!("{SELECT_KEY} WHERE keys.hash = ?1 AND keys.revoked_at IS NULL");
        let accounts = self.accounts();
        // How far the index compares says something about hashes, which says nothing about keys; the
        // last word is in constant time all the same.
        let found = accounts
            .query_row(&sql, [hash], |row| Ok((row.get::<_, [u8; 32]>("hash")?, read_key(row)?)))
            .optional()
            .map_err(&failed)?;
        Ok(found.filter(|(kept, _)| bool::from(kept.ct_eq(hash))).map(|(_, key)| key))
    }

    /// Lets a request for an answer in, or says which limit of the key is reached.
    pub fn admit(&self, key: &Key) -> Result<Permit, Limited> {
        self.limiter.admit(key.id, &key.limits, self.clock.elapsed())
    }
}

/// The columns of [`read_key`].
const SELECT_KEY: &str = "
    SELECT keys.*, balances.granted, balances.topped_up
    FROM keys LEFT JOIN balances ON balances.key = keys.id";

fn read_key(row: &Row<'_>) -> rusqlite::Result<Key> {
    let granted: Option<i64> = row.get("granted")?;
    let topped_up: Option<i64> = row.get("topped_up")?;
    Ok(Key {
        id: row.get("id")?,
        name: row.get("name")?,
        prefix: row.get("prefix")?,
        owner: row.get::<_, i64>("owner")?.cast_unsigned(),
        created_at: row.get("created_at")?,
        revoked_at: row.get("revoked_at")?,
        currency: Currency::stored(row.get("currency")?),
        limits: KeyLimits {
            requests_per_minute: row.get("requests_per_minute")?,
            tokens_per_minute: row.get("tokens_per_minute")?,
            concurrent: row.get("concurrent")?,
        },
        balance: granted.zip(topped_up).map(|(granted, topped_up)| Balance {
            granted: Money::from_parts(granted),
            topped_up: Money::from_parts(topped_up),
        }),
    })
}

fn find_by_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<Key>> {
    let sql = format!("{SELECT_KEY} WHERE keys.name = ?1 AND keys.revoked_at IS NULL");
    connection.query_row(&sql, [name], read_key).optional()
}

/// The valid key of this name, or an error that lists those there are.
pub(super) fn named(
    connection: &Connection,
    name: &str,
    failed: impl Fn(rusqlite::Error) -> StoreError,
) -> Result<Key, StoreError> {
    if let Some(key) = find_by_name(connection, name).map_err(&failed)? {
        return Ok(key);
    }
    let mut statement = connection
        .prepare("SELECT name FROM keys WHERE revoked_at IS NULL ORDER BY name LIMIT 20")
        .map_err(&failed)?;
    let others = statement.query_map([], |row| row.get(0)).map_err(&failed)?;
    let others = others.collect::<Result<_, _>>().map_err(&failed)?;
    Err(StoreError::NoKey { name: name.to_owned(), others })
}

fn check_name(name: &str) -> Result<(), StoreError> {
    let n_chars = name.chars().count();
    let is_sound =
        (1..=100).contains(&n_chars) && !name.chars().any(char::is_control) && name.trim() == name;
    if is_sound {
        Ok(())
    } else {
        Err(StoreError::BadName { found: name.chars().take(100).collect() })
    }
}

/// A new key: 256 random bits as letters and digits, which survive shells, addresses and double clicks.
fn new_secret() -> Result<String, StoreError> {
    let mut number: [u8; 32] = random()?;
    let mut letters = [0; N_LETTERS];
    for letter in letters.iter_mut().rev() {
        *letter = BASE62[usize::from(divide(&mut number, 62))];
    }
    Ok(BEGINNING.chars().chain(letters.map(char::from)).collect())
}

/// Divides a large number, its most significant byte first, in place; returns the remainder.
fn divide(number: &mut [u8], by: u8) -> u8 {
    let mut rest = 0u16;
    for byte in number {
        let value = (rest << 8) | u16::from(*byte);
        *byte = (value / u16::from(by)) as u8; // `rest < by`, so the quotient fits
        rest = value % u16::from(by);
    }
    rest as u8
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::NoRandom { why: error.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_letters_and_digits_and_never_the_same() {
        let keys: std::collections::BTreeSet<_> = (0..200).map(|_| new_secret().unwrap()).collect();
        assert_eq!(keys.len(), 200);
        for key in keys {
            let letters = key.strip_prefix("sk-fathom-").unwrap();
            assert_eq!(letters.len(), 43, "{key}");
            assert!(letters.bytes().all(|b| b.is_ascii_alphanumeric()), "{key}");
        }
    }

    #[test]
    fn all_bits_of_a_key_count() {
        let mut most = [255; 32];
        let digits: Vec<u8> = (0..N_LETTERS).map(|_| divide(&mut most, 62)).collect();
        assert_eq!(most, [0; 32], "43 letters hold 256 bits");
        // Back again, the last digit first.
        let mut back = [0u8; 32];
        for digit in digits.iter().rev() {
            let mut carry = u16::from(*digit);
            for byte in back.iter_mut().rev() {
                let value = u16::from(*byte) * 62 + carry;
                *byte = value as u8;
                carry = value >> 8;
            }
        }
        assert_eq!(back, [255; 32]);
    }
}
