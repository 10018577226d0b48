//! Which JSON schemas can be enforced, and where one goes too far.
//!
//! Every keyword is either enforced, or a remark, or refused by its path: none is ignored in
//! silence, for a schema whose half is not obeyed is worse than none.

use super::finite::can_end;
use super::large_stack::on_large_stack;
use crate::refusal::Refusal;
use fathom_text::chat::Json;
use llguidance::derivre::RegexBuilder;
use serde_json::{Map, Value};

/// Schemas inside one schema, itself included.
const MAX_SUBSCHEMAS: usize = 2000;
/// Characters that `minLength` may demand: each is a step of a regular expression.
const MAX_MIN_LENGTH: u64 = 100_000;
/// Other counts, which regular expressions and grammars hold in 32 bits.
const MAX_COUNT: u64 = 1_000_000_000;
/// `multipleOf` without its decimal point: each remainder is a state of the expression.
const MAX_MULTIPLE: u64 = 10_000;
/// Digits of `multipleOf` behind the point.
const MAX_DECIMALS: usize = 9;
/// Values of one `enum`.
const MAX_ENUM: usize = 2000;

/// Keywords that say nothing about what is valid.
const REMARKS: &[&str] = &[
    "$schema",
    "$comment",
    "title",
    "description",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "discriminator",
];
/// Keywords whose value is a schema.
const ONE: &[&str] = &["additionalProperties", "additionalItems", "items"];
/// Keywords whose value is a list of schemas.
const LISTS: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
/// Keywords whose value is an object of schemas.
const MAPS: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];
/// Keywords that are checked one by one.
const ENFORCED: &[&str] = &[
    "type",
    "enum",
    "const",
    "$ref",
    "required",
    "minProperties",
    "maxProperties",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "uniqueItems",
    "$id",
];
const TYPES: &[&str] = &["null", "boolean", "number", "integer", "string", "array", "object"];
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// Whether the schema of `response_format` can be enforced. Errors: 400 with the path of what
/// cannot.
pub fn check_schema(schema: &Value) -> Result<(), Refusal> {
    check_schema_at(schema, "response_format.json_schema.schema")
}

/// Whether the schema that stands at `at` in the request can be enforced.
///
/// Errors: 400 with the path of what cannot.
pub fn check_schema_at(schema: &Value, at: &str) -> Result<(), Refusal> {
    let mut check = Check { root: schema, n_left: MAX_SUBSCHEMAS };
    check.schema(schema, at)?;
    if !on_large_stack(|| can_end(schema)).unwrap_or(false) {
        let message = "no JSON text is valid here: the schema refers to itself without an end";
        return Err(Refusal::invalid(at, message));
    }
    Ok(())
}

/// Whether the parameters of a tool with `"strict": true`, which stand at `at` in the request, keep
/// the rules of strict tools: a schema that can be enforced, of objects that require all their
/// properties and allow no others. A tool without parameters passes.
///
/// Errors: 400 with the path of what does not.
pub fn check_strict_tool(parameters: Option<&Json>, at: &str) -> Result<(), Refusal> {
    check_closed(&strict_schema(parameters, at)?, at)
}

/// The schema that a tool's arguments are held to: none for a tool that is not strict. Errors: 400.
pub(super) fn tool_schema(tool: &Json, at: &str) -> Result<Option<Value>, Refusal> {
    let function = tool.get("function").unwrap_or(tool);
    match function.get("strict") {
        Some(Json::Bool(true)) => strict_schema(function.get("parameters"), at).map(Some),
        _ => Ok(None),
    }
}

fn strict_schema(parameters: Option<&Json>, at: &str) -> Result<Value, Refusal> {
    let Some(parameters) = parameters.filter(|parameters| **parameters != Json::Null) else {
        return Ok(serde_json::json!({"type": "object", "additionalProperties": false}));
    };
    let schema: Value = serde_json::to_value(parameters)
        .map_err(|error| Refusal::invalid(at, format!("not a schema: {error}")))?;
    if schema.get("type") != Some(&Value::from("object")) {
        let message =
            "the arguments of a strict tool are an object\nhint: add `\"type\": \"object\"`";
        return Err(Refusal::invalid(format!("{at}.type"), message));
    }
    check_schema_at(&schema, at)?;
    Ok(schema)
}

/// The schemas directly inside a schema, and their paths.
pub(super) fn children<'s>(schema: &'s Value, at: &str) -> Vec<(&'s Value, String)> {
    let mut found = Vec::new();
    let Value::Object(entries) = schema else { return found };
    for (key, value) in entries {
        match value {
            Value::Object(map) if MAPS.contains(&key.as_str()) => {
                let child = |(name, child)| (child, format!("{at}.{key}.{name}"));
                found.extend(map.iter().map(child));
            }
            Value::Array(items) if LISTS.contains(&key.as_str()) => {
                let child = |(idx, child)| (child, format!("{at}.{key}[{idx}]"));
                found.extend(items.iter().enumerate().map(child));
            }
            Value::Object(_) | Value::Bool(_) if ONE.contains(&key.as_str()) => {
                found.push((value, format!("{at}.{key}")));
            }
            _ => {}
        }
    }
    found
}

/// The schema without keywords that demand nothing, but which `llguidance` refuses.
pub(super) fn without_idle(schema: &Value) -> Value {
    let Value::Object(entries) = schema else { return schema.clone() };
    let is_idle = |key: &str, value: &Value| {
        key.starts_with("x-") || key == "uniqueItems" && *value == Value::Bool(false)
    };
    let inside = |key: &str, value: &Value| match value {
        Value::Object(map) if MAPS.contains(&key) => {
            Value::Object(map.iter().map(|(k, v)| (k.clone(), without_idle(v))).collect())
        }
        Value::Array(items) if LISTS.contains(&key) => {
            Value::Array(items.iter().map(without_idle).collect())
        }
        one if ONE.contains(&key) => without_idle(one),
        other => other.clone(),
    };
    let kept = entries.iter().filter(|(key, value)| !is_idle(key, value));
    Value::Object(kept.map(|(key, value)| (key.clone(), inside(key, value))).collect())
}

/// The schema that a reference names. Only whole paths from the root, in plain names.
pub(super) fn target<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let path = match reference.strip_prefix('#')? {
        "" | "/" => return Some(root),
        path => path.strip_prefix('/')?,
    };
    path.split('/').try_fold(root, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => value.get(step),
    })
}

struct Check<'a> {
    root: &'a Value,
    n_left: usize,
}

impl Check<'_> {
    fn schema(&mut self, schema: &Value, at: &str) -> Result<(), Refusal> {
        let Some(n_left) = self.n_left.checked_sub(1) else {
            let message = format!("the schema holds more than {MAX_SUBSCHEMAS} schemas");
            return Err(Refusal::invalid(at, message));
        };
        self.n_left = n_left;
        let entries = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(entries) => entries,
            other => return Err(expected(at, "a schema, which is an object", other)),
        };
        for (key, value) in entries {
            self.keyword(key, value, entries, at)?;
        }
        for (child, path) in children(schema, at) {
            self.schema(child, &path)?;
        }
        Ok(())
    }

    fn keyword(
        &self,
        key: &str,
        value: &Value,
        entries: &Map<String, Value>,
        at: &str,
    ) -> Result<(), Refusal> {
        let path = || format!("{at}.{key}");
        if REMARKS.contains(&key) || key.starts_with("x-") {
            return Ok(());
        }
        let is_shaped = match value {
            Value::Object(_) => MAPS.contains(&key) || ONE.contains(&key),
            Value::Bool(_) => ONE.contains(&key),
            Value::Array(_) => LISTS.contains(&key),
            _ => false,
        };
        if MAPS.contains(&key) || ONE.contains(&key) || LISTS.contains(&key) {
            return match is_shaped {
                true => Ok(()),
                false => Err(expected(&path(), "schemas", value)),
            };
        }
        if !ENFORCED.contains(&key) {
            return Err(unsupported(&path(), key));
        }
        match key {
            "type" => check_type(value, &path()),
            "enum" => match value.as_array() {
                Some(values) if (1..=MAX_ENUM).contains(&values.len()) => Ok(()),
                _ => Err(expected(&path(), &format!("a list of 1 to {MAX_ENUM} values"), value)),
            },
            "const" => Ok(()),
            "$ref" => self.reference(value, &path()),
            // Inside a schema it would change what references mean.
            "$id" if self.root.as_object().is_some_and(|root| std::ptr::eq(root, entries)) => {
                Ok(())
            }
            "$id" => Err(unsupported(&path(), key)),
            "required" => check_names(value, &path()),
            "pattern" => check_pattern(value, &path()),
            "format" => check_format(value, entries, &path()),
            "uniqueItems" if *value == Value::Bool(false) => Ok(()),
            "uniqueItems" => Err(unsupported(&path(), key)),
            "minimum" | "maximum" => check_number(value, &path()),
            "multipleOf" => check_multiple(value, &path()),
            "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => Ok(()),
            "exclusiveMinimum" | "exclusiveMaximum" => check_number(value, &path()),
            "minLength" => check_count(value, MAX_MIN_LENGTH, &path()),
            _ => check_count(value, MAX_COUNT, &path()),
        }
    }

    fn reference(&self, value: &Value, path: &str) -> Result<(), Refusal> {
        let Some(reference) = value.as_str() else {
            return Err(expected(path, "a text such as `#/$defs/name`", value));
        };
        // A name with `~` or `%` in it would have to be unescaped.
        let is_plain = !reference.contains(['~', '%']);
        match target(self.root, reference).filter(|_| is_plain) {
            Some(_) => Ok(()),
            None => {
                let message = format!(
                    "`{reference}` is not in this schema\nhint: references have the form `#/$defs/name`"
                );
                Err(Refusal::invalid(path, message))
            }
        }
    }
}

fn check_type(value: &Value, path: &str) -> Result<(), Refusal> {
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let is_right = match value {
        Value::Array(types) => !types.is_empty() && types.iter().all(is_type),
        one => is_type(one),
    };
    match is_right {
        true => Ok(()),
        false => Err(expected(path, &format!("one of {}", TYPES.join(", ")), value)),
    }
}

fn check_names(value: &Value, path: &str) -> Result<(), Refusal> {
    match value.as_array() {
        Some(names) if names.iter().all(Value::is_string) => Ok(()),
        _ => Err(expected(path, "a list of names", value)),
    }
}

fn check_number(value: &Value, path: &str) -> Result<(), Refusal> {
    match value.as_f64() {
        Some(number) if number.is_finite() => Ok(()),
        _ => Err(expected(path, "a number", value)),
    }
}

fn check_count(value: &Value, most: u64, path: &str) -> Result<(), Refusal> {
    match value.as_u64() {
        Some(count) if count <= most => Ok(()),
        _ => Err(expected(path, &format!("a whole number from 0 to {most}"), value)),
    }
}

fn check_multiple(value: &Value, path: &str) -> Result<(), Refusal> {
    let digits = value.as_f64().filter(|number| *number > 0.0).map(|number| number.to_string());
    let fits = digits.is_some_and(|digits| {
        let (whole, decimals) = digits.split_once('.').unwrap_or((&digits, ""));
        let multiple = format!("{whole}{decimals}").parse::<u64>();
        decimals.len() <= MAX_DECIMALS && multiple.is_ok_and(|multiple| multiple <= MAX_MULTIPLE)
    });
    match fits {
        true => Ok(()),
        false => Err(expected(path, "a number above 0 with at most 4 digits", value)),
    }
}

fn check_pattern(value: &Value, path: &str) -> Result<(), Refusal> {
    let Some(pattern) = value.as_str() else {
        return Err(expected(path, "a regular expression", value));
    };
    // The same way that `llguidance` takes.
    let pattern = llguidance::regex_to_lark(pattern, "dw");
    match RegexBuilder::new().mk_regex_for_serach(&pattern) {
        Ok(_) => Ok(()),
        Err(error) => {
            let message = format!(
                "this regular expression cannot be enforced: {error}\n\
                 hint: it must be regular: no look-around and no back-references"
            );
            Err(Refusal::invalid(path, message))
        }
    }
}

fn check_format(value: &Value, entries: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    let Some(name) = value.as_str() else {
        return Err(expected(path, "the name of a format", value));
    };
    // Of numbers and others it is a remark, such as `int32`.
    let may_be_text = match entries.get("type") {
        None => true,
        Some(Value::Array(types)) => types.contains(&Value::from("string")),
        Some(one) => one == "string",
    };
    match !may_be_text || FORMATS.contains(&name) {
        true => Ok(()),
        false => Err(expected(path, &format!("one of {}", FORMATS.join(", ")), value)),
    }
}

/// The rules of strict tools, for every object in the schema.
fn check_closed(schema: &Value, at: &str) -> Result<(), Refusal> {
    let is_object = match schema.get("type") {
        Some(Value::Array(types)) => types.contains(&Value::from("object")),
        Some(one) => one == "object",
        None => schema.get("properties").is_some(),
    };
    if is_object {
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            let message = "a strict tool allows no other properties\n\
                           hint: set `additionalProperties` to false";
            return Err(Refusal::invalid(format!("{at}.additionalProperties"), message));
        }
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &String| {
            required.is_some_and(|names| names.iter().any(|known| known == name.as_str()))
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        if let Some(name) = properties.and_then(|all| all.keys().find(|name| !is_required(name))) {
            let message = format!(
                "a strict tool requires all its properties, but not `{name}`\n\
                 hint: allow `null` for what may be left out"
            );
            return Err(Refusal::invalid(format!("{at}.required"), message));
        }
    }
    children(schema, at).into_iter().try_for_each(|(child, path)| check_closed(child, &path))
}

fn unsupported(path: &str, key: &str) -> Refusal {
    let hint = match key {
        "nullable" => "write `\"type\": [\"string\", \"null\"]`",
        "not" | "if" | "then" | "else" => "write the cases as `anyOf`",
        _ => "leave it out, and check the answer for it",
    };
    Refusal::invalid(path, format!("the keyword `{key}` cannot be enforced\nhint: {hint}"))
}

fn expected(path: &str, expected: &str, found: &Value) -> Refusal {
    let mut found = found.to_string();
    if found.len() > 80 {
        let end = (0..=80).rev().find(|end| found.is_char_boundary(*end)).unwrap_or(0);
        found.truncate(end);
        found += "…";
    }
    Refusal::invalid(path, format!("expected {expected}, found `{found}`"))
}
