//! How models are told of tools.

use super::{CallStyle, PLAIN, TOKENIZER, time};
use crate::grammar::told;
use fathom_text::chat::{Options, TemplateFile};
use fathom_text::{ChatFormat, ChatRenderer, Conversation, Message, Role, Tokenizer, ToolCall};

fn conversation() -> Conversation {
    let mut call = Message::assistant("");
    call.tool_calls.push(ToolCall {
        id: "call_0".into(),
        name: "get_time".into(),
        arguments: "{\"a\": 1}".into(),
    });
    let messages = vec![
        Message::user("When?"),
        call,
        Message::tool("noon"),
        Message::tool("one"),
        Message::user("So?"),
    ];
    Conversation { messages, tools: vec![time()] }
}

fn prompt(format: ChatFormat, tokenizer: &Tokenizer) -> (CallStyle, String) {
    let renderer = ChatRenderer::built_in(format, tokenizer).unwrap();
    prompt_by(&renderer, tokenizer)
}

fn prompt_by(renderer: &ChatRenderer, tokenizer: &Tokenizer) -> (CallStyle, String) {
    let style = CallStyle::of(renderer, tokenizer);
    let conversation = conversation();
    let told = told(&conversation, renderer, style);
    let options = Options { add_generation_prompt: true, ..Options::default() };
    (style, renderer.prompt(tokenizer, &told, &options).unwrap().text)
}

#[test]
fn templates_that_declare_tools_are_left_alone() {
    for (format, expected) in [
        (ChatFormat::V3, CallStyle::V3),
        (ChatFormat::R1, CallStyle::V3),
        (ChatFormat::V31, CallStyle::V31),
    ] {
        let (style, text) = prompt(format, &TOKENIZER);
        assert_eq!(style, expected);
        assert!(text.matches("get_time").count() >= 2, "{text}");
        assert!(!text.contains("<tool_call>"), "{text}");
    }
}

#[test]
fn models_without_tool_tokens_read_and_write_calls_as_text() {
    for (format, tokenizer) in [
        (ChatFormat::R1, &*PLAIN),
        (ChatFormat::V3, &*PLAIN),
        (ChatFormat::V2, &*TOKENIZER),
        (ChatFormat::Llm, &*TOKENIZER),
        (ChatFormat::Vl, &*TOKENIZER),
    ] {
        let (style, text) = prompt(format, tokenizer);
        assert_eq!(style, CallStyle::Json, "{format:?}");
        assert!(text.contains("<tools>\n{\"type\":\"function\""), "{text}");
        let call = "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"a\": 1}}\n</tool_call>";
        assert!(text.contains(call), "{text}");
        let results =
            "<tool_response>\nnoon\n</tool_response>\n<tool_response>\none\n</tool_response>";
        assert!(text.contains(results), "{text}");
    }
}

#[test]
fn templates_that_only_write_calls_get_a_declaration() {
    let built_in = ChatRenderer::built_in(ChatFormat::V3, &TOKENIZER).unwrap();
    let text = built_in.file().text.replace("tools", "no_such_list");
    let file = TemplateFile { path: "test".into(), text, ..TemplateFile::default() };
    let renderer = ChatRenderer::new(file, &TOKENIZER).unwrap();
    let (style, by_us) = prompt_by(&renderer, &TOKENIZER);
    assert_eq!(style, CallStyle::V3);
    assert!(
        by_us.contains("## Tools\n\n### Function\n\nYou have the following functions available:")
    );
    assert!(by_us.contains("- `get_time`:\n```json\n{\n"), "{by_us}");
}

#[test]
fn a_conversation_without_tools_is_told_as_it_is() {
    let renderer = ChatRenderer::built_in(ChatFormat::V2, &TOKENIZER).unwrap();
    let plain = Conversation::from(vec![Message::new(Role::User, "Hi")]);
    assert!(matches!(told(&plain, &renderer, CallStyle::Json), std::borrow::Cow::Borrowed(_)));
}
