//! A serde deserializer over TOML values whose errors are data: the path of keys, what was found,
//! what is known. (The text errors of the `toml` crate name no stage and no nearest key.)
//!
//! An enum whose variants hold settings is read from a table with a `kind` key beside them, or
//! from the bare word where every setting has a default.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use toml::Value;

use super::error::{RecipeError, Where};

/// Reads a `T`, refusing unknown keys and other types.
///
/// Errors: the first thing that does not fit, placed in `stage`.
pub(super) fn read<T: DeserializeOwned>(
    value: Value,
    stage: Option<&str>,
) -> Result<T, RecipeError> {
    T::deserialize(Strict(value)).map_err(|fault| fault.into_error(stage))
}

/// A mismatch and the keys that lead to it, innermost first.
#[derive(Debug)]
pub(super) struct Fault {
    keys: Vec<String>,
    what: What,
}

#[derive(Debug)]
enum What {
    UnknownKey { key: String, known: Vec<String> },
    UnknownWord { found: String, known: Vec<String> },
    WrongType { expected: String, found: String },
    MissingKey { key: String },
}

impl Fault {
    fn new(what: What) -> Self {
        Fault { keys: Vec::new(), what }
    }

    fn below(mut self, key: &str) -> Self {
        self.keys.push(key.to_owned());
        self
    }

    fn into_error(self, stage: Option<&str>) -> RecipeError {
        let mut tables = self.keys;
        tables.reverse();
        let stage = stage.map(str::to_owned);
        let mut split_key = || tables.pop().unwrap_or_default();
        match self.what {
            What::UnknownKey { key, known } => {
                RecipeError::UnknownKey { key, at: Box::new(Where { stage, tables }), known }
            }
            What::MissingKey { key } => {
                RecipeError::MissingKey { key, at: Box::new(Where { stage, tables }) }
            }
            What::UnknownWord { found, known } => {
                let key = split_key();
                RecipeError::UnknownWord {
                    key,
                    found,
                    at: Box::new(Where { stage, tables }),
                    known,
                }
            }
            What::WrongType { expected, found } => {
                let key = split_key();
                RecipeError::WrongType {
                    key,
                    at: Box::new(Where { stage, tables }),
                    expected,
                    found,
                }
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}", self.what, self.keys)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault::new(What::WrongType { expected: "usable".into(), found: message.to_string() })
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::new(What::WrongType { expected: plain_words(expected), found: found.to_string() })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        let known = known.iter().map(|k| k.to_string()).collect();
        Fault::new(What::UnknownWord { found: found.into(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let known = known.iter().map(|k| k.to_string()).collect();
        Fault::new(What::UnknownKey { key: key.into(), known })
    }

    fn missing_field(key: &'static str) -> Self {
        Fault::new(What::MissingKey { key: key.into() })
    }
}

/// Rust's type names said as a reader of TOML would.
fn plain_words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        _ if text.starts_with("struct ") => "a table".into(),
        _ if text.starts_with("enum ") => "a word or a table with `kind`".into(),
        _ => text,
    }
}

struct Strict(Value);

impl Strict {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.0 {
            Value::String(text) => Unexpected::Str(text),
            Value::Integer(number) => Unexpected::Signed(*number),
            Value::Float(number) => Unexpected::Float(*number),
            Value::Boolean(flag) => Unexpected::Bool(*flag),
            Value::Datetime(_) => Unexpected::Other("a date"),
            Value::Array(_) => Unexpected::Other("a list"),
            Value::Table(_) => Unexpected::Other("a table"),
        }
    }
}

impl<'de> serde::Deserializer<'de> for Strict {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            // A number that fits is handed over unsigned, so that `u64` beyond i64 is not lost.
            Value::Integer(number) => match u64::try_from(number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(number),
            },
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(flag) => visitor.visit_bool(flag),
            Value::Datetime(date) => visitor.visit_string(date.to_string()),
            Value::Array(items) => {
                visitor.visit_seq(Items { items: items.into_iter().enumerate() })
            }
            Value::Table(table) => {
                visitor.visit_map(Entries { entries: table.into_iter(), next: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A derived struct would also take a list; a recipe never means one.
        match &self.0 {
            Value::Table(_) => self.deserialize_any(visitor),
            _ => Err(Fault::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(Variant { word, rest: None }),
            Value::Table(mut table) => match table.remove("kind") {
                Some(Value::String(word)) => {
                    visitor.visit_enum(Variant { word, rest: Some(Value::Table(table)) })
                }
                Some(other) => {
                    let found = Strict(other);
                    Err(Fault::invalid_type(found.unexpected(), &"a word").below("kind"))
                }
                None => Err(Fault::missing_field("kind")),
            },
            _ => Err(Fault::invalid_type(self.unexpected(), &visitor)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Entries {
    entries: toml::map::IntoIter<String, Value>,
    next: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.next = self.entries.next();
        match &self.next {
            Some((key, _)) => {
                let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
                seed.deserialize(key).map(Some)
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (key, value) = self.next.take().expect("serde asks for a value after its key");
        seed.deserialize(Strict(value)).map_err(|fault| fault.below(&key))
    }
}

struct Items {
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Fault> {
        let Some((idx, value)) = self.items.next() else { return Ok(None) };
        seed.deserialize(Strict(value)).map(Some).map_err(|fault| fault.below(&idx.to_string()))
    }
}

/// `word` picks the variant, `rest` holds its settings; none where the word stood alone.
struct Variant {
    word: String,
    rest: Option<Value>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Fault;
    type Variant = Strict;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Strict), Fault> {
        let is_table = self.rest.is_some();
        let word: StrDeserializer<'_, Fault> = self.word.as_str().into_deserializer();
        let variant = seed.deserialize(word).map_err(|fault| match is_table {
            true => fault.below("kind"),
            false => fault,
        })?;
        Ok((variant, Strict(self.rest.unwrap_or_else(|| Value::Table(toml::Table::new())))))
    }
}

impl<'de> VariantAccess<'de> for Strict {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.0.as_table().and_then(|table| table.keys().next()) {
            Some(key) => Err(Fault::unknown_field(key, &[])),
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _n: usize, visitor: V) -> Result<V::Value, Fault> {
        serde::Deserializer::deserialize_any(self, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        serde::Deserializer::deserialize_struct(self, "", fields, visitor)
    }
}
