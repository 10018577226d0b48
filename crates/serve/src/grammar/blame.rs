//! Finds the part of a schema for which there is no grammar, so that a refusal can name it.

use super::large_stack::{brief, on_large_stack};
use super::layout::of_schema;
use super::schema::children;
use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use serde_json::Value;

/// Parts that are tried; each costs about a millisecond.
const MAX_TRIES: usize = 300;

/// The path of the smallest part that cannot be compiled by itself, and why not.
pub(super) fn find(schema: &Value, at: &str) -> Option<(String, String)> {
    let mut search = Search { root: schema, n_left: MAX_TRIES };
    search.descend(schema, at)
}

struct Search<'a> {
    root: &'a Value,
    n_left: usize,
}

impl Search<'_> {
    fn descend(&mut self, schema: &Value, at: &str) -> Option<(String, String)> {
        self.n_left = self.n_left.checked_sub(1)?;
        let error = self.failure(schema)?;
        // `false` has no grammar and yet its place, such as in `additionalProperties`.
        let parts = children(schema, at).into_iter().filter(|(child, _)| child.is_object());
        for (child, path) in parts {
            if let Some(found) = self.descend(child, &path) {
                return Some(found);
            }
        }
        Some((at.to_owned(), error))
    }

    /// Why a part cannot be compiled, with the definitions that it may refer to.
    fn failure(&self, part: &Value) -> Option<String> {
        let mut part = part.clone();
        if let Value::Object(entries) = &mut part {
            for key in ["$defs", "definitions"] {
                if let (Some(defs), None) = (self.root.get(key), entries.get(key)) {
                    entries.insert(key.to_owned(), defs.clone());
                }
            }
        }
        let grammar = TopLevelGrammar::from_grammar(of_schema("part", &part));
        let limits = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        let compile = || GrammarInit::Serialized(grammar).to_internal(None, limits).map(|_| ());
        match on_large_stack(compile) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(brief(&error)),
            Err(error) => Some(error),
        }
    }
}
