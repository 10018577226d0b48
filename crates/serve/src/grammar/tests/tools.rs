//! Calls of tools in every style.

use super::valid::is_valid;
use super::walk::{Walk, walks};
use super::{
    CallStyle, Case, Format, PLAIN, TOKENIZER, Tokenizer, ToolChoice, grammars, time, weather,
};
use crate::grammar::JsonCalls;
use fathom_text::reply::{CallEvent, ToolCallParser};
use fathom_text::special::{EOS, TOOL_CALL_BEGIN, TOOL_CALLS_BEGIN, TOOL_SEP};
use serde_json::{Value, json};

/// Text outside calls, and calls as names and arguments.
fn parsed(style: CallStyle, text: &str) -> (String, Vec<(String, String)>) {
    let events = match style {
        CallStyle::Json => {
            let mut parser = JsonCalls::new();
            let mut events = parser.push(text);
            events.extend(parser.finish());
            events
        }
        CallStyle::V3 | CallStyle::V31 => {
            let mut parser = ToolCallParser::new();
            let mut events = parser.push(text);
            events.extend(parser.finish());
            events
        }
    };
    let (mut content, mut calls) = (String::new(), Vec::new());
    for event in events {
        match event {
            CallEvent::Text(text) => content += &text,
            CallEvent::Begin { name, .. } => calls.push((name, String::new())),
            CallEvent::Arguments { index, text } => calls[index].1 += &text,
            CallEvent::End { .. } => {}
        }
    }
    (content, calls)
}

fn styles() -> [(CallStyle, &'static Tokenizer); 4] {
    [
        (CallStyle::V3, &TOKENIZER),
        (CallStyle::V31, &TOKENIZER),
        (CallStyle::Json, &TOKENIZER),
        (CallStyle::Json, &PLAIN),
    ]
}

fn weather_schema() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 8},
           "unit": {"enum": ["C", "F"]}}, "required": ["city", "unit"],
           "additionalProperties": false})
}

#[test]
fn required_calls_are_read_back_and_valid() {
    for (call_style, tokenizer) in styles() {
        let tools = vec![weather(true), time()];
        let tool_choice = ToolChoice::Required;
        let case = Case { tools, tool_choice, call_style, ..Case::default() };
        let mut n_calls = 0;
        for text in walks(tokenizer, &grammars(tokenizer), &case, 30) {
            let (content, calls) = parsed(call_style, &text);
            assert_eq!(content.trim(), "", "{text}");
            assert!(!calls.is_empty(), "{text}");
            for (name, arguments) in &calls {
                let value: Value = serde_json::from_str(arguments)
                    .unwrap_or_else(|e| panic!("{e}: {arguments} in {text}"));
                match name.as_str() {
                    "get_weather" => {
                        let schema = weather_schema();
                        assert!(is_valid(&schema, &schema, &value), "{arguments}");
                    }
                    "get_time" => assert!(value.is_object(), "{arguments}"),
                    other => panic!("{other} in {text}"),
                }
            }
            n_calls += calls.len();
        }
        assert!(n_calls > 30, "never two calls: {call_style:?}");
    }
}

#[test]
fn a_named_tool_is_called_once_if_calls_are_not_parallel() {
    for (call_style, tokenizer) in styles() {
        let case = Case {
            tools: vec![weather(false), time()],
            tool_choice: ToolChoice::Named("get_time".into()),
            parallel: false,
            call_style,
            ..Case::default()
        };
        for text in walks(tokenizer, &grammars(tokenizer), &case, 20) {
            let (_, calls) = parsed(call_style, &text);
            assert_eq!(calls.len(), 1, "{text}");
            assert_eq!(calls[0].0, "get_time");
        }
    }
}

#[test]
fn a_model_may_talk_until_it_begins_a_call_by_itself() {
    let check = |call_style, tokenizer: &Tokenizer, begin: &str, rest: &str| {
        let tools = vec![weather(true), time()];
        let case = Case { tools, call_style, ..Case::default() };
        let constraint = case.constraint(&grammars(tokenizer)).unwrap().unwrap();
        let mut walk = Walk::new(tokenizer, constraint, 3);
        walk.say("the answer } is <tool ");
        assert!(walk.may_say(EOS));
        walk.say(begin);
        assert!(!walk.may_say(EOS) && !walk.may_say("the"), "{call_style:?}");
        walk.say(rest);
        assert_eq!(walk.allowed(), [tokenizer.token_id(EOS).unwrap()], "{}", walk.text());
        let (content, calls) = parsed(call_style, &walk.text());
        assert_eq!(content, "the answer } is <tool ");
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].0, "get_time");
        assert_eq!(calls[0].1, "{\"a\": 1}");
    };
    let v3 = "function<｜tool▁sep｜>get_time\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let v31 = "get_time<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let both = format!("{TOOL_CALLS_BEGIN}{TOOL_CALL_BEGIN}");
    check(CallStyle::V3, &TOKENIZER, &both, v3);
    check(CallStyle::V3, &TOKENIZER, TOOL_CALL_BEGIN, v3);
    check(CallStyle::V31, &TOKENIZER, &both, v31);
}

#[test]
fn calls_in_json_begin_by_themselves_too() {
    for tokenizer in [&*TOKENIZER, &*PLAIN] {
        let call_style = CallStyle::Json;
        let case = Case { tools: vec![weather(true), time()], call_style, ..Case::default() };
        let constraint = case.constraint(&grammars(tokenizer)).unwrap().unwrap();
        let mut walk = Walk::new(tokenizer, constraint, 3);
        walk.say("the <tool_call>");
        assert!(!walk.may_say(EOS) && !walk.may_say("the"));
        walk.say(
            "\n{\"name\": \"get_time\", \"arguments\": {\"a\": \"</tool_call>\"}}\n</tool_call>",
        );
        assert!(walk.may_say(EOS) && !walk.may_say("the"));
        let (content, calls) = parsed(call_style, &walk.text());
        assert_eq!(content, "the ");
        assert_eq!(calls, [("get_time".to_owned(), "{\"a\": \"</tool_call>\"}".to_owned())]);
    }
}

#[test]
fn a_name_that_is_no_tool_cannot_be_said() {
    let case = Case { tools: vec![time()], call_style: CallStyle::V31, ..Case::default() };
    let constraint = case.constraint(&grammars(&TOKENIZER)).unwrap().unwrap();
    let mut walk = Walk::new(&TOKENIZER, constraint, 0);
    walk.say(TOOL_CALLS_BEGIN);
    walk.say(TOOL_CALL_BEGIN);
    walk.say("get_");
    assert!(!walk.may_say("weather") && !walk.may_say(TOOL_SEP));
    walk.say("time<｜tool▁sep｜>{");
}

#[test]
fn no_call_begins_where_none_is_wanted() {
    for (call_style, tokenizer) in styles() {
        let tools = vec![time()];
        let case = Case { tools, tool_choice: ToolChoice::None, call_style, ..Case::default() };
        let constraint = case.constraint(&grammars(tokenizer)).unwrap().unwrap();
        let mut walk = Walk::new(tokenizer, constraint, 0);
        walk.say("the answer is 42. <tool");
        if call_style == CallStyle::Json {
            walk.say("_call");
            assert!(!walk.may_say(">"));
        } else {
            assert!(!walk.may_say(TOOL_CALLS_BEGIN) && !walk.may_say(TOOL_CALL_BEGIN));
        }
        assert!(walk.may_say(EOS));
    }
}

#[test]
fn an_answer_in_json_may_be_a_call_instead() {
    let format =
        Format::JsonSchema(json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "required": ["n"], "additionalProperties": false}));
    let case = Case { format, tools: vec![time()], call_style: CallStyle::V31, ..Case::default() };
    let grammars = grammars(&TOKENIZER);
    for text in [
        "{\"n\": 5}".to_owned(),
        format!("{TOOL_CALLS_BEGIN}{TOOL_CALL_BEGIN}get_time{TOOL_SEP}{{}}"),
    ] {
        let constraint = case.constraint(&grammars).unwrap().unwrap();
        let mut walk = Walk::new(&TOKENIZER, constraint, 0);
        assert!(!walk.may_say("the"));
        walk.say(&text);
    }
}

#[test]
fn a_call_can_follow_the_thinking() {
    for (call_style, tokenizer) in styles() {
        let case = Case {
            tools: vec![weather(true)],
            tool_choice: ToolChoice::Required,
            call_style,
            in_thinking: true,
            ..Case::default()
        };
        let constraint = case.constraint(&grammars(tokenizer)).unwrap().unwrap();
        let mut walk = Walk::new(tokenizer, constraint, 9);
        walk.say("the weather</think>\n\n");
        walk.ids.clear();
        let (content, calls) = parsed(call_style, &walk.finish());
        assert_eq!(content, "");
        assert_eq!(calls[0].0, "get_weather");
    }
}
