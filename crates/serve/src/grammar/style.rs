//! How a model writes calls of tools.

use fathom_text::special::{
    TOOL_CALL_BEGIN, TOOL_CALL_END, TOOL_CALLS_BEGIN, TOOL_CALLS_END, TOOL_SEP,
};
use fathom_text::{ChatRenderer, Tokenizer};

/// Begins a call in [`CallStyle::Json`].
pub(super) const JSON_CALL_BEGIN: &str = "<tool_call>";
/// Ends it.
pub(super) const JSON_CALL_END: &str = "</tool_call>";

/// How a model writes calls of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStyle {
    /// V2.5, V3 and R1: `function<｜tool▁sep｜>NAME`, then the arguments in a json fence.
    V3,
    /// V3.1: `NAME<｜tool▁sep｜>ARGUMENTS`.
    V31,
    /// All others: `<tool_call>{"name": NAME, "arguments": ARGUMENTS}</tool_call>`, which Qwen's and
    /// many other models were trained with.
    Json,
}

impl CallStyle {
    /// The style of a model: DeepSeek's if its vocabulary has the tokens and its template writes
    /// them.
    pub fn of(renderer: &ChatRenderer, tokenizer: &Tokenizer) -> CallStyle {
        let template = &renderer.file().text;
        let tokens = [TOOL_CALLS_BEGIN, TOOL_CALL_BEGIN, TOOL_SEP, TOOL_CALL_END, TOOL_CALLS_END];
        let has = |token: &&str| tokenizer.token_id(token).is_some() && template.contains(*token);
        match tokens.iter().all(has) {
            true if template.contains("```json") => CallStyle::V3,
            true => CallStyle::V31,
            false => CallStyle::Json,
        }
    }

    /// Texts that begin calls. The first begins them all, the others a call whose outer marker was
    /// forgotten.
    pub(super) fn begins(self) -> &'static [&'static str] {
        match self {
            CallStyle::V3 | CallStyle::V31 => &[TOOL_CALLS_BEGIN, TOOL_CALL_BEGIN],
            CallStyle::Json => &[JSON_CALL_BEGIN],
        }
    }
}
