//! The reference checkpoints open, every tensor of them.

use std::path::Path;

use fathom_checkpoint::{Checkpoint, SafeTensors};

#[test]
fn reference_checkpoints_open() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden");
    let Ok(entries) = std::fs::read_dir(root) else {
        eprintln!("skipped: no reference checkpoints at {root}");
        return;
    };
    let mut n_opened = 0;
    for entry in entries {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        let checkpoint = Checkpoint::open(&dir).unwrap_or_else(|e| panic!("{e}"));
        assert!(checkpoint.names().len() > 10, "{}", dir.display());
        let embedding = checkpoint.names().find(|n| n.ends_with("embed_tokens.weight")).unwrap();
        let values = checkpoint.tensor_f32(embedding).unwrap();
        assert!(values.iter().all(|x| x.is_finite() && x.abs() < 10.0), "{}", dir.display());
        check_index_total(&dir, &checkpoint);
        n_opened += 1;
        let values = dir.join("golden.safetensors");
        if values.exists() {
            SafeTensors::open(values).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    assert!(n_opened > 0);
}

fn check_index_total(dir: &Path, checkpoint: &Checkpoint) {
    if let Ok(index) = std::fs::read_to_string(dir.join("model.safetensors.index.json")) {
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        assert_eq!(index["metadata"]["total_size"], checkpoint.total_bytes());
    }
}
