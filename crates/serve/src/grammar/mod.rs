//! What an answer may look like, as masks over tokens: JSON, JSON of a schema, calls of tools.
//!
//! The masks come from `llguidance`; here are the grammars of the formats, what stands around them
//! (thinking, free text in front of a call), and what is refused. `docs/constraints.md` tells it
//! in words.

mod blame;
mod calls;
mod constraint;
mod finite;
mod grammars;
mod large_stack;
mod layout;
mod schema;
mod style;
mod told;
mod vocabulary;
mod watch;

#[cfg(test)]
mod tests;

pub use calls::JsonCalls;
pub use grammars::{Grammars, Wanted};
pub use schema::{check_schema, check_schema_at, check_strict_tool};
pub use style::CallStyle;
pub use told::told;
pub use vocabulary::GrammarError;
