//! What is refused, and the path that a refusal names.

use super::{Case, TOKENIZER, ToolChoice, grammars, time, tool};
use crate::grammar::{check_schema, check_strict_tool};
use serde_json::{Value, json};

const AT: &str = "response_format.json_schema.schema";

/// What says no first: the check, or the compiler.
fn refused(schema: Value) -> (String, String) {
    let refusal = match check_schema(&schema) {
        Err(refusal) => refusal,
        Ok(()) => Case::schema(schema.clone())
            .constraint(&grammars(&TOKENIZER))
            .err()
            .unwrap_or_else(|| panic!("accepted: {schema}")),
    };
    assert_eq!(refusal.status, 400);
    (refusal.param.unwrap(), refusal.message)
}

#[test]
fn every_refusal_names_its_path() {
    let check = |path: &str, schema: Value| {
        let (param, message) = refused(schema);
        let expected = if path.is_empty() { AT.to_owned() } else { format!("{AT}.{path}") };
        assert_eq!(param, expected, "{message}");
        assert!(message.len() < 400, "{message}");
    };
    check("", json!("object"));
    check("", json!(false));
    check("not", json!({"not": {"type": "string"}}));
    check("uniqueItems", json!({"type": "array", "uniqueItems": true}));
    check("nullable", json!({"type": "string", "nullable": true}));
    check("wrongKey", json!({"type": "string", "wrongKey": 1}));
    check("type", json!({"type": "text"}));
    check("type", json!({"type": []}));
    check("enum", json!({"enum": []}));
    check("required", json!({"type": "object", "required": "a"}));
    check("minLength", json!({"type": "string", "minLength": -1}));
    check("minimum", json!({"type": "number", "minimum": "1"}));
    check("minLength", json!({"type": "string", "minLength": 1_000_000}));
    check("maxLength", json!({"type": "string", "maxLength": 40_000_000_000u64}));
    check("multipleOf", json!({"type": "integer", "multipleOf": 10_007}));
    check("multipleOf", json!({"type": "number", "multipleOf": 1e-10}));
    check("multipleOf", json!({"type": "integer", "multipleOf": 0}));
    check("pattern", json!({"type": "string", "pattern": "(?=a)b"}));
    check("pattern", json!({"type": "string", "pattern": "("}));
    check("format", json!({"type": "string", "format": "telephone"}));
    check("$ref", json!({"$ref": "#/$defs/missing"}));
    check("$ref", json!({"$ref": "https://example.com/schema.json"}));
    check("properties.a.if", json!({"type": "object", "properties": {"a": {"if": true}}}));
    check("anyOf[1].items.contains", json!({"anyOf": [true, {"items": {"contains": true}}]}));
    check("$defs.a.$id", json!({"$defs": {"a": {"$id": "x"}}}));
    check("properties", json!({"type": "object", "properties": []}));
    check("properties.a", json!({"type": "object", "properties": {"a": 1}}));
    check("items", json!({"type": "array", "items": "string"}));
}

#[test]
fn contradictions_are_found_where_they_are() {
    let check = |path: &str, schema: Value| {
        let (param, message) = refused(schema);
        assert_eq!(param, format!("{AT}.{path}"), "{message}");
    };
    let object = |property: Value| {
        json!({"type": "object", "properties": {"b": {"type": "string"}, "a": property},
               "required": ["a", "b"], "additionalProperties": false})
    };
    check("properties.a", object(json!({"type": "integer", "minimum": 5, "maximum": 4})));
    check(
        "properties.a",
        object(json!({"type": "integer", "minimum": 1, "maximum": 4, "multipleOf": 5})),
    );
    check("properties.a", object(json!({"type": "string", "minLength": 3, "maxLength": 2})));
    check(
        "properties.a",
        object(json!({"type": "array", "minItems": 3, "maxItems": 2, "items": {"type": "null"}})),
    );
    check(
        "properties.a",
        object(json!({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 5}]})),
    );
    check(
        "properties.a",
        object(json!({"type": "object", "required": ["x"], "additionalProperties": false})),
    );
    check("properties.a", object(json!({"allOf": [{"type": "string"}, {"type": "integer"}]})));
}

#[test]
fn schemas_without_an_end_are_refused() {
    let endless = [
        json!({"$ref": "#"}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}),
        json!({"type": "array", "items": {"$ref": "#"}, "minItems": 1}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"anyOf": [{"$ref": "#"}, {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1}]}),
    ];
    for schema in endless {
        assert_eq!(refused(schema).0, AT);
    }
}

#[test]
fn large_and_deep_schemas_are_refused_without_harm() {
    let wide: serde_json::Map<String, Value> =
        (0..3000).map(|n| (format!("p{n}"), json!({"type": "string"}))).collect();
    assert!(refused(json!({"type": "object", "properties": wide})).1.contains("more than"));
    // A chain of references as long as may be, which the compiler follows by recursion.
    let chain: serde_json::Map<String, Value> = (0..1900)
        .map(|n| {
            (format!("d{n}"), json!({"anyOf": [{"$ref": format!("#/$defs/d{}", (n + 1) % 1900)}]}))
        })
        .collect();
    assert!(!refused(json!({"$defs": chain, "$ref": "#/$defs/d0"})).1.is_empty());
    let chain: serde_json::Map<String, Value> = (0..900)
        .map(|n| (format!("d{n}"), json!({"type": ["null", "array"], "items": {"$ref": format!("#/$defs/d{}", (n + 1) % 900)}})))
        .collect();
    let schema = json!({"$defs": chain, "$ref": "#/$defs/d0"});
    Case::schema(schema).constraint(&grammars(&TOKENIZER)).unwrap();
}

#[test]
fn strict_tools_must_be_closed() {
    let check = |parameters: &str, path: &str| {
        let refusal = check_strict_tool(Some(&tool(parameters)), "tools[2].p").unwrap_err();
        assert_eq!(refusal.param.unwrap(), format!("tools[2].p.{path}"));
    };
    check(r#"{"type":"string"}"#, "type");
    check(r#"{"type":"object","properties":{}}"#, "additionalProperties");
    check(r#"{"type":"object","properties":{"a":{}},"additionalProperties":false}"#, "required");
    check(
        r#"{"type":"object","properties":{"a":{"type":"object"}},"required":["a"],"additionalProperties":false}"#,
        "properties.a.additionalProperties",
    );
    check(
        r#"{"type":"object","properties":{"a":{"not":{}}},"required":["a"],"additionalProperties":false}"#,
        "properties.a.not",
    );
    check_strict_tool(None, "").unwrap();
    let closed =
        r#"{"type":"object","properties":{"a":{}},"required":["a"],"additionalProperties":false}"#;
    check_strict_tool(Some(&tool(closed)), "").unwrap();
}

#[test]
fn a_tool_that_is_not_there_cannot_be_demanded() {
    let refusal = |case: Case| case.constraint(&grammars(&TOKENIZER)).err().unwrap();
    let tool_choice = ToolChoice::Named("get_rain".into());
    let named = refusal(Case { tools: vec![time()], tool_choice, ..Case::default() });
    assert_eq!(named.param.as_deref(), Some("tool_choice"));
    let none = refusal(Case { tool_choice: ToolChoice::Required, ..Case::default() });
    assert_eq!(none.param.as_deref(), Some("tool_choice"));
}
