//! Typed questions to the metadata. An absent key is `None`; a value of another type is refused.

use super::problem::Problem;
use super::reader::Gguf;
use super::value::{Array, Value};
use crate::{Error, Result};

impl Gguf {
    /// The value of `key`, of any type.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata().get(key)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "text", |value| value.as_text())
    }

    /// A count: an integer of any width, not negative.
    pub fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a count", |value| usize::try_from(value.as_integer()?).ok())
    }

    /// A number of any type, as [`Value::as_number`] widens it.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_number)
    }

    /// A truth value.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(x) => Some(*x),
            _ => None,
        })
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "a list of utf-8 strings", |value| match value {
            Value::Array(Array::String(list)) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// A list of integers.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i128>>> {
        self.typed(key, "a list of integers", |value| match value {
            Value::Array(list) => list.integers(),
            _ => None,
        })
    }

    /// A list of f32.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "a list of f32", |value| match value {
            Value::Array(Array::F32(list)) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// Turns an absent key into an error: `gguf.needed(key, gguf.count(key)?)`.
    pub fn needed<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.fail(Problem::MissingKey { key: key.to_owned() }))
    }

    /// `problem`, with this file's path.
    pub fn fail(&self, problem: Problem) -> Error {
        Error::Gguf { path: self.path().to_owned(), offset: None, problem }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match read(value) {
            Some(x) => Ok(Some(x)),
            None => {
                let (key, found) = (key.to_owned(), value.describe());
                Err(self.fail(Problem::WrongType { key, found, expected }))
            }
        }
    }
}
