//! What templates expect of Python: `tojson` as Hugging Face defines it, methods, the clock.
//!
//! Methods come from `minijinja-contrib`; those whose result can be far longer than what they are
//! given are checked against the template's fuel first.

use std::fmt;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::json::Json;

/// Bytes of text that one fuel pays for, as in minijinja.
const BYTES_PER_FUEL: usize = 64;
/// Deepest value that `tojson` writes; parsed JSON is never deeper.
const MAX_JSON_DEPTH: usize = 130;
/// Widest indentation of `tojson`, in characters.
const MAX_INDENT: usize = 32;

/// Gives templates the functions and filters that Hugging Face gives them.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.set_formatter(show);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |state: &State, value: &Value| {
        let mut text = String::new();
        write_value(&mut text, state, value, 0)?;
        Ok(Value::from(text))
    });
    environment.add_filter("format", |pattern: &str, values: Rest<Value>| {
        check_widths(pattern)?;
        format(FormatStyle::Printf, pattern, &values).map(Value::from)
    });
    environment.remove_filter("chain"); // joins lists without limit, and Jinja has none
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", |format: &str| strftime(format, now_unix_s()));
}

/// A JSON value as templates see it. Key order is kept.
pub(super) fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => Value::from(value),
            (_, Some(value), _) => Value::from(value),
            (.., value) => Value::from(value.unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(to_value).collect(),
        Json::Object(entries) => {
            Value::from_pairs(entries.iter().map(|(key, value)| (key.as_str(), to_value(value))))
        }
    }
}

/// What a template said when it refused its input.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: &str) -> Result<Value, Error> {
    let raised = Raised(message.to_owned());
    Err(Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(raised))
}

/// The message of `raise_exception`, if that is why rendering ended.
pub(super) fn raised(error: &Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        cause = error.source();
    }
    None
}

/// Writes a value into the output. Lists and maps are written item by item, each paid for: one
/// that holds another many times may be far longer than its parts.
fn show(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => write_value(out, state, value, 0),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn write_value(
    out: &mut impl Write,
    state: &State,
    value: &Value,
    depth: usize,
) -> Result<(), Error> {
    let is_map = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => false,
        ValueKind::Map => true,
        ValueKind::String if depth == 0 => return written(write!(out, "{value}")),
        _ => {
            state.consume_fuel(1)?;
            return written(write!(out, "{value:?}"));
        }
    };
    if depth > MAX_JSON_DEPTH {
        return Err(invalid("too deep to be shown"));
    }
    state.consume_fuel(1)?;
    let (open, close) = match (is_map, value.is_tuple()) {
        (true, _) => ("{", "}"),
        (_, true) => ("(", ")"),
        _ => ("[", "]"),
    };
    written(out.write_str(open))?;
    let mut n_items = 0;
    for item in value.try_iter()? {
        if n_items > 0 {
            written(out.write_str(", "))?;
        }
        n_items += 1;
        write_value(out, state, &item, depth + 1)?;
        if is_map {
            written(out.write_str(": "))?;
            write_value(out, state, &value.get_item(&item)?, depth + 1)?;
        }
    }
    let one_of_tuple = n_items == 1 && value.is_tuple();
    written(out.write_str(if one_of_tuple { ",)" } else { close }))
}

fn written(result: fmt::Result) -> Result<(), Error> {
    result.map_err(|_| Error::new(ErrorKind::WriteFailure, "output refused"))
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, name, args);
    };
    match name {
        "replace" => {
            let (old, new, _): (&str, &str, Option<i64>) = from_args(args)?;
            pay(state, text.len() + text.matches(old).count().saturating_mul(new.len()))?;
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            pay(state, text.len().saturating_mul(items.len().unwrap_or(0)))?;
        }
        "title" => {
            let () = from_args(args)?;
            pay(state, text.len())?;
            return Ok(Value::from(title(text)));
        }
        "format" => check_widths(text)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)));
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)));
        }
        _ => pay(state, text.len())?,
    }
    unknown_method_callback(state, value, name, args)
}

/// A capital after everything that is no letter.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut after_letter = false;
    for character in text.chars() {
        match after_letter {
            true => titled.extend(character.to_lowercase()),
            false => titled.extend(character.to_uppercase()),
        }
        after_letter = character.is_alphabetic();
    }
    titled
}

/// Refuses formats that pad to more than 999 characters, or to a width that is an argument.
fn check_widths(pattern: &str) -> Result<(), Error> {
    let is_long = |digits: &str| digits.len() > 3;
    let too_wide = pattern.split(|c: char| !c.is_ascii_digit()).any(is_long)
        || pattern.contains('*')
        || pattern.contains(":{")
        || [">{", "<{", "^{", ".{"].iter().any(|nested| pattern.contains(nested));
    match too_wide {
        true => Err(invalid("formats wider than 999 characters are refused")),
        false => Ok(()),
    }
}

fn pay(state: &State, n_bytes: usize) -> Result<(), Error> {
    state.consume_fuel(n_bytes.div_ceil(BYTES_PER_FUEL) as u64)
}

/// `json.dumps` with Hugging Face's defaults: nothing escaped that need not be, one line.
fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<&Value>,
    indent: Option<&Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let given = |positional: Option<&Value>, name: &str| -> Result<Option<Value>, Error> {
        let value = positional.cloned().or(options.get(name)?);
        Ok(value.filter(|value: &Value| !value.is_none() && !value.is_undefined()))
    };
    let ascii = given(ensure_ascii, "ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = given(indent, "indent")?.map(|value| indentation(&value)).transpose()?;
    let sorts = given(None, "sort_keys")?.is_some_and(|value| value.is_true());
    let (item, colon) = match given(None, "separators")? {
        Some(pair) => (text_at(&pair, 0)?, text_at(&pair, 1)?),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    options.assert_all_used()?;
    let mut writer = JsonWriter { state, ascii, indent, sorts, item, colon, out: String::new() };
    writer.write(value, 0)?;
    Ok(Value::from(writer.out))
}

fn indentation(value: &Value) -> Result<String, Error> {
    let indent = match (value.as_str(), value.as_i64()) {
        (Some(text), _) => text.to_owned(),
        (_, Some(n)) => " ".repeat(n.clamp(0, MAX_INDENT as i64 + 1) as usize),
        _ => return Err(invalid("`indent` is neither a number nor text")),
    };
    if indent.len() > MAX_INDENT {
        return Err(invalid("`indent` is too wide"));
    }
    Ok(indent)
}

fn text_at(pair: &Value, idx: usize) -> Result<String, Error> {
    let text = pair.get_item_by_index(idx)?;
    match text.as_str() {
        Some(text) if text.len() <= MAX_INDENT => Ok(text.to_owned()),
        _ => Err(invalid("`separators` are not two short texts")),
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

struct JsonWriter<'s, 'a, 'e> {
    state: &'s State<'a, 'e>,
    ascii: bool,
    indent: Option<String>,
    sorts: bool,
    item: String,
    colon: String,
    out: String,
}

impl JsonWriter<'_, '_, '_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_JSON_DEPTH {
            return Err(invalid("too deep for JSON"));
        }
        let before = self.out.len();
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.write_number(value),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default()),
            ValueKind::Map => return self.write_map(value, depth),
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut is_empty = true;
                for item in value.try_iter()? {
                    self.begin_item(is_empty, depth + 1)?;
                    is_empty = false;
                    self.write(&item, depth + 1)?;
                }
                return self.end(is_empty, ']', depth);
            }
            _ => return Err(invalid("an undefined value or a function is no JSON")),
        }
        pay(self.state, self.out.len() - before)
    }

    fn write_map(&mut self, map: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = map.try_iter()?.collect();
        if self.sorts {
            keys.sort();
        }
        self.out.push('{');
        for (idx, key) in keys.iter().enumerate() {
            self.begin_item(idx == 0, depth + 1)?;
            let text = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
            self.write_text(&text);
            self.out.push_str(&self.colon);
            self.write(&map.get_item(key)?, depth + 1)?;
        }
        self.end(keys.is_empty(), '}', depth)
    }

    fn begin_item(&mut self, is_first: bool, depth: usize) -> Result<(), Error> {
        if !is_first {
            self.out.push_str(&self.item);
        }
        self.begin_line(depth);
        pay(self.state, 1 + self.item.len() + depth * self.indent.as_ref().map_or(0, String::len))
    }

    fn end(&mut self, is_empty: bool, bracket: char, depth: usize) -> Result<(), Error> {
        if !is_empty {
            self.begin_line(depth);
        }
        self.out.push(bracket);
        Ok(())
    }

    fn begin_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn write_number(&mut self, value: &Value) {
        let text = value.to_string();
        let is_whole = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        match f64::try_from(value.clone()) {
            Ok(number) if !is_whole => self.out.push_str(&python_float(number)),
            _ => self.out.push_str(&text),
        }
    }

    fn write_text(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                control if control < ' ' => self.write_escape(control),
                other if !other.is_ascii() && self.ascii && !super::guard::is_mark(other) => {
                    self.write_escape(other);
                }
                other => self.out.push(other),
            }
        }
        self.out.push('"');
    }

    fn write_escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(self.out, "\\u{unit:04x}"); // writing to a string cannot fail
        }
    }
}

/// A number as Python's `repr` writes it.
fn python_float(number: f64) -> String {
    let magnitude = number.abs();
    if !number.is_finite() {
        let name = if number.is_nan() { "NaN" } else { "Infinity" };
        return if number < 0.0 { format!("-{name}") } else { name.to_owned() };
    }
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn now_unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// `strftime` in UTC, for the directives that templates use; others stay as written.
fn strftime(format: &str, unix_s: i64) -> String {
    let (days, seconds) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let hour_of_12 = (hour + 11) % 12 + 1;
    let month_name = MONTHS[month as usize - 1];
    let weekday = WEEKDAYS[days.rem_euclid(7) as usize];
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let directive = characters.next();
        let (unpadded, directive) = match directive {
            Some('-') => (true, characters.next()),
            other => (false, other),
        };
        let pad = |value: i64| if unpadded { value.to_string() } else { format!("{value:02}") };
        match directive {
            Some('Y') => text.push_str(&year.to_string()),
            Some('y') => text.push_str(&pad(year.rem_euclid(100))),
            Some('m') => text.push_str(&pad(month)),
            Some('d') => text.push_str(&pad(day)),
            Some('H') => text.push_str(&pad(hour)),
            Some('I') => text.push_str(&pad(hour_of_12)),
            Some('M') => text.push_str(&pad(minute)),
            Some('S') => text.push_str(&pad(second)),
            Some('p') => text.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('B') => text.push_str(month_name),
            Some('b') => text.push_str(&month_name[..3]),
            Some('A') => text.push_str(weekday),
            Some('a') => text.push_str(&weekday[..3]),
            Some('%') => text.push('%'),
            other => {
                text.push('%');
                text.extend(unpadded.then_some('-'));
                text.extend(other);
            }
        }
    }
    text
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, `civil_from_days`).
fn civil_date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let all = "%Y-%m-%d %H:%M:%S %A %a %B %b %-d %I %p %y %% %Q";
        assert_eq!(
            strftime(all, 1_709_210_096),
            "2024-02-29 12:34:56 Thursday Thu February Feb 29 12 PM 24 % %Q"
        );
        assert_eq!(strftime("%d %b %Y", 0), "01 Jan 1970");
        assert_eq!(strftime("%Y-%m-%d", 951_782_400), "2000-02-29");
    }

    #[test]
    fn floats_are_written_as_python_does() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
            (1.5e16, "1.5e+16"),
            (1e15, "1000000000000000.0"),
            (-2.5e-7, "-2.5e-07"),
        ];
        for (number, text) in cases {
            assert_eq!(python_float(number), text);
        }
    }
}
