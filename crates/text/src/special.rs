//! Names of DeepSeek's control tokens. `｜` is U+FF5C and `▁` is U+2581, not ASCII.

pub const BOS: &str = "<｜begin▁of▁sentence｜>";
pub const EOS: &str = "<｜end▁of▁sentence｜>";
pub const PAD: &str = "<｜▁pad▁｜>";
pub const USER: &str = "<｜User｜>";
pub const ASSISTANT: &str = "<｜Assistant｜>";
/// Opens the reasoning. Not skipped when decoding: it is part of what a model says.
pub const THINK: &str = "<think>";
/// Closes the reasoning.
pub const END_THINK: &str = "</think>";
pub const FIM_HOLE: &str = "<｜fim▁hole｜>";
pub const FIM_BEGIN: &str = "<｜fim▁begin｜>";
pub const FIM_END: &str = "<｜fim▁end｜>";
pub const EOT: &str = "<|EOT|>";
pub const TOOL_CALLS_BEGIN: &str = "<｜tool▁calls▁begin｜>";
pub const TOOL_CALLS_END: &str = "<｜tool▁calls▁end｜>";
pub const TOOL_CALL_BEGIN: &str = "<｜tool▁call▁begin｜>";
pub const TOOL_CALL_END: &str = "<｜tool▁call▁end｜>";
pub const TOOL_OUTPUTS_BEGIN: &str = "<｜tool▁outputs▁begin｜>";
pub const TOOL_OUTPUTS_END: &str = "<｜tool▁outputs▁end｜>";
pub const TOOL_OUTPUT_BEGIN: &str = "<｜tool▁output▁begin｜>";
pub const TOOL_OUTPUT_END: &str = "<｜tool▁output▁end｜>";
pub const TOOL_SEP: &str = "<｜tool▁sep｜>";

/// The first ids of every vocabulary trained here, in this order, as in DeepSeek-V3.
pub const FIRST: [&str; 3] = [BOS, EOS, PAD];
/// What the chat formats need beyond [`FIRST`].
pub const CHAT: [&str; 4] = [USER, ASSISTANT, THINK, END_THINK];
/// What fill-in-the-middle needs.
pub const FIM: [&str; 3] = [FIM_HOLE, FIM_BEGIN, FIM_END];

/// Whether a reader should see the token when special tokens are left out.
pub fn is_visible(token: &str) -> bool {
    matches!(token, THINK | END_THINK)
}
