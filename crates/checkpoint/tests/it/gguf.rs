//! GGUF files: written and read again, read as another program wrote them, split over files.

use std::path::{Path, PathBuf};

use fathom_checkpoint::gguf::{Array, Gguf, NewTensor, Problem, Value, write, write_split};
use fathom_checkpoint::{Error, Result};
use fathom_kernels::quant::{Format, dequantize, quantize};

use crate::scratch::Scratch;

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/gguf_file")).join(name)
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// A tensor of consecutive numbers in `format`.
fn counting(name: &str, shape: &[usize], format: Format) -> NewTensor<'static> {
    let n = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let mut bytes = vec![0; format.row_bytes(n).unwrap()];
    quantize(format, &values, &mut bytes);
    NewTensor::new(name, shape, format, move |sink| sink.put(&bytes))
}

/// A value of every type.
fn every_value() -> Vec<(String, Value)> {
    let nested = Array::Array(vec![Array::I32(vec![1, 2]), Array::String(vec![])]);
    let values = [
        ("u8", Value::U8(255)),
        ("i8", Value::I8(-128)),
        ("u16", Value::U16(65535)),
        ("i16", Value::I16(i16::MIN)),
        ("u32", Value::U32(u32::MAX)),
        ("i32", Value::I32(i32::MIN)),
        ("u64", Value::U64(u64::MAX)),
        ("i64", Value::I64(i64::MIN)),
        ("f32", Value::F32(1e-6)),
        ("f64", Value::F64(-0.0)),
        ("bool", Value::Bool(true)),
        ("text", Value::String("Grüße".into())),
        ("no text", Value::Bytes(vec![0xff, 0, b'a'])),
        ("list", Value::Array(Array::F64(vec![1.0, f64::INFINITY]))),
        ("texts", Value::Array(Array::String(vec!["a".into(), String::new()]))),
        ("no texts", Value::Array(Array::Bytes(vec![b"fine".to_vec(), vec![0xc3]]))),
        ("bools", Value::Array(Array::Bool(vec![false, true]))),
        ("bytes", Value::Array(Array::U8(vec![1, 2, 3]))),
        ("nested", Value::Array(nested)),
    ];
    values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[test]
fn what_is_written_is_read_again() {
    let dir = Scratch::new("gguf-round-trip");
    let path = dir.path().join("m.gguf");
    let formats = [Format::F32, Format::Q8_0, Format::Bf16, Format::Q4K];
    let tensors = formats.map(|f| counting(f.name(), &[2, 3, 256], f));
    write(&path, &every_value(), tensors).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.version(), 3);
    assert_eq!(gguf.metadata().clone().into_iter().collect::<Vec<_>>(), {
        let mut sorted = every_value();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted
    });
    let names: Vec<&str> = gguf.tensors().map(|t| t.name()).collect();
    assert_eq!(names, ["f32", "q8_0", "bf16", "q4_k"]);
    for format in formats {
        let tensor = gguf.tensor(format.name()).unwrap();
        assert_eq!((tensor.shape(), tensor.dims()), (&[2, 3, 256][..], &[256, 3, 2][..]));
        assert_eq!(tensor.format().unwrap(), format);
        let bytes = tensor.bytes().unwrap();
        let mut values = vec![0.0; 1536];
        dequantize(format, bytes, &mut values);
        assert!(values.iter().enumerate().all(|(i, x)| (x - i as f32).abs() < 40.0), "{format:?}");
        let range = tensor.byte_range().unwrap();
        assert_eq!(range.start % 32, 0);
        assert_eq!(std::fs::read(&path).unwrap()[range], *bytes);
    }
    assert_eq!(dir.listing(), ["m.gguf"]);
}

#[test]
fn a_file_of_the_python_package_is_read_as_it_was_meant() {
    let gguf = Gguf::open(golden("every_value.gguf")).unwrap();
    let integers: Vec<i128> = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"]
        .iter()
        .map(|key| gguf.value(&format!("a.{key}")).unwrap().as_integer().unwrap())
        .collect();
    let large = [18_000_000_000_000_000_000, -9_000_000_000_000_000_000];
    assert_eq!(integers[..6], [200, -100, 60000, -30000, 4_000_000_000, -2_000_000_000]);
    assert_eq!(integers[6..], large);
    assert_eq!(gguf.number("a.f32").unwrap(), Some(1e-6));
    assert_eq!(gguf.number("a.f64").unwrap(), Some(1e-300));
    assert_eq!(gguf.flag("a.true").unwrap(), Some(true));
    assert_eq!(gguf.flag("a.false").unwrap(), Some(false));
    assert_eq!(gguf.text("a.text").unwrap(), Some("Grüße 深度"));
    let texts = ["", "Ġthe", "<｜end▁of▁sentence｜>"];
    assert_eq!(gguf.texts("a.texts").unwrap().unwrap(), texts);
    assert_eq!(gguf.integers("a.ints").unwrap().unwrap(), [1, -2, 3]);
    assert_eq!(gguf.floats("a.floats").unwrap().unwrap(), [0.5, -1.25]);
    let bools = Value::Array(Array::Bool(vec![true, false, true]));
    assert_eq!(gguf.value("a.bools"), Some(&bools));
    assert_eq!(gguf.value("a.bytes"), Some(&Value::Array(Array::U8(vec![1, 2, 255]))));
    let nested = Array::Array(vec![Array::I32(vec![1, 2]), Array::I32(vec![3])]);
    assert_eq!(gguf.value("a.nested"), Some(&Value::Array(nested)));

    let grid: Vec<f32> = (0..12).map(|i| i as f32 / 4.0).collect();
    let tensor = gguf.tensor("grid.f32").unwrap();
    assert_eq!((tensor.shape(), tensor.dims()), (&[3, 4][..], &[4, 3][..]));
    assert_eq!(f32s(tensor.bytes().unwrap()), grid);
    assert_eq!(tensor.byte_range().unwrap().start % 64, 0);
    let cube = gguf.tensor("cube.f32").unwrap();
    assert_eq!(cube.shape(), [2, 3, 4]);
    assert_eq!(f32s(cube.bytes().unwrap())[23], 23.0);
    for (name, format, tolerance) in [
        ("grid.f16", Format::F16, 0.0),
        ("rows.q8_0", Format::Q8_0, 0.005),
        ("rows.q4_0", Format::Q4_0, 0.13),
        ("rows.bf16", Format::Bf16, 0.004),
    ] {
        let tensor = gguf.tensor(name).unwrap();
        assert_eq!(tensor.format().unwrap(), format);
        let mut values = vec![0.0; tensor.n_elements()];
        dequantize(format, tensor.bytes().unwrap(), &mut values);
        let expected = |i: usize| if format == Format::F16 { grid[i] } else { (i as f32).sin() };
        let worst = values.iter().enumerate().map(|(i, x)| (x - expected(i)).abs());
        assert!(worst.fold(0.0, f32::max) <= tolerance, "{name}");
    }
    let count = gguf.tensor("count.i32").unwrap();
    assert_eq!(count.bytes().unwrap().len(), 12);
    let text = count.format().unwrap_err().to_string();
    assert!(text.contains("`count.i32` is stored as i32\nhint: readable are f32, f16,"), "{text}");
}

#[test]
fn any_part_of_a_split_opens_the_whole() {
    for i in 1..=2 {
        let gguf = Gguf::open(golden(&format!("parts-0000{i}-of-00002.gguf"))).unwrap();
        assert_eq!(gguf.count("golden.block_count").unwrap(), Some(1));
        assert_eq!(gguf.paths().len(), 2);
        for j in 0..3 {
            let tensor = gguf.tensor(&format!("blk.{j}")).unwrap();
            assert_eq!(f32s(tensor.bytes().unwrap()), [j as f32; 6]);
        }
    }
}

fn three(dir: &Path) -> Vec<PathBuf> {
    let tensors = (0..3).map(|i| counting(&format!("t{i}"), &[2, 8], Format::F32));
    write_split(dir.join("m"), &[("k".to_owned(), Value::U8(1))], tensors, 70).unwrap()
}

#[test]
fn a_split_we_write_is_read_whole() {
    let dir = Scratch::new("gguf-split");
    let paths = three(dir.path());
    let names = [1, 2, 3].map(|i| format!("m-0000{i}-of-00003.gguf"));
    assert_eq!(dir.listing(), names);
    for path in &paths {
        let gguf = Gguf::open(path).unwrap();
        assert_eq!(gguf.tensors().len(), 3);
        assert_eq!(gguf.count("k").unwrap(), Some(1));
        assert_eq!(f32s(gguf.tensor("t2").unwrap().bytes().unwrap())[15], 15.0);
    }
    let one = [counting("t", &[2, 8], Format::F32)];
    let paths = write_split(dir.path().join("single"), &[], one, 70).unwrap();
    assert_eq!(paths, [dir.path().join("single.gguf")]);
}

#[test]
fn a_split_that_lies_is_refused() {
    let dir = Scratch::new("gguf-split-lies");
    let paths = three(dir.path());
    let expect = |part: &str| {
        let text = Gguf::open(&paths[0]).err().expect("refused").to_string();
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    };
    let second = std::fs::read(&paths[1]).unwrap();
    let first = std::fs::read(&paths[0]).unwrap();
    // A part of the wrong number.
    std::fs::write(&paths[1], std::fs::read(&paths[2]).unwrap()).unwrap();
    expect("`split.no` is 2, expected 1");
    // A part of another split.
    let entries = |no, count| {
        [("split.no".to_owned(), Value::U16(no)), ("split.count".to_owned(), Value::U16(count))]
    };
    write::<Error>(&paths[1], &entries(1, 4), []).unwrap();
    expect("`split.count` is 4, expected 3");
    // The same tensor in two parts.
    write(&paths[1], &entries(1, 3), [counting("t0", &[8], Format::F32)]).unwrap();
    expect("two tensors are named `t0`");
    // Too few tensors in all.
    write::<Error>(&paths[1], &entries(1, 3), []).unwrap();
    expect("`split.tensors.count` is 3, expected 2");
    // No split at all.
    write::<Error>(&paths[1], &[], []).unwrap();
    expect("no key `split.count`");
    // A part that is not there.
    std::fs::remove_file(&paths[1]).unwrap();
    assert!(matches!(Gguf::open(&paths[0]), Err(Error::MissingShard { .. })));
    std::fs::write(&paths[1], second).unwrap();
    assert!(Gguf::open(&paths[0]).is_ok());
    // A name that hides which part it is.
    let renamed = dir.path().join("renamed.gguf");
    std::fs::write(&renamed, first).unwrap();
    let text = Gguf::open(&renamed).err().expect("refused").to_string();
    assert!(text.contains("one of 3 files, but its name does not end in"), "{text}");
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let dir = Scratch::new("gguf-write-errors");
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, "before").unwrap();
    let short: NewTensor<'_> = NewTensor::new("t", &[4], Format::F32, |sink| sink.put(&[0; 15]));
    let result: Result<()> = write(&path, &[], [short]);
    assert!(matches!(result, Err(Error::SourceLength { found: 15, expected: 16, .. })));
    let twice = [0, 1].map(|_| counting("t", &[4], Format::F32));
    let result = write(&path, &[], twice);
    assert!(matches!(result, Err(Error::Gguf { problem: Problem::DuplicateTensor { .. }, .. })));
    let key = || ("k".to_owned(), Value::U8(1));
    let result = write::<Error>(&path, &[key(), key()], []);
    assert!(matches!(result, Err(Error::Gguf { problem: Problem::DuplicateKey { .. }, .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(dir.listing(), ["m.gguf"]);
}

#[test]
fn questions_of_the_wrong_type_name_key_found_and_expected() {
    let gguf = Gguf::open(golden("every_value.gguf")).unwrap();
    let check = |result: Result<()>, part: &str| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    };
    check(gguf.count("a.i8").map(|_| ()), "`a.i8` is i8 -100, expected a count");
    check(gguf.text("a.u8").map(|_| ()), "`a.u8` is u8 200, expected text");
    check(gguf.flag("a.u8").map(|_| ()), "expected a bool");
    check(
        gguf.number("a.text").map(|_| ()),
        "`a.text` is string \"Grüße 深度\", expected a number",
    );
    check(gguf.texts("a.ints").map(|_| ()), "`a.ints` is array of 3 i32, expected a list of utf-8");
    check(gguf.needed("b", gguf.count("b").unwrap()).map(|_| ()), "no key `b`\nhint: ");
    check(
        gguf.tensor("grid.f31").map(|_| ()),
        "no tensor `grid.f31`\nhint: the nearest is `grid.f",
    );
    check(gguf.tensor("grid.f32").unwrap().expect_shape(&[4, 3]), "has shape [3, 4]");
}
