//! Talking with a model: finding it, prompting it, showing what it says.

pub(crate) mod chat;
pub(crate) mod hole;
mod reply;
mod said;
pub(crate) mod screen;
pub(crate) mod settings;
pub(crate) mod source;
pub(crate) mod speaker;
