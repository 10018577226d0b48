//! `/api/conversations`: what the chat page keeps on the server, each caller's own.
//!
//! Bodies are strict: an unknown field is refused. They must say that they are JSON, which the page of
//! another site cannot do without asking first.

mod body;
mod export;

use crate::caller::Caller;
use crate::refusal::Refusal;
use crate::store::{
    Change, ConversationError, MAX_MESSAGE_BYTES, Message, NewMessage, Store, Summary, Thread,
};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Extension, Json, Router};
use body::{ChangeBody, CreateBody, MessageBody};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of a body: a message with its thinking and what is kept beside it, escapes included.
const MAX_BODY_BYTES: usize = 4 * MAX_MESSAGE_BYTES;

/// All routes, over a store.
pub(crate) fn routes() -> Router<Arc<Store>> {
    Router::new()
        .route("/api/conversations", get(list).post(create))
        .route("/api/conversations/{id}", get(read).patch(change).delete(delete))
        .route("/api/conversations/{id}/messages/{message}", put(put_message))
        .route("/api/conversations/{id}/export", get(export::export))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

type Id = Result<Path<String>, PathRejection>;
type Arrived = Result<Bytes, BytesRejection>;
type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

async fn list(
    State(store): State<Arc<Store>>,
    Extension(caller): Extension<Caller>,
    query: Pairs,
) -> Result<Json<Value>, Refusal> {
    let [wanted] = read_query(query, ["q"])?;
    let wanted = wanted.unwrap_or_default();
    let found = in_background(move || Ok(store.conversations(caller.owner, &wanted)?)).await?;
    Ok(Json(found.iter().map(summary).collect()))
}

async fn create(
    State(store): State<Arc<Store>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    arrived: Arrived,
) -> Result<Response, Refusal> {
    let asked = CreateBody::read(&body::json(&headers, arrived)?)?;
    let title = asked.title.unwrap_or_default();
    let made = in_background(move || store.create_conversation(caller.owner, &title)).await?;
    Ok((StatusCode::CREATED, Json(summary(&made))).into_response())
}

async fn read(
    State(store): State<Arc<Store>>,
    Extension(caller): Extension<Caller>,
    id: Id,
) -> Result<Json<Value>, Refusal> {
    let id = read_path(id)?;
    let found = in_background(move || store.conversation(caller.owner, &id)).await?;
    Ok(Json(thread(&found)))
}

async fn change(
    State(store): State<Arc<Store>>,
    Extension(caller): Extension<Caller>,
    id: Id,
    headers: HeaderMap,
    arrived: Arrived,
) -> Result<Json<Value>, Refusal> {
    let id = read_path(id)?;
    let asked = ChangeBody::read(&body::json(&headers, arrived)?)?;
    let changed = in_background(move || {
        let head = asked.head.as_ref().map(|head| head.as_deref());
        let change = Change { title: asked.title.as_deref(), head };
        store.change_conversation(caller.owner, &id, change)
    });
    Ok(Json(summary(&changed.await?)))
}

async fn delete(
    State(store): State<Arc<Store>>,
    Extension(caller): Extension<Caller>,
    id: Id,
) -> Result<StatusCode, Refusal> {
    let id = read_path(id)?;
    in_background(move || store.delete_conversation(caller.owner, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn put_message(
    State(store): State<Arc<Store>>,
    Extension(caller): Extension<Caller>,
    ids: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    arrived: Arrived,
) -> Result<Json<Value>, Refusal> {
    let (id, message_id) = read_path(ids)?;
    let asked = MessageBody::read(&message_id, &body::json(&headers, arrived)?)?;
    let kept = in_background(move || {
        let new = NewMessage {
            id: &message_id,
            parent: asked.parent.as_deref(),
            role: &asked.role,
            content: &asked.content,
            reasoning: asked.reasoning.as_deref(),
            meta: asked.meta.as_deref(),
        };
        store.put_message(caller.owner, &id, &new)
    });
    Ok(Json(message(&kept.await?)))
}

/// Where waiting for the disk keeps no stream from moving on.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ConversationError> + Send + 'static,
) -> Result<T, Refusal> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended
        .map_err(|_| Refusal::internal("the server cannot read its conversations"))?
        .map_err(refused)
}

fn refused(error: ConversationError) -> Refusal {
    let message = error.to_string();
    let full = StatusCode::UNPROCESSABLE_ENTITY;
    match error {
        ConversationError::NoConversation => Refusal::not_found(message),
        ConversationError::NoParent { .. } | ConversationError::OtherParent { .. } => {
            Refusal::invalid("parent", message)
        }
        ConversationError::NoHead { .. } => Refusal::invalid("head", message),
        ConversationError::TooManyConversations | ConversationError::TooManyMessages => {
            Refusal::new(full, "invalid_request_error", message)
        }
        ConversationError::TooLarge { .. } => Refusal::out_of_range("content", message),
        // The store's own text names files, which are no business of clients.
        ConversationError::Store(_) => {
            Refusal::internal("the server cannot read or write its conversations")
        }
    }
}

/// What stands in the path; bytes that are no text name nothing.
fn read_path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Refusal> {
    let Path(found) = path.map_err(|_| refused(ConversationError::NoConversation))?;
    Ok(found)
}

/// The values of a query's known names, each given once at most.
fn read_query<const N: usize>(
    query: Pairs,
    names: [&'static str; N],
) -> Result<[Option<String>; N], Refusal> {
    let Ok(Query(pairs)) = query else {
        return Err(Refusal::invalid("query", "the query cannot be understood"));
    };
    let mut values = [const { None }; N];
    for (name, value) in pairs {
        let Some(idx) = names.iter().position(|known| *known == name) else {
            let known = names.join("`, `");
            let message = format!("the query has an unknown field {name:?}, expected `{known}`");
            return Err(Refusal::invalid(name, message));
        };
        if values[idx].replace(value).is_some() {
            let message = format!("the query names `{}` twice", names[idx]);
            return Err(Refusal::invalid(names[idx], message));
        }
    }
    Ok(values)
}

/// Times are in seconds since 1970, as everywhere in the API.
fn seconds(ms: i64) -> i64 {
    ms.div_euclid(1000)
}

fn summary(summary: &Summary) -> Value {
    json!({
        "id": summary.id,
        "title": summary.title,
        "created_at": seconds(summary.created_at),
        "updated_at": seconds(summary.updated_at),
    })
}

fn thread(thread: &Thread) -> Value {
    let mut value = summary(&thread.summary);
    value["head"] = json!(thread.head);
    value["messages"] = thread.messages.iter().map(message).collect();
    value
}

fn message(message: &Message) -> Value {
    let meta = message.meta.as_deref().and_then(|meta| serde_json::from_str::<Value>(meta).ok());
    json!({
        "id": message.id,
        "parent": message.parent,
        "role": message.role,
        "content": message.content,
        "reasoning": message.reasoning,
        "meta": meta,
        "created_at": seconds(message.created_at),
    })
}

#[cfg(test)]
mod tests;
