//! The grammar waits for the end of the thinking.

use super::walk::Walk;
use super::{Case, Format, PLAIN, TOKENIZER, Tokenizer, grammars};
use fathom_text::special::{EOS, TOOL_CALLS_BEGIN};

fn thinking(tokenizer: &Tokenizer, check: impl FnOnce(&mut Walk<'_>)) {
    let case = Case { format: Format::JsonObject, in_thinking: true, ..Case::default() };
    let grammars = grammars(tokenizer);
    let constraint = case.constraint(&grammars).unwrap().unwrap();
    check(&mut Walk::new(tokenizer, constraint, 0));
}

#[test]
fn thinking_is_free_and_the_answer_is_not() {
    for tokenizer in [&*TOKENIZER, &*PLAIN] {
        thinking(tokenizer, |walk| {
            walk.say("the answer is } ] 42 <think> ");
            assert!(!walk.may_say(EOS));
            walk.say("</think>\n\n{\"a\": 42}");
            assert_eq!(walk.allowed(), [tokenizer.token_id(EOS).unwrap()]);
        });
        thinking(tokenizer, |walk| {
            walk.say("x</think>");
            assert!(!walk.may_say("the"));
            walk.say("{}");
        });
    }
}

#[test]
fn a_marker_in_pieces_ends_the_thinking_too() {
    // Byte by byte, although there is a token for the whole.
    for tokenizer in [&*TOKENIZER, &*PLAIN] {
        thinking(tokenizer, |walk| {
            for byte in "hm </thin </think>".bytes() {
                let text = (byte as char).to_string();
                let id = tokenizer.encode_plain(&text)[0];
                assert!(walk.allowed().contains(&id), "{text}");
                walk.accept(id);
            }
            assert!(!walk.may_say("the"));
            walk.say("{\"b\":1}");
        });
    }
}

#[test]
fn no_token_may_end_the_thinking_and_go_on_with_text() {
    let crossing = (0..PLAIN.vocab_size() as u32).filter(|id| {
        PLAIN.token_text(*id).is_some_and(|text| text.contains('>') && !text.ends_with('>'))
    });
    let crossing: Vec<u32> = crossing.collect();
    thinking(&PLAIN, |walk| {
        walk.say("so");
        let free = walk.allowed();
        assert!(crossing.iter().all(|id| free.contains(id)));
        walk.say("</think");
        let allowed = walk.allowed();
        for id in crossing {
            let text = PLAIN.token_text(id).unwrap();
            let goes_on = text.starts_with('>') && !text[1..].trim().is_empty();
            assert_eq!(allowed.contains(&id), !goes_on, "{text:?}");
        }
    });
}

#[test]
fn nothing_is_called_while_thinking() {
    thinking(&TOKENIZER, |walk| {
        walk.say("I call ");
        assert!(!walk.may_say(TOOL_CALLS_BEGIN));
    });
}
