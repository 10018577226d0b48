//! A small validator of JSON schemas by hand, to hold the grammars to. It knows what the tests use.

use serde_json::Value;

/// Whether `value` is valid by `schema`; regular expressions and formats are not looked at.
pub(super) fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let Value::Object(entries) = schema else { return *schema == Value::Bool(true) };
    entries.iter().all(|(key, wanted)| keyword(root, schema, key, wanted, value))
}

fn keyword(root: &Value, schema: &Value, key: &str, wanted: &Value, value: &Value) -> bool {
    let all = |wanted: &Value| wanted.as_array().unwrap().clone();
    let n_valid = |options: &[Value]| options.iter().filter(|o| is_valid(root, o, value)).count();
    let number = |test: fn(f64, f64) -> bool| match (value.as_f64(), wanted.as_f64()) {
        (Some(value), Some(wanted)) => test(value, wanted),
        _ => true,
    };
    let count = |found: Option<usize>, test: fn(u64, u64) -> bool| match found {
        Some(found) => test(found as u64, wanted.as_u64().unwrap()),
        None => true,
    };
    let n_chars = value.as_str().map(|text| text.chars().count());
    let n_items = value.as_array().map(Vec::len);
    let n_properties = value.as_object().map(serde_json::Map::len);
    match key {
        "type" => match wanted {
            Value::Array(names) => names.iter().any(|name| is_type(value, name.as_str().unwrap())),
            name => is_type(value, name.as_str().unwrap()),
        },
        "const" => value == wanted,
        "enum" => all(wanted).contains(value),
        "anyOf" => n_valid(&all(wanted)) > 0,
        "oneOf" => n_valid(&all(wanted)) == 1,
        "allOf" => n_valid(&all(wanted)) == all(wanted).len(),
        "$ref" => {
            let target = root.pointer(&wanted.as_str().unwrap()[1..]).unwrap();
            is_valid(root, target, value)
        }
        "minimum" => number(|a, b| a >= b),
        "maximum" => number(|a, b| a <= b),
        "exclusiveMinimum" => number(|a, b| a > b),
        "exclusiveMaximum" => number(|a, b| a < b),
        "multipleOf" => number(|a, b| (a / b - (a / b).round()).abs() < 1e-9),
        "minLength" => count(n_chars, |a, b| a >= b),
        "maxLength" => count(n_chars, |a, b| a <= b),
        "minItems" => count(n_items, |a, b| a >= b),
        "maxItems" => count(n_items, |a, b| a <= b),
        "minProperties" => count(n_properties, |a, b| a >= b),
        "maxProperties" => count(n_properties, |a, b| a <= b),
        "required" => value.as_object().is_none_or(|object| {
            all(wanted).iter().all(|name| object.contains_key(name.as_str().unwrap()))
        }),
        "items" => value.as_array().is_none_or(|items| {
            let n_first = schema.get("prefixItems").map_or(0, |first| all(first).len());
            items.iter().skip(n_first).all(|item| is_valid(root, wanted, item))
        }),
        "prefixItems" => value.as_array().is_none_or(|items| {
            items.iter().zip(all(wanted)).all(|(item, schema)| is_valid(root, &schema, item))
        }),
        "properties" => value.as_object().is_none_or(|object| {
            let mut known = object.iter().filter_map(|(name, v)| Some((wanted.get(name)?, v)));
            known.all(|(schema, value)| is_valid(root, schema, value))
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let known =
                |name: &String| schema.get("properties").is_some_and(|p| p.get(name).is_some());
            let mut others = object.iter().filter(|(name, _)| !known(name));
            schema.get("patternProperties").is_some()
                || others.all(|(_, value)| is_valid(root, wanted, value))
        }),
        _ => true,
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}
