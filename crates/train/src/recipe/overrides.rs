//! `--set key=value`: one assignment into the parsed TOML, before anything is checked.
//!
//! A path starts with a key of the recipe, the name of a stage, or the name of a model (`model`
//! where there is only one). Lists are entered by index, or by the `name` of a table in them.

use toml::{Table, Value};

use super::error::RecipeError;
use super::parse::TOP_LEVEL_KEYS;

/// Applies one `path=value`.
///
/// Errors: `MalformedSet` without `=` or path, `UnknownTarget` where the path leads nowhere. A key
/// that does not exist in an existing table is created; reading the recipe refuses it by name.
pub(super) fn assign(recipe: &mut Table, assignment: &str) -> Result<(), RecipeError> {
    let malformed = || RecipeError::MalformedSet { text: assignment.to_owned() };
    let (path, text) = assignment.split_once('=').ok_or_else(malformed)?;
    let path = path.trim();
    let segments: Vec<&str> = path.split('.').collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err(malformed());
    }
    let value = parse_value(text.trim());
    let (table, rest) = enter(recipe, path, &segments)?;
    assign_below(table, path, rest, value)
}

/// The value as TOML if it is TOML, else the text itself.
fn parse_value(text: &str) -> Value {
    let as_toml = toml::from_str::<Table>(&format!("value = {text}"));
    match as_toml {
        Ok(mut table) if table.len() == 1 => {
            table.remove("value").unwrap_or_else(|| Value::String(text.to_owned()))
        }
        _ => Value::String(text.to_owned()),
    }
}

/// Finds the table that the first segment means, and what is left of the path.
fn enter<'a, 's, 'p>(
    recipe: &'a mut Table,
    path: &str,
    segments: &'s [&'p str],
) -> Result<(&'a mut Table, &'s [&'p str]), RecipeError> {
    let first = segments[0];
    if TOP_LEVEL_KEYS.contains(&first) && first != "stage" {
        return Ok((recipe, segments));
    }
    let stages = stage_names(recipe);
    let models = model_names(recipe);
    let stage_idx = stages.iter().position(|name| name == first);
    let model = match models.as_slice() {
        [only] if first == "model" => Some(only.clone()),
        _ => models.iter().find(|name| *name == first).cloned(),
    };
    let unknown = || RecipeError::UnknownTarget {
        path: path.to_owned(),
        segment: first.to_owned(),
        known: TOP_LEVEL_KEYS
            .iter()
            .filter(|key| **key != "stage")
            .map(|key| key.to_string())
            .chain(stages.iter().cloned())
            .chain(models.iter().cloned())
            .collect(),
    };
    let needs_key = || RecipeError::MalformedSet { text: format!("{path}=…") };
    let rest = segments.get(1..).filter(|rest| !rest.is_empty());
    let table = match (stage_idx, model) {
        (Some(idx), _) => recipe
            .get_mut("stage")
            .and_then(Value::as_array_mut)
            .and_then(|stages| stages.get_mut(idx))
            .and_then(Value::as_table_mut),
        (None, Some(name)) => recipe
            .get_mut("models")
            .and_then(Value::as_table_mut)
            .and_then(|models| models.get_mut(&name))
            .and_then(Value::as_table_mut),
        (None, None) => None,
    };
    Ok((table.ok_or_else(unknown)?, rest.ok_or_else(needs_key)?))
}

fn assign_below(
    table: &mut Table,
    path: &str,
    segments: &[&str],
    value: Value,
) -> Result<(), RecipeError> {
    let (key, rest) = (segments[0], &segments[1..]);
    if rest.is_empty() {
        table.insert(key.to_owned(), value);
        return Ok(());
    }
    let below = table.entry(key.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    match below {
        Value::Table(inner) => assign_below(inner, path, rest, value),
        Value::Array(items) => assign_in_list(items, path, rest, value),
        // A bare word such as `schedule = "cosine"` becomes the table it stands for.
        Value::String(word) => {
            let mut inner = Table::new();
            inner.insert("kind".into(), Value::String(word.clone()));
            assign_below(&mut inner, path, rest, value)?;
            *below = Value::Table(inner);
            Ok(())
        }
        _ => Err(RecipeError::UnknownTarget {
            path: path.to_owned(),
            segment: rest[0].to_owned(),
            known: Vec::new(),
        }),
    }
}

fn assign_in_list(
    items: &mut [Value],
    path: &str,
    segments: &[&str],
    value: Value,
) -> Result<(), RecipeError> {
    let (which, rest) = (segments[0], &segments[1..]);
    let names: Vec<String> = items.iter().map(|item| label(item).to_owned()).collect();
    let by_index = which.parse::<usize>().ok().filter(|idx| *idx < items.len());
    let idx = by_index.or_else(|| names.iter().position(|name| name == which));
    let Some(idx) = idx else {
        let (path, segment) = (path.to_owned(), which.to_owned());
        return Err(RecipeError::UnknownTarget { path, segment, known: names });
    };
    match (&mut items[idx], rest.is_empty()) {
        (item, true) => {
            *item = value;
            Ok(())
        }
        (Value::Table(inner), false) => assign_below(inner, path, rest, value),
        (_, false) => Err(RecipeError::UnknownTarget {
            path: path.to_owned(),
            segment: rest[0].to_owned(),
            known: Vec::new(),
        }),
    }
}

/// The name of a table in a list, or its kind where it has none.
fn label(item: &Value) -> &str {
    item.get("name").or_else(|| item.get("kind")).and_then(Value::as_str).unwrap_or("")
}

fn stage_names(recipe: &Table) -> Vec<String> {
    let stages = recipe.get("stage").and_then(Value::as_array);
    stages.into_iter().flatten().map(|stage| label(stage).to_owned()).collect()
}

fn model_names(recipe: &Table) -> Vec<String> {
    let models = recipe.get("models").and_then(Value::as_table);
    models.into_iter().flat_map(|models| models.keys().cloned()).collect()
}
