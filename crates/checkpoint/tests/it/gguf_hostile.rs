//! GGUF files made to break a reader: each is refused with its place, none panics or allocates
//! what the file could not fill.

use fathom_checkpoint::Error;
use fathom_checkpoint::gguf::{Gguf, Problem};

/// A file being put together byte by byte.
struct Draft(Vec<u8>);

impl Draft {
    fn new(n_tensors: u64, n_keys: u64) -> Draft {
        let mut draft = Draft(b"GGUF".to_vec());
        draft.u32(3);
        draft.u64(n_tensors);
        draft.u64(n_keys);
        draft
    }

    fn u32(&mut self, x: u32) -> &mut Draft {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn u64(&mut self, x: u64) -> &mut Draft {
        self.0.extend(x.to_le_bytes());
        self
    }

    fn text(&mut self, text: &[u8]) -> &mut Draft {
        self.u64(text.len() as u64);
        self.0.extend(text);
        self
    }

    fn key(&mut self, key: &str, type_id: u32) -> &mut Draft {
        self.text(key.as_bytes()).u32(type_id)
    }

    fn tensor(&mut self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> &mut Draft {
        self.text(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().for_each(|d| {
            self.u64(*d);
        });
        self.u32(type_id).u64(offset)
    }

    /// Pads to 32 and appends `n` bytes of data.
    fn data(&mut self, n: usize) -> &mut Draft {
        self.0.resize(self.0.len().next_multiple_of(32) + n, 0);
        self
    }

    fn open(&self) -> Result<Gguf, Error> {
        Gguf::from_bytes("test.gguf", self.0.clone())
    }

    fn problem(&self) -> Problem {
        match self.open() {
            Err(Error::Gguf { problem, path, .. }) => {
                assert_eq!(path.to_str(), Some("test.gguf"));
                problem
            }
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("was accepted"),
        }
    }
}

/// A sound file with one key of most kinds and two tensors.
fn sound() -> Draft {
    let mut draft = Draft::new(2, 5);
    draft.key("general.alignment", 4).u32(32);
    draft.key("text", 8).text(b"hello");
    draft.key("list", 9).u32(8).u64(2).text(b"a").text(b"bc");
    draft.key("flag", 7).0.push(1);
    draft.key("nested", 9).u32(9).u64(1).u32(4).u64(2).u32(1).u32(2);
    draft.tensor("one", &[4, 2], 0, 0).tensor("two", &[32], 8, 32).data(66);
    draft
}

#[test]
fn the_sound_file_is_read() {
    let gguf = sound().open().unwrap();
    assert_eq!(gguf.tensors().len(), 2);
    assert_eq!(gguf.metadata().len(), 5);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = sound().0;
    for n in 0..whole.len() {
        let result = Gguf::from_bytes("cut", whole[..n].to_vec());
        assert!(matches!(result, Err(Error::Gguf { .. })), "accepted {n} of {} bytes", whole.len());
    }
}

#[test]
fn a_file_with_any_byte_changed_is_read_or_refused() {
    let whole = sound().0;
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            if let Ok(gguf) = Gguf::from_bytes("changed", bytes) {
                gguf.tensors().for_each(|t| {
                    let _ = t.bytes();
                });
            }
        }
    }
}

#[test]
fn other_files_and_versions_are_refused() {
    let with = |at: usize, bytes: &[u8]| {
        let mut draft = sound();
        draft.0[at..at + bytes.len()].copy_from_slice(bytes);
        draft.problem()
    };
    assert_eq!(with(0, b"GGML"), Problem::Magic { found: *b"GGML" });
    assert_eq!(with(4, &1u32.to_le_bytes()), Problem::Version { found: 1 });
    assert_eq!(with(4, &4u32.to_le_bytes()), Problem::Version { found: 4 });
    assert_eq!(with(4, &0u32.to_le_bytes()), Problem::Version { found: 0 });
    assert_eq!(with(4, &3u32.to_be_bytes()), Problem::BigEndian);
    let mut second = sound();
    second.0[4] = 2;
    assert_eq!(second.open().unwrap().version(), 2);
    assert!(matches!(Draft(Vec::new()).problem(), Problem::Ends { .. }));
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    let most = u64::MAX;
    assert!(matches!(Draft::new(most, 0).problem(), Problem::Count { what: "tensors", .. }));
    assert!(matches!(Draft::new(0, most).problem(), Problem::Count { found: u64::MAX, .. }));
    for n in [1 << 20, 1 << 40, most] {
        let mut draft = Draft::new(0, 1);
        draft.u64(n).data(64);
        assert!(matches!(draft.problem(), Problem::NameLength { .. }), "key of {n} bytes");
        let mut draft = Draft::new(0, 1);
        draft.key("k", 8).u64(n).data(64);
        assert!(matches!(draft.problem(), Problem::Ends { .. }), "string of {n} bytes");
        for element in 0..13 {
            let mut draft = Draft::new(0, 1);
            draft.key("k", 9).u32(element).u64(n).data(64);
            let what = "list elements";
            assert!(matches!(draft.problem(), Problem::Count { what: w, .. } if w == what));
        }
    }
    // Many strings, of which the second is too long.
    let mut draft = Draft::new(0, 1);
    draft.key("k", 9).u32(8).u64(4).text(b"a").u64(most - 4).data(64);
    assert!(matches!(draft.problem(), Problem::Ends { needs, .. } if needs == most - 4));
}

#[test]
fn lists_nested_a_thousand_deep_are_refused() {
    let mut draft = Draft::new(0, 1);
    draft.key("k", 9);
    for _ in 0..1000 {
        draft.u32(9).u64(1);
    }
    draft.u32(0).u64(0);
    assert_eq!(draft.problem(), Problem::Depth { key: "k".into(), most: 4 });
}

#[test]
fn values_that_do_not_exist_are_refused() {
    let mut draft = Draft::new(0, 1);
    draft.key("k", 13).u64(0).data(0);
    assert_eq!(draft.problem(), Problem::ValueType { key: "k".into(), found: 13 });
    let mut draft = Draft::new(0, 1);
    draft.key("k", 9).u32(u32::MAX).u64(0).data(0);
    assert!(matches!(draft.problem(), Problem::ValueType { found: u32::MAX, .. }));
    let mut draft = Draft::new(0, 1);
    draft.key("k", 7).0.push(2);
    assert_eq!(draft.problem(), Problem::Bool { key: "k".into(), found: 2 });
    let mut draft = Draft::new(0, 1);
    draft.key("k", 9).u32(7).u64(2).0.extend([1, 255]);
    assert_eq!(draft.problem(), Problem::Bool { key: "k".into(), found: 255 });
    let mut draft = Draft::new(0, 1);
    draft.text(&[b'k', 0xff]).u32(0).data(1);
    assert_eq!(draft.problem(), Problem::NotText { what: "a key" });
    let mut draft = Draft::new(0, 2);
    draft.key("k", 0).0.push(1);
    draft.key("k", 0).0.push(1);
    assert_eq!(draft.problem(), Problem::DuplicateKey { key: "k".into() });
}

#[test]
fn alignments_that_are_none_are_refused() {
    for found in [0u32, 3, 48, 1 << 21] {
        let mut draft = Draft::new(0, 1);
        draft.key("general.alignment", 4).u32(found);
        let expected = Problem::Alignment { found: u64::from(found), most: 1 << 20 };
        assert_eq!(draft.problem(), expected);
    }
    let mut draft = Draft::new(0, 1);
    draft.key("general.alignment", 8).text(b"32");
    assert!(matches!(draft.problem(), Problem::WrongType { .. }));
    let mut draft = Draft::new(0, 1);
    draft.key("general.alignment", 5).u32(u32::MAX); // -1
    assert!(matches!(draft.problem(), Problem::Alignment { .. }));
    // Data that would begin after the end.
    let mut draft = Draft::new(1, 1);
    draft.key("general.alignment", 4).u32(1 << 20);
    draft.tensor("t", &[1], 0, 0).data(64);
    assert!(matches!(draft.problem(), Problem::Outside { .. }));
}

#[test]
fn sizes_without_sense_are_refused() {
    let one = |dims: &[u64], type_id| {
        let mut draft = Draft::new(1, 0);
        draft.tensor("t", dims, type_id, 0).data(64);
        draft.problem()
    };
    let large = u64::MAX;
    assert!(matches!(one(&[large, large], 0), Problem::Overflow { .. }));
    assert!(matches!(one(&[1 << 32, 1 << 32], 0), Problem::Overflow { .. }));
    assert!(matches!(one(&[1 << 62], 0), Problem::Overflow { .. }));
    assert!(matches!(one(&[large, 0], 0), Problem::Overflow { .. }));
    assert!(matches!(one(&[1 << 40], 0), Problem::Outside { .. }));
    assert!(matches!(one(&[17], 0), Problem::Outside { begin: 64, end: 132, .. }));
    assert!(matches!(one(&[1, 1, 1, 1, 1], 0), Problem::Rank { found: 5, .. }));
    assert!(matches!(one(&[31], 8), Problem::Blocks { row: 31, block_len: 32, .. }));
    assert!(matches!(one(&[128, 2], 12), Problem::Blocks { row: 128, block_len: 256, .. }));
    let mut draft = Draft::new(1, 0);
    draft.text(b"t").u32(u32::MAX).data(64);
    assert!(matches!(draft.problem(), Problem::Rank { .. }));
}

#[test]
fn places_that_are_none_are_refused() {
    let one = |offset| {
        let mut draft = Draft::new(1, 0);
        draft.tensor("t", &[8], 0, offset).data(64);
        draft.problem()
    };
    assert!(matches!(one(4), Problem::Misaligned { offset: 4, alignment: 32, .. }));
    assert!(matches!(one(64), Problem::Outside { .. }));
    assert!(matches!(one(u64::MAX - 31), Problem::Outside { .. }));
    let two = |a: (&str, u64), b: (&str, u64)| {
        let mut draft = Draft::new(2, 0);
        draft.tensor(a.0, &[16], 0, a.1).tensor(b.0, &[8], 0, b.1).data(128);
        draft.problem()
    };
    assert!(matches!(two(("a", 0), ("b", 32)), Problem::Overlap { other_end: 160, .. }));
    assert!(matches!(two(("a", 0), ("b", 0)), Problem::Overlap { .. }));
    assert!(matches!(two(("a", 32), ("b", 64)), Problem::Overlap { .. }));
    assert_eq!(two(("a", 0), ("a", 64)), Problem::DuplicateTensor { tensor: "a".into() });
}

#[test]
fn a_tensor_of_an_unknown_format_is_listed_and_refused_when_read() {
    let mut draft = Draft::new(2, 0);
    draft.tensor("odd", &[8], 99, 0).tensor("even", &[8], 0, 32).data(64);
    let gguf = draft.open().unwrap();
    let odd = gguf.tensor("odd").unwrap();
    assert_eq!((odd.shape(), odd.byte_range(), odd.type_id()), (&[8][..], None, 99));
    for text in [odd.bytes().unwrap_err().to_string(), odd.format().unwrap_err().to_string()] {
        assert!(text.contains("`odd` is stored as unknown type 99\nhint: readable are"), "{text}");
    }
    assert_eq!(gguf.tensor("even").unwrap().bytes().unwrap().len(), 32);
    // The same format twice at one place is two claims to one byte.
    let mut draft = Draft::new(2, 0);
    draft.tensor("odd", &[8], 99, 0).tensor("even", &[8], 0, 0).data(64);
    assert!(matches!(draft.problem(), Problem::Overlap { .. }));
}

#[test]
fn empty_tensors_take_no_place() {
    let mut draft = Draft::new(2, 0);
    draft.tensor("none", &[0, 4], 0, 0).tensor("some", &[8], 0, 0).data(32);
    let gguf = draft.open().unwrap();
    assert!(gguf.tensor("none").unwrap().bytes().unwrap().is_empty());
}
