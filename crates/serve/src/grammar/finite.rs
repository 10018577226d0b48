//! Whether some JSON text of finite length is valid by a schema that may refer to itself.
//!
//! A schema whose every value holds another value of the same kind has none, and a model held to it
//! would write until its tokens are used up.

use super::schema::target;
use serde_json::Value;
use std::collections::BTreeSet;

/// Whether a value can come to an end. Only endless references are looked for; other
/// contradictions are found when the schema is compiled.
pub(super) fn can_end(schema: &Value) -> bool {
    let mut search = Search { root: schema, ending: BTreeSet::new(), met: BTreeSet::new() };
    // At first no reference is known to end. Each round may find more that do.
    loop {
        let n_known = search.ending.len();
        search.met.clear();
        if search.ends(schema) {
            return true;
        }
        if search.ending.len() == n_known {
            return false;
        }
    }
}

struct Search<'a> {
    root: &'a Value,
    /// References that are known to end.
    ending: BTreeSet<String>,
    /// References that were met in this round.
    met: BTreeSet<String>,
}

impl Search<'_> {
    fn ends(&mut self, schema: &Value) -> bool {
        if !schema.is_object() {
            return true;
        }
        let part = |key: &str| schema.get(key);
        let list = |key: &str| part(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if let Some(reference) = part("$ref").and_then(Value::as_str)
            && !self.reference_ends(reference)
        {
            return false;
        }
        for key in ["anyOf", "oneOf"] {
            // All are looked at, so that every reference becomes known.
            let n_ending = list(key).iter().filter(|option| self.ends(option)).count();
            if !list(key).is_empty() && n_ending == 0 {
                return false;
            }
        }
        let n_endless = list("allOf").iter().filter(|part| !self.ends(part)).count();
        n_endless == 0
            && (!must_be(schema, "object") || self.object_ends(schema))
            && (!must_be(schema, "array") || self.array_ends(schema))
    }

    fn object_ends(&mut self, schema: &Value) -> bool {
        let names = schema.get("required").and_then(Value::as_array);
        let names = names.map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str);
        let mut all_end = true;
        for name in names {
            let property = schema.get("properties").and_then(|all| all.get(name));
            if let Some(property) = property.or(schema.get("additionalProperties")) {
                all_end &= self.ends(property);
            }
        }
        all_end
    }

    fn array_ends(&mut self, schema: &Value) -> bool {
        let n_items = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let first = first.map_or(&[][..], Vec::as_slice);
        let n_first = first.len().min(usize::try_from(n_items).unwrap_or(usize::MAX));
        let mut all_end = true;
        for item in &first[..n_first] {
            all_end &= self.ends(item);
        }
        match schema.get("items") {
            Some(item) if n_items > first.len() as u64 => all_end & self.ends(item),
            _ => all_end,
        }
    }

    fn reference_ends(&mut self, reference: &str) -> bool {
        if self.ending.contains(reference) {
            return true;
        }
        if !self.met.insert(reference.to_owned()) {
            return false;
        }
        let Some(target) = target(self.root, reference) else { return false };
        let ends = self.ends(target);
        if ends {
            self.ending.insert(reference.to_owned());
        }
        ends
    }
}

/// Whether every value of the schema is of this type.
fn must_be(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().all(|one| one == name),
        Some(one) => one == name,
        None => false,
    }
}
