//! What is written can be read, here and elsewhere.

use std::collections::BTreeMap;

use fathom_checkpoint::{Dtype, Error, SafeTensors, TensorSource, write};

use crate::scratch::Scratch;

#[test]
fn written_tensors_come_back_bit_for_bit() {
    let scratch = Scratch::new("round-trip");
    let path = scratch.path().join("a.safetensors");
    let values: Vec<f32> = (0..70_000).map(|i| (i as f32).sin()).collect();
    let strange = [f32::NAN, -0.0, f32::INFINITY, f32::MIN_POSITIVE / 2.0];
    let sources = [
        TensorSource::from_f32("z", Dtype::F32, &[700, 100], &values[..]),
        TensorSource::from_f32("strange \"name\"\n中", Dtype::F32, &[4], &strange[..]),
        TensorSource::from_f32("half", Dtype::BF16, &[2], vec![1.0, -2.5]),
        TensorSource::from_bytes("step", Dtype::U64, &[], 7u64.to_le_bytes().to_vec()),
        TensorSource::from_bytes("none", Dtype::F32, &[0, 9], vec![]),
    ];
    let metadata = BTreeMap::from([("note".to_owned(), "x".to_owned())]);
    write(&path, &sources, &metadata).unwrap();
    let file = SafeTensors::open(&path).unwrap();
    assert_eq!(file.tensor("z").unwrap().to_f32().unwrap(), values);
    assert_eq!(file.tensor("z").unwrap().shape, [700, 100]);
    let back = file.tensor("strange \"name\"\n中").unwrap().to_f32().unwrap();
    assert_eq!(back.map_bits(), strange.map_bits());
    assert_eq!(file.tensor("half").unwrap().to_f32().unwrap(), [1.0, -2.5]);
    assert_eq!(file.tensor("half").unwrap().to_bf16_bits().unwrap(), [0x3f80, 0xc020]);
    assert_eq!(file.tensor("step").unwrap().bytes, 7u64.to_le_bytes());
    assert_eq!(file.metadata()["format"], "pt");
    assert_eq!(file.metadata()["note"], "x");
    assert_eq!(scratch.listing(), ["a.safetensors"]);
}

trait MapBits {
    fn map_bits(&self) -> Vec<u32>;
}

impl MapBits for [f32] {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|x| x.to_bits()).collect()
    }
}

#[test]
fn order_of_tensors_does_not_change_the_file() {
    let scratch = Scratch::new("order");
    let make = |names: &[&str]| {
        let sources: Vec<_> = names
            .iter()
            .map(|n| TensorSource::from_f32(*n, Dtype::F32, &[1], vec![n.len() as f32]))
            .collect();
        let path = scratch.path().join("a.safetensors");
        write(&path, &sources, &BTreeMap::new()).unwrap();
        std::fs::read(path).unwrap()
    };
    let bytes = make(&["b", "aa", "ccc"]);
    assert_eq!(bytes, make(&["ccc", "b", "aa"]));
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(header_bytes % 8, 0, "data must be aligned");
}

#[test]
fn bad_sources_write_nothing() {
    let scratch = Scratch::new("bad-sources");
    let path = scratch.path().join("a.safetensors");
    std::fs::write(&path, "precious").unwrap();
    let short = TensorSource::new("a", Dtype::F32, &[2], |out| out.write_all(&[0; 7]));
    let error = write(&path, &[short], &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, Error::SourceLength { found: 7, expected: 8, .. }), "{error:?}");
    let twin = || TensorSource::from_f32("a", Dtype::F32, &[1], vec![0.0]);
    let error = write(&path, &[twin(), twin()], &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, Error::DuplicateTensor { .. }), "{error:?}");
    let reserved = TensorSource::from_f32("__metadata__", Dtype::F32, &[1], vec![0.0]);
    let error = write(&path, &[reserved], &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, Error::ReservedName { .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(scratch.listing(), ["a.safetensors"]);
}
