//! Who may ask: API keys, their limits and balances, before any route is reached.
//!
//! Keys come from the store, and from a file or the environment. Where there is neither, everybody may ask
//! and all are one. Limits and balances concern requests for answers; looking at models, one's balance or
//! one's conversations is always free.

mod statics;

pub use statics::{KeyFileError, StaticKey, read_keys};

use crate::app::Shared;
use crate::caller::Caller;
use crate::guarded::guarded;
use crate::refusal::Refusal;
use crate::store::{Key, Permit, Store, hash_of};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Which keys are accepted.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// From a file or the environment: without limits and balance.
    pub statics: Vec<StaticKey>,
    /// Whether the keys of the store count.
    pub from_store: bool,
}

impl Keys {
    /// Whether a key is needed. Asked anew for every request: the first key that is made while the server
    /// runs closes the door at once.
    ///
    /// Errors: the store cannot be read; then nobody may pass.
    pub fn are_needed(&self, store: &Store) -> Result<bool, Refusal> {
        if !self.statics.is_empty() {
            return Ok(true);
        }
        Ok(self.from_store && store.has_keys().map_err(unreadable)?)
    }
}

/// Somebody at the door.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) caller: Caller,
    /// To be kept until the response is over.
    permit: Option<Permit>,
}

/// Lets requests with a valid key pass, within its limits, and tells routes the [`Caller`].
///
/// Refuses with 401, 402, 429. `/api/info` is reached without a
/// key too, but then without a `Caller`.
pub async fn authenticate(State(app): State<Shared>, request: Request, next: Next) -> Response {
    pass(&app.settings.keys, &app.store, request, next).await
}

async fn pass(keys: &Keys, store: &Store, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_open = path == crate::route::info::PATH;
    match decide(keys, store, request.headers(), asks_for_an_answer(request.method(), path)) {
        Ok(Passed { caller, permit }) => {
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            match permit {
                Some(permit) => guarded(response, permit),
                None => response,
            }
        }
        Err(_) if is_open => next.run(request).await,
        Err(refusal) => refused(refusal),
    }
}

/// Whether a request costs something: one that the model works for.
fn asks_for_an_answer(method: &Method, path: &str) -> bool {
    let is_free = path.starts_with("/api/")
        || ["tokenize", "count_tokens"].iter().any(|end| path.ends_with(end));
    *method == Method::POST && !is_free
}

fn decide(
    keys: &Keys,
    store: &Store,
    headers: &HeaderMap,
    for_an_answer: bool,
) -> Result<Passed, Refusal> {
    if !keys.are_needed(store)? {
        return Ok(Passed { caller: Caller::default(), permit: None });
    }
    let shown = shown_keys(headers);
    if shown.is_empty() {
        return Err(no_key());
    }
    for secret in shown {
        let hash = hash_of(secret);
        if let Some(found) = statics::find(&keys.statics, &hash) {
            let caller = Caller { key_id: None, owner: found.owner() };
            return Ok(Passed { caller, permit: None });
        }
        if keys.from_store
            && let Some(key) = store.find_key(&hash).map_err(unreadable)?
        {
            let permit = if for_an_answer { Some(admit(store, &key)?) } else { None };
            let caller = Caller { key_id: Some(key.id), owner: key.owner };
            return Ok(Passed { caller, permit });
        }
    }
    Err(wrong_key())
}

/// The keys that a request shows: OpenAI's way first, then Anthropic's.
fn shown_keys(headers: &HeaderMap) -> Vec<&str> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    });
    let keys = [bearer, text("x-api-key").map(str::trim)];
    keys.into_iter().flatten().filter(|secret| !secret.is_empty()).collect()
}

/// Money before limits: waiting does not help who has none.
fn admit(store: &Store, key: &Key) -> Result<Permit, Refusal> {
    if let Some(balance) = &key.balance {
        balance.check()?;
    }
    store.admit(key).map_err(|limited| Refusal {
        retry_after_s: Some(limited.retry_after_s()),
        ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", limited.to_string())
            .code("rate_limit_exceeded")
    })
}

fn no_key() -> Refusal {
    unauthorized(
        "this server wants an API key, and the request shows none\nhint: send \
         `Authorization: Bearer KEY`, or `x-api-key: KEY`",
    )
}

fn wrong_key() -> Refusal {
    unauthorized(
        "this API key is not valid\nhint: check it for missing letters; `fathom key list` shows which \
         keys there are",
    )
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "authentication_error", message).code("invalid_api_key")
}

/// The store's own text names files, which are no business of clients.
fn unreadable(_: crate::store::StoreError) -> Refusal {
    Refusal::internal("the server cannot read its keys")
}

fn refused(refusal: Refusal) -> Response {
    let is_unauthorized = refusal.status == StatusCode::UNAUTHORIZED;
    let mut response = refusal.into_response();
    if is_unauthorized {
        let how = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    }
    response
}

#[cfg(test)]
mod tests;
