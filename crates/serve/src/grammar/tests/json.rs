//! JSON objects without a schema.

use super::walk::{Walk, walks};
use super::{Case, Format, PLAIN, TOKENIZER, grammars};
use fathom_text::special::EOS;
use serde_json::Value;

fn json_object() -> Case {
    Case { format: Format::JsonObject, ..Case::default() }
}

#[test]
fn random_json_objects_are_read_by_serde() {
    for tokenizer in [&*TOKENIZER, &*PLAIN] {
        let grammars = grammars(tokenizer);
        for text in walks(tokenizer, &grammars, &json_object(), 60) {
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(value.is_object(), "{text}");
        }
    }
}

#[test]
fn behind_the_object_only_the_end_may_come() {
    let grammars = grammars(&TOKENIZER);
    let constraint = json_object().constraint(&grammars).unwrap().unwrap();
    let mut walk = Walk::new(&TOKENIZER, constraint, 0);
    assert!(!walk.may_say(EOS));
    walk.say("{\"a\": [1, 2.5e-3, \"ü\\n\\u00e9\\ud83d\\ude42\"], \"b\": {}}");
    assert_eq!(walk.allowed(), [TOKENIZER.token_id(EOS).unwrap()]);
}

#[test]
fn white_space_comes_to_an_end() {
    let grammars = grammars(&TOKENIZER);
    for space in [" ", "\t", "\n", "\n "] {
        let constraint = json_object().constraint(&grammars).unwrap().unwrap();
        let mut walk = Walk::new(&TOKENIZER, constraint, 0);
        walk.say("{");
        let mut n_said = 0;
        'said: while n_said < 200 {
            for id in TOKENIZER.encode(space) {
                if !walk.allowed().contains(&id) {
                    break 'said;
                }
                walk.accept(id);
            }
            n_said += 1;
        }
        assert!(n_said < 100, "{space:?}");
        walk.say("\"a\":1}");
    }
}

#[test]
fn what_is_not_json_cannot_be_said() {
    let grammars = grammars(&TOKENIZER);
    for (before, wrong) in [
        ("", "["),
        ("", "Sure"),
        ("{", "a"),
        ("{\"a\":", "}"),
        ("{\"a\":1", "1e"),
        ("{\"a\":0", "0"),
        ("{\"a\":\"\\", "x"),
        ("{\"a\":\"", "\n"),
        ("{\"a\":-", "-"),
        ("{\"a\":1", "\"b\""),
    ] {
        let constraint = json_object().constraint(&grammars).unwrap().unwrap();
        let mut walk = Walk::new(&TOKENIZER, constraint, 0);
        walk.say(before);
        if wrong != "1e" {
            assert!(!walk.may_say(wrong), "{wrong:?} behind {before:?}");
        }
    }
}

#[test]
fn control_tokens_are_no_text() {
    let grammars = grammars(&TOKENIZER);
    let constraint = json_object().constraint(&grammars).unwrap().unwrap();
    let mut walk = Walk::new(&TOKENIZER, constraint, 0);
    walk.say("{\"a\": \"");
    let allowed = walk.allowed();
    assert!(allowed.iter().all(|id| (*id as usize) < TOKENIZER.vocab_size()));
    for id in TOKENIZER.control_ids() {
        assert!(!allowed.contains(&id), "{:?}", TOKENIZER.token_text(id));
    }
}

#[test]
fn what_the_tools_need_is_not_needed_for_text() {
    let grammars = grammars(&TOKENIZER);
    assert!(Case::default().constraint(&grammars).unwrap().is_none());
    let thinking = Case { in_thinking: true, ..Case::default() };
    assert!(thinking.constraint(&grammars).unwrap().is_none());
}
