//! Anthropic's messages interface over the same answers.
//!
//! Source: Anthropic's public description of its Messages API, and the table of supported fields in
//! DeepSeek's documentation of its own `/anthropic` endpoint. Differences: `docs/api.md`.

mod blocks;
mod reply;
mod request;
mod route;
mod shape;
mod tools;

#[cfg(test)]
mod tests;

pub use route::routes;
pub use shape::in_shape;
