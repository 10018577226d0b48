//! Fields of a JSON object, read by name: the wrong type is 400, outside its range 422, and what
//! nobody read is unknown.
//!
//! Every refusal names the field by its whole path, what it is and what it must be. `null` stands for
//! a field that is not there.

use crate::refusal::Refusal;
use axum::http::StatusCode;
use fathom_text::chat::Json;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// An object that is being read.
pub(crate) struct Fields<'a> {
    /// How refusals call the object; empty for the body itself.
    path: String,
    entries: &'a [(String, Json)],
    read: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The fields of an object. Errors: 400 for anything else.
    pub(crate) fn of(path: impl Into<String>, value: &'a Json) -> Result<Fields<'a>, Refusal> {
        let path = path.into();
        match value {
            Json::Object(entries) => Ok(Fields { path, entries, read: RefCell::default() }),
            other => Err(wrong(&path, "an object", other)),
        }
    }

    /// The whole name of a field.
    pub(crate) fn path(&self, name: impl Display) -> String {
        match self.path.is_empty() {
            true => name.to_string(),
            false => format!("{}.{name}", self.path),
        }
    }

    /// A value of any type.
    pub(crate) fn any(&self, name: &'static str) -> Option<&'a Json> {
        self.read.borrow_mut().push(name);
        let found = self.entries.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value).filter(|value| **value != Json::Null)
    }

    /// Accepts fields that change nothing.
    pub(crate) fn without_effect(&self, names: &[&'static str]) {
        self.read.borrow_mut().extend(names);
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        let text =
            |value: &'a Json| value.as_str().ok_or_else(|| self.wrong(name, "a string", value));
        self.any(name).map(text).transpose()
    }

    /// Text that must be there.
    pub(crate) fn needed_text(&self, name: &'static str) -> Result<&'a str, Refusal> {
        self.text(name)?.ok_or_else(|| self.missing(name, "a string"))
    }

    pub(crate) fn flag(&self, name: &'static str) -> Result<Option<bool>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    /// A number within `range`; 422 outside.
    pub(crate) fn number(
        &self,
        name: &'static str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.any(name) else { return Ok(None) };
        let Some(number) = as_number(value) else {
            return Err(self.wrong(name, "a number", value));
        };
        match range.contains(&number) {
            true => Ok(Some(number as f32)),
            false => Err(self.outside(name, &range, number)),
        }
    }

    /// A whole number within `range`; 422 outside.
    pub(crate) fn count(
        &self,
        name: &'static str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, Refusal> {
        let Some(number) = self.integer(name)? else { return Ok(None) };
        match usize::try_from(number).ok().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None if *range.end() == usize::MAX => {
                let (path, least) = (self.path(name), range.start());
                let message = format!("`{path}` must be at least {least}, not {number}");
                Err(Refusal::out_of_range(path, message))
            }
            None => Err(self.outside(name, &range, number)),
        }
    }

    /// A whole number, which may be negative.
    pub(crate) fn integer(&self, name: &'static str) -> Result<Option<i128>, Refusal> {
        let Some(value) = self.any(name) else { return Ok(None) };
        as_integer(value).map(Some).ok_or_else(|| self.wrong(name, "a whole number", value))
    }

    pub(crate) fn list(&self, name: &'static str) -> Result<Option<&'a [Json]>, Refusal> {
        match self.any(name) {
            None => Ok(None),
            Some(Json::Array(items)) => Ok(Some(items)),
            Some(other) => Err(self.wrong(name, "a list", other)),
        }
    }

    pub(crate) fn object(&self, name: &'static str) -> Result<Option<Fields<'a>>, Refusal> {
        self.any(name).map(|value| Fields::of(self.path(name), value)).transpose()
    }

    /// One of several words; 400 for another.
    pub(crate) fn word(
        &self,
        name: &'static str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, Refusal> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(*word)),
            None => {
                let expected = format!("one of {}", quoted(words));
                Err(self.wrong(name, &expected, &Json::String(text.to_owned())))
            }
        }
    }

    /// Paths of the fields that nobody read and that say something, in the order they came.
    pub(crate) fn unknown(&self) -> Vec<String> {
        let read = self.read.borrow();
        let unread = self
            .entries
            .iter()
            .filter(|(key, value)| *value != Json::Null && !read.iter().any(|name| name == key));
        unread.map(|(key, _)| self.path(key)).collect()
    }

    /// 400 for the wrong type.
    pub(crate) fn wrong(&self, name: &str, expected: &str, found: &Json) -> Refusal {
        wrong(&self.path(name), expected, found)
    }

    /// 400 for a field that must be there.
    pub(crate) fn missing(&self, name: &str, expected: &str) -> Refusal {
        let path = self.path(name);
        Refusal::invalid(path.clone(), format!("`{path}` is missing, expected {expected}"))
    }

    fn outside<T: Display>(
        &self,
        name: &str,
        range: &RangeInclusive<T>,
        found: impl Display,
    ) -> Refusal {
        let path = self.path(name);
        let message =
            format!("`{path}` must be from {} to {}, not {found}", range.start(), range.end());
        Refusal::out_of_range(path, message)
    }
}

/// 400 for a value of the wrong type at `path`.
pub(crate) fn wrong(path: &str, expected: &str, found: &Json) -> Refusal {
    let found = shown(found);
    if path.is_empty() {
        let message = format!("the body must be {expected}, not {found}");
        return Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
    }
    Refusal::invalid(path, format!("`{path}` must be {expected}, not {found}"))
}

/// A whole number, also one written as 3.0.
pub(crate) fn as_integer(value: &Json) -> Option<i128> {
    let Json::Number(number) = value else { return None };
    let whole =
        |number: f64| (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i128);
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
        .or_else(|| number.as_f64().and_then(whole))
}

/// A number.
pub(crate) fn as_number(value: &Json) -> Option<f64> {
    let Json::Number(number) = value else { return None };
    number.as_f64()
}

/// Words with ticks and commas.
pub(crate) fn quoted<S: Display>(words: &[S]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// A value as refusals show it: short ones as they are, of others the type.
fn shown(value: &Json) -> String {
    const MOST_CHARS: usize = 60;
    match value {
        Json::Array(items) => format!("a list of {}", items.len()),
        Json::Object(_) => "an object".to_owned(),
        Json::String(text) if text.chars().count() > MOST_CHARS => {
            format!("a string of {} characters", text.chars().count())
        }
        other => format!("`{other}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    #[test]
    fn a_refused_field_is_named_with_what_it_is_and_what_it_must_be() {
        let body = json(r#"{"a": {"n": "x", "t": 3, "big": 9, "w": "no"}, "b": 5}"#);
        let fields = Fields::of("", &body).unwrap();
        let inner = fields.object("a").unwrap().unwrap();
        let check = |refusal: Refusal, status: u16, param: &str, message: &str| {
            assert_eq!(refusal.status, StatusCode::from_u16(status).unwrap());
            assert_eq!((refusal.param.as_deref(), &*refusal.message), (Some(param), message));
        };
        check(
            inner.number("n", 0.0..=2.0).unwrap_err(),
            400,
            "a.n",
            "`a.n` must be a number, not `\"x\"`",
        );
        check(inner.text("t").unwrap_err(), 400, "a.t", "`a.t` must be a string, not `3`");
        check(
            inner.count("big", 1..=4).unwrap_err(),
            422,
            "a.big",
            "`a.big` must be from 1 to 4, not 9",
        );
        check(
            inner.word("w", &["yes"]).unwrap_err(),
            400,
            "a.w",
            "`a.w` must be one of `yes`, not `\"no\"`",
        );
        check(fields.object("b").err().unwrap(), 400, "b", "`b` must be an object, not `5`");
        check(fields.needed_text("c").unwrap_err(), 400, "c", "`c` is missing, expected a string");
        let list = json("[1, 2]");
        let refusal = Fields::of("", &list).err().unwrap();
        assert_eq!(refusal.message, "the body must be an object, not a list of 2");
    }

    #[test]
    fn fields_that_nobody_read_are_unknown_unless_they_are_null() {
        let body = json(r#"{"seen": 1, "left": 2, "nothing": null, "user": "me"}"#);
        let fields = Fields::of("m[0]", &body).unwrap();
        fields.any("seen");
        fields.without_effect(&["user"]);
        assert_eq!(fields.unknown(), ["m[0].left"]);
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_point() {
        let body = json(r#"{"a": 3.0, "b": 3.5, "c": -1, "d": 1e300}"#);
        let fields = Fields::of("", &body).unwrap();
        assert_eq!(fields.count("a", 0..=9).unwrap(), Some(3));
        assert_eq!(fields.count("b", 0..=9).unwrap_err().status.as_u16(), 400);
        assert_eq!(fields.count("c", 0..=9).unwrap_err().status.as_u16(), 422);
        assert_eq!(fields.count("d", 0..=9).unwrap_err().status.as_u16(), 400);
    }
}
