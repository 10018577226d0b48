//! GGUF versions 2 and 3, little endian: reading, writing, files in several parts.
//!
//! Source of the format: `docs/gguf.md` of ggml-org/ggml. A file is a magic number, a version, two
//! counts, the metadata (typed values by key), the tensors' descriptions, padding, and the data.
//! What keys and names mean is not known here.
//!
//! Everything read is bounded by the file's own length before it is allocated: a count by the
//! shortest entries that could fill it, a string or list by the bytes that follow, nested lists
//! by [`MAX_DEPTH`], a tensor by its range.

mod cursor;
mod lookup;
mod number_format;
mod problem;
mod reader;
mod split;
mod value;
mod writer;

pub use number_format::{GgmlType, ggml_type};
pub use problem::Problem;
pub use reader::{Gguf, GgufTensor};
pub use value::{Array, MAX_DEPTH, Value, ValueType};
pub use writer::{NewTensor, Sink, write, write_split};
