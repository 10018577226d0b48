//! The safetensors header: parsing with every check, and layout for writing.
//!
//! File: 8 bytes little-endian header length N, N bytes of JSON (padded with spaces), data.
//! JSON: name -> `{dtype, shape, data_offsets: [begin, end]}` relative to the data, and
//! `__metadata__` -> map of strings. Data are contiguous: no holes, no overlap, no trailing bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};

use crate::{Dtype, Error, Result};

/// Longest header accepted; the limit of the reference implementation.
pub(crate) const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes before the JSON.
pub(crate) const PREFIX_BYTES: u64 = 8;
/// The one key that is no tensor.
pub(crate) const METADATA_KEY: &str = "__metadata__";
/// No real tensor comes near; bounds what a header of zeros can make us allocate.
const MAX_RANK: usize = 32;

/// Where a tensor lies: `begin..end` are byte offsets in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

/// A checked header: every range lies inside the file it was parsed from.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Entry>,
}

impl Header {
    /// Parses and checks the header of a whole file.
    pub(crate) fn parse(path: &Path, file: &[u8]) -> Result<Header> {
        let file_bytes = file.len() as u64;
        let Some((prefix, rest)) = file.split_first_chunk::<8>() else {
            let path = path.to_owned();
            return Err(Error::Truncated { path, found: file_bytes, expected: PREFIX_BYTES });
        };
        let header_bytes = u64::from_le_bytes(*prefix);
        let limit = MAX_HEADER_BYTES.min(rest.len() as u64);
        if header_bytes > limit {
            return Err(Error::HeaderLength { path: path.to_owned(), found: header_bytes, limit });
        }
        let (json, data) = rest.split_at(header_bytes as usize);
        let text = std::str::from_utf8(json).map_err(|e| Error::HeaderText {
            path: path.to_owned(),
            offset: PREFIX_BYTES + e.valid_up_to() as u64,
        })?;
        let raw: RawHeader = serde_json::from_str(text).map_err(|source| Error::HeaderJson {
            path: path.to_owned(),
            offset: PREFIX_BYTES + byte_of(text, source.line(), source.column()),
            source,
        })?;
        raw.check(path, PREFIX_BYTES + header_bytes, data.len() as u64)
    }
}

/// Byte position of serde_json's 1-based line and column (columns count bytes).
fn byte_of(text: &str, line: usize, column: usize) -> u64 {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len()) as u64
}

/// `shape` elements of `dtype` in bytes, if that number exists.
pub(crate) fn shape_bytes(dtype: Dtype, shape: &[usize]) -> Option<u64> {
    shape.iter().try_fold(dtype.bytes() as u64, |n, &dim| n.checked_mul(dim as u64))
}

struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, RawEntry)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Shape,
    data_offsets: [u64; 2],
}

impl RawHeader {
    fn check(mut self, path: &Path, data_start: u64, data_bytes: u64) -> Result<Header> {
        // In order of position, so that each must begin where the one before ended.
        self.tensors.sort_by_key(|(_, raw)| raw.data_offsets);
        let mut tensors = BTreeMap::new();
        let mut position = 0;
        for (name, raw) in self.tensors {
            let (entry, end) = check_entry(path, &name, raw, position, data_start, data_bytes)?;
            position = end;
            if tensors.insert(name.clone(), entry).is_some() {
                return Err(Error::DuplicateTensor { path: path.to_owned(), tensor: name });
            }
        }
        if position != data_bytes {
            let (offset, found) = (data_start + position, data_bytes - position);
            return Err(Error::TrailingBytes { path: path.to_owned(), offset, found });
        }
        Ok(Header { metadata: self.metadata, tensors })
    }
}

/// Checks one tensor that must begin at `position` of the data; returns it and where it ends.
fn check_entry(
    path: &Path,
    name: &str,
    raw: RawEntry,
    position: u64,
    data_start: u64,
    data_bytes: u64,
) -> Result<(Entry, u64)> {
    let (path, tensor) = (path.to_owned(), name.to_owned());
    let [begin, end] = raw.data_offsets;
    let Some(dtype) = Dtype::from_name(&raw.dtype) else {
        return Err(Error::UnknownDtype { path, tensor, found: raw.dtype });
    };
    let Some(expected) = shape_bytes(dtype, &raw.shape.0) else {
        return Err(Error::ShapeOverflow { path, tensor, shape: raw.shape.0, dtype });
    };
    if begin != position {
        let (found, expected) = (data_start.saturating_add(begin), data_start + position);
        return Err(Error::Misplaced { path, tensor, found, expected });
    }
    if end.checked_sub(begin) != Some(expected) {
        let (offset, found) = (data_start + begin, end.saturating_sub(begin));
        return Err(Error::TensorLength { path, tensor, offset, found, expected });
    }
    if end > data_bytes {
        let (found, expected) = (data_start + data_bytes, data_start.saturating_add(end));
        return Err(Error::Truncated { path, found, expected });
    }
    // Both ends lie inside a slice in memory, so they fit in usize.
    let (begin, stop) = ((data_start + begin) as usize, (data_start + end) as usize);
    Ok((Entry { dtype, shape: raw.shape.0, begin, end: stop }, end))
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut metadata = None;
                let mut tensors = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key != METADATA_KEY {
                        tensors.push((key, map.next_value()?));
                    } else if metadata.replace(map.next_value::<StringMap>()?.0).is_some() {
                        return Err(de::Error::duplicate_field(METADATA_KEY));
                    }
                }
                Ok(RawHeader { metadata: metadata.unwrap_or_default(), tensors })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A map of strings that refuses a key given twice.
pub(crate) struct StringMap(pub(crate) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for StringMap {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = StringMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMap, A::Error> {
                let mut pairs = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if pairs.contains_key(&key) {
                        return Err(de::Error::custom(format_args!("`{key}` is given twice")));
                    }
                    pairs.insert(key, value);
                }
                Ok(StringMap(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dims;
        impl<'de> Visitor<'de> for Dims {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_RANK} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == MAX_RANK {
                        return Err(de::Error::invalid_length(MAX_RANK + 1, &self));
                    }
                    dims.push(dim);
                }
                Ok(Shape(dims))
            }
        }
        deserializer.deserialize_seq(Dims)
    }
}
