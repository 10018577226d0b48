//! What the server remembers: keys, prices, balances and usage, and the conversations of the page.
//!
//! One SQLite file, two connections: accounts and conversations share no rows, so a long search never
//! keeps a request waiting at the door. Several processes may have the file open, such as a server and
//! `fathom key`. Written is with a write-ahead log and without waiting for the disk at every answer: a
//! crash of the program loses nothing, a power cut may lose the last moments, and neither damages the file.

mod clock;
mod conversations;
mod error;
mod keys;
mod ledger;
mod limits;
mod money;
mod schema;

pub use clock::{Clock, ManualClock, SystemClock};
pub use conversations::{
    Change, ConversationError, MAX_CONVERSATION_BYTES, MAX_CONVERSATIONS, MAX_MESSAGE_BYTES,
    MAX_MESSAGES, MAX_TITLE_CHARS, Message, NewMessage, Summary, Thread, is_message_id,
};
pub use error::StoreError;
pub use keys::{Key, KeyLimits, NewKey, hash_of};
pub use ledger::{Balance, PriceRow, Prices, UsageRow};
pub use limits::{Limited, Permit};
pub use money::{Currency, Money, MoneyError, Rate};

use limits::Limiter;
use rusqlite::{Connection, OpenFlags};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a statement waits for another process to finish writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open file, or a memory that is lost with it. Calls are short and may come from any thread.
pub struct Store {
    accounts: Mutex<Connection>,
    conversations: Mutex<Connection>,
    limiter: Arc<Limiter>,
    clock: Arc<dyn Clock>,
    /// For messages; none in memory.
    path: Option<PathBuf>,
}

impl Store {
    /// Opens a file, and makes it and its folder if there is none; readable by its owner alone.
    ///
    /// Errors: the file cannot be made or read, is damaged, is no store, or was written by a newer program.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        make_private(path)?;
        Ok(Store {
            accounts: Mutex::new(connect(path)?),
            conversations: Mutex::new(connect(path)?),
            limiter: Arc::default(),
            clock: Arc::new(SystemClock::default()),
            path: Some(path.to_owned()),
        })
    }

    /// A store that forgets everything when it is dropped.
    ///
    /// Errors: no memory.
    pub fn in_memory() -> Result<Store, StoreError> {
        let connection = || -> Result<Mutex<Connection>, StoreError> {
            let place = Path::new(":memory:");
            let mut connection = Connection::open_in_memory()
                .map_err(|error| StoreError::from_sql(error, place, "open"))?;
            prepare(&mut connection, place)?;
            Ok(Mutex::new(connection))
        };
        Ok(Store {
            // Two memories, each with all tables: neither side ever reads the other's.
            accounts: connection()?,
            conversations: connection()?,
            limiter: Arc::default(),
            clock: Arc::new(SystemClock::default()),
            path: None,
        })
    }

    /// The same with another clock, for tests.
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Store {
        Store { clock, ..self }
    }

    /// Where it is; none in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn accounts(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back, so what is left is sound.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn conversations_db(&self) -> MutexGuard<'_, Connection> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the file in an error of SQLite.
    fn failed(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
        let place = self.path.clone().unwrap_or_else(|| PathBuf::from(":memory:"));
        move |error| StoreError::from_sql(error, &place, doing)
    }
}

/// Makes the folder (0700) and the file (0600), and takes rights away from a file that gives too many.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::Unopenable {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let mut dirs = std::fs::DirBuilder::new();
    let mut files = std::fs::OpenOptions::new();
    files.read(true).append(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        dirs.mode(0o700);
        files.mode(0o600);
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        dirs.recursive(true).create(dir).map_err(failed)?;
    }
    let mut file = files.open(path).map_err(failed)?;
    check_beginning(&mut file, path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            let narrower = std::fs::Permissions::from_mode(mode & 0o700);
            file.set_permissions(narrower).map_err(failed)?;
        }
    }
    Ok(())
}

/// Refuses a file that is no database. SQLite would by itself, but it takes a very short one for empty.
fn check_beginning(file: &mut std::fs::File, path: &Path) -> Result<(), StoreError> {
    const BEGINNING: &[u8] = b"SQLite format 3\0";
    let mut found = Vec::new();
    let read = file.take(BEGINNING.len() as u64).read_to_end(&mut found);
    let why = match read {
        Ok(0) => return Ok(()),
        Ok(_) if found == BEGINNING => return Ok(()),
        Ok(_) => "it does not begin like a database".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(StoreError::Damaged { path: path.to_owned(), why })
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Without the flag for `file:` addresses, so a path is a path whatever it holds.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::from_sql(error, path, "open"))?;
    prepare(&mut connection, path)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, place: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::from_sql(error, place, "prepare");
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    // Whatever is in the file: no statement of ours needs its triggers and views to be trusted.
    connection.pragma_update(None, "trusted_schema", false).map_err(failed)?;
    schema::check_kind(connection, place)?;
    write_ahead(connection).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
    schema::migrate(connection, place)
}

/// Switches to the write-ahead log. The switch does not wait for other processes by itself.
fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let mut tries = BUSY_TIMEOUT.as_millis() / 20;
    loop {
        let switched = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match switched {
            Err(error) if error::is_busy(&error) && tries > 0 => {
                tries -= 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests;
