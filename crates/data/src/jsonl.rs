//! Reads questions with checked answers from JSONL, plain or compressed with zstd.
//!
//! The form is that of GSM8K (openai/grade-school-math): one object per line, the solution ends in
//! `#### ` and the final answer. Also taken: a solution with `\boxed{}` (the form of MATH), and an
//! answer that is one line. A bad line is skipped and counted; only a file without any good line
//! is an error. Calculator marks such as `<<3*4=12>>` are removed unless asked for.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::math_answer::last_boxed;
use crate::skipped::Skipped;

/// Longest line that is read, in bytes; a longer one is skipped. Bounds memory on hostile files.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// Which fields of a row hold what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Name of the field with the question.
    pub question: String,
    /// Name of the field with the solution or the bare answer.
    pub answer: String,
    /// Keep `<<3*4=12>>` in solutions.
    pub keep_calculator_marks: bool,
}

impl Fields {
    /// The names in GSM8K.
    pub fn gsm8k() -> Self {
        let (question, answer) = ("question".into(), "answer".into());
        Self { question, answer, keep_calculator_marks: false }
    }
}

/// One question with its worked solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// The question, trimmed.
    pub question: String,
    /// The solution up to the final answer, trimmed; empty where the file gives only the answer.
    pub reasoning: String,
    /// The final answer, trimmed, never empty.
    pub final_answer: String,
}

/// The rows of a file, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemSet {
    /// Usable rows; at least one.
    pub problems: Vec<Problem>,
    /// Lines left out, as `line N`. Blank lines do not count.
    pub skipped: Skipped,
}

/// Reads all problems of the file at `path`. Compression is recognised by content, not by name.
///
/// Errors: `Read` if the file cannot be opened or breaks off, `EmptyFile`, `Compressed` for forms
/// other than zstd, `NoRows` if no line can be used.
pub fn read_problems(path: &Path, fields: &Fields) -> Result<ProblemSet, Error> {
    let broken = |source| Error::Read { path: path.to_path_buf(), source };
    if path.is_dir() {
        return Err(Error::WrongKind { path: path.to_path_buf(), expected: "file" });
    }
    let mut file = File::open(path).map_err(broken)?;
    let mut head = Vec::new();
    file.by_ref().take(4).read_to_end(&mut head).map_err(broken)?;
    let packed = head == [0x28, 0xB5, 0x2F, 0xFD];
    if let Some(form) = foreign_compression(&head) {
        return Err(Error::Compressed { path: path.to_path_buf(), form });
    }
    let bytes = BufReader::new(Cursor::new(head).chain(file));
    let mut lines: Box<dyn BufRead> = if packed {
        let plain = ruzstd::decoding::StreamingDecoder::new(bytes)
            .map_err(|error| broken(std::io::Error::other(error.to_string())))?;
        Box::new(BufReader::new(plain))
    } else {
        Box::new(bytes)
    };
    let mut reading = Reading::new(fields);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let n = lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(broken)?;
        if n == 0 {
            break;
        }
        if n as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
            reading.skipped.add("too long", format!("line {number}"));
            lines.skip_until(b'\n').map_err(broken)?;
            continue;
        }
        reading.take_line(number, &line);
    }
    reading.finish(path)
}

/// Removes `<<…>>` calculator marks, which GSM8K puts before computed values.
pub fn strip_calculator_marks(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("<<") {
        // A mark stays on its line; a lone `<<` is text.
        let Some(len) =
            rest[start..].find(">>").filter(|&len| !rest[start..start + len].contains('\n'))
        else {
            break;
        };
        kept.push_str(&rest[..start]);
        rest = &rest[start + len + 2..];
    }
    kept.push_str(rest);
    kept
}

fn foreign_compression(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1F, 0x8B, ..] => Some("gzip"),
        [b'P', b'K', 3, 4] => Some("zip"),
        [b'B', b'Z', b'h', _] => Some("bzip2"),
        [0xFD, b'7', b'z', b'X'] => Some("xz"),
        _ => None,
    }
}

/// The state of one pass over a file.
struct Reading<'a> {
    fields: &'a Fields,
    problems: Vec<Problem>,
    skipped: Skipped,
    /// Field names of the first object, for the message when nothing fits.
    keys: Option<Vec<String>>,
}

impl<'a> Reading<'a> {
    fn new(fields: &'a Fields) -> Self {
        Self { fields, problems: Vec::new(), skipped: Skipped::new("line"), keys: None }
    }

    fn take_line(&mut self, number: usize, bytes: &[u8]) {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").filter(|_| number == 1).unwrap_or(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match self.problem_of(number, bytes) {
            Ok(problem) => self.problems.push(problem),
            Err(reason) => self.skipped.add(reason, format!("line {number}")),
        }
    }

    fn problem_of(&mut self, line: usize, bytes: &[u8]) -> Result<Problem, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_string())?;
        let row: Value = serde_json::from_str(text).map_err(|_| "not JSON".to_string())?;
        let Value::Object(row) = row else { return Err("not a JSON object".into()) };
        self.keys.get_or_insert_with(|| row.keys().cloned().collect());
        let question = text_field(&row, &self.fields.question)?;
        let answer = text_field(&row, &self.fields.answer)?;
        let (reasoning, final_answer) =
            split_solution(&answer).ok_or_else(|| "no final answer".to_string())?;
        let reasoning = if self.fields.keep_calculator_marks {
            reasoning.to_string()
        } else {
            strip_calculator_marks(reasoning)
        };
        Ok(Problem { line, question, reasoning, final_answer: final_answer.to_string() })
    }

    fn finish(self, path: &Path) -> Result<ProblemSet, Error> {
        let path = path.to_path_buf();
        if !self.problems.is_empty() {
            return Ok(ProblemSet { problems: self.problems, skipped: self.skipped });
        }
        if self.skipped.total() == 0 {
            return Err(Error::EmptyFile { path });
        }
        Err(Error::NoRows { path, skipped: self.skipped, keys: self.keys.unwrap_or_default() })
    }
}

/// The text of a field; a number counts as its decimal text.
fn text_field(row: &Map<String, Value>, name: &str) -> Result<String, String> {
    let text = match row.get(name) {
        Some(Value::String(text)) => text.trim().to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(format!("field `{name}` is not text")),
        None => return Err(format!("no field `{name}`")),
    };
    if text.is_empty() { Err(format!("field `{name}` is empty")) } else { Ok(text) }
}

/// Splits a solution into reasoning and final answer: at the last `####`, else the last `\boxed{}`
/// (the reasoning keeps it), else a single line is the answer itself.
fn split_solution(answer: &str) -> Option<(&str, &str)> {
    let (reasoning, last) = match answer.rfind("####") {
        Some(at) => (&answer[..at], &answer[at + 4..]),
        None => match last_boxed(answer) {
            Some(inner) => (answer, inner),
            None if !answer.contains('\n') => ("", answer),
            None => return None,
        },
    };
    let last = last.trim();
    if last.is_empty() { None } else { Some((reasoning.trim(), last)) }
}

#[cfg(test)]
mod tests;
