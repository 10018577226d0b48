//! Every format against the `gguf` package, against itself at every level, and against its bound.

use super::*;
use crate::testing::{for_each_isa, noise};

/// Normal deviates, the same for the same seed.
fn normal(seed: u64, n: usize) -> Vec<f32> {
    let uniform = noise(seed, n * 12);
    // The sum of twelve has variance 4: half of it is close to normal, and never extreme.
    uniform.chunks_exact(12).map(|u| u.iter().sum::<f32>() * 0.5).collect()
}

fn store(format: Format, x: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xaa; format.row_bytes(x.len()).unwrap()];
    quantize(format, x, &mut bytes);
    bytes
}

fn load(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![7.0; bytes.len() / format.block_bytes() * format.block_len()];
    dequantize(format, bytes, &mut out);
    out
}

/// Root of the squared error over the root of the squares.
fn relative_rmse(got: &[f32], want: &[f32]) -> f64 {
    let square = |v: f32| (v as f64) * (v as f64);
    let error: f64 = got.iter().zip(want).map(|(&g, &w)| square(g - w)).sum();
    let size: f64 = want.iter().map(|&w| square(w)).sum();
    (error / size).sqrt()
}

fn same_number(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// The tensors of the golden file, as bytes.
struct Golden {
    header: serde_json::Value,
    data: Vec<u8>,
}

impl Golden {
    fn open() -> Golden {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/gguf_blocks/blocks.safetensors");
        let file = std::fs::read(path).unwrap();
        let (length, rest) = file.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        Golden { header: serde_json::from_slice(header).unwrap(), data: data.to_vec() }
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        let span = &self.header.get(name)?["data_offsets"];
        Some(&self.data[span[0].as_u64().unwrap() as usize..span[1].as_u64().unwrap() as usize])
    }

    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        Some(self.bytes(name)?.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
    }
}

#[test]
fn blocks_hold_what_the_gguf_package_says_at_every_level() {
    let golden = Golden::open();
    let mut n_formats = 0;
    for format in Format::ALL {
        let Some(blocks) = golden.bytes(&format!("{}.blocks", format.name())) else { continue };
        let want = golden.floats(&format!("{}.values", format.name())).unwrap();
        // Files promise no alignment.
        let shifted = [&[0], blocks].concat();
        for_each_isa(|isa| {
            let got = load(format, &shifted[1..]);
            assert_eq!(got.len(), want.len(), "{format:?}");
            let differs = got.iter().zip(&want).position(|(&g, &w)| !same_number(g, w));
            if let Some(i) = differs {
                panic!("{format:?} {isa:?}: weight {i} is {}, not {}", got[i], want[i]);
            }
        });
        n_formats += 1;
    }
    assert_eq!(n_formats, 14, "f32 and fp8 alone have no GGUF blocks");
}

#[test]
fn simple_formats_round_as_the_gguf_package_does() {
    let golden = Golden::open();
    let input = golden.floats("input").unwrap();
    let mut n_formats = 0;
    for format in Format::ALL {
        let Some(want) = golden.bytes(&format!("{}.bytes", format.name())) else { continue };
        for_each_isa(|isa| {
            let got = store(format, &input);
            let differs = got.iter().zip(want).position(|(g, w)| g != w);
            assert_eq!(
                differs.map(|i| i / format.block_bytes()),
                None,
                "{format:?} {isa:?}: block"
            );
        });
        n_formats += 1;
    }
    assert_eq!(n_formats, 6);
}

/// Relative RMSE of normal weights, just above what each format reaches; for the searched formats
/// at or below what ggml's reference quantizers reach.
const BOUNDS: [(Format, f64); 16] = [
    (Format::F32, 0.0),
    (Format::F16, 2.2e-4),
    (Format::Bf16, 1.7e-3),
    (Format::F8E4M3, 0.0275),
    (Format::Q8_0, 0.0055),
    (Format::Q4_0, 0.087),
    (Format::Q4_1, 0.079),
    (Format::Q5_0, 0.043),
    (Format::Q5_1, 0.038),
    (Format::Q2K, 0.275),
    (Format::Q3K, 0.148),
    (Format::Q4K, 0.0713),
    (Format::Q5K, 0.0355),
    (Format::Q6K, 0.0175),
    (Format::Iq4Nl, 0.075),
    (Format::Iq4Xs, 0.0755),
];

#[test]
fn normal_weights_come_back_within_the_bound_of_their_format() {
    for scale in [1.0, 0.02] {
        let x: Vec<f32> = normal(3, 16 * 1024).iter().map(|v| v * scale).collect();
        for (format, bound) in BOUNDS {
            if format == Format::F8E4M3 && scale != 1.0 {
                continue; // without a scale, small weights are its subnormals
            }
            let error = relative_rmse(&load(format, &store(format, &x)), &x);
            assert!(error <= bound, "{}: error {error:.5} above {bound}", format.name());
        }
    }
}

/// Rows of every temper, 256 weights each: normal, spiky, one-sided, zero, tiny, huge, not finite.
fn odd_rows() -> Vec<f32> {
    let x = normal(5, 256);
    let mut rows: Vec<Vec<f32>> = vec![
        x.clone(),
        x.iter().map(|v| v * v * v * 10.0).collect(),
        x.iter().map(|v| v.abs()).collect(),
        x.iter().map(|v| -v.abs()).collect(),
        vec![0.0; 256],
        vec![-0.0; 256],
        vec![0.7; 256],
        vec![-0.7; 256],
    ];
    for scale in [1e-5, 1e-7, 1e-12, 1e-30, 1e-44, 1e3, 1e6, 1e37, 1e38] {
        rows.push(x.iter().map(|v| v * scale).collect());
    }
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE] {
        let mut row = x.clone();
        row[40] = odd;
        row[200] = -odd;
        rows.push(row);
        rows.push(vec![odd; 256]);
    }
    rows.concat()
}

#[test]
fn storing_gives_the_same_bytes_at_every_level() {
    let x = [odd_rows(), normal(9, 4096)].concat();
    for format in Format::ALL {
        let mut want: Option<Vec<u8>> = None;
        for_each_isa(|isa| {
            let got = store(format, &x);
            let want = want.get_or_insert_with(|| got.clone());
            let differs = got.iter().zip(want.iter()).position(|(g, w)| g != w);
            let row = differs.map(|i| i / format.block_bytes() * format.block_len() / 256);
            assert_eq!(row, None, "{format:?} {isa:?}: row of 256");
        });
    }
}

#[test]
fn what_was_stored_reads_the_same_at_every_level() {
    for format in Format::ALL {
        // Any bytes at all are blocks.
        let n_bytes = format.row_bytes(1024).unwrap();
        let bytes: Vec<u8> = noise(8, n_bytes).iter().map(|v| (v * 128.0) as i8 as u8).collect();
        let mut want: Option<Vec<f32>> = None;
        for_each_isa(|isa| {
            let got = load(format, &bytes);
            let want = want.get_or_insert_with(|| got.clone());
            let differs = got.iter().zip(want.iter()).position(|(&g, &w)| !same_number(g, w));
            assert_eq!(differs, None, "{format:?} {isa:?}");
        });
    }
}

#[test]
fn zeros_stay_zeros_and_constants_stay_close() {
    for format in Format::ALL {
        for zero in [0.0, -0.0] {
            assert!(load(format, &store(format, &[zero; 512])).iter().all(|&v| v == 0.0));
        }
        for constant in [0.7f32, -0.7] {
            for v in load(format, &store(format, &[constant; 512])) {
                assert!((v - constant).abs() <= 0.025, "{format:?}: {v} for {constant}");
            }
        }
    }
}

#[test]
fn a_block_depends_on_its_own_weights_only() {
    let x = odd_rows();
    for format in Format::ALL {
        let together = store(format, &x);
        let n_bytes = format.row_bytes(256).unwrap();
        for (i, row) in x.chunks_exact(256).enumerate() {
            let alone = store(format, row);
            assert_eq!(together[i * n_bytes..(i + 1) * n_bytes], alone, "{format:?}, row {i}");
        }
        if format.block_len() == 32 {
            let short = store(format, &x[..96]);
            assert_eq!(together[..short.len()], short, "{format:?}");
        }
    }
}

#[test]
fn storing_again_what_was_read_changes_nothing() {
    use Format::*;
    for format in [F32, F16, Bf16, F8E4M3, Q8_0, Q4_0, Q5_0] {
        let x: Vec<f32> = normal(4, 4096).iter().map(|v| v * 0.05).collect();
        let once = load(format, &store(format, &x));
        assert_eq!(load(format, &store(format, &once)), once, "{format:?}");
    }
    // Searched scales may settle elsewhere, but never farther off.
    for format in [Q4_1, Q5_1, Q2K, Q3K, Q4K, Q5K, Q6K, Iq4Nl, Iq4Xs] {
        let x = normal(4, 4096);
        let once = load(format, &store(format, &x));
        let again = load(format, &store(format, &once));
        let (error, shift) = (relative_rmse(&once, &x), relative_rmse(&again, &once));
        assert!(shift < 0.5 * error, "{format:?}: {shift:.5} beside {error:.5}");
    }
}

#[test]
fn names_and_numbers_find_their_format() {
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
        assert_eq!(Format::from_name(&format.name().to_uppercase()), Some(format));
        if let Some(number) = format.ggml_type() {
            assert_eq!(Format::from_ggml_type(number), Some(format));
        }
    }
    assert_eq!(Format::from_name("q4_k_m"), None);
    assert_eq!(Format::from_ggml_type(4), None);
    assert_eq!(Format::F8E4M3.ggml_type(), None);
    assert_eq!(Format::Q4K.bits_per_weight(), 4.5);
    assert_eq!(Format::Q8_0.bits_per_weight(), 8.5);
}

#[test]
fn rows_are_whole_blocks() {
    for format in Format::ALL {
        let n = format.block_len();
        assert_eq!(format.row_bytes(0), Some(0));
        assert_eq!(format.row_bytes(3 * n), Some(3 * format.block_bytes()));
        if n > 1 {
            assert_eq!(format.row_bytes(3 * n + 1), None);
            assert_eq!(format.row_bytes(n - 1), None);
        }
    }
    assert_eq!(Format::Q2K.row_bytes(usize::MAX - 255), Some((usize::MAX / 256) * 84));
    assert_eq!(Format::F32.row_bytes(usize::MAX), None);
    assert_eq!(Format::Q8_0.row_bytes(usize::MAX - 31), None);
}

#[test]
#[should_panic(expected = "bytes of 256 weights in `q4_k`")]
fn a_short_block_is_refused() {
    dequantize(Format::Q4K, &[0; 143], &mut [0.0; 256]);
}

#[test]
fn fp8_scales_cover_partial_blocks() {
    let (n, k) = (5, 7);
    let mut w = normal(2, n * k);
    w[0] = 9.0;
    w[4 * k + 6] = -30.0;
    for (kind, slack) in [(ScaleKind::F32, 1.0), (ScaleKind::PowerOfTwo, 2.0)] {
        let (codes, scales) = fp8_blocks(&w, n, k, [2, 3], kind);
        assert_eq!((codes.len(), scales.len()), (n * k, 3 * 3));
        let values = load(Format::F8E4M3, &codes);
        for i in 0..n * k {
            let block = i / k / 2 * 3 + i % k / 3;
            let inside = |j: usize| j / k / 2 * 3 + j % k / 3 == block;
            let largest = (0..n * k).filter(|&j| inside(j)).map(|j| w[j].abs()).fold(0.0, f32::max);
            let least = largest / 448.0;
            assert!(scales[block] >= least && scales[block] <= least * slack, "block {block}");
            let error = (values[i] * scales[block] - w[i]).abs();
            assert!(error <= w[i].abs() / 15.9 + scales[block] / 512.0, "weight {i}");
            if kind == ScaleKind::PowerOfTwo {
                assert_eq!(scales[block].to_bits() & 0x7f_ffff, 0);
            }
        }
    }
}

#[test]
fn fp8_scales_of_odd_blocks() {
    let (codes, scales) = fp8_blocks(&[0.0; 4], 2, 2, [128, 128], ScaleKind::F32);
    assert_eq!((codes, scales), (vec![0; 4], vec![1.0]));
    let (_, scales) = fp8_blocks(&[448.0], 1, 1, [128, 128], ScaleKind::PowerOfTwo);
    assert_eq!(scales, [1.0], "a power of two is not rounded up");
    let (codes, scales) = fp8_blocks(&[449.0], 1, 1, [128, 128], ScaleKind::PowerOfTwo);
    assert_eq!((scales[0], crate::convert::e4m3_to_f32(codes[0])), (2.0, 224.0));
    for w in [f32::NAN, f32::INFINITY, f32::MAX, 1e-45, 1e-42] {
        for kind in [ScaleKind::F32, ScaleKind::PowerOfTwo] {
            let (codes, scales) = fp8_blocks(&[w, 1.0], 2, 1, [1, 1], kind);
            assert_eq!(codes[1] & 0x80, 0, "{w}");
            assert!(scales[0] > 0.0, "{w}");
        }
    }
    assert_eq!(fp8_blocks(&[], 3, 0, [1, 1], ScaleKind::F32), (vec![], vec![]));
}

/// `cargo test --release -p fathom-kernels quant::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: run it in a release build, alone"]
fn speed_of_every_format() {
    use std::time::Instant;
    let n = 64 * 1024; // a few rows, as a kernel would widen them
    let x = normal(1, n);
    let best = |run: &mut dyn FnMut()| {
        (0..30)
            .map(|_| {
                let start = Instant::now();
                run();
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min)
    };
    println!("format    isa      read G weights/s   GB/s stored   write M weights/s");
    for format in Format::ALL {
        let mut bytes = store(format, &x);
        for_each_isa(|isa| {
            let mut out = vec![0.0; 4096];
            let row_bytes = format.row_bytes(4096).unwrap();
            let read = best(&mut || {
                for row in bytes.chunks_exact(row_bytes) {
                    dequantize(format, row, &mut out);
                    std::hint::black_box(&mut out);
                }
            });
            let mut stored = vec![0; bytes.len()];
            let write = best(&mut || quantize(format, &x, &mut stored));
            let (rate, gb) = (n as f64 / read * 1e-9, bytes.len() as f64 / read * 1e-9);
            let write = n as f64 / write * 1e-6;
            println!("{:8}  {isa:?}  {rate:8.2} {gb:8.2} {write:10.0}", format.name());
        });
        bytes.clear();
    }
}
