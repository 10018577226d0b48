//! The parser of calls in JSON.

use crate::grammar::JsonCalls;
use fathom_text::reply::CallEvent;

/// Events with the texts of one place joined.
fn events<'t>(pieces: impl Iterator<Item = &'t str>) -> Vec<CallEvent> {
    let mut parser = JsonCalls::new();
    let mut all: Vec<CallEvent> = pieces.flat_map(|piece| parser.push(piece)).collect();
    all.extend(parser.finish());
    let mut joined: Vec<CallEvent> = Vec::new();
    for event in all {
        match (joined.last_mut(), &event) {
            (Some(CallEvent::Text(text)), CallEvent::Text(more)) => text.push_str(more),
            (Some(CallEvent::Arguments { text, .. }), CallEvent::Arguments { text: more, .. }) => {
                text.push_str(more)
            }
            _ => joined.push(event),
        }
    }
    joined
}

fn text(text: &str) -> CallEvent {
    CallEvent::Text(text.to_owned())
}

fn call(index: usize, name: &str, arguments: &str) -> [CallEvent; 3] {
    [
        CallEvent::Begin { index, name: name.to_owned() },
        CallEvent::Arguments { index, text: arguments.to_owned() },
        CallEvent::End { index },
    ]
}

fn check(reply: &str, expected: &[CallEvent]) {
    assert_eq!(events(std::iter::once(reply)), expected, "{reply:?}");
    let characters = reply.char_indices().map(|(at, c)| &reply[at..at + c.len_utf8()]);
    assert_eq!(events(characters), expected, "{reply:?} by character");
}

#[test]
fn calls_are_found_among_text() {
    check("plain < text", &[text("plain < text")]);
    let one = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}\\\"</tool_call>\"}}\n</tool_call>";
    let f = call(0, "f", "{\"a\": \"}\\\"</tool_call>\"}");
    check(one, &f);
    check(&format!("See:\n{one}"), &[&[text("See:\n")], &f[..]].concat());
    check(&format!("{one}\n"), &f);
    check(&format!("{one}\nDone"), &[&f[..], &[text("\nDone")]].concat());
    let g = "<tool_call>{\"name\":\"g\",\"parameters\":{}}</tool_call>";
    check(&format!("{one}\n{g}"), &[&f[..], &call(1, "g", "{}")].concat());
}

#[test]
fn unusual_calls_are_understood() {
    let f = call(0, "f", "{\"a\":[1]}");
    check("<tool_call>{\"arguments\":{\"a\":[1]},\"name\":\"f\"}</tool_call>", &f);
    check("<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":[1]}\"}</tool_call>", &f);
    check("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":[1]}}", &f);
    check("<tool_call>{\"name\":\"f\"}</tool_call>", &call(0, "f", "{}"));
}

#[test]
fn what_was_cut_off_is_told_as_far_as_it_came() {
    let f = |arguments| call(0, "f", arguments);
    check("<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":", &f("{\"a\":"));
    check("<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool", &f("{}"));
    check("<tool_call>{\"name\":\"f\",\"argu", &[text("<tool_call>{\"name\":\"f\",\"argu")]);
    check("a<tool_c", &[text("a<tool_c")]);
}

#[test]
fn what_is_no_call_is_text() {
    check("<tool_call>f(1)</tool_call>", &[text("<tool_call>f(1)</tool_call>")]);
    check("<tool_call>{\"f\": 1}</tool_call>x", &[text("<tool_call>{\"f\": 1}</tool_call>x")]);
}
