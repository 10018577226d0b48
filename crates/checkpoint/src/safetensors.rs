//! Reading one safetensors file: mapped, checked once at opening, then only looked up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fathom_kernels::stored::SharedBytes;

use crate::dtype::to_f32;
use crate::header::{Entry, Header};
use crate::mapped_file::FileBytes;
use crate::{Dtype, Error, Result};

/// An open safetensors file whose header has been checked against the file's length.
pub struct SafeTensors {
    path: PathBuf,
    bytes: Arc<FileBytes>,
    header: Header,
}

impl SafeTensors {
    /// Maps and checks the file at `path`.
    ///
    /// Errors: any variant of [`Error`] that speaks of reading or of the header.
    pub fn open(path: impl AsRef<Path>) -> Result<SafeTensors> {
        let path = path.as_ref();
        SafeTensors::new(path.to_owned(), FileBytes::open(path)?)
    }

    /// Checks a file that is already in memory; `label` stands for its path in errors.
    pub fn from_bytes(label: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<SafeTensors> {
        SafeTensors::new(label.into(), FileBytes::Owned(bytes))
    }

    fn new(path: PathBuf, bytes: FileBytes) -> Result<SafeTensors> {
        let header = Header::parse(&path, &bytes)?;
        Ok(SafeTensors { path, bytes: Arc::new(bytes), header })
    }

    /// The tensor called `name`. Errors: `MissingTensor`.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        match self.header.tensors.get_key_value(name) {
            Some((name, entry)) => Ok(self.view(name, entry)),
            None => Err(Error::MissingTensor {
                path: self.path.clone(),
                tensor: name.to_owned(),
                nearest: nearest_name(name, self.names()),
            }),
        }
    }

    /// Whether the file holds a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.header.tensors.iter().map(|(name, entry)| self.view(name, entry))
    }

    /// All names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// The free-form strings of the header, such as `format` = `pt`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn view<'a>(&'a self, name: &'a str, entry: &'a Entry) -> TensorView<'a> {
        TensorView {
            name,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes: &self.bytes[entry.begin..entry.end],
            begin: entry.begin,
            file: &self.bytes,
            path: &self.path,
        }
    }
}

/// One stored tensor, row-major, borrowed from the mapped file.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    pub name: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [usize],
    /// Little-endian elements. Not aligned: the format promises no more than a byte.
    pub bytes: &'a [u8],
    begin: usize,
    file: &'a Arc<FileBytes>,
    path: &'a Path,
}

impl<'a> TensorView<'a> {
    /// The same bytes, kept alive by whoever holds them.
    pub fn shared(&self) -> SharedBytes {
        SharedBytes::new(self.file.clone(), self.begin..self.begin + self.bytes.len())
    }

    /// The file.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }

    /// The elements widened to f32. Errors: `Dtype` unless stored as F16, BF16, F32 or F64.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        to_f32(self.dtype, self.bytes).ok_or_else(|| self.wrong_dtype("F32, BF16, F16 or F64"))
    }

    /// The stored bfloat16 bits. Errors: `Dtype` for any other type.
    pub fn to_bf16_bits(&self) -> Result<Vec<u16>> {
        match self.dtype {
            Dtype::BF16 => {
                Ok(self.bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect())
            }
            _ => Err(self.wrong_dtype("BF16")),
        }
    }

    /// Errors with `Shape` unless the tensor has exactly this shape.
    pub fn expect_shape(&self, expected: &[usize]) -> Result<()> {
        if self.shape == expected {
            return Ok(());
        }
        Err(Error::Shape {
            path: self.path.to_owned(),
            tensor: self.name.to_owned(),
            found: self.shape.to_vec(),
            expected: expected.to_vec(),
        })
    }

    /// The error that the tensor is not stored as it should be.
    pub fn wrong_dtype(&self, expected: &'static str) -> Error {
        let (path, tensor) = (self.path.to_owned(), self.name.to_owned());
        Error::Dtype { path, tensor, found: self.dtype, expected }
    }
}

impl std::fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` {} {:?} in `{}`", self.name, self.dtype, self.shape, self.path.display())
    }
}

/// The name most like `wanted`: the longest shared beginning plus the longest shared end.
pub(crate) fn nearest_name<'a>(
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let score = |name: &str| {
        let start = name.bytes().zip(wanted.bytes()).take_while(|(a, b)| a == b).count();
        let end = name.bytes().rev().zip(wanted.bytes().rev()).take_while(|(a, b)| a == b).count();
        (start + end).min(name.len())
    };
    // A first name wins among equals, so the answer does not depend on anything but the names.
    let best =
        names.map(|name| (score(name), name)).reduce(|a, b| if b.0 > a.0 { b } else { a })?;
    (best.0 * 2 > wanted.len()).then(|| best.1.to_owned())
}
