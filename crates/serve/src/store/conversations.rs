//! Conversations of the chat page: trees of messages, each seen by its owner alone.
//!
//! A message is written once and then only its text changes: it never moves to another parent, so a tree
//! stays a tree. Search is done here and not by SQLite, whose `LIKE` folds the case of English only.

use super::Store;
use super::error::StoreError;
use super::keys::random;
use super::ledger::begin;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::fmt;

/// Characters of a title.
pub const MAX_TITLE_CHARS: usize = 300;

/// Bytes of a message's text, of its reasoning, and of what is kept beside it; each.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Messages of a conversation.
pub const MAX_MESSAGES: usize = 10_000;

/// Bytes of all messages of a conversation.
pub const MAX_CONVERSATION_BYTES: usize = 64 << 20;

/// Conversations of an owner.
pub const MAX_CONVERSATIONS: usize = 10_000;

/// A conversation in a list. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Made by the store.
    pub id: String,
    /// May be empty.
    pub title: String,
    /// When it was made.
    pub created_at: i64,
    /// When a message, the title or the head changed last.
    pub updated_at: i64,
}

/// A conversation with its messages, parents before children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// What is in the list.
    pub summary: Summary,
    /// The last message of the branch that is shown.
    pub head: Option<String>,
    /// All branches.
    pub messages: Vec<Message>,
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Made by the page; unique in its conversation.
    pub id: String,
    /// What it answers; none for a beginning.
    pub parent: Option<String>,
    /// `user`, `assistant`, `system` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
    /// The thinking before the text.
    pub reasoning: Option<String>,
    /// JSON text that the page keeps beside it.
    pub meta: Option<String>,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// A message to be kept. Sizes and words are checked by who makes it.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// See [`is_message_id`].
    pub id: &'a str,
    /// A message of the same conversation.
    pub parent: Option<&'a str>,
    /// `user`, `assistant`, `system` or `tool`.
    pub role: &'a str,
    /// The text.
    pub content: &'a str,
    /// The thinking before the text.
    pub reasoning: Option<&'a str>,
    /// JSON text.
    pub meta: Option<&'a str>,
}

impl NewMessage<'_> {
    fn n_bytes(&self) -> usize {
        let more = [self.reasoning, self.meta];
        self.content.len() + more.into_iter().flatten().map(str::len).sum::<usize>()
    }
}

/// What changes in a conversation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// A new title.
    pub title: Option<&'a str>,
    /// Another head, or none.
    pub head: Option<Option<&'a str>>,
}

/// Whether the page may call a message so: 1 to 64 letters, digits, `-` and `_`.
pub fn is_message_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Why a conversation was not changed.
#[derive(Debug)]
pub enum ConversationError {
    /// The owner has no such conversation.
    NoConversation,
    /// The parent of a message is not in the conversation.
    NoParent { parent: String },
    /// The message is there, below another parent.
    OtherParent { found: Option<String>, expected: Option<String> },
    /// The new head is not in the conversation.
    NoHead { head: String },
    /// The owner has [`MAX_CONVERSATIONS`].
    TooManyConversations,
    /// The conversation has [`MAX_MESSAGES`].
    TooManyMessages,
    /// The conversation would pass [`MAX_CONVERSATION_BYTES`].
    TooLarge { found: usize },
    /// The store itself.
    Store(StoreError),
}

impl fmt::Display for ConversationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_null = |id: &Option<String>| id.clone().unwrap_or_else(|| "null".into());
        match self {
            ConversationError::NoConversation => f.write_str("there is no such conversation"),
            ConversationError::NoParent { parent } => {
                write!(f, "the conversation has no message `{parent}`\nhint: put the parent first")
            }
            ConversationError::OtherParent { found, expected } => write!(
                f,
                "a message stays below its parent: expected `{}`, found `{}`\nhint: put another \
                 message for another branch",
                or_null(expected),
                or_null(found)
            ),
            ConversationError::NoHead { head } => {
                write!(f, "the conversation has no message `{head}`")
            }
            ConversationError::TooManyConversations => write!(
                f,
                "there are {MAX_CONVERSATIONS} conversations, which is the most\nhint: delete some"
            ),
            ConversationError::TooManyMessages => {
                write!(f, "the conversation has {MAX_MESSAGES} messages, which is the most")
            }
            ConversationError::TooLarge { found } => write!(
                f,
                "the conversation would have {found} bytes; the most is {MAX_CONVERSATION_BYTES}"
            ),
            ConversationError::Store(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ConversationError {}

impl From<StoreError> for ConversationError {
    fn from(error: StoreError) -> ConversationError {
        ConversationError::Store(error)
    }
}

impl Store {
    /// An owner's conversations in which a text occurs, in a title or a message, whatever its case; an
    /// empty text occurs in all. The last changed comes first.
    ///
    /// Errors: the file cannot be read.
    pub fn conversations(&self, owner: u64, text: &str) -> Result<Vec<Summary>, StoreError> {
        let failed = self.failed("search conversations");
        let db = self.conversations_db();
        let mut statement = db
            .prepare(
                "SELECT id, title, created_at, updated_at, n FROM conversations
                 WHERE owner = ?1 ORDER BY updated_at DESC, n DESC",
            )
            .map_err(&failed)?;
        let rows = statement
            .query_map([owner.cast_signed()], |row| Ok((read_summary(row)?, row.get(4)?)))
            .map_err(&failed)?;
        let wanted = text.trim().to_lowercase();
        let mut found = Vec::new();
        for row in rows {
            let (summary, n) = row.map_err(&failed)?;
            if holds(&summary.title, &wanted) || messages_hold(&db, n, &wanted).map_err(&failed)? {
                found.push(summary);
            }
        }
        Ok(found)
    }

    /// Makes an empty conversation.
    ///
    /// Errors: the owner has too many.
    pub fn create_conversation(
        &self,
        owner: u64,
        title: &str,
    ) -> Result<Summary, ConversationError> {
        let failed = self.failed("make a conversation");
        let id = random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let now = self.clock.unix_ms();
        let mut db = self.conversations_db();
        let transaction = begin(&mut db).map_err(&failed)?;
        let ask = "SELECT count(*) FROM conversations WHERE owner = ?1";
        let n_held: usize = transaction
            .query_row(ask, [owner.cast_signed()], |row| row.get::<_, u32>(0))
            .map_err(&failed)? as usize;
        if n_held >= MAX_CONVERSATIONS {
            return Err(ConversationError::TooManyConversations);
        }
        let write = "INSERT INTO conversations (id, owner, title, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?4)";
        transaction
            .execute(write, params![id, owner.cast_signed(), title, now])
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(Summary { id, title: title.to_owned(), created_at: now, updated_at: now })
    }

    /// A conversation with all its messages.
    ///
    /// Errors: the owner has none of this id.
    pub fn conversation(&self, owner: u64, id: &str) -> Result<Thread, ConversationError> {
        let failed = self.failed("read a conversation");
        let mut db = self.conversations_db();
        // One state of the file for both questions.
        let transaction = db.transaction().map_err(&failed)?;
        let found = find(&transaction, owner, id).map_err(&failed)?;
        let found = found.ok_or(ConversationError::NoConversation)?;
        let messages = read_messages(&transaction, found.n).map_err(&failed)?;
        Ok(Thread { summary: found.summary, head: found.head, messages })
    }

    /// Changes the title or the head.
    ///
    /// Errors: the owner has none of this id, or the head is none of its messages.
    pub fn change_conversation(
        &self,
        owner: u64,
        id: &str,
        change: Change<'_>,
    ) -> Result<Summary, ConversationError> {
        let failed = self.failed("change a conversation");
        let mut db = self.conversations_db();
        let transaction = begin(&mut db).map_err(&failed)?;
        let found = find(&transaction, owner, id).map_err(&failed)?;
        let found = found.ok_or(ConversationError::NoConversation)?;
        if let Some(Some(head)) = change.head
            && find_message(&transaction, found.n, head).map_err(&failed)?.is_none()
        {
            return Err(ConversationError::NoHead { head: head.to_owned() });
        }
        let now = self.clock.unix_ms();
        let title = change.title.unwrap_or(&found.summary.title);
        let head = change.head.unwrap_or(found.head.as_deref());
        let write = "UPDATE conversations SET title = ?2, head = ?3, updated_at = ?4 WHERE n = ?1";
        transaction.execute(write, params![found.n, title, head, now]).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(Summary { title: title.to_owned(), updated_at: now, ..found.summary })
    }

    /// Deletes a conversation with all its messages.
    ///
    /// Errors: the owner has none of this id.
    pub fn delete_conversation(&self, owner: u64, id: &str) -> Result<(), ConversationError> {
        let write = "DELETE FROM conversations WHERE owner = ?1 AND id = ?2";
        let n = self
            .conversations_db()
            .execute(write, params![owner.cast_signed(), id])
            .map_err(self.failed("delete a conversation"))?;
        if n == 0 { Err(ConversationError::NoConversation) } else { Ok(()) }
    }

    /// Keeps a message, or changes the one of this id.
    ///
    /// Errors: the owner has no such conversation, it has no such parent, the message has another parent
    /// already, or the conversation would be too large.
    pub fn put_message(
        &self,
        owner: u64,
        id: &str,
        message: &NewMessage<'_>,
    ) -> Result<Message, ConversationError> {
        let failed = self.failed("keep a message");
        let mut db = self.conversations_db();
        let transaction = begin(&mut db).map_err(&failed)?;
        let found = find(&transaction, owner, id).map_err(&failed)?;
        let found = found.ok_or(ConversationError::NoConversation)?;
        let before = find_message(&transaction, found.n, message.id).map_err(&failed)?;
        check_place(&transaction, &found, before.as_ref(), message).map_err(&failed)??;
        let size_before = before.as_ref().map_or(0, |before| before.n_bytes);
        let n_bytes = (found.n_bytes + message.n_bytes()).saturating_sub(size_before);
        if n_bytes > MAX_CONVERSATION_BYTES && message.n_bytes() > size_before {
            return Err(ConversationError::TooLarge { found: n_bytes });
        }
        let now = self.clock.unix_ms();
        let kept = write_message(&transaction, found.n, message, now).map_err(&failed)?;
        let n_messages = found.n_messages + usize::from(before.is_none());
        let write = "UPDATE conversations SET n_messages = ?2, n_bytes = ?3, updated_at = ?4
             WHERE n = ?1";
        transaction
            .execute(write, params![found.n, n_messages as i64, n_bytes as i64, now])
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        Ok(kept)
    }
}

/// A conversation's own row.
struct Found {
    n: i64,
    summary: Summary,
    head: Option<String>,
    n_messages: usize,
    n_bytes: usize,
}

/// What is to be known of a message before it is written over.
struct FoundMessage {
    parent: Option<String>,
    n_bytes: usize,
}

fn read_summary(row: &rusqlite::Row<'_>) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: row.get("id")?,
        title: row.get("title")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn find(connection: &Connection, owner: u64, id: &str) -> rusqlite::Result<Option<Found>> {
    let ask = "SELECT * FROM conversations WHERE owner = ?1 AND id = ?2";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Found {
            n: row.get("n")?,
            summary: read_summary(row)?,
            head: row.get("head")?,
            n_messages: row.get::<_, u32>("n_messages")? as usize,
            n_bytes: row.get::<_, u32>("n_bytes")? as usize,
        })
    };
    connection.query_row(ask, params![owner.cast_signed(), id], read).optional()
}

fn find_message(
    connection: &Connection,
    conversation: i64,
    id: &str,
) -> rusqlite::Result<Option<FoundMessage>> {
    let ask = "SELECT parent, octet_length(content) + ifnull(octet_length(reasoning), 0)
             + ifnull(octet_length(meta), 0)
         FROM messages WHERE conversation = ?1 AND id = ?2";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(FoundMessage { parent: row.get(0)?, n_bytes: row.get::<_, u32>(1)? as usize })
    };
    connection.query_row(ask, params![conversation, id], read).optional()
}

/// Whether a message may stand where it wants to; the inner result is the answer.
fn check_place(
    transaction: &Transaction<'_>,
    conversation: &Found,
    before: Option<&FoundMessage>,
    message: &NewMessage<'_>,
) -> rusqlite::Result<Result<(), ConversationError>> {
    if let Some(before) = before {
        let stays = before.parent.as_deref() == message.parent;
        return Ok(if stays {
            Ok(())
        } else {
            Err(ConversationError::OtherParent {
                found: message.parent.map(str::to_owned),
                expected: before.parent.clone(),
            })
        });
    }
    if conversation.n_messages >= MAX_MESSAGES {
        return Ok(Err(ConversationError::TooManyMessages));
    }
    let Some(parent) = message.parent else { return Ok(Ok(())) };
    let is_there = find_message(transaction, conversation.n, parent)?.is_some();
    let missing = || ConversationError::NoParent { parent: parent.to_owned() };
    Ok(if is_there { Ok(()) } else { Err(missing()) })
}

fn write_message(
    transaction: &Transaction<'_>,
    conversation: i64,
    message: &NewMessage<'_>,
    now: i64,
) -> rusqlite::Result<Message> {
    let write = "
        INSERT INTO messages (conversation, id, parent, role, content, reasoning, meta, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
        ON CONFLICT (conversation, id) DO UPDATE SET
            role = excluded.role, content = excluded.content,
            reasoning = excluded.reasoning, meta = excluded.meta
        RETURNING created_at";
    let NewMessage { id, parent, role, content, reasoning, meta } = *message;
    let values = params![conversation, id, parent, role, content, reasoning, meta, now];
    let created_at = transaction.query_row(write, values, |row| row.get(0))?;
    Ok(Message {
        id: id.to_owned(),
        parent: parent.map(str::to_owned),
        role: role.to_owned(),
        content: content.to_owned(),
        reasoning: reasoning.map(str::to_owned),
        meta: meta.map(str::to_owned),
        created_at,
    })
}

fn read_messages(connection: &Connection, conversation: i64) -> rusqlite::Result<Vec<Message>> {
    // In the order in which they came; a parent always came first.
    let mut statement =
        connection.prepare("SELECT * FROM messages WHERE conversation = ?1 ORDER BY n")?;
    let rows = statement.query_map([conversation], |row| {
        Ok(Message {
            id: row.get("id")?,
            parent: row.get("parent")?,
            role: row.get("role")?,
            content: row.get("content")?,
            reasoning: row.get("reasoning")?,
            meta: row.get("meta")?,
            created_at: row.get("created_at")?,
        })
    })?;
    rows.collect()
}

/// Whether any message of a conversation holds a text in small letters.
fn messages_hold(connection: &Connection, n: i64, wanted: &str) -> rusqlite::Result<bool> {
    let ask = "SELECT content, reasoning FROM messages WHERE conversation = ?1";
    let mut statement = connection.prepare(ask)?;
    let mut rows = statement.query([n])?;
    while let Some(row) = rows.next()? {
        for column in 0..2 {
            // Read in place: a conversation may have megabytes.
            let text = row.get_ref(column)?.as_str_or_null()?;
            if text.is_some_and(|text| holds(text, wanted)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a text holds another, which is in small letters.
fn holds(text: &str, wanted: &str) -> bool {
    wanted.is_empty() || text.contains(wanted) || text.to_lowercase().contains(wanted)
}
