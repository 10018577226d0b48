//! Constraints alone, without an engine: what is drawn at random is always valid in the end.

mod calls;
mod json;
mod refusals;
mod schemas;
mod thinking;
mod told;
mod tools;
mod valid;
mod walk;

use super::{CallStyle, Grammars, Wanted};
use crate::ask::{Format, ToolChoice};
use crate::refusal::Refusal;
use fathom_engine::service::Constraint;
use fathom_text::chat::Json;
use fathom_text::special::{
    ASSISTANT, END_THINK, EOS, THINK, TOOL_CALL_BEGIN, TOOL_CALL_END, TOOL_CALLS_BEGIN,
    TOOL_CALLS_END, TOOL_SEP, USER,
};
use fathom_text::{BpeSettings, PretokenizerStyle, Tokenizer, train_bpe};
use std::sync::LazyLock;

/// A vocabulary in which tokens cross the borders of JSON's parts.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let signs = [
        USER,
        ASSISTANT,
        THINK,
        END_THINK,
        TOOL_CALLS_BEGIN,
        TOOL_CALLS_END,
        TOOL_CALL_BEGIN,
        TOOL_CALL_END,
        TOOL_SEP,
    ];
    trained(&signs)
});

/// The same without tokens for calls and thinking.
static PLAIN: LazyLock<Tokenizer> = LazyLock::new(|| trained(&[USER, ASSISTANT]));

fn trained(signs: &[&str]) -> Tokenizer {
    let text = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\", \"n\": 12}}\n\
                <tool_call>\n{\"a\":[1,2,{\"b\":null}],\"c\":true}\n</tool_call>\n\
                ```json\n{\"x\": -1.5e3}\n``` </think>\n\nthe answer is 42 <think> \
                get_weather get_time temperature ünï 苹果 \u{1f642} }},\n  \"";
    let settings = BpeSettings {
        vocab_size: 600,
        special_tokens: signs.iter().map(|sign| (*sign).to_owned()).collect(),
        pretokenizer: PretokenizerStyle::Code,
        min_frequency: 2,
    };
    train_bpe(std::iter::repeat_n(text.to_owned(), 4), &settings).unwrap()
}

fn grammars(tokenizer: &Tokenizer) -> Grammars {
    let eos = tokenizer.token_id(EOS).unwrap();
    Grammars::new(tokenizer, tokenizer.vocab_size(), &[eos]).unwrap()
}

/// What a test wants, with the usual rest.
#[derive(Clone)]
struct Case {
    format: Format,
    tools: Vec<Json>,
    tool_choice: ToolChoice,
    parallel: bool,
    call_style: CallStyle,
    in_thinking: bool,
}

impl Default for Case {
    fn default() -> Case {
        Case {
            format: Format::Text,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel: true,
            call_style: CallStyle::V3,
            in_thinking: false,
        }
    }
}

impl Case {
    fn schema(schema: serde_json::Value) -> Case {
        Case { format: Format::JsonSchema(schema), ..Case::default() }
    }

    fn constraint(&self, grammars: &Grammars) -> Result<Option<Box<dyn Constraint>>, Refusal> {
        grammars.constraint(&Wanted {
            format: &self.format,
            tools: &self.tools,
            tool_choice: &self.tool_choice,
            parallel: self.parallel,
            call_style: self.call_style,
            in_thinking: self.in_thinking,
        })
    }
}

fn tool(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn weather(strict: bool) -> Json {
    tool(&format!(
        r#"{{"type":"function","function":{{"name":"get_weather","strict":{strict},"parameters":
        {{"type":"object","properties":{{"city":{{"type":"string","maxLength":8}},"unit":{{"enum":["C","F"]}}}},
        "required":["city","unit"],"additionalProperties":false}}}}}}"#
    ))
}

fn time() -> Json {
    tool(r#"{"type":"function","function":{"name":"get_time","parameters":{"type":"object"}}}"#)
}
