//! The routes that live on the store and the counters.

use super::{balance, conversations, info, metrics};
use crate::app::Shared;
use axum::Router;
use axum::routing::get;

/// Balance, numbers, and what the page keeps.
pub(crate) fn store_routes(app: &Shared) -> Router<Shared> {
    Router::new()
        .route("/user/balance", get(balance::balance))
        .route("/v1/user/balance", get(balance::balance))
        .route("/metrics", get(metrics::metrics))
        .route(info::PATH, get(info::info))
        .merge(conversations::routes().with_state(app.store.clone()))
}

#[cfg(test)]
mod tests;
