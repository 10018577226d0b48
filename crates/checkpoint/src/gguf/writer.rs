//! Writing GGUF version 3: streamed, atomic, in one file or several.
//!
//! Tensors stand in the order given, each at a multiple of 32 bytes with zeros between, which is
//! the only layout that llama.cpp accepts.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use fathom_kernels::quant::Format;

use super::problem::Problem;
use super::split;
use super::value::{Array, Value, ValueType};
use crate::atomic::write_atomic_with;
use crate::{Error, Result};

const VERSION: u32 = 3;
const ALIGNMENT: u64 = 32;

type Fill<'a, E> = Box<dyn FnOnce(&mut Sink<'_>) -> Result<(), E> + 'a>;

/// A tensor to be written: its description, and a function that streams its blocks.
pub struct NewTensor<'a, E = Error> {
    name: String,
    /// Slowest first, as everywhere in this program.
    shape: Vec<usize>,
    format: Format,
    fill: Fill<'a, E>,
}

/// Where the bytes of one tensor go.
pub struct Sink<'a> {
    path: &'a Path,
    out: &'a mut dyn Write,
    n_bytes: u64,
}

impl Sink<'_> {
    /// Appends `bytes`. Errors: `Write`.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.n_bytes += bytes.len() as u64;
        let failed = |source| Error::Write { path: self.path.to_owned(), source };
        self.out.write_all(bytes).map_err(failed)
    }
}

impl<'a, E> NewTensor<'a, E> {
    /// A tensor of `shape` (slowest first) whose blocks `fill` writes when its turn comes.
    ///
    /// Panics: `format` has no number in GGUF, or its blocks do not fill rows of this shape.
    pub fn new(
        name: impl Into<String>,
        shape: &[usize],
        format: Format,
        fill: impl FnOnce(&mut Sink<'_>) -> Result<(), E> + 'a,
    ) -> NewTensor<'a, E> {
        let tensor =
            NewTensor { name: name.into(), shape: shape.to_vec(), format, fill: Box::new(fill) };
        tensor.stored_bytes();
        tensor.type_id();
        tensor
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes it takes in the file, without padding.
    pub fn stored_bytes(&self) -> u64 {
        let row = self.shape.last().copied().unwrap_or(1);
        let rows = self.shape.iter().rev().skip(1).try_fold(1usize, |n, d| n.checked_mul(*d));
        let bytes = self.format.row_bytes(row).zip(rows).and_then(|(b, n)| b.checked_mul(n));
        let (name, shape, format) = (&self.name, &self.shape, self.format.name());
        bytes.unwrap_or_else(|| panic!("`{name}` of {shape:?} cannot be stored as {format}")) as u64
    }

    fn type_id(&self) -> u32 {
        let (name, format) = (&self.name, self.format.name());
        self.format.ggml_type().unwrap_or_else(|| panic!("`{name}`: gguf has no {format}"))
    }

    fn padded_bytes(&self) -> u64 {
        self.stored_bytes().next_multiple_of(ALIGNMENT)
    }
}

/// Writes one file, atomically: either the whole new file is there or what stood there before.
///
/// Errors: `Write`, `SourceLength`, `Gguf` with a duplicate key or tensor; whatever `fill` gives.
pub fn write<'a, E: From<Error>>(
    path: impl AsRef<Path>,
    metadata: &[(String, Value)],
    tensors: impl IntoIterator<Item = NewTensor<'a, E>>,
) -> Result<(), E> {
    let path = path.as_ref();
    let tensors: Vec<NewTensor<'a, E>> = tensors.into_iter().collect();
    check_names(path, metadata, &tensors)?;
    write_file(path, metadata, tensors)
}

/// Writes files of at most `max_bytes` of tensors each, named `PREFIX-00001-of-0000N.gguf`, or
/// `PREFIX.gguf` if one is enough. A tensor larger than `max_bytes` gets a file of its own.
/// Returns the paths. Errors: as [`write`]. Panics: more than 65535 files.
pub fn write_split<'a, E: From<Error>>(
    prefix: impl AsRef<Path>,
    metadata: &[(String, Value)],
    tensors: impl IntoIterator<Item = NewTensor<'a, E>>,
    max_bytes: u64,
) -> Result<Vec<PathBuf>, E> {
    let prefix = prefix.as_ref();
    let tensors: Vec<NewTensor<'a, E>> = tensors.into_iter().collect();
    check_names(prefix, metadata, &tensors)?;
    let n_tensors = tensors.len();
    let mut files: Vec<Vec<NewTensor<'a, E>>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        let n = tensor.padded_bytes();
        if filled > 0 && filled + n > max_bytes {
            files.push(Vec::new());
            filled = 0;
        }
        filled += n;
        files.last_mut().expect("starts with one").push(tensor);
    }
    if files.len() == 1 {
        let mut name = prefix.as_os_str().to_owned();
        name.push(".gguf");
        let path = PathBuf::from(name);
        write_file(&path, metadata, files.remove(0))?;
        return Ok(vec![path]);
    }
    let n_files = files.len();
    assert!(n_files <= usize::from(u16::MAX), "{n_files} files; raise `max_bytes` = {max_bytes}");
    let mut paths = Vec::new();
    for (i, tensors) in files.into_iter().enumerate() {
        let path = split::name(prefix, i, n_files);
        let mut entries = if i == 0 { metadata.to_vec() } else { Vec::new() };
        entries.push((split::NO.to_owned(), Value::U16(i as u16)));
        entries.push((split::COUNT.to_owned(), Value::U16(n_files as u16)));
        entries.push((split::TENSORS.to_owned(), Value::I32(n_tensors as i32)));
        write_file(&path, &entries, tensors)?;
        paths.push(path);
    }
    Ok(paths)
}

fn check_names<E>(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[NewTensor<'_, E>],
) -> Result<()> {
    let fail = |problem| Err(Error::Gguf { path: path.to_owned(), offset: None, problem });
    let mut keys = BTreeSet::new();
    for (key, _) in metadata {
        if !keys.insert(key) {
            return fail(Problem::DuplicateKey { key: key.clone() });
        }
    }
    let mut names = BTreeSet::new();
    for tensor in tensors {
        if !names.insert(&tensor.name) {
            return fail(Problem::DuplicateTensor { tensor: tensor.name.clone() });
        }
    }
    Ok(())
}

fn write_file<E: From<Error>>(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: Vec<NewTensor<'_, E>>,
) -> Result<(), E> {
    let header = header(metadata, &tensors);
    write_atomic_with(path, |out| {
        let mut head = Sink { path, out: &mut *out, n_bytes: 0 };
        head.put(&header)?;
        for tensor in tensors {
            let (expected, padded) = (tensor.stored_bytes(), tensor.padded_bytes());
            let mut sink = Sink { path, out: &mut *out, n_bytes: 0 };
            (tensor.fill)(&mut sink)?;
            let found = sink.n_bytes;
            if found != expected {
                return Err(Error::SourceLength { tensor: tensor.name, found, expected }.into());
            }
            sink.put(&[0; ALIGNMENT as usize][..(padded - expected) as usize])?;
        }
        Ok(())
    })
}

/// Everything before the data, padded.
fn header<E>(metadata: &[(String, Value)], tensors: &[NewTensor<'_, E>]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_bytes(&mut out, key.as_bytes());
        out.extend(value.value_type().id().to_le_bytes());
        put_value(&mut out, value);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_bytes(&mut out, tensor.name.as_bytes());
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        for dim in tensor.shape.iter().rev() {
            out.extend((*dim as u64).to_le_bytes());
        }
        out.extend(tensor.type_id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += tensor.padded_bytes();
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(x) => out.push(*x),
        Value::I8(x) => out.extend(x.to_le_bytes()),
        Value::U16(x) => out.extend(x.to_le_bytes()),
        Value::I16(x) => out.extend(x.to_le_bytes()),
        Value::U32(x) => out.extend(x.to_le_bytes()),
        Value::I32(x) => out.extend(x.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_le_bytes()),
        Value::U64(x) => out.extend(x.to_le_bytes()),
        Value::I64(x) => out.extend(x.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_le_bytes()),
        Value::Bool(x) => out.push(u8::from(*x)),
        Value::String(text) => put_bytes(out, text.as_bytes()),
        Value::Bytes(bytes) => put_bytes(out, bytes),
        Value::Array(list) => put_array(out, list),
    }
}

fn put_array(out: &mut Vec<u8>, list: &Array) {
    let element: ValueType = list.element_type();
    out.extend(element.id().to_le_bytes());
    out.extend((list.len() as u64).to_le_bytes());
    match list {
        Array::U8(x) => out.extend(x),
        Array::I8(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::U16(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::I16(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::U32(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::I32(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::F32(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::U64(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::I64(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::F64(x) => out.extend(x.iter().flat_map(|x| x.to_le_bytes())),
        Array::Bool(x) => out.extend(x.iter().map(|x| u8::from(*x))),
        Array::String(texts) => texts.iter().for_each(|text| put_bytes(out, text.as_bytes())),
        Array::Bytes(all) => all.iter().for_each(|bytes| put_bytes(out, bytes)),
        Array::Array(lists) => lists.iter().for_each(|inner| put_array(out, inner)),
    }
}
