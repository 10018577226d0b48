//! The grammar of an answer: JSON, calls of tools in the style of the model, or either of them.
//!
//! Written in the language of `llguidance`, a dialect of Lark in which `<[7]>` is the token 7 and
//! `@name` another grammar.

use super::schema::without_idle;
use super::style::{CallStyle, JSON_CALL_BEGIN, JSON_CALL_END};
use crate::ask::Format;
use fathom_text::special::{
    TOOL_CALL_BEGIN, TOOL_CALL_END, TOOL_CALLS_BEGIN, TOOL_CALLS_END, TOOL_SEP,
};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Value, json};
use std::fmt::Write;

/// White space between two parts of JSON: a line break and an indentation, or a few spaces. Without
/// a limit some models never end it.
const SPACE: &str = r"\r?\n[ \t]{0,64}|[ \t]{1,16}";

/// Any JSON object (RFC 8259). Numbers have a bounded length, because digits too are something that
/// models repeat for ever, and fit into an f64; escapes make whole characters.
const ANY_OBJECT: &str = r#"%llguidance {"ignore_once": true}
start: object
object: "{" (pair ("," pair)*)? "}"
pair: STRING ":" value
array: "[" (value ("," value)*)? "]"
value: object | array | STRING | NUMBER | WORD
STRING: /"([^"\\\x00-\x1f]|\\(["\\\/bfnrt]|u([0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})))*"/
NUMBER: /-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?/
WORD: "true" | "false" | "null"
SPACE: /\r?\n[ \t]{0,64}|[ \t]{1,16}/
%ignore SPACE
"#;

/// A tool that may be called.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    /// What its arguments must be; none: any object.
    pub(super) schema: Option<Value>,
}

/// What an answer is made of.
pub(super) struct Layout<'a> {
    pub(super) style: CallStyle,
    /// Tools that may be called; none: no calls.
    pub(super) tools: &'a [Tool],
    /// Several calls may stand in one answer.
    pub(super) parallel: bool,
    /// The marker around all calls may be missing, because the model began a call without it.
    pub(super) forgiving: bool,
    /// JSON that may be given instead of calls.
    pub(super) format: &'a Format,
    /// Ids of markers that are tokens; others are written as text.
    pub(super) id_of: &'a dyn Fn(&str) -> Option<u32>,
}

impl Layout<'_> {
    /// The grammar. `None` if it would allow nothing.
    pub(super) fn grammar(&self) -> Option<TopLevelGrammar> {
        let mut parts = Vec::new();
        let mut answers = Vec::new();
        match self.format {
            Format::Text => {}
            Format::JsonObject => answers.push("@any_object"),
            Format::JsonSchema(schema) => {
                answers.push("@answer");
                parts.push(of_schema("answer", schema));
            }
        }
        if !self.tools.is_empty() {
            answers.push("calls");
        }
        if answers.is_empty() {
            return None;
        }
        let mut lark =
            format!("start: LEAD? ({})\nLEAD: /[ \\n]\\n?/\nNL: \"\\n\"\n", answers.join(" | "));
        if !self.tools.is_empty() {
            lark += &self.calls();
        }
        for (idx, tool) in self.tools.iter().enumerate() {
            parts.extend(tool.schema.iter().map(|schema| of_schema(&arguments(idx), schema)));
        }
        if lark.contains("@any_object") {
            let any_object = GrammarWithLexer::from_lark(ANY_OBJECT.to_owned());
            parts.push(GrammarWithLexer { name: Some("any_object".to_owned()), ..any_object });
        }
        parts.insert(0, GrammarWithLexer::from_lark(lark));
        Some(TopLevelGrammar { grammars: parts, max_tokens: None })
    }

    /// Rules for calls in the model's style.
    fn calls(&self) -> String {
        let sign = |text: &str| match (self.id_of)(text) {
            Some(id) => format!("<[{id}]>"),
            None => literal(text),
        };
        let more = |separator: &str| match self.parallel {
            true => format!("({separator} call)*"),
            false => String::new(),
        };
        let (calls_begin, calls_end) = (sign(TOOL_CALLS_BEGIN), sign(TOOL_CALLS_END));
        let maybe = if self.forgiving { "?" } else { "" };
        let (begin, end, sep) = (sign(TOOL_CALL_BEGIN), sign(TOOL_CALL_END), sign(TOOL_SEP));
        let mut lark = match self.style {
            CallStyle::V3 => format!(
                "calls: {calls_begin}{maybe} call {} {calls_end}\n\
                 call: {begin} \"function\" {sep} body \"\\n```\" {end}\n",
                more("NL"),
            ),
            CallStyle::V31 => format!(
                "calls: {calls_begin}{maybe} call {} {calls_end}\ncall: {begin} body {end}\n",
                more(""),
            ),
            CallStyle::Json => format!(
                "calls: call {}\ncall: {} NL? body \"}}\" NL? {}\n",
                more("NL?"),
                literal(JSON_CALL_BEGIN),
                literal(JSON_CALL_END),
            ),
        };
        let bodies = self.tools.iter().enumerate().map(|(idx, tool)| {
            let name = &tool.name;
            let head = match self.style {
                CallStyle::V3 => literal(&format!("{name}\n```json\n")),
                CallStyle::V31 => format!("{} {sep}", literal(name)),
                CallStyle::Json => {
                    literal(&format!("{{\"name\": {}, \"arguments\": ", literal(name)))
                }
            };
            match tool.schema {
                Some(_) => format!("{head} @{}", arguments(idx)),
                None => format!("{head} @any_object"),
            }
        });
        // Writing to a string cannot fail.
        let _ = writeln!(lark, "body: {}", bodies.collect::<Vec<_>>().join("\n | "));
        lark
    }
}

/// The grammar of a JSON schema that [`super::check_schema`] let pass.
pub(super) fn of_schema(name: &str, schema: &Value) -> GrammarWithLexer {
    let mut schema = without_idle(schema);
    if let Value::Bool(true) = schema {
        schema = json!({});
    }
    if let Value::Object(entries) = &mut schema {
        let options = json!({"whitespace_flexible": true, "whitespace_pattern": SPACE});
        entries.insert("x-guidance".to_owned(), options);
    }
    let grammar = GrammarWithLexer::from_json_schema(schema);
    GrammarWithLexer { name: Some(name.to_owned()), ..grammar }
}

fn arguments(idx: usize) -> String {
    format!("arguments_{idx}")
}

/// Text as a literal of Lark, which are JSON's.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
