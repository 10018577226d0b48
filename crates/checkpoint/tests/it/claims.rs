//! What holds of the readers of weights for any bytes: `Ok`, or an error that names the file and a
//! place. Run on mutations here and by the fuzzer (`fuzz/`).

use std::sync::OnceLock;

use fathom_checkpoint::{
    Checkpoint, Dtype, Error, Gguf, SafeTensors, TensorSource, write_directory,
};

use crate::allocation::{bounded, clear};

/// Bytes that a reader may hold for each byte of its file: a name costs its entry in a map.
const TIMES: u64 = 64;
const FLOOR_BYTES: u64 = 64 << 10;

/// Every tensor of a file that opens lies inside it, and reads.
pub(crate) fn safetensors(bytes: &[u8]) {
    let opened = bounded(bytes, TIMES, FLOOR_BYTES, || {
        SafeTensors::from_bytes("dir/x.safetensors", bytes.to_vec())
    });
    let file = match opened {
        Ok(file) => file,
        Err(error) => return clear(&error.to_string(), "dir/x.safetensors"),
    };
    let total: usize = file.tensors().map(|t| t.bytes.len()).sum();
    assert!(total + 8 <= bytes.len());
    for tensor in file.tensors() {
        let n: usize = tensor.shape.iter().product();
        assert_eq!(tensor.n_elements(), n);
        if let Ok(values) = tensor.to_f32() {
            assert_eq!(values.len(), n);
        }
        assert_eq!(tensor.shared().len(), tensor.bytes.len());
    }
    let missing = file.tensor("not.there").err().map(|error| error.to_string());
    clear(&missing.unwrap_or_else(|| "dir/x.safetensors has it".into()), "dir/x.safetensors");
}

/// Seeds of [`safetensors`].
pub(crate) fn safetensors_seeds() -> Vec<Vec<u8>> {
    let file = |header: &str, n: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + n, 0x3f);
        bytes
    };
    vec![
        file(
            r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[24,30]}}  "#,
            30,
        ),
        file(
            r#"{"w":{"dtype":"F8_E4M3","shape":[4,4],"data_offsets":[0,16]},"w_scale_inv":{"dtype":"F32","shape":[1,1],"data_offsets":[16,20]},"e":{"dtype":"I64","shape":[0],"data_offsets":[20,20]}}"#,
            20,
        ),
        file("{}", 0),
    ]
}

pub(crate) const JSON_WORDS: &[&[u8]] = &[
    b"\"dtype\":\"F64\"",
    b"\"shape\":[1,1]",
    b"\"data_offsets\":[0,0]",
    b"__metadata__",
    b"\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},",
    b"\"a\":\"model-00001-of-00002.safetensors\",",
    b"../",
    b"\"weight_map\":{",
];

/// An index beside a shard that holds `a` and `b`: what opens has only tensors of that shard.
pub(crate) fn safetensors_index(bytes: &[u8]) {
    static DIR: OnceLock<std::path::PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("fathom-index-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the folder of temporary files takes one more");
        let tensor = |name| TensorSource::from_f32(name, Dtype::F32, &[1], vec![1.0]);
        write_directory(&dir, [tensor("a"), tensor("b")], 4).expect("two small files");
        dir
    });
    let index = dir.join("model.safetensors.index.json");
    std::fs::write(&index, bytes).expect("the folder is ours");
    match bounded(bytes, TIMES, FLOOR_BYTES, || Checkpoint::open(dir)) {
        Ok(checkpoint) => {
            assert!(checkpoint.tensors().all(|t| ["a", "b"].contains(&t.name)));
            assert!(checkpoint.total_bytes() <= 8);
        }
        Err(error) => clear(&error.to_string(), &dir.display().to_string()),
    }
}

/// Seeds of [`safetensors_index`].
pub(crate) fn safetensors_index_seeds() -> Vec<Vec<u8>> {
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    vec![
        format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{{"a":"{one}","b":"{two}"}}}}"#)
            .into(),
        format!(r#"{{"weight_map":{{"b":"{two}"}}}}"#).into(),
    ]
}

/// Every tensor of a GGUF that opens lies inside it; every value describes itself.
pub(crate) fn gguf(bytes: &[u8]) {
    let opened =
        bounded(bytes, TIMES, FLOOR_BYTES, || Gguf::from_bytes("dir/x.gguf", bytes.to_vec()));
    let file = match opened {
        Ok(file) => file,
        Err(error) => return clear(&error.to_string(), "dir/x.gguf"),
    };
    let mut ranges = Vec::new();
    for tensor in file.tensors() {
        assert_eq!(tensor.n_elements(), tensor.dims().iter().product::<usize>());
        match tensor.bytes() {
            Ok(data) => {
                assert!(data.len() <= bytes.len());
                assert_eq!(tensor.shared().map(|shared| shared.len()).ok(), Some(data.len()));
                ranges.extend(tensor.byte_range().filter(|range| !range.is_empty()));
            }
            Err(error) => clear(&error.to_string(), tensor.name()),
        }
    }
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "tensors overlap");
    for (key, value) in file.metadata() {
        assert!(value.describe().len() < 400);
        let asked: [Option<Error>; 6] = [
            file.text(key).err(),
            file.count(key).err(),
            file.number(key).err(),
            file.flag(key).err(),
            file.texts(key).err(),
            file.integers(key).err(),
        ];
        asked.into_iter().flatten().for_each(|error| clear(&error.to_string(), "dir/x.gguf"));
    }
}

/// Seeds of [`gguf`]: every type of value, lists of lists, tensors of three formats.
pub(crate) fn gguf_seeds() -> Vec<Vec<u8>> {
    let text = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes
    };
    let key = |name: &str, kind: u32, value: &[u8]| {
        let mut bytes = text(name);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        bytes
    };
    let list = |kind: u32, n: u64, values: &[u8]| {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(n.to_le_bytes());
        bytes.extend(values);
        bytes
    };
    let tensor = |name: &str, dims: &[u64], kind: u32, offset: u64| {
        let mut bytes = text(name);
        bytes.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes
    };
    let file = |version: u32, keys: &[Vec<u8>], tensors: &[Vec<u8>], n_data: usize| {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(version.to_le_bytes());
        bytes.extend((tensors.len() as u64).to_le_bytes());
        bytes.extend((keys.len() as u64).to_le_bytes());
        keys.iter().chain(tensors).for_each(|part| bytes.extend(part));
        bytes.resize(bytes.len().next_multiple_of(32) + n_data, 0x3c);
        bytes
    };
    let strings = [text("a"), text("Ġb"), text("")].concat();
    let inner = [list(5, 1, &7i32.to_le_bytes()), list(8, 1, &text("x"))].concat();
    let numbers: Vec<Vec<u8>> =
        [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (6, 4), (7, 1), (10, 8), (11, 8), (12, 8)]
            .iter()
            .map(|&(kind, n)| key(&format!("number.{kind}"), kind, &1u64.to_le_bytes()[..n]))
            .collect();
    let keys = [
        key("general.architecture", 8, &text("llama")),
        key("general.alignment", 4, &32u32.to_le_bytes()),
        key("tokens", 9, &list(8, 3, &strings)),
        key("lists", 9, &list(9, 2, &inner)),
        key("floats", 9, &list(6, 2, &[0; 8])),
        key("bytes", 8, b"\x02\0\0\0\0\0\0\0\xff\xfe"),
    ];
    let tensors =
        [tensor("f32", &[4, 2], 0, 0), tensor("q8", &[32], 8, 32), tensor("odd", &[3], 99, 96)];
    vec![
        file(3, &keys, &tensors, 128),
        file(2, &numbers, &[tensor("f16", &[2, 2, 1, 1], 1, 0)], 32),
        file(3, &[], &[], 0),
    ]
}

pub(crate) const GGUF_WORDS: &[&[u8]] = &[
    b"GGUF\x03\0\0\0",
    b"\x11\0\0\0\0\0\0\0general.alignment\x04\0\0\0",
    b"\x09\0\0\0\x09\0\0\0\x01\0\0\0\0\0\0\0",
    b"\x09\0\0\0\x08\0\0\0",
    b"\x01\0\0\0\0\0\0\0t\x01\0\0\0",
    b"\0\0\0\0\0\0\0\0",
    b"split.count",
];
