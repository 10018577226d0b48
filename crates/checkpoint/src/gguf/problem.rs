//! What can be wrong with a GGUF file; [`crate::Error`] adds the file and the byte.

use std::fmt;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The first four bytes are not `GGUF`.
    Magic { found: [u8; 4] },
    /// A version we do not read.
    Version { found: u32 },
    /// The file is written for machines of the other byte order.
    BigEndian,
    /// Something reaches past the end of the file.
    Ends { what: &'static str, needs: u64, left: u64 },
    /// More entries than could stand in the rest of the file.
    Count { what: &'static str, found: u64, most: u64 },
    /// A key or a name longer than the format allows.
    NameLength { what: &'static str, found: u64, most: u64 },
    /// A key or a name that is no text.
    NotText { what: &'static str },
    /// A value type that does not exist.
    ValueType { key: String, found: u32 },
    /// A truth value that is neither 0 nor 1.
    Bool { key: String, found: u8 },
    /// Lists in lists in lists.
    Depth { key: String, most: usize },
    /// A key that stands twice.
    DuplicateKey { key: String },
    /// Two tensors of one name.
    DuplicateTensor { tensor: String },
    /// Alignment of the data that is no power of two within bounds.
    Alignment { found: u64, most: u64 },
    /// More dimensions than the format knows.
    Rank { tensor: String, found: u32, most: u32 },
    /// Dimensions whose product no file can hold.
    Overflow { tensor: String, dims: Vec<u64> },
    /// Rows that do not consist of whole blocks.
    Blocks { tensor: String, row: u64, format: &'static str, block_len: u64 },
    /// Data that do not begin at a multiple of the alignment.
    Misaligned { tensor: String, offset: u64, alignment: u64 },
    /// Data outside the file; `begin..end` and `file_bytes` count from the start of the file.
    Outside { tensor: String, begin: u64, end: u64, file_bytes: u64 },
    /// Data that begin inside another tensor's.
    Overlap { tensor: String, begin: u64, other: String, other_end: u64 },
    /// A tensor whose numbers we cannot read.
    Unsupported { tensor: String, type_id: u32, name: Option<&'static str> },
    /// A key that must be there.
    MissingKey { key: String },
    /// A value of another type than the key's meaning needs.
    WrongType { key: String, found: String, expected: &'static str },
    /// One of several files, whose name does not say which one.
    SplitName { n_files: u64 },
    /// A part that does not fit the others.
    Split { key: &'static str, found: u64, expected: u64 },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Problem::*;
        match self {
            Magic { found } => write!(
                f,
                "expected `GGUF`, found `{}`\nhint: this is no gguf file",
                found.escape_ascii()
            ),
            Version { found } => write!(
                f,
                "gguf version {found}; versions 2 and 3 are read\nhint: convert the model again \
                 with a current converter"
            ),
            BigEndian => write!(
                f,
                "the file is big endian\nhint: convert the model again without the big-endian option"
            ),
            Ends { what, needs, left } => {
                write!(f, "{what} needs {needs} bytes, {left} are left{DAMAGED}")
            }
            Count { what, found, most } => {
                write!(f, "{found} {what}, at most {most} fit in the file{DAMAGED}")
            }
            NameLength { what, found, most } => {
                write!(f, "{what} of {found} bytes, at most {most} are allowed{DAMAGED}")
            }
            NotText { what } => write!(f, "{what} is not utf-8{DAMAGED}"),
            ValueType { key, found } => write!(
                f,
                "`{key}` has unknown value type {found}\nhint: types are 0 to 12; the file is \
                 damaged or newer than this program"
            ),
            Bool { key, found } => {
                write!(f, "`{key}` is a bool of value {found}, expected 0 or 1{DAMAGED}")
            }
            Depth { key, most } => {
                write!(f, "`{key}` nests lists more than {most} deep{DAMAGED}")
            }
            DuplicateKey { key } => write!(f, "key `{key}` stands twice{DAMAGED}"),
            DuplicateTensor { tensor } => write!(f, "two tensors are named `{tensor}`{DAMAGED}"),
            Alignment { found, most } => write!(
                f,
                "`general.alignment` is {found}, expected a power of two from 1 to {most}{DAMAGED}"
            ),
            Rank { tensor, found, most } => {
                write!(f, "tensor `{tensor}` has {found} dimensions, at most {most}{DAMAGED}")
            }
            Overflow { tensor, dims } => {
                write!(f, "tensor `{tensor}` of {dims:?} is larger than any file{DAMAGED}")
            }
            Blocks { tensor, row, format, block_len } => write!(
                f,
                "tensor `{tensor}` has rows of {row} elements, {format} needs a multiple of \
                 {block_len}{DAMAGED}"
            ),
            Misaligned { tensor, offset, alignment } => write!(
                f,
                "tensor `{tensor}` has offset {offset}, expected a multiple of {alignment}{DAMAGED}"
            ),
            Outside { tensor, begin, end, file_bytes } => write!(
                f,
                "tensor `{tensor}` takes bytes {begin} to {end}, the file has {file_bytes}{DAMAGED}"
            ),
            Overlap { tensor, begin, other, other_end } => write!(
                f,
                "tensor `{tensor}` begins at byte {begin}, inside `{other}` which ends at \
                 {other_end}{DAMAGED}"
            ),
            Unsupported { tensor, type_id, name } => {
                match name {
                    Some(name) => write!(f, "tensor `{tensor}` is stored as {name}")?,
                    None => write!(f, "tensor `{tensor}` is stored as unknown type {type_id}")?,
                }
                write!(f, "\nhint: readable are {}", super::number_format::readable_names())
            }
            MissingKey { key } => write!(
                f,
                "no key `{key}`\nhint: the file is a vocabulary alone, or made by a converter that \
                 leaves this out"
            ),
            WrongType { key, found, expected } => {
                write!(f, "`{key}` is {found}, expected {expected}")
            }
            SplitName { n_files } => write!(
                f,
                "this is one of {n_files} files, but its name does not end in \
                 `-00001-of-{n_files:05}.gguf`\nhint: give the files their first names again"
            ),
            Split { key, found, expected } => write!(
                f,
                "`{key}` is {found}, expected {expected}\nhint: the files come from different models"
            ),
        }
    }
}

const DAMAGED: &str = "\nhint: the file is incomplete or damaged; fetch or write it again";
