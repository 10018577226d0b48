//! One file for each endpoint, or for a few that belong together.

pub(crate) mod balance;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod conversations;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod store;
pub(crate) mod tokens;
pub(crate) mod unknown;
