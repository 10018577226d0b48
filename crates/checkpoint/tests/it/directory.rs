//! Directories of weights: one file, shards, and indexes made to mislead.

use std::fs;

use fathom_checkpoint::{Checkpoint, Dtype, Error, TensorSource, write_directory};

use crate::scratch::Scratch;

fn sources() -> Vec<TensorSource<'static>> {
    let tensor = |name: &str, n: usize| {
        let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
        TensorSource::from_f32(name, Dtype::F32, &[n], values)
    };
    vec![tensor("b", 10), tensor("a", 10), tensor("large", 100), tensor("c", 1)]
}

#[test]
fn one_file_and_shards_hold_the_same() {
    let scratch = Scratch::new("shards");
    write_directory(scratch.path(), sources(), u64::MAX).unwrap();
    assert_eq!(scratch.listing(), ["model.safetensors"]);
    let single: Vec<_> = all(&Checkpoint::open(scratch.path()).unwrap());

    write_directory(scratch.path(), sources(), 80).unwrap();
    let files = [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
    ];
    assert_eq!(scratch.listing(), files);
    let sharded = Checkpoint::open(scratch.path()).unwrap();
    assert_eq!(all(&sharded), single);
    assert_eq!(sharded.names().collect::<Vec<_>>(), ["a", "b", "c", "large"]);
    assert_eq!(sharded.total_bytes(), 484);
    let index = fs::read_to_string(scratch.path().join(files[3])).unwrap();
    assert!(index.contains("\"total_size\": 484"), "{index}");

    write_directory(scratch.path(), sources(), u64::MAX).unwrap();
    assert_eq!(scratch.listing(), ["model.safetensors"]);
}

fn all(checkpoint: &Checkpoint) -> Vec<(String, Vec<f32>)> {
    checkpoint.tensors().map(|t| (t.name.to_owned(), t.to_f32().unwrap())).collect()
}

#[test]
fn lookups_say_what_is_wrong() {
    let scratch = Scratch::new("lookups");
    let long = TensorSource::from_f32("model.norm.weight", Dtype::F32, &[2], vec![0.0; 2]);
    let whole = TensorSource::from_bytes("n", Dtype::I32, &[1], vec![0; 4]);
    write_directory(scratch.path(), [long, whole], u64::MAX).unwrap();
    let checkpoint = Checkpoint::open(scratch.path()).unwrap();
    let text = checkpoint.tensor_f32("model.norms.weight").unwrap_err().to_string();
    assert!(text.contains("hint: the nearest is `model.norm.weight`"), "{text}");
    let shape = checkpoint.tensor_f32_shaped("model.norm.weight", &[3]).unwrap_err();
    assert!(shape.to_string().contains("shape [2], expected [3]"), "{shape}");
    let dtype = checkpoint.tensor_f32("n").unwrap_err();
    assert!(matches!(dtype, Error::Dtype { found: Dtype::I32, .. }), "{dtype}");
}

#[test]
fn misleading_indexes_are_refused() {
    let scratch = Scratch::new("indexes");
    let dir = scratch.path();
    assert!(matches!(Checkpoint::open(dir.join("none")), Err(Error::Read { .. })));
    assert!(matches!(Checkpoint::open(dir), Err(Error::NoWeights { .. })));
    write_directory(dir, sources(), u64::MAX).unwrap();
    fs::rename(dir.join("model.safetensors"), dir.join("shard.safetensors")).unwrap();
    let open_with = |index: &str| {
        fs::write(dir.join("model.safetensors.index.json"), index).unwrap();
        Checkpoint::open(dir)
    };
    let place = |shard: &str| format!(r#"{{"weight_map":{{"a":{}}}}}"#, serde_json::json!(shard));
    assert_eq!(open_with(&place("shard.safetensors")).unwrap().names().len(), 1);
    for name in
        ["../x", "/etc/passwd", "x/../shard.safetensors", "..", ".", "", "a\\b", "c:x", "\0"]
    {
        let opened = open_with(&place(name));
        assert!(matches!(opened, Err(Error::ShardName { .. })), "{name:?}");
    }
    assert!(matches!(open_with(&place("gone")), Err(Error::MissingShard { .. })));
    let absent = open_with(r#"{"weight_map":{"x":"shard.safetensors"}}"#);
    assert!(matches!(absent, Err(Error::NotInShard { .. })));
    let twice = r#"{"weight_map":{"a":"shard.safetensors","a":"shard.safetensors"}}"#;
    for bad in ["", "{}", "[]", twice, r#"{"weight_map":{"a":1}}"#, "\u{0}"] {
        assert!(matches!(open_with(bad), Err(Error::IndexJson { .. })), "{bad}");
    }
}
