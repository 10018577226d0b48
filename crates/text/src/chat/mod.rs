//! Conversations as token ids: messages, chat templates, and the formats of DeepSeek's models.
//!
//! [`ChatRenderer`] lays out any conversation, through a checkpoint's own template or one of
//! [`FORMATS`]; [`render`] and [`render_reply`] are the short way for training.

mod format;
mod guard;
mod json;
mod message;
mod python;
mod renderer;
mod template;
mod turns;

pub use format::{ChatFormat, FORMATS, FormatRow, Hints};
pub use json::Json;
pub use message::{Conversation, Message, Role, ToolCall};
pub use renderer::{ChatRenderer, Options, Prompt, TemplateFile};
pub use turns::{
    R1_ZERO_PREAMBLE, encode_reply, render, render_reply, split_thinking, tokenizer_config_json,
};
