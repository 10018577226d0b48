//! Every keyword that is accepted is enforced, and no schema leads into a corner.

use super::valid::is_valid;
use super::walk::{Walk, walks};
use super::{Case, TOKENIZER, Tokenizer, grammars};
use fathom_text::special::EOS;
use serde_json::{Value, json};
use std::time::Instant;

fn table() -> Vec<Value> {
    let object = |property: Value| {
        json!({"type": "object", "properties": {"a": property}, "required": ["a"],
               "additionalProperties": false})
    };
    vec![
        json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"},
               "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["name", "age", "tags"],
               "additionalProperties": false}),
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "null"}}}),
        json!({"type": "object"}),
        json!({}),
        json!(true),
        json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3}),
        json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": false}),
        json!({"type": "array", "uniqueItems": false, "items": {"const": 5}}),
        json!({"enum": ["red", "grün", 3, null, {"a": [1]}]}),
        json!({"const": {"x": "y"}}),
        json!({"type": ["string", "null"], "maxLength": 4}),
        object(
            json!({"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"z": {"type": "null"}},
                      "required": ["z"], "additionalProperties": false}]}),
        ),
        object(json!({"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]})),
        object(json!({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 7}]})),
        object(json!({"type": "string", "minLength": 2, "maxLength": 5})),
        object(json!({"type": "integer", "minimum": -3, "maximum": 120})),
        object(json!({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3})),
        object(json!({"type": "number", "minimum": 0.5, "maximum": 2.25})),
        object(json!({"type": "integer", "multipleOf": 25, "minimum": 0, "maximum": 1000})),
        object(json!({"type": "number", "format": "float"})),
        object(
            json!({"type": "string", "description": "text", "default": "x", "title": "T", "x-order": 1}),
        ),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "patternProperties": {"^k[0-9]$": {"type": "integer"}}, "additionalProperties": false}),
        json!({"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 1, "maxProperties": 2}),
        json!({"$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"},
               "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
               "required": ["value", "next"], "additionalProperties": false}}, "$ref": "#/$defs/node"}),
        json!({"definitions": {"word": {"type": "string", "maxLength": 3}}, "type": "array",
               "items": {"$ref": "#/definitions/word", "description": "a word"}, "maxItems": 4}),
        json!({"type": "object", "properties": {"child": {"$ref": "#"}}, "additionalProperties": false}),
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/x",
               "type": "object", "properties": {"x-y": {"type": "integer"}}, "required": ["x-y"],
               "additionalProperties": false}),
    ]
}

fn check_all(tokenizer: &Tokenizer, schemas: &[Value], n: u64) {
    let grammars = grammars(tokenizer);
    for schema in schemas {
        for text in walks(tokenizer, &grammars, &Case::schema(schema.clone()), n) {
            let value: Value = match serde_json::from_str(&text) {
                Ok(value) => value,
                // A number may be JSON and yet too large for an f64.
                Err(error) if error.to_string().contains("number out of range") => continue,
                Err(error) => panic!("{error}: {text:?} by {schema}"),
            };
            assert!(is_valid(schema, schema, &value), "{text} by {schema}");
        }
    }
}

#[test]
fn random_answers_are_valid_by_every_schema_of_the_table() {
    check_all(&TOKENIZER, &table(), 12);
}

/// What may be said as the value of `a`, and what may not.
fn check_text(schema: Value, right: &[&str], wrong: &[&str]) {
    let grammars = grammars(&TOKENIZER);
    let allows = |text: &str| {
        let case = Case::schema(schema.clone());
        let mut walk = Walk::new(&TOKENIZER, case.constraint(&grammars).unwrap().unwrap(), 0);
        for byte in text.bytes() {
            // Single bytes stand behind the special tokens, so any text can be spelt.
            let id = (0..TOKENIZER.vocab_size() as u32)
                .find(|id| TOKENIZER.id_to_bytes(*id) == Some(&[byte]));
            let id = id.unwrap();
            if !walk.allowed().contains(&id) {
                return false;
            }
            walk.accept(id);
        }
        walk.may_say(EOS)
    };
    right.iter().for_each(|text| assert!(allows(text), "{text} is valid by {schema}"));
    wrong.iter().for_each(|text| assert!(!allows(text), "{text} is not valid by {schema}"));
}

#[test]
fn patterns_and_formats_are_enforced() {
    let text = |key: &str, value: &str| json!({"type": "string", key: value});
    check_text(
        text("pattern", "^[a-f]{2}-\\d+$"),
        &["\"ab-1\"", "\"ff-042\""],
        &["\"ab\"", "\"xy-1\"", "\"ab-1 \""],
    );
    check_text(text("pattern", "b+"), &["\"abc\"", "\"bb\""], &["\"ac\"", "\"\""]);
    check_text(text("format", "email"), &["\"a.b@example.org\""], &["\"a.b\"", "\"@x\""]);
    check_text(text("format", "hostname"), &["\"a-b.example\""], &["\"-a\"", "\"a b\""]);
    check_text(text("format", "ipv4"), &["\"192.168.0.1\""], &["\"192.168.0\"", "\"256.1.1.1\""]);
    check_text(text("format", "ipv6"), &["\"2001:db8::1\"", "\"::\""], &["\"1.2.3.4\"", "\":\""]);
    check_text(
        text("format", "uuid"),
        &["\"123e4567-e89b-12d3-a456-426614174000\""],
        &["\"123e4567\"", "\"g23e4567-e89b-12d3-a456-426614174000\""],
    );
    check_text(text("format", "date"), &["\"2024-02-29\""], &["\"2024-13-01\"", "\"24-01-01\""]);
    check_text(text("format", "time"), &["\"23:59:59Z\""], &["\"24:00:00Z\"", "\"12:00\""]);
    check_text(
        text("format", "date-time"),
        &["\"2024-01-01T00:00:00+02:00\""],
        &["\"2024-01-01\""],
    );
    check_text(text("format", "duration"), &["\"P1DT2H\"", "\"PT5M\""], &["\"1D\"", "\"P\""]);
    check_text(text("format", "uri"), &["\"https://example.org/a?b#c\""], &["\"example\""]);
}

#[test]
fn numbers_keep_their_bounds() {
    check_text(
        json!({"type": "integer", "minimum": -3, "maximum": 12}),
        &["-3", "0", "12"],
        &["-4", "13", "1.5", "01"],
    );
    check_text(
        json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1.5}),
        &["0.1", "1", "1.5"],
        &["0", "1.51", "-1"],
    );
    check_text(json!({"type": "integer", "multipleOf": 9973}), &["9973", "19946"], &["9974"]);
    check_text(json!({"type": "integer", "multipleOf": 7}), &["0", "14", "-21"], &["1", "13"]);
    check_text(json!({"type": "number", "multipleOf": 0.5}), &["1.5", "2"], &["1.2"]);
}

#[test]
fn the_schema_says_the_order_of_members() {
    let schema = json!({"type": "object", "properties": {"z": {"type": "null"}, "a": {"type": "null"}},
                        "required": ["z", "a"], "additionalProperties": false});
    check_text(
        schema,
        &["{\"z\":null,\"a\":null}", "{\n  \"z\": null,\n  \"a\": null\n}"],
        &["{\"a\":null,\"z\":null}"],
    );
}

/// The vocabulary of DeepSeek's releases, if it lies beside the project.
fn real_tokenizer() -> Option<Tokenizer> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/tokenizers/deepseek-v4-tokenizer.json"
    );
    if !std::path::Path::new(path).exists() {
        eprintln!("skipped: no {path}");
        return None;
    }
    Some(Tokenizer::open(path).unwrap())
}

#[test]
fn a_real_vocabulary_keeps_the_schemas_too() {
    let Some(tokenizer) = real_tokenizer() else { return };
    check_all(&tokenizer, &table()[..3], 2);
}

/// Prints what a mask costs: `cargo test -p fathom-serve --lib cost_of_masks -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn cost_of_masks() {
    let Some(tokenizer) = real_tokenizer() else { return };
    let start = Instant::now();
    let grammars = grammars(&tokenizer);
    println!("bytes of tokens: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    Case::schema(json!({})).constraint(&grammars).unwrap();
    println!("tree of tokens and a first grammar: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    for schema in table() {
        let start = Instant::now();
        let case = Case::schema(schema.clone());
        let mut constraint = case.constraint(&grammars).unwrap().unwrap();
        let compiled = start.elapsed().as_secs_f64() * 1e3;
        let eos = tokenizer.token_id(EOS).unwrap();
        let mut mask = vec![u32::MAX; tokenizer.vocab_size().div_ceil(32)];
        let (mut state, mut took) = (1u64, Vec::new());
        for n in 0..400 {
            mask.fill(u32::MAX);
            let start = Instant::now();
            constraint.allow(&mut mask).unwrap();
            took.push(start.elapsed().as_secs_f64() * 1e6);
            let allowed = (0..tokenizer.vocab_size() as u32)
                .filter(|id| mask[*id as usize / 32] & (1 << (id % 32)) != 0);
            let allowed: Vec<u32> = allowed.collect();
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let id = allowed[(state >> 33) as usize % allowed.len()];
            let start = Instant::now();
            constraint.accept(id).unwrap();
            took[n] += start.elapsed().as_secs_f64() * 1e6;
            if id == eos {
                break;
            }
        }
        took.sort_by(f64::total_cmp);
        let (n, mean) = (took.len(), took.iter().sum::<f64>() / took.len() as f64);
        let shown: String = schema.to_string().chars().take(60).collect();
        println!(
            "compiled {compiled:6.1} ms; {n:3} masks: mean {mean:6.0}, median {:6.0}, most {:6.0} us  {shown}",
            took[n / 2],
            took[n - 1],
        );
    }
}

#[test]
fn hundreds_of_members_may_be_left_out() {
    let members: serde_json::Map<String, Value> =
        (0..600).map(|n| (format!("m{n}"), json!({"type": "integer"}))).collect();
    let schema = json!({"type": "object", "properties": members, "additionalProperties": false});
    check_text(schema, &["{}", "{\"m599\":1}", "{\"m1\":1,\"m300\":2}"], &["{\"m600\":1}"]);
}
