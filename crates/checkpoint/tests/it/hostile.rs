//! Files made to break a reader: each gives the right error, none panics.

use fathom_checkpoint::{Dtype, Error, SafeTensors, TensorSource, write};

use crate::scratch::Scratch;

fn file(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 7);
    bytes
}

fn open(bytes: Vec<u8>) -> Result<SafeTensors, Error> {
    SafeTensors::from_bytes("hostile.safetensors", bytes)
}

/// Opens a file with this header and expects an error whose text contains `expected`.
fn check(header: &str, data_bytes: usize, expected: &str) {
    let Err(error) = open(file(header, data_bytes)) else { panic!("accepted: {header}") };
    let text = error.to_string();
    assert!(text.contains(expected), "{header}: {text}");
    assert!(text.contains("`hostile.safetensors`"), "the file is not named: {text}");
}

#[test]
fn well_formed_file_opens() {
    let header = r#"{"__metadata__":{"k":"v"},"b":{"dtype":"U8","shape":[],"data_offsets":[4,5]},
        "a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
        "empty":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]}}   "#;
    let tensors = open(file(header, 5)).unwrap();
    assert_eq!(tensors.names().collect::<Vec<_>>(), ["a", "b", "empty"]);
    assert_eq!(tensors.metadata()["k"], "v");
    assert_eq!(tensors.tensor("b").unwrap().bytes, [7]);
    assert_eq!(tensors.tensor("b").unwrap().shape, [0usize; 0]);
    assert_eq!(tensors.tensor("empty").unwrap().n_elements(), 0);
    assert!(matches!(tensors.tensor("c"), Err(Error::MissingTensor { nearest: None, .. })));
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    let whole = file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8);
    for n in 0..whole.len() {
        assert!(open(whole[..n].to_vec()).is_err(), "cut at {n}");
    }
    let Err(error) = open(whole[..whole.len() - 3].to_vec()) else { panic!("accepted") };
    assert!(matches!(error, Error::Truncated { found: 67, expected: 70, .. }), "{error:?}");
}

#[test]
fn header_length_is_bounded_by_file_and_limit() {
    for length in [3, 1 << 20, 100_000_001, u64::MAX, i64::MAX as u64] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        let Err(error) = open(bytes) else { panic!("accepted") };
        assert!(matches!(error, Error::HeaderLength { limit: 2, .. }), "{error:?}");
    }
}

#[test]
fn wrong_places_and_lengths_are_refused() {
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":{a}}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{b}}}}}"#
        )
    };
    assert!(open(file(&two("[0,4]", "[4,8]"), 8)).is_ok());
    check(&two("[0,4]", "[3,7]"), 8, "data of tensor `b` begin at byte"); // overlap
    check(&two("[0,4]", "[0,4]"), 8, "data of tensor `b` begin at byte"); // same place
    check(&two("[0,4]", "[5,9]"), 9, "data of tensor `b` begin at byte"); // hole
    check(&two("[1,5]", "[5,9]"), 9, "data of tensor `a` begin at byte"); // hole at the start
    check(&two("[0,4]", "[4,8]"), 7, "truncated");
    check(&two("[0,4]", "[4,8]"), 9, "1 bytes after the last tensor");
    check(&two("[0,5]", "[5,9]"), 9, "has 5 bytes, its shape needs 4");
    check(&two("[0,4]", "[4,3]"), 8, "has 0 bytes, its shape needs 4");
    check(&two("[0,4]", "[18446744073709551615,3]"), 8, "begin at byte 18446744073709551615");
}

#[test]
fn overflowing_shapes_are_refused() {
    let shaped = |shape: &str, end: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    check(&shaped("[4611686018427387904]", "0"), 0, "larger than any");
    check(&shaped("[4294967296,4294967296]", "0"), 0, "larger than any");
    check(&shaped("[18446744073709551615,18446744073709551615,0]", "0"), 0, "larger than any");
    check(&shaped("[4611686018427387903]", "18446744073709551612"), 4, "truncated");
    check(&shaped("[18446744073709551616]", "0"), 0, "bad header near byte");
    check(&shaped("[-1]", "4"), 4, "bad header near byte");
    check(&shaped("[1.5]", "4"), 4, "bad header near byte");
    check(&shaped(&format!("[{}1]", "1,".repeat(40)), "4"), 4, "at most 32 dimensions");
}

#[test]
fn duplicates_are_refused() {
    let entry = |range: &str| format!(r#"{{"dtype":"U8","shape":[1],"data_offsets":{range}}}"#);
    let (first, second) = (entry("[0,1]"), entry("[1,2]"));
    check(&format!(r#"{{"a":{first},"\u0061":{second}}}"#), 2, "two tensors are named `a`");
    check(r#"{"__metadata__":{},"__metadata__":{}}"#, 0, "duplicate field `__metadata__`");
    check(r#"{"__metadata__":{"x":"1","x":"2"}}"#, 0, "`x` is given twice");
    check(r#"{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}"#, 1, "duplicate");
}

#[test]
fn malformed_headers_are_refused() {
    check("", 0, "bad header near byte 8");
    check("[]", 0, "an object of tensors");
    check("{}x", 0, "trailing characters");
    check(
        r#"{"a":{"dtype":"F7","shape":[],"data_offsets":[0,1]}}"#,
        1,
        "unknown element type `F7`",
    );
    check(r#"{"a":{"dtype":"U8","shape":[]}}"#, 0, "missing field");
    check(r#"{"a":{"dtype":"U8","shape":[],"data_offsets":[0]}}"#, 1, "bad header");
    check(r#"{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1}}"#, 1, "unknown field");
    check(r#"{"__metadata__":{"format":3}}"#, 0, "bad header");
    check(&format!("{{\"a\":{}", "[".repeat(100_000)), 0, "bad header");
    check(&format!("{{\"a\":{}", "{\"b\":".repeat(100_000)), 0, "bad header");
    let mut not_utf8 = file(r#"{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}"#, 1);
    not_utf8[10] = 0xff;
    let Err(error) = open(not_utf8) else { panic!("accepted") };
    assert!(matches!(error, Error::HeaderText { offset: 10, .. }), "{error:?}");
}

#[test]
fn directories_pipes_and_missing_files_are_refused() {
    let scratch = Scratch::new("not-a-file");
    assert!(matches!(SafeTensors::open(scratch.path()), Err(Error::NotAFile { .. })));
    let missing = SafeTensors::open(scratch.path().join("none"));
    assert!(matches!(missing, Err(Error::Read { .. })));
    std::fs::write(scratch.path().join("empty"), b"").unwrap();
    let empty = SafeTensors::open(scratch.path().join("empty"));
    assert!(matches!(empty, Err(Error::Truncated { found: 0, .. })));
}

/// Multiplicative congruential generator (constants of Knuth's MMIX); quality hardly matters.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as usize
    }
}

#[test]
fn no_mutation_of_a_valid_file_panics_or_reaches_outside_it() {
    let scratch = Scratch::new("mutations");
    let path = scratch.path().join("seed.safetensors");
    let sources = [
        TensorSource::from_f32("layer.0.weight", Dtype::F32, &[3, 2], vec![1.0; 6]),
        TensorSource::from_f32("layer.0.bias", Dtype::BF16, &[3], vec![0.5; 3]),
        TensorSource::from_bytes("counter", Dtype::U8, &[5], vec![9u8; 5]),
    ];
    write(&path, &sources, &Default::default()).unwrap();
    let seed = std::fs::read(&path).unwrap();
    let spice: [&[u8]; 8] =
        [b"9", b"-1", b"{", b"}", b"\"", b"18446744073709551615", b"\\u0000", b"[0,"];
    let mut random = Random(20250101);
    let mut n_opened = 0;
    for _ in 0..5000 {
        let mut bytes = seed.clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut bytes, &spice, &mut random);
        }
        let n_bytes = bytes.len();
        if let Ok(tensors) = open(bytes) {
            n_opened += 1;
            let total: usize = tensors.tensors().map(|t| t.bytes.len()).sum();
            assert!(total + 8 <= n_bytes);
            for tensor in tensors.tensors() {
                assert_eq!(tensor.n_elements(), tensor.shape.iter().product::<usize>());
                let _ = tensor.to_f32();
            }
        }
    }
    assert!(n_opened > 50, "mutations of the data should still open: {n_opened}");
}

fn mutate(bytes: &mut Vec<u8>, spice: &[&[u8]], random: &mut Random) {
    let at = random.below(bytes.len().max(1));
    match random.below(5) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
        2 => bytes.truncate(at.max(1)),
        3 => {
            let insert = spice[random.below(spice.len())];
            bytes.splice(at..at, insert.iter().copied());
        }
        _ => {
            let end = (at + random.below(16)).min(bytes.len());
            bytes.drain(at.min(end)..end);
            bytes.push(0);
        }
    }
}
