//! From what a request wants to the constraint of its answer.

use super::blame;
use super::constraint::{Answer, TokenConstraint};
use super::large_stack::{brief, on_large_stack};
use super::layout::{Layout, Tool};
use super::schema::{check_schema_at, tool_schema};
use super::style::CallStyle;
use super::vocabulary::{GrammarError, Tokens};
use super::watch::{Effect, Marker, Watch};
use crate::ask::{Format, ToolChoice};
use crate::refusal::Refusal;
use fathom_engine::service::Constraint;
use fathom_text::Tokenizer;
use fathom_text::chat::Json;
use fathom_text::special::{
    END_THINK, TOOL_CALL_BEGIN, TOOL_CALL_END, TOOL_CALLS_BEGIN, TOOL_CALLS_END, TOOL_SEP,
};
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use std::sync::{Arc, OnceLock};

/// Where the schema of an answer stands in a request.
const FORMAT_AT: &str = "response_format.json_schema.schema";

/// What an answer must look like, as the request says.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Text, or JSON.
    pub format: &'a Format,
    /// Each `{"type": "function", "function": {"name", "parameters", "strict"}}`.
    pub tools: &'a [Json],
    /// Whether and which tools are called.
    pub tool_choice: &'a ToolChoice,
    /// Several calls may stand in one answer.
    pub parallel: bool,
    /// How the model writes calls.
    pub call_style: CallStyle,
    /// Whether the prompt opened the thinking: everything is free up to `</think>`.
    pub in_thinking: bool,
}

/// Makes constraints for one model. What costs time and memory is made at the first need.
pub struct Grammars {
    tokens: Arc<Tokens>,
    /// Ids of the control tokens that calls are made of.
    ids: Vec<(&'static str, Option<u32>)>,
    factory: OnceLock<Result<ParserFactory, String>>,
}

impl Grammars {
    /// For the tokens of `tokenizer` below `vocab_limit`; `stop_ids` end every answer.
    ///
    /// Errors: `Ids`.
    pub fn new(
        tokenizer: &Tokenizer,
        vocab_limit: usize,
        stop_ids: &[u32],
    ) -> Result<Grammars, GrammarError> {
        let tokens = Arc::new(Tokens::of(tokenizer, vocab_limit, stop_ids)?);
        let signs = [TOOL_CALLS_BEGIN, TOOL_CALLS_END, TOOL_CALL_BEGIN, TOOL_CALL_END, TOOL_SEP];
        let id = |sign: &str| tokenizer.token_id(sign).filter(|id| (*id as usize) < vocab_limit);
        let ids = signs.iter().map(|sign| (*sign, id(sign))).collect();
        Ok(Grammars { tokens, ids, factory: OnceLock::new() })
    }

    /// The constraint of an answer; none if it is free.
    ///
    /// Errors: 400 for a schema that cannot be enforced and a tool that is not there.
    pub fn constraint(&self, wanted: &Wanted<'_>) -> Result<Option<Box<dyn Constraint>>, Refusal> {
        if let Format::JsonSchema(schema) = wanted.format {
            check_schema_at(schema, FORMAT_AT)?;
        }
        let tools = callable(wanted)?;
        let begins = wanted.call_style.begins();
        let is_free = *wanted.format == Format::Text
            && matches!(wanted.tool_choice, ToolChoice::Auto | ToolChoice::None);
        let forbids_calls = *wanted.tool_choice == ToolChoice::None;
        if is_free && tools.is_empty() && !forbids_calls {
            return Ok(None);
        }
        let id_of = |sign: &str| self.id_of(sign);
        let must_call = matches!(wanted.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        let layout = Layout {
            style: wanted.call_style,
            tools: &tools,
            parallel: wanted.parallel,
            forgiving: is_free,
            format: if must_call { &Format::Text } else { wanted.format },
            id_of: &id_of,
        };
        let matcher = match layout.grammar() {
            Some(grammar) => {
                Some(self.matcher(grammar).map_err(|e| self.blamed(wanted, &tools, e))?)
            }
            None => None,
        };
        let effect = if forbids_calls { Effect::Forbidden } else { Effect::Opens };
        let watch = |effect| {
            begins.iter().map(move |text| Marker { text, effect }).collect::<Vec<Marker>>()
        };
        let answer = match matcher {
            Some(matcher) if !is_free => Answer::Bound(Box::new(matcher)),
            matcher => Answer::Free {
                watch: Watch::new(self.tokens.clone(), watch(effect)),
                calls: matcher.map(Box::new),
            },
        };
        let thinking = wanted.in_thinking.then(|| {
            let mut markers = watch(Effect::Forbidden);
            markers.push(Marker { text: END_THINK, effect: Effect::Opens });
            Watch::new(self.tokens.clone(), markers)
        });
        let ids = begins.iter().map(|text| (*text, self.ids_of(text))).collect();
        Ok(Some(Box::new(TokenConstraint::new(self.tokens.clone(), thinking, answer, ids))))
    }

    /// Compiles a grammar. Errors: why it cannot be.
    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        let factory = self.factory()?;
        let compile = || {
            let parser = factory.create_parser(grammar).map_err(|error| brief(&error))?;
            let mut matcher = Matcher::new(Ok(parser));
            // The first mask shows whether there is any way at all.
            match matcher.compute_mask() {
                Ok(_) => Ok(matcher),
                Err(error) => Err(brief(&error)),
            }
        };
        on_large_stack(compile)?
    }

    fn factory(&self) -> Result<&ParserFactory, String> {
        let factory = self.factory.get_or_init(|| {
            let mut factory =
                ParserFactory::new_simple(&self.tokens.tree()).map_err(|error| brief(&error))?;
            factory.quiet();
            let limits = factory.limits_mut();
            // Errors must not carry what people wrote.
            limits.verbose_errors = false;
            // Hundreds of members that may all be left out are all possible at once.
            limits.max_items_in_row = 20_000;
            limits.step_max_items = 200_000;
            Ok(factory)
        });
        factory.as_ref().map_err(String::clone)
    }

    /// A refusal that names the schema, and the place in it, for which there is no grammar.
    fn blamed(&self, wanted: &Wanted<'_>, tools: &[Tool], error: String) -> Refusal {
        let mut schemas = Vec::new();
        if let Format::JsonSchema(schema) = wanted.format {
            schemas.push((schema, FORMAT_AT.to_owned()));
        }
        for tool in tools {
            let is_it = |other: &Json| name_of(other) == Some(&tool.name);
            let idx = wanted.tools.iter().position(is_it).unwrap_or(0);
            let at = format!("tools[{idx}].function.parameters");
            schemas.extend(tool.schema.as_ref().map(|schema| (schema, at)));
        }
        let found = schemas.iter().find_map(|(schema, at)| blame::find(schema, at));
        match found {
            Some((at, error)) => {
                Refusal::invalid(at, format!("no grammar for this schema: {error}"))
            }
            None if schemas.is_empty() => Refusal::internal(format!("no grammar: {error}")),
            None => {
                let at = schemas[0].1.clone();
                Refusal::invalid(at, format!("no grammar for this schema: {error}"))
            }
        }
    }

    fn id_of(&self, sign: &str) -> Option<u32> {
        self.ids.iter().find(|(text, _)| *text == sign).and_then(|(_, id)| *id)
    }

    /// The tokens by which a grammar hears a marker.
    fn ids_of(&self, sign: &str) -> Vec<u32> {
        match self.id_of(sign) {
            Some(id) => vec![id],
            None => match self.factory() {
                Ok(factory) => factory.tok_env().tokenize_bytes(sign.as_bytes()),
                Err(_) => Vec::new(),
            },
        }
    }
}

/// The tools that this answer may call. Errors: 400.
fn callable(wanted: &Wanted<'_>) -> Result<Vec<Tool>, Refusal> {
    let mut tools = Vec::new();
    for (idx, tool) in wanted.tools.iter().enumerate() {
        let name = name_of(tool).ok_or_else(|| {
            Refusal::invalid(format!("tools[{idx}].function.name"), "a tool without a name")
        })?;
        let chosen = match wanted.tool_choice {
            ToolChoice::None => false,
            ToolChoice::Auto | ToolChoice::Required => true,
            ToolChoice::Named(wanted) => wanted == name,
        };
        if chosen {
            let at = format!("tools[{idx}].function.parameters");
            tools.push(Tool { name: name.to_owned(), schema: tool_schema(tool, &at)? });
        }
    }
    match wanted.tool_choice {
        ToolChoice::Required if tools.is_empty() => {
            Err(Refusal::invalid("tool_choice", "a tool must be called, but `tools` is empty"))
        }
        ToolChoice::Named(name) if tools.is_empty() => {
            Err(Refusal::invalid("tool_choice", format!("no tool in `tools` is named `{name}`")))
        }
        _ => Ok(tools),
    }
}

fn name_of(tool: &Json) -> Option<&str> {
    tool.get("function").unwrap_or(tool).get("name")?.as_str()
}
