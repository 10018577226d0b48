//! Replies come apart the same way however they arrive.

use fathom_text::chat::ToolCall;
use fathom_text::reply::{CallEvent, Part, ThinkingSplitter, ToolCallParser, parse_tool_calls};

/// Reasoning and answer of a reply that arrives in pieces of `n` characters.
fn split(reply: &str, opened: bool, n: usize) -> (String, String) {
    let mut splitter = ThinkingSplitter::new(opened);
    let characters: Vec<char> = reply.chars().collect();
    let mut pieces = Vec::new();
    for piece in characters.chunks(n) {
        pieces.extend(splitter.push(&piece.iter().collect::<String>()));
    }
    pieces.extend(splitter.finish());
    let text = |part| pieces.iter().filter(|piece| piece.0 == part).map(|p| p.1.as_str()).collect();
    (text(Part::Reasoning), text(Part::Answer))
}

#[test]
fn thinking_is_split_however_the_text_arrives() {
    let cases = [
        ("<think>\na\n</think>\n\nb", false, "a", "b"),
        ("a\n</think>\n\nb\n", true, "a", "b"),
        ("b\n\nc", false, "", "b\n\nc"),
        ("a is cut o", true, "a is cut o", ""),
        ("a is cut </thi", true, "a is cut </thi", ""),
        ("\n\n</think>b", true, "", "b"),
        ("a < b </ think> c</think>d</think>e", true, "a < b </ think> c", "d</think>e"),
        (" <think>a", false, "a", ""),
        ("<thin air", false, "", "<thin air"),
        ("ü\n\nü</think>\nü", true, "ü\n\nü", "ü"),
        ("", false, "", ""),
        ("", true, "", ""),
    ];
    for (reply, opened, reasoning, answer) in cases {
        for n in [1, 2, 3, 7, 1000] {
            assert_eq!(split(reply, opened, n), (reasoning.into(), answer.into()), "{reply} {n}");
        }
    }
}

const V3: &str = "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\": \"`x`\"}\n```\
    <｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
const V31: &str = "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": \"`x`\"}<｜tool▁call▁end｜>\
    <｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";

fn calls(expected: &[(&str, &str)]) -> Vec<ToolCall> {
    let call = |(idx, (name, arguments)): (usize, &(&str, &str))| ToolCall {
        id: format!("call_{idx}"),
        name: name.to_string(),
        arguments: arguments.to_string(),
    };
    expected.iter().enumerate().map(call).collect()
}

#[test]
fn calls_of_both_formats_are_found_and_markers_may_be_missing() {
    let both: &[(&str, &str)] = &[("f", "{\"a\": \"`x`\"}"), ("g", "{}")];
    let check = |reply: &str, content: &str, expected: &[(&str, &str)]| {
        assert_eq!(parse_tool_calls(reply), (content.to_owned(), calls(expected)), "{reply}");
    };
    check(V3, "I look.", both);
    check(V31, "I look.", both);
    for reply in [V3, V31] {
        check(&reply.replace("<｜tool▁calls▁begin｜>", ""), "I look.", both);
        check(&reply.replace("<｜tool▁calls▁end｜>", ""), "I look.", both);
        check(&reply.replace("<｜tool▁call▁end｜>", ""), "I look.", both);
        check(
            reply.strip_suffix("<｜tool▁call▁end｜><｜tool▁calls▁end｜>").unwrap(),
            "I look.",
            both,
        );
        check(&format!("{reply} More."), "I look. More.", both);
    }
    check(&V3.replace("```json", "").replace("```", ""), "I look.", both);
    check(&V31.replace("f<", "function<"), "I look.", &[("function", "{\"a\": \"`x`\"}"), both[1]]);
    check("no calls ｜> <｜tool", "no calls ｜> <｜tool", &[]);
    check("<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": ", "", &[("f", "{\"a\":")]);
    check("<｜tool▁call▁begin｜>garbage<｜tool▁call▁end｜>", "garbage", &[]);
    check("<｜tool▁call▁begin｜>garbage", "garbage", &[]);
    check("<｜tool▁calls▁begin｜>", "", &[]);
}

#[test]
fn half_received_calls_stream_their_arguments() {
    for reply in [V3, V31] {
        let expected = parse_tool_calls(reply).1;
        let mut parser = ToolCallParser::new();
        let mut events = Vec::new();
        for character in reply.chars() {
            events.extend(parser.push(character.encode_utf8(&mut [0; 4])));
            assert!(
                !events
                    .iter()
                    .any(|event| matches!(event, CallEvent::Text(text) if text.contains('｜')))
            );
        }
        assert!(!parser.is_in_call());
        events.extend(parser.finish());
        let n_pieces = events
            .iter()
            .filter(|event| matches!(event, CallEvent::Arguments { index: 0, .. }))
            .count();
        assert!(n_pieces > 3, "{events:?}");
        for (index, call) in expected.iter().enumerate() {
            let arguments: String = events
                .iter()
                .filter_map(|event| match event {
                    CallEvent::Arguments { index: of, text } if *of == index => Some(text.as_str()),
                    _ => None,
                })
                .collect();
            assert_eq!(arguments, call.arguments);
            assert!(events.contains(&CallEvent::End { index }));
        }
    }
}

#[test]
fn no_prefix_of_a_reply_panics_or_invents_text() {
    for reply in [V3, V31] {
        for (at, _) in reply.char_indices() {
            let (content, found) = parse_tool_calls(&reply[..at]);
            assert!("I look.".starts_with(&content) || at < V3.len(), "{content}");
            assert!(found.len() <= 2);
        }
    }
}
