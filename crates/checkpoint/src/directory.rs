//! A directory of weights: one `model.safetensors`, or shards with `model.safetensors.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::atomic::write_atomic;
use crate::header::StringMap;
use crate::safetensors::nearest_name;
use crate::safetensors_writer::{TensorSource, write_refs};
use crate::{Error, Result, SafeTensors, TensorView};

/// Weights in one file.
pub const SINGLE_FILE: &str = "model.safetensors";
/// Which shard holds which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Longest index accepted, as for headers.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// An open directory of weights; tensors are looked up by name over all shards.
pub struct Checkpoint {
    dir: PathBuf,
    shards: Vec<SafeTensors>,
    /// Name of a tensor and the index of its shard.
    places: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens `dir`. A single file wins over an index, as in other programs.
    ///
    /// Errors: `NoWeights`, anything wrong with the index or with a shard.
    pub fn open(dir: impl AsRef<Path>) -> Result<Checkpoint> {
        let dir = dir.as_ref();
        // Distinguishes "no such directory" from "a directory without weights".
        fs::metadata(dir).map_err(|source| Error::Read { path: dir.to_owned(), source })?;
        let (single, index) = (dir.join(SINGLE_FILE), dir.join(INDEX_FILE));
        if single.exists() {
            let file = SafeTensors::open(single)?;
            let places = file.names().map(|name| (name.to_owned(), 0)).collect();
            return Ok(Checkpoint { dir: dir.to_owned(), shards: vec![file], places });
        }
        if index.exists() {
            return open_sharded(dir, &index);
        }
        Err(Error::NoWeights { path: dir.to_owned() })
    }

    /// The tensor called `name`. Errors: `MissingTensor`, naming the most similar one.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        match self.places.get(name) {
            Some(&shard) => self.shards[shard].tensor(name),
            None => Err(Error::MissingTensor {
                path: self.dir.clone(),
                tensor: name.to_owned(),
                nearest: nearest_name(name, self.names()),
            }),
        }
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The tensor's elements widened to f32. Errors: `MissingTensor`; `Dtype` for integers and
    /// for 8-bit floats, which need their scales.
    pub fn tensor_f32(&self, name: &str) -> Result<Vec<f32>> {
        self.tensor(name)?.to_f32()
    }

    /// [`Checkpoint::tensor_f32`] of a tensor that must have `shape`. Errors: also `Shape`.
    pub fn tensor_f32_shaped(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        tensor.expect_shape(shape)?;
        tensor.to_f32()
    }

    /// All names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.places.iter().map(|(name, &shard)| {
            self.shards[shard].tensor(name).expect("every place was checked at opening")
        })
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors().map(|t| t.bytes.len() as u64).sum()
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

#[derive(Deserialize)]
struct Index {
    weight_map: StringMap,
}

fn open_sharded(dir: &Path, index_path: &Path) -> Result<Checkpoint> {
    let index = read_index(index_path)?;
    let mut shard_ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut shards = Vec::new();
    let mut places = BTreeMap::new();
    for (tensor, shard) in index.weight_map.0 {
        let id = match shard_ids.get(&shard) {
            Some(&id) => id,
            None => {
                shards.push(open_shard(dir, index_path, &tensor, &shard)?);
                shard_ids.insert(shard.clone(), shards.len() - 1);
                shards.len() - 1
            }
        };
        if !shards[id].contains(&tensor) {
            return Err(Error::NotInShard { path: index_path.to_owned(), tensor, shard });
        }
        places.insert(tensor, id);
    }
    Ok(Checkpoint { dir: dir.to_owned(), shards, places })
}

fn read_index(path: &Path) -> Result<Index> {
    let fail = |source| Error::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let (found, limit) = (metadata.len(), MAX_INDEX_BYTES);
    if found > limit {
        return Err(Error::IndexLength { path: path.to_owned(), found, limit });
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(fail)?;
    file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| Error::IndexJson { path: path.to_owned(), source })
}

/// Opens a shard whose name comes from a file, so it must not lead out of the directory.
fn open_shard(dir: &Path, index: &Path, tensor: &str, shard: &str) -> Result<SafeTensors> {
    let mut parts = Path::new(shard).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    // A backslash or a colon separates on other systems only; refused everywhere alike.
    if !plain || shard.contains(['/', '\\', ':', '\0']) {
        let (path, tensor) = (index.to_owned(), tensor.to_owned());
        return Err(Error::ShardName { path, tensor, found: shard.to_owned() });
    }
    let path = dir.join(shard);
    if !path.exists() {
        return Err(Error::MissingShard { path: index.to_owned(), shard: path });
    }
    SafeTensors::open(path)
}

/// Writes weights into the existing or new directory `dir`: one file if they fit into
/// `max_shard_bytes`, else shards `model-00001-of-0000N.safetensors` and their index.
///
/// Tensors go into shards in the order given; one larger than the limit gets a shard to itself.
/// Each file is written atomically, the index last; weight files of an earlier form are removed
/// at the end. For a directory that appears as a whole, write into one from
/// [`crate::atomic::write_dir_atomic`]. Errors: those of [`crate::write`].
pub fn write_directory<'a>(
    dir: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = TensorSource<'a>>,
    max_shard_bytes: u64,
) -> Result<()> {
    let dir = dir.as_ref();
    fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.to_owned(), source })?;
    let tensors: Vec<TensorSource<'a>> = tensors.into_iter().collect();
    let shards = group(&tensors, max_shard_bytes);
    let mut written = BTreeSet::new();
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => SINGLE_FILE.to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        for tensor in shard {
            if weight_map.insert(tensor.name().to_owned(), file.clone()).is_some() {
                let (path, tensor) = (dir.to_owned(), tensor.name().to_owned());
                return Err(Error::DuplicateTensor { path, tensor });
            }
        }
        write_refs(&dir.join(&file), shard.clone(), &BTreeMap::new())?;
        written.insert(file);
    }
    if shards.len() > 1 {
        let total_size: u64 = tensors.iter().map(TensorSource::stored_bytes).sum();
        write_index(&dir.join(INDEX_FILE), total_size, &weight_map)?;
        written.insert(INDEX_FILE.to_owned());
    }
    remove_other_weights(dir, &written)
}

/// Fills shards in order; always at least one, so that no tensors give an empty file.
fn group<'t, 'a>(
    tensors: &'t [TensorSource<'a>],
    max_shard_bytes: u64,
) -> Vec<Vec<&'t TensorSource<'a>>> {
    let mut shards = vec![Vec::new()];
    let mut shard_bytes = 0;
    for tensor in tensors {
        let bytes = tensor.stored_bytes();
        if shard_bytes + bytes > max_shard_bytes && shard_bytes > 0 {
            shards.push(Vec::new());
            shard_bytes = 0;
        }
        shard_bytes += bytes;
        shards.last_mut().expect("starts with one shard").push(tensor);
    }
    shards
}

fn write_index(path: &Path, total_size: u64, weight_map: &BTreeMap<String, String>) -> Result<()> {
    let index =
        serde_json::json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
    write_atomic(path, |out| {
        serde_json::to_writer_pretty(&mut *out, &index)?;
        out.write_all(b"\n")
    })
}

/// A single file left beside a new index would win over it; old shards only take space.
fn remove_other_weights(dir: &Path, written: &BTreeSet<String>) -> Result<()> {
    let fail = |source| Error::Write { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if is_weight_file(name) && !written.contains(name) {
            fs::remove_file(dir.join(name)).map_err(fail)?;
        }
    }
    Ok(())
}

fn is_weight_file(name: &str) -> bool {
    let shard = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let numbers = shard.and_then(|shard| shard.split_once("-of-"));
    let digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
    name == SINGLE_FILE
        || name == INDEX_FILE
        || numbers.is_some_and(|(i, n)| digits(i) && digits(n))
}
