//! Calls of tools in an answer, however the model writes them.

use crate::grammar::{CallStyle, JsonCalls};
use fathom_text::reply::{CallEvent, ToolCallParser};

/// What finds calls in an answer.
pub(super) enum Calls {
    /// There are no tools, so all is text.
    Never,
    /// Between control tokens, as DeepSeek's models write them.
    Marked(ToolCallParser),
    /// Between tags, as all others do.
    Tagged(JsonCalls),
}

impl Calls {
    pub(super) fn of(style: Option<CallStyle>) -> Calls {
        match style {
            None => Calls::Never,
            Some(CallStyle::V3 | CallStyle::V31) => Calls::Marked(ToolCallParser::new()),
            Some(CallStyle::Json) => Calls::Tagged(JsonCalls::new()),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> Vec<CallEvent> {
        match self {
            Calls::Never => vec![CallEvent::Text(text.to_owned())],
            Calls::Marked(parser) => parser.push(text),
            Calls::Tagged(parser) => parser.push(text),
        }
    }

    /// What was held, where no more text comes.
    pub(super) fn finish(&mut self) -> Vec<CallEvent> {
        match std::mem::replace(self, Calls::Never) {
            Calls::Never => Vec::new(),
            Calls::Marked(parser) => parser.finish(),
            Calls::Tagged(parser) => parser.finish(),
        }
    }
}
