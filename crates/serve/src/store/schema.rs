//! The tables, one version after the other. A version that was released is never changed.

use super::error::StoreError;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// Marks the file as ours: `Fath`.
const APPLICATION_ID: i64 = 0x4661_7468;

/// What leads from each version to the next; the first from an empty file.
///
/// Money is in millionths of a millionth of the currency, times in milliseconds since 1970, rates in
/// money per token.
const STEPS: &[&str] = &["
    CREATE TABLE keys (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        hash BLOB NOT NULL UNIQUE,
        prefix TEXT NOT NULL,
        owner INTEGER NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        revoked_at INTEGER,
        currency TEXT NOT NULL,
        requests_per_minute INTEGER,
        tokens_per_minute INTEGER,
        concurrent INTEGER
    ) STRICT;
    -- A name may be used again once its key is revoked.
    CREATE UNIQUE INDEX keys_by_name ON keys (name) WHERE revoked_at IS NULL;

    CREATE TABLE balances (
        key INTEGER PRIMARY KEY REFERENCES keys (id),
        granted INTEGER NOT NULL CHECK (granted >= 0),
        topped_up INTEGER NOT NULL
    ) STRICT;

    -- The empty model stands for any that has no row of its own.
    CREATE TABLE prices (
        model TEXT NOT NULL,
        currency TEXT NOT NULL,
        input INTEGER NOT NULL CHECK (input >= 0),
        cached INTEGER NOT NULL CHECK (cached >= 0),
        output INTEGER NOT NULL CHECK (output >= 0),
        PRIMARY KEY (model, currency)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE usage (
        id INTEGER PRIMARY KEY,
        key INTEGER REFERENCES keys (id),
        at INTEGER NOT NULL,
        model TEXT NOT NULL,
        cache_hit_tokens INTEGER NOT NULL,
        cache_miss_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost INTEGER NOT NULL,
        currency TEXT NOT NULL
    ) STRICT;
    CREATE INDEX usage_by_key ON usage (key, at);

    CREATE TABLE conversations (
        n INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        owner INTEGER NOT NULL,
        title TEXT NOT NULL,
        head TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        n_messages INTEGER NOT NULL DEFAULT 0,
        n_bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX conversations_by_owner ON conversations (owner, updated_at);

    CREATE TABLE messages (
        n INTEGER PRIMARY KEY,
        conversation INTEGER NOT NULL REFERENCES conversations (n) ON DELETE CASCADE,
        id TEXT NOT NULL,
        parent TEXT,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        reasoning TEXT,
        meta TEXT,
        created_at INTEGER NOT NULL,
        UNIQUE (conversation, id),
        FOREIGN KEY (conversation, parent) REFERENCES messages (conversation, id)
    ) STRICT;
    -- Without it, every deleted message would look for its children among all messages.
    CREATE INDEX messages_by_parent ON messages (conversation, parent);
"];

/// Refuses a database of another program, before anything is written into it.
pub(super) fn check_kind(connection: &Connection, place: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::from_sql(error, place, "read the kind of file");
    let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    // The first statement that reads the file: damage shows here.
    let n_tables = ask("SELECT count(*) FROM sqlite_schema")?;
    if n_tables > 0 && ask("PRAGMA application_id")? != APPLICATION_ID {
        return Err(StoreError::Foreign { path: place.to_owned() });
    }
    Ok(())
}

/// Brings the tables to the version that this program knows.
///
/// Errors: the file is of a newer version.
pub(super) fn migrate(connection: &mut Connection, place: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::from_sql(error, place, "bring the tables up to date");
    let known = STEPS.len() as i64;
    let version = |connection: &Connection| {
        connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
    };
    let newer = |found| StoreError::Newer { path: place.to_owned(), found, known };
    let found = version(connection).map_err(failed)?;
    if found == known {
        return Ok(());
    }
    if found > known || found < 0 {
        return Err(newer(found));
    }
    // Another process may have come first: what counts is what is found inside the transaction.
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found = version(&transaction).map_err(failed)?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    let Some(steps) = STEPS.get(done..) else { return Err(newer(found)) };
    for step in steps {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction.pragma_update(None, "user_version", known).map_err(failed)?;
    transaction.commit().map_err(failed)
}
