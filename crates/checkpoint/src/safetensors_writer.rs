//! Writing one safetensors file: streamed, atomic, readable by every other program.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use fathom_kernels::convert::f32_to_bf16;

use crate::atomic::write_atomic_with;
use crate::header::{METADATA_KEY, shape_bytes};
use crate::{Dtype, Error, Result};

/// Elements converted at a time, so that a large tensor is never copied whole.
const CHUNK_ELEMENTS: usize = 16 * 1024;

type Fill<'a> = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + 'a>;

/// A tensor to be written: its description, and a function that streams its bytes.
pub struct TensorSource<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    fill: Fill<'a>,
}

impl<'a> TensorSource<'a> {
    /// A tensor whose little-endian, row-major bytes `fill` writes when asked.
    pub fn new(
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        fill: impl Fn(&mut dyn Write) -> io::Result<()> + 'a,
    ) -> TensorSource<'a> {
        TensorSource { name: name.into(), dtype, shape: shape.to_vec(), fill: Box::new(fill) }
    }

    /// A tensor that is already in its stored form.
    pub fn from_bytes(
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> TensorSource<'a> {
        let bytes = bytes.into();
        TensorSource::new(name, dtype, shape, move |out| out.write_all(&bytes))
    }

    /// f32 values, stored as `dtype`: F32 as they are, BF16 rounded to nearest even.
    ///
    /// Panics: another `dtype`.
    pub fn from_f32(
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        values: impl Into<Cow<'a, [f32]>>,
    ) -> TensorSource<'a> {
        assert!(matches!(dtype, Dtype::F32 | Dtype::BF16), "cannot store f32 values as {dtype}");
        let values = values.into();
        TensorSource::new(name, dtype, shape, move |out| {
            let mut buffer = Vec::with_capacity(CHUNK_ELEMENTS * dtype.bytes());
            for chunk in values.chunks(CHUNK_ELEMENTS) {
                buffer.clear();
                match dtype {
                    Dtype::BF16 => {
                        buffer.extend(chunk.iter().flat_map(|x| f32_to_bf16(*x).to_le_bytes()))
                    }
                    _ => buffer.extend(chunk.iter().flat_map(|x| x.to_le_bytes())),
                }
                out.write_all(&buffer)?;
            }
            Ok(())
        })
    }

    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes it takes in the file.
    ///
    /// Panics: the shape overflows, which no tensor that exists can do.
    pub fn stored_bytes(&self) -> u64 {
        shape_bytes(self.dtype, &self.shape)
            .unwrap_or_else(|| panic!("`{}`: shape {:?} overflows", self.name, self.shape))
    }
}

/// Writes `tensors` to `path`, atomically: either the whole new file is there or the old one.
///
/// The data are ordered by element size, largest first, then by name, as the reference writer
/// does, so equal tensors give equal bytes whatever order they come in. `metadata` gets
/// `format` = `pt` unless it has one; other programs refuse a file without it.
/// Errors: `Write`, `DuplicateTensor`, `ReservedName`, `SourceLength`.
pub fn write(
    path: impl AsRef<Path>,
    tensors: &[TensorSource<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let refs: Vec<&TensorSource<'_>> = tensors.iter().collect();
    write_refs(path.as_ref(), refs, metadata)
}

pub(crate) fn write_refs(
    path: &Path,
    mut tensors: Vec<&TensorSource<'_>>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    check_names(path, &tensors)?;
    tensors.sort_by(|a, b| (b.dtype.bytes(), &a.name).cmp(&(a.dtype.bytes(), &b.name)));
    let header = header_json(&tensors, metadata);
    write_atomic_with(path, |out| {
        let io_error = |source| Error::Write { path: path.to_owned(), source };
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io_error)?;
        out.write_all(&header).map_err(io_error)?;
        for tensor in &tensors {
            let mut counted = Counted { out: &mut *out, n_bytes: 0 };
            (tensor.fill)(&mut counted).map_err(io_error)?;
            let (found, expected) = (counted.n_bytes, tensor.stored_bytes());
            if found != expected {
                return Err(Error::SourceLength { tensor: tensor.name.clone(), found, expected });
            }
        }
        Ok(())
    })
}

fn check_names(path: &Path, tensors: &[&TensorSource<'_>]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for tensor in tensors {
        let fields = || (path.to_owned(), tensor.name.clone());
        if tensor.name == METADATA_KEY {
            let (path, tensor) = fields();
            return Err(Error::ReservedName { path, tensor });
        }
        if !seen.insert(&tensor.name) {
            let (path, tensor) = fields();
            return Err(Error::DuplicateTensor { path, tensor });
        }
    }
    Ok(())
}

/// The header with its tensors in file order, padded so that the data start at a multiple of 8.
fn header_json(tensors: &[&TensorSource<'_>], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut metadata = metadata.clone();
    metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
    let mut text = format!("{{{}:{}", json(METADATA_KEY), json(&metadata));
    let mut begin = 0;
    for tensor in tensors {
        let end = begin + tensor.stored_bytes();
        text += &format!(
            ",{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{begin},{end}]}}",
            json(&tensor.name),
            tensor.dtype,
            json(&tensor.shape),
        );
        begin = end;
    }
    text.push('}');
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    bytes
}

fn json(value: &(impl serde::Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("strings, string maps and numbers always serialise")
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    n_bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.n_bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
