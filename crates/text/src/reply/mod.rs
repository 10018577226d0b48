//! Replies taken apart: reasoning, answer, and the calls of tools.

mod thinking;
mod tool_calls;

pub use thinking::{Part, ThinkingSplitter};
pub use tool_calls::{CallEvent, ToolCallParser, parse_tool_calls};
