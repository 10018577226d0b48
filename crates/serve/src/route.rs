//! One file for each endpoint, or for a few that belong together.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod health;
pub(crate) mod models;
pub(crate) mod tokens;
pub(crate) mod unknown;
