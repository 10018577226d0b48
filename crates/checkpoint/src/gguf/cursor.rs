//! Reading a GGUF header: every step checks what is left before it takes or allocates.

use std::path::Path;

use super::problem::Problem;
use super::value::{Array, MAX_DEPTH, Value, ValueType};
use crate::{Error, Result};

/// Longest key or tensor name: what the format's text allows keys; names are far shorter.
const MAX_NAME_BYTES: u64 = 65535;

/// A place in the file.
pub(super) struct Cursor<'a> {
    pub(super) path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { path, bytes, at: 0 }
    }

    /// Bytes from the start of the file.
    pub(super) fn offset(&self) -> u64 {
        self.at as u64
    }

    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The problem, at byte `offset`.
    pub(super) fn fail(&self, offset: u64, problem: Problem) -> Error {
        Error::Gguf { path: self.path.to_owned(), offset: Some(offset), problem }
    }

    pub(super) fn take(&mut self, what: &'static str, n: u64) -> Result<&'a [u8]> {
        if n > self.left() {
            let (needs, left) = (n, self.left());
            return Err(self.fail(self.offset(), Problem::Ends { what, needs, left }));
        }
        let begin = self.at;
        self.at += n as usize; // no more than the file's length
        Ok(&self.bytes[begin..self.at])
    }

    fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let bytes = self.take(what, N as u64)?;
        Ok(bytes.try_into().expect("as many bytes as asked for"))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.fixed(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.fixed(what).map(u64::from_le_bytes)
    }

    /// A number of entries of at least `min_bytes` each, refused if they cannot follow.
    pub(super) fn count(&mut self, what: &'static str, min_bytes: u64) -> Result<u64> {
        let offset = self.offset();
        let found = self.u64(what)?;
        self.check_count(offset, what, found, min_bytes)?;
        Ok(found)
    }

    pub(super) fn check_count(
        &self,
        offset: u64,
        what: &'static str,
        found: u64,
        min_bytes: u64,
    ) -> Result<()> {
        let most = self.left() / min_bytes;
        if found > most {
            return Err(self.fail(offset, Problem::Count { what, found, most }));
        }
        Ok(())
    }

    fn string(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let n = self.u64(what)?;
        self.take(what, n)
    }

    /// A key or a tensor's name: short, and text.
    pub(super) fn name(&mut self, what: &'static str) -> Result<String> {
        let offset = self.offset();
        let found = self.u64(what)?;
        if found > MAX_NAME_BYTES {
            let most = MAX_NAME_BYTES;
            return Err(self.fail(offset, Problem::NameLength { what, found, most }));
        }
        let bytes = self.take(what, found)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let at = offset + 8 + error.valid_up_to() as u64;
                Err(self.fail(at, Problem::NotText { what }))
            }
        }
    }

    /// Type and value of `key`.
    pub(super) fn value(&mut self, key: &str) -> Result<Value> {
        Ok(match self.value_type(key)? {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.fixed(VALUE)?)),
            ValueType::Bool => Value::Bool(self.bool(key)?),
            ValueType::String => {
                let bytes = self.string("a string")?;
                match std::str::from_utf8(bytes) {
                    Ok(text) => Value::String(text.to_owned()),
                    Err(_) => Value::Bytes(bytes.to_owned()),
                }
            }
            ValueType::Array => Value::Array(self.array(key, 1)?),
        })
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType> {
        let offset = self.offset();
        let found = self.u32("a value type")?;
        ValueType::from_id(found)
            .ok_or_else(|| self.fail(offset, Problem::ValueType { key: key.to_owned(), found }))
    }

    fn bool(&mut self, key: &str) -> Result<bool> {
        let offset = self.offset();
        match self.fixed::<1>(VALUE)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(self.fail(offset, Problem::Bool { key: key.to_owned(), found })),
        }
    }

    /// A list at nesting `depth`, from 1 on.
    fn array(&mut self, key: &str, depth: usize) -> Result<Array> {
        if depth > MAX_DEPTH {
            let problem = Problem::Depth { key: key.to_owned(), most: MAX_DEPTH };
            return Err(self.fail(self.offset(), problem));
        }
        let element = self.value_type(key)?;
        let n = self.count("list elements", element.min_bytes())? as usize;
        Ok(match element {
            ValueType::U8 => Array::U8(self.take(VALUE, n as u64)?.to_vec()),
            ValueType::I8 => Array::I8(self.numbers(n, i8::from_le_bytes)?),
            ValueType::U16 => Array::U16(self.numbers(n, u16::from_le_bytes)?),
            ValueType::I16 => Array::I16(self.numbers(n, i16::from_le_bytes)?),
            ValueType::U32 => Array::U32(self.numbers(n, u32::from_le_bytes)?),
            ValueType::I32 => Array::I32(self.numbers(n, i32::from_le_bytes)?),
            ValueType::F32 => Array::F32(self.numbers(n, f32::from_le_bytes)?),
            ValueType::U64 => Array::U64(self.numbers(n, u64::from_le_bytes)?),
            ValueType::I64 => Array::I64(self.numbers(n, i64::from_le_bytes)?),
            ValueType::F64 => Array::F64(self.numbers(n, f64::from_le_bytes)?),
            ValueType::Bool => Array::Bool((0..n).map(|_| self.bool(key)).collect::<Result<_>>()?),
            ValueType::String => self.strings(n)?,
            ValueType::Array => {
                // Grown as it is read: an empty inner list is larger in memory than in the file.
                let mut lists = Vec::new();
                for _ in 0..n {
                    lists.push(self.array(key, depth + 1)?);
                }
                Array::Array(lists)
            }
        })
    }

    fn numbers<T, const N: usize>(&mut self, n: usize, of: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.take(VALUE, n as u64 * N as u64)?;
        Ok(bytes.as_chunks().0.iter().map(|chunk| of(*chunk)).collect())
    }

    fn strings(&mut self, n: usize) -> Result<Array> {
        let begin = self.at;
        let mut texts = Vec::new();
        for _ in 0..n {
            match std::str::from_utf8(self.string("a string")?) {
                Ok(text) => texts.push(text.to_owned()),
                Err(_) => {
                    self.at = begin;
                    let all = (0..n).map(|_| Ok(self.string("a string")?.to_vec()));
                    return Ok(Array::Bytes(all.collect::<Result<_>>()?));
                }
            }
        }
        Ok(Array::String(texts))
    }
}

const VALUE: &str = "a value";
