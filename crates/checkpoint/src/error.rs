//! Everything that can be wrong with files of weights, with the file, the tensor and the byte.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::Dtype;

/// Why a checkpoint could not be read or written. Offsets count bytes from the start of the file.
#[derive(Debug)]
pub enum Error {
    /// The system refused to read.
    Read { path: PathBuf, source: io::Error },
    /// The system refused to write; what stood at `path` before is untouched.
    Write { path: PathBuf, source: io::Error },
    /// A directory, pipe or device stands where a file should be.
    NotAFile { path: PathBuf },
    /// The file ends before what its header promises.
    Truncated { path: PathBuf, found: u64, expected: u64 },
    /// The header length is larger than the file or the limit.
    HeaderLength { path: PathBuf, found: u64, limit: u64 },
    /// The header is not UTF-8.
    HeaderText { path: PathBuf, offset: u64 },
    /// The header is not the JSON object it should be.
    HeaderJson { path: PathBuf, offset: u64, source: serde_json::Error },
    /// Two tensors have one name.
    DuplicateTensor { path: PathBuf, tensor: String },
    /// An element type this program does not know.
    UnknownDtype { path: PathBuf, tensor: String, found: String },
    /// Elements times bytes of one element do not fit in 64 bits.
    ShapeOverflow { path: PathBuf, tensor: String, shape: Vec<usize>, dtype: Dtype },
    /// The tensor's data do not begin where the tensor before them ends.
    Misplaced { path: PathBuf, tensor: String, found: u64, expected: u64 },
    /// The tensor's bytes are not shape times element size.
    TensorLength { path: PathBuf, tensor: String, offset: u64, found: u64, expected: u64 },
    /// Bytes follow the last tensor.
    TrailingBytes { path: PathBuf, offset: u64, found: u64 },
    /// No tensor of that name; `nearest` is the most similar name, if any is.
    MissingTensor { path: PathBuf, tensor: String, nearest: Option<String> },
    /// The tensor has another shape than the caller needs.
    Shape { path: PathBuf, tensor: String, found: Vec<usize>, expected: Vec<usize> },
    /// The tensor has another element type than the caller needs.
    Dtype { path: PathBuf, tensor: String, found: Dtype, expected: &'static str },
    /// A directory without `model.safetensors` and without an index.
    NoWeights { path: PathBuf },
    /// The index file is too long, not JSON, or not of the right form.
    IndexJson { path: PathBuf, source: serde_json::Error },
    /// The index file is longer than any real one.
    IndexLength { path: PathBuf, found: u64, limit: u64 },
    /// The index names a shard that is not a plain file name.
    ShardName { path: PathBuf, tensor: String, found: String },
    /// The index names a shard that is not there.
    MissingShard { path: PathBuf, shard: PathBuf },
    /// The index places a tensor in a shard that does not hold it.
    NotInShard { path: PathBuf, tensor: String, shard: String },
    /// The source of a tensor wrote more or fewer bytes than its shape says.
    SourceLength { tensor: String, found: u64, expected: u64 },
    /// A tensor may not bear this name in a file.
    ReservedName { path: PathBuf, tensor: String },
    /// Something in a GGUF file is wrong, at byte `offset` where one place is to blame.
    Gguf { path: PathBuf, offset: Option<u64>, problem: crate::gguf::Problem },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Error::*;
        match self {
            Read { path, source } => {
                write!(f, "cannot read `{}`: {source}{}", path.display(), system_hint(source))
            }
            Write { path, source } => {
                write!(f, "cannot write `{}`: {source}{}", path.display(), system_hint(source))
            }
            NotAFile { path } => write!(f, "`{}` is not a regular file", path.display()),
            Truncated { path, found, expected } => write!(
                f,
                "`{}` is truncated: {found} bytes, needs {expected}{DAMAGED}",
                path.display()
            ),
            HeaderLength { path, found, limit } => write!(
                f,
                "`{}`: header length at byte 0 is {found}, at most {limit} is possible\nhint: the \
                 file is no safetensors file, or it is damaged",
                path.display()
            ),
            HeaderText { path, offset } => {
                write!(f, "`{}`: header is not utf-8 at byte {offset}{DAMAGED}", path.display())
            }
            HeaderJson { path, offset, source } => {
                write!(f, "`{}`: bad header near byte {offset}: {source}{DAMAGED}", path.display())
            }
            DuplicateTensor { path, tensor } => {
                write!(f, "`{}`: two tensors are named `{tensor}`", path.display())
            }
            UnknownDtype { path, tensor, found } => write!(
                f,
                "`{}`: tensor `{tensor}` has unknown element type `{found}`\nhint: known are {}",
                path.display(),
                crate::Dtype::TABLE.iter().map(|row| row.1).collect::<Vec<_>>().join(", ")
            ),
            ShapeOverflow { path, tensor, shape, dtype } => write!(
                f,
                "`{}`: tensor `{tensor}` of shape {shape:?} and type {dtype} is larger than any \
                 file{DAMAGED}",
                path.display()
            ),
            Misplaced { path, tensor, found, expected } => write!(
                f,
                "`{}`: data of tensor `{tensor}` begin at byte {found}, expected {expected} \
                 (tensors may neither overlap nor leave holes){DAMAGED}",
                path.display()
            ),
            TensorLength { path, tensor, offset, found, expected } => write!(
                f,
                "`{}`: tensor `{tensor}` at byte {offset} has {found} bytes, its shape needs \
                 {expected}{DAMAGED}",
                path.display()
            ),
            TrailingBytes { path, offset, found } => write!(
                f,
                "`{}`: {found} bytes after the last tensor, from byte {offset}{DAMAGED}",
                path.display()
            ),
            MissingTensor { path, tensor, nearest } => {
                write!(f, "`{}`: no tensor `{tensor}`", path.display())?;
                nearest.iter().try_for_each(|name| write!(f, "\nhint: the nearest is `{name}`"))
            }
            Shape { path, tensor, found, expected } => write!(
                f,
                "`{}`: tensor `{tensor}` has shape {found:?}, expected {expected:?}\nhint: do \
                 `config.json` and the weights belong together?",
                path.display()
            ),
            Dtype { path, tensor, found, expected } => write!(
                f,
                "`{}`: tensor `{tensor}` is stored as {found}, expected {expected}",
                path.display()
            ),
            NoWeights { path } => write!(
                f,
                "`{}` holds no weights\nhint: expected `model.safetensors` or \
                 `model.safetensors.index.json`",
                path.display()
            ),
            IndexJson { path, source } => {
                write!(f, "`{}`: bad index: {source}{DAMAGED}", path.display())
            }
            IndexLength { path, found, limit } => write!(
                f,
                "`{}`: index of {found} bytes, at most {limit} are accepted",
                path.display()
            ),
            ShardName { path, tensor, found } => write!(
                f,
                "`{}`: shard of `{tensor}` is `{found}`, which is no plain file name",
                path.display()
            ),
            MissingShard { path, shard } => write!(
                f,
                "`{}` names `{}`, which is not there\nhint: the download is incomplete",
                path.display(),
                shard.display()
            ),
            NotInShard { path, tensor, shard } => write!(
                f,
                "`{}` places tensor `{tensor}` in `{shard}`, which does not hold it\nhint: index \
                 and shards come from different checkpoints",
                path.display()
            ),
            SourceLength { tensor, found, expected } => {
                write!(
                    f,
                    "tensor `{tensor}` gave {found} bytes to write, its shape needs {expected}"
                )
            }
            ReservedName { path, tensor } => {
                write!(f, "`{}`: a tensor may not be named `{tensor}`", path.display())
            }
            Gguf { path, offset: Some(offset), problem } => {
                write!(f, "`{}` at byte {offset}: {problem}", path.display())
            }
            Gguf { path, offset: None, problem } => write!(f, "`{}`: {problem}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Read { source, .. } | Error::Write { source, .. } => Some(source),
            Error::HeaderJson { source, .. } | Error::IndexJson { source, .. } => Some(source),
            _ => None,
        }
    }
}

const DAMAGED: &str = "\nhint: the file is incomplete or damaged; fetch or write it again";

fn system_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "\nhint: the disk is full; free some space or choose another directory with `--out`"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "\nhint: you may not do that here; choose another directory or change its permissions"
        }
        io::ErrorKind::NotFound => "\nhint: check the path",
        io::ErrorKind::NotADirectory => "\nhint: a part of the path is a file, not a directory",
        _ => "",
    }
}
