//! Opening a GGUF: everything is checked once, then only looked up.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fathom_kernels::quant::Format;
use fathom_kernels::stored::SharedBytes;

use super::cursor::Cursor;
use super::number_format::{GgmlType, ggml_type};
use super::problem::Problem;
use super::split;
use super::value::Value;
use crate::mapped_file::FileBytes;
use crate::safetensors::nearest_name;
use crate::{Error, Result};

/// Most dimensions of a tensor in ggml.
const MAX_RANK: u32 = 4;
/// Largest alignment that is believed; files have 32.
const MAX_ALIGNMENT: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;

/// An open GGUF, of one file or several, checked.
pub struct Gguf {
    parts: Vec<Part>,
    version: u32,
    metadata: BTreeMap<String, Value>,
    /// In the order of the files.
    tensors: Vec<Entry>,
    by_name: BTreeMap<String, usize>,
}

/// One file.
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) bytes: Arc<FileBytes>,
}

struct Entry {
    name: String,
    part: usize,
    type_id: u32,
    /// As stored: fastest first.
    dims: Vec<usize>,
    /// Reversed, as everywhere else in this program: rows first.
    shape: Vec<usize>,
    /// Where the data begin in the file, and where they end if the format is known.
    begin: usize,
    end: Option<usize>,
}

impl Gguf {
    /// Maps and checks the file at `path`; of a split model, all its files.
    ///
    /// Errors: `Read`, `NotAFile`, or `Gguf` with the byte and what is wrong there.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf> {
        let path = path.as_ref();
        let part = Part { path: path.to_owned(), bytes: Arc::new(FileBytes::open(path)?) };
        let first = Gguf::parse(part)?;
        match split::count(&first)? {
            None => Ok(first),
            Some(n_files) => split::open_all(first, n_files),
        }
    }

    /// Checks a file that is already in memory; `label` stands for its path in errors. One file of
    /// several is read alone.
    pub fn from_bytes(label: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Gguf> {
        Gguf::parse(Part { path: label.into(), bytes: Arc::new(FileBytes::Owned(bytes)) })
    }

    pub(super) fn parse(part: Part) -> Result<Gguf> {
        let Header { version, metadata, tensors } = Header::parse(&part.path, &part.bytes)?;
        let mut gguf = Gguf {
            parts: vec![part],
            version,
            metadata,
            tensors: Vec::new(),
            by_name: BTreeMap::new(),
        };
        gguf.add(tensors)?;
        Ok(gguf)
    }

    /// Takes over the tensors of another file of the same model.
    pub(super) fn append(&mut self, other: Gguf) -> Result<()> {
        let shift = self.parts.len();
        self.parts.extend(other.parts);
        self.add(other.tensors.into_iter().map(|t| Entry { part: t.part + shift, ..t }).collect())
    }

    fn add(&mut self, tensors: Vec<Entry>) -> Result<()> {
        for entry in tensors {
            if self.by_name.insert(entry.name.clone(), self.tensors.len()).is_some() {
                let path = self.parts[entry.part].path.clone();
                let problem = Problem::DuplicateTensor { tensor: entry.name };
                return Err(Error::Gguf { path, offset: None, problem });
            }
            self.tensors.push(entry);
        }
        Ok(())
    }

    /// Where the (first) file was opened.
    pub fn path(&self) -> &Path {
        &self.parts[0].path
    }

    /// 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All files, in their order.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// The metadata of the (first) file.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The tensor called `name`. Errors: `MissingTensor`.
    pub fn tensor(&self, name: &str) -> Result<GgufTensor<'_>> {
        match self.by_name.get(name) {
            Some(&at) => Ok(self.view(&self.tensors[at])),
            None => Err(Error::MissingTensor {
                path: self.path().to_owned(),
                tensor: name.to_owned(),
                nearest: nearest_name(name, self.by_name.keys().map(String::as_str)),
            }),
        }
    }

    /// All tensors in the order of the files.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = GgufTensor<'_>> {
        self.tensors.iter().map(|entry| self.view(entry))
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> GgufTensor<'a> {
        GgufTensor { entry, part: &self.parts[entry.part] }
    }
}

/// One tensor of an open GGUF.
#[derive(Clone, Copy)]
pub struct GgufTensor<'a> {
    entry: &'a Entry,
    part: &'a Part,
}

impl<'a> GgufTensor<'a> {
    pub fn name(&self) -> &'a str {
        &self.entry.name
    }

    /// The file that holds it.
    pub fn path(&self) -> &'a Path {
        &self.part.path
    }

    /// Sizes as stored, fastest first.
    pub fn dims(&self) -> &'a [usize] {
        &self.entry.dims
    }

    /// Sizes in the order of this program, slowest first: a matrix is `[out, in]`.
    pub fn shape(&self) -> &'a [usize] {
        &self.entry.shape
    }

    pub fn n_elements(&self) -> usize {
        self.entry.shape.iter().product()
    }

    /// The number format's id in the file.
    pub fn type_id(&self) -> u32 {
        self.entry.type_id
    }

    /// The number format, if it is known at all.
    pub fn ggml_type(&self) -> Option<GgmlType> {
        ggml_type(self.entry.type_id)
    }

    /// The number format. Errors: `Unsupported` where we cannot compute with it.
    pub fn format(&self) -> Result<Format> {
        Format::from_ggml_type(self.type_id()).ok_or_else(|| self.unsupported())
    }

    /// Where the data lie in the file at [`path`](Self::path); `None` for an unknown format.
    pub fn byte_range(&self) -> Option<Range<usize>> {
        self.entry.end.map(|end| self.entry.begin..end)
    }

    /// The stored blocks, row after row. Not aligned beyond what the file promises.
    ///
    /// Errors: `Unsupported` for a format without known size.
    pub fn bytes(&self) -> Result<&'a [u8]> {
        let range = self.byte_range().ok_or_else(|| self.unsupported())?;
        Ok(&self.part.bytes[range])
    }

    /// [`bytes`](Self::bytes) that keep the file mapped for as long as they live.
    pub fn shared(&self) -> Result<SharedBytes> {
        let range = self.byte_range().ok_or_else(|| self.unsupported())?;
        Ok(SharedBytes::new(self.part.bytes.clone(), range))
    }

    /// Errors with `Shape` unless the tensor has exactly this shape (slowest first).
    pub fn expect_shape(&self, expected: &[usize]) -> Result<()> {
        if self.shape() == expected {
            return Ok(());
        }
        Err(Error::Shape {
            path: self.path().to_owned(),
            tensor: self.name().to_owned(),
            found: self.shape().to_vec(),
            expected: expected.to_vec(),
        })
    }

    fn unsupported(&self) -> Error {
        let (tensor, type_id) = (self.name().to_owned(), self.type_id());
        let name = self.ggml_type().map(|t| t.name);
        let offset = Some(self.entry.begin as u64);
        let problem = Problem::Unsupported { tensor, type_id, name };
        Error::Gguf { path: self.path().to_owned(), offset, problem }
    }
}

/// Everything before the data.
struct Header {
    version: u32,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<Entry>,
}

/// A tensor's description before the place of the data is known.
struct Described {
    /// Where the description begins.
    at: u64,
    name: String,
    dims: Vec<u64>,
    type_id: u32,
    offset: u64,
}

impl Header {
    fn parse(path: &Path, bytes: &[u8]) -> Result<Header> {
        let mut cursor = Cursor::new(path, bytes);
        let version = read_version(&mut cursor)?;
        let at_tensors = cursor.offset();
        let n_tensors = cursor.u64("the number of tensors")?;
        // A key has 8 bytes of length, 4 of type and a value; a tensor at least 24 bytes.
        let n_keys = cursor.count("metadata entries", 13)?;
        cursor.check_count(at_tensors, "tensors", n_tensors, 24)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..n_keys {
            let offset = cursor.offset();
            let key = cursor.name("a key")?;
            let value = cursor.value(&key)?;
            if metadata.contains_key(&key) {
                return Err(cursor.fail(offset, Problem::DuplicateKey { key }));
            }
            metadata.insert(key, value);
        }
        let alignment = alignment(&cursor, &metadata)?;
        let mut described = Vec::new();
        for _ in 0..n_tensors {
            described.push(describe(&mut cursor)?);
        }
        let data_begin = cursor.offset().next_multiple_of(alignment);
        let place = Placement { cursor: &cursor, data_begin, alignment, n_bytes: bytes.len() };
        let tensors: Vec<Entry> =
            described.into_iter().map(|d| place.entry(d)).collect::<Result<_>>()?;
        place.refuse_overlaps(&tensors)?;
        Ok(Header { version, metadata, tensors })
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32> {
    let magic = cursor.take("the magic number", 4)?;
    if magic != b"GGUF" {
        let found = [magic[0], magic[1], magic[2], magic[3]];
        return Err(cursor.fail(0, Problem::Magic { found }));
    }
    let found = cursor.u32("the version")?;
    match found {
        2 | 3 => Ok(found),
        // A small version read in the wrong byte order has its value in the high half.
        _ if found & 0xffff == 0 && found != 0 => Err(cursor.fail(4, Problem::BigEndian)),
        _ => Err(cursor.fail(4, Problem::Version { found })),
    }
}

fn alignment(cursor: &Cursor<'_>, metadata: &BTreeMap<String, Value>) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    let path = || cursor.path.to_owned();
    let Some(found) = value.as_integer() else {
        let (key, found) = ("general.alignment".to_owned(), value.describe());
        let problem = Problem::WrongType { key, found, expected: "an integer" };
        return Err(Error::Gguf { path: path(), offset: None, problem });
    };
    match u64::try_from(found) {
        Ok(n) if n.is_power_of_two() && n <= MAX_ALIGNMENT => Ok(n),
        other => {
            let problem = Problem::Alignment { found: other.unwrap_or(0), most: MAX_ALIGNMENT };
            Err(Error::Gguf { path: path(), offset: None, problem })
        }
    }
}

fn describe(cursor: &mut Cursor<'_>) -> Result<Described> {
    let at = cursor.offset();
    let name = cursor.name("a tensor name")?;
    let rank_at = cursor.offset();
    let rank = cursor.u32("the number of dimensions")?;
    if rank > MAX_RANK {
        let problem = Problem::Rank { tensor: name, found: rank, most: MAX_RANK };
        return Err(cursor.fail(rank_at, problem));
    }
    let dims = (0..rank).map(|_| cursor.u64("a dimension")).collect::<Result<_>>()?;
    let type_id = cursor.u32("a number format")?;
    let offset = cursor.u64("an offset")?;
    Ok(Described { at, name, dims, type_id, offset })
}

/// Where the data are, to place tensors in them.
struct Placement<'a> {
    cursor: &'a Cursor<'a>,
    data_begin: u64,
    alignment: u64,
    n_bytes: usize,
}

impl Placement<'_> {
    fn entry(&self, d: Described) -> Result<Entry> {
        let tensor = || d.name.clone();
        let fail = |problem| Err(self.cursor.fail(d.at, problem));
        let overflow = || Problem::Overflow { tensor: d.name.clone(), dims: d.dims.clone() };
        let product = d.dims.iter().try_fold(1u64, |n, dim| n.checked_mul(*dim));
        let Some(n_elements) = product.filter(|n| *n <= i64::MAX as u64) else {
            return fail(overflow());
        };
        // A zero among absurd sizes hides them from the product.
        let dims: Option<Vec<usize>> =
            d.dims.iter().map(|n| usize::try_from(*n).ok().filter(|n| *n < 1 << 48)).collect();
        let Some(dims) = dims else { return fail(overflow()) };
        if !d.offset.is_multiple_of(self.alignment) {
            let (offset, alignment) = (d.offset, self.alignment);
            return fail(Problem::Misaligned { tensor: tensor(), offset, alignment });
        }
        let begin = self.data_begin.saturating_add(d.offset);
        let n_bytes = match ggml_type(d.type_id) {
            None => None,
            Some(format) => {
                let block_len = u64::from(format.block_len);
                let row = d.dims.first().copied().unwrap_or(1);
                if !row.is_multiple_of(block_len) {
                    let format = format.name;
                    return fail(Problem::Blocks { tensor: tensor(), row, format, block_len });
                }
                let n = (n_elements / block_len).checked_mul(u64::from(format.block_bytes));
                if n.is_none() {
                    return fail(overflow());
                }
                n
            }
        };
        let end = begin.saturating_add(n_bytes.unwrap_or(0));
        if end > self.n_bytes as u64 && (n_bytes != Some(0) || n_elements > 0) {
            let file_bytes = self.n_bytes as u64;
            return fail(Problem::Outside { tensor: tensor(), begin, end, file_bytes });
        }
        let shape = dims.iter().rev().copied().collect();
        let (begin, end) = if n_bytes == Some(0) { (0, 0) } else { (begin, end) };
        Ok(Entry {
            part: 0,
            type_id: d.type_id,
            dims,
            shape,
            begin: begin as usize,
            end: n_bytes.map(|_| end as usize),
            name: d.name,
        })
    }

    fn refuse_overlaps(&self, tensors: &[Entry]) -> Result<()> {
        let mut order: Vec<&Entry> = tensors.iter().filter(|t| t.end != Some(0)).collect();
        order.sort_by_key(|t| (t.begin, t.end));
        for pair in order.windows(2) {
            let [a, b] = pair else { continue };
            // A format of unknown size still has a first byte of its own.
            let other_end = a.end.unwrap_or(a.begin + 1);
            if b.begin < other_end {
                let (begin, other_end) = (b.begin as u64, other_end as u64);
                let (tensor, other) = (b.name.clone(), a.name.clone());
                let problem = Problem::Overlap { tensor, begin, other, other_end };
                return Err(self.cursor.fail(begin, problem));
            }
        }
        Ok(())
    }
}
