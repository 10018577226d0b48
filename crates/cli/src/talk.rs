//! Talking with a model: finding it, prompting it, showing what it says.

pub(crate) mod caching;
pub(crate) mod chat;
pub(crate) mod computing;
pub(crate) mod dialect;
pub(crate) mod drafting;
mod generation;
pub(crate) mod hole;
mod reply;
mod said;
mod scored;
pub(crate) mod screen;
pub(crate) mod settings;
pub(crate) mod source;
pub(crate) mod speaker;
