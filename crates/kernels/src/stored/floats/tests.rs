//! Claims about products with floating weights.

use super::*;
use crate::lanes::fold;
use crate::stored::{Product, Rows, Scales, SharedBytes, matmul, matmul_batch};
use crate::testing::{for_each_isa, noise, same_bits_everywhere};
use crate::{quant, threads};
use std::time::Instant;

const FORMATS: [Format; 4] = [Format::F32, Format::F16, Format::Bf16, Format::F8E4M3];

/// The definition, spelled out.
fn by_definition(x: &[f32], matrix: &Matrix) -> Vec<f32> {
    let (n_in, n_out) = (matrix.n_in, matrix.n_out);
    let mut w = vec![0.0; n_in * n_out];
    quant::dequantize(matrix.format, matrix.bytes(), &mut w);
    let mut out = Vec::new();
    for x in x.chunks_exact(n_in) {
        for (row, w) in w.chunks_exact(n_in).enumerate() {
            let mut x = x.to_vec();
            if let Some(Scales { values, block: [height, width] }) = matrix.scales() {
                let of_row = row / height * n_in.div_ceil(*width);
                x.iter_mut().enumerate().for_each(|(e, x)| *x *= values[of_row + e / width]);
            }
            let mut sum = 0.0;
            for (at, (x, w)) in x.chunks(K_CHUNK).zip(w.chunks(K_CHUNK)).enumerate() {
                let mut chains = [0.0f32; CHAINS];
                for (e, (x, w)) in x.iter().zip(w).enumerate() {
                    let chain = &mut chains[e / 2 % CHAINS];
                    *chain = x.mul_add(*w, *chain);
                }
                sum = if at == 0 { fold(chains) } else { sum + fold(chains) };
            }
            out.push(sum);
        }
    }
    out
}

fn product(x: &[f32], matrix: &Matrix) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / matrix.n_in * matrix.n_out];
    matmul(x, matrix, &mut out);
    out
}

/// Weights in a format; E4M3 with scales of blocks of this shape.
fn matrix(seed: u64, n: usize, k: usize, format: Format, block: [usize; 2]) -> Matrix {
    let w = noise(seed, n * k);
    if format != Format::F8E4M3 {
        return Matrix::from_f32(&w, n, k, format).unwrap();
    }
    let (codes, values) = quant::fp8_blocks(&w, n, k, block, quant::ScaleKind::F32);
    let matrix = Matrix::new(format, n, k, SharedBytes::owned(codes)).unwrap();
    matrix.with_scales(Scales { values: values.into(), block }).unwrap()
}

#[test]
fn every_level_and_number_of_rows_sums_as_defined() {
    for (m, n, k) in [
        (1, 1, 1),
        (1, 67, 1090),
        (2, 5, 64),
        (3, 131, 200),
        (5, 9, 2100),
        (8, 66, 130),
        (9, 7, 96),
        (16, 65, 31),
        (17, 33, 1030),
        (29, 100, 65),
    ] {
        let x = noise(1, m * k);
        for format in FORMATS {
            let matrix = matrix(2, n, k, format, [128, 128]);
            let want = by_definition(&x, &matrix);
            for_each_isa(|isa| {
                assert_eq!(product(&x, &matrix), want, "{isa:?} {format:?} {m} {n} {k}");
            });
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for m in [2, 40] {
        let (x, matrix) = (noise(3, m * 700), matrix(4, 300, 700, Format::Bf16, [1, 1]));
        same_bits_everywhere(|| product(&x, &matrix));
    }
}

#[test]
fn a_row_alone_has_the_bits_it_has_among_many() {
    let (n, k) = (50, 1100);
    for format in FORMATS {
        let (all, matrix) = (noise(7, 45 * k), matrix(8, n, k, format, [128, 128]));
        let alone: Vec<f32> = all.chunks_exact(k).flat_map(|x| product(x, &matrix)).collect();
        for m in (2..=18).chain([28, 29, 45]) {
            assert_eq!(product(&all[..m * k], &matrix), alone[..m * n], "{format:?}, {m} rows");
        }
    }
}

#[test]
fn blocks_of_scales_may_have_any_shape() {
    for block in [[128, 128], [64, 128], [1, 128], [3, 128], [64, 64], [7, 100], [500, 3]] {
        let matrix = matrix(5, 70, 300, Format::F8E4M3, block);
        for m in [1, 4, 20] {
            let x = noise(6, m * 300);
            let want = by_definition(&x, &matrix);
            for_each_isa(|isa| assert_eq!(product(&x, &matrix), want, "{isa:?} {block:?} {m}"));
        }
    }
}

#[test]
fn every_code_of_fp8_counts_as_what_it_widens_to() {
    let codes: Vec<u8> = (0..=255).collect();
    let values: Vec<f32> = vec![0.75; 2];
    let new = |codes: Vec<u8>| Matrix::new(Format::F8E4M3, 256, 64, SharedBytes::owned(codes));
    let spread = codes.iter().flat_map(|&code| {
        let mut row = [0u8; 64];
        row[usize::from(code) % 64] = code;
        row
    });
    let scales = Scales { values: values.into(), block: [128, 128] };
    let matrix = new(spread.collect()).unwrap().with_scales(scales).unwrap();
    let want: Vec<f32> =
        codes.iter().map(|&code| crate::convert::e4m3_to_f32(code) * 0.75).collect();
    for_each_isa(|isa| {
        for m in [1, 3, 20] {
            for row in product(&vec![1.0; m * 64], &matrix).chunks_exact(256) {
                for (code, (got, want)) in row.iter().zip(&want).enumerate() {
                    let same = got == want || got.is_nan() && want.is_nan();
                    assert!(same, "{isa:?}, {m} rows, code {code:#x}: {got}, want {want}");
                }
            }
        }
    });
}

#[test]
fn products_of_one_input_share_it_and_others_do_not() {
    let k = 160;
    let matrices = FORMATS.map(|format| matrix(9, 40, k, format, [128, 128]));
    let inputs = [noise(10, 3 * k), noise(11, 3 * k)];
    let mut outs = vec![vec![0.0; 3 * 40]; 8];
    let mut products: Vec<Product> = outs
        .iter_mut()
        .enumerate()
        .map(|(i, out)| Product { x: Rows::Exact(&inputs[i / 4]), matrix: &matrices[i % 4], out })
        .collect();
    matmul_batch(&mut products);
    for (i, out) in outs.iter().enumerate() {
        assert_eq!(out, &product(&inputs[i / 4], &matrices[i % 4]), "product {i}");
    }
}

/// Rows and columns of a matrix of [`floats_speed`]: a product of few rows takes less than a slice of the
/// scheduler, so that the best of many is of an undisturbed one.
const SPEED_SHAPE: [usize; 2] = [512, 1536];

/// Reads everything, as fast as memory gives it.
fn read(bytes: &[u8]) -> u64 {
    crate::lanes::per_isa! {
        fn sum(words: &[[u8; 8]]) -> u64 {
            let mut sums = [0u64; 64];
            for words in words.as_chunks::<64>().0 {
                for i in 0..64 {
                    sums[i] = sums[i].wrapping_add(u64::from_le_bytes(words[i]));
                }
            }
            sums.iter().fold(0, |a, b| a.wrapping_add(*b))
        }
    }
    sum(bytes.as_chunks().0)
}

/// Best and median of the seconds that `body` takes.
fn seconds(times: usize, mut body: impl FnMut(usize)) -> [f64; 2] {
    let mut times: Vec<f64> = (0..times)
        .map(|i| {
            let start = Instant::now();
            body(i);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2]]
}

/// Prints speeds of one thread, best and median, beside those of reading alone:
/// `cargo test --release -p fathom-kernels floats_speed -- --ignored --nocapture`.
/// `ROWS=1,8 FORMATS=bf16,fp8` measure less; `COUNT=1` reads one matrix again and again, from the caches.
/// `N`, `K` and `THREADS` change the shape and the number of threads.
#[test]
#[ignore = "prints speeds"]
fn floats_speed() {
    let list = |name: &str, all: &str| std::env::var(name).unwrap_or(all.to_string());
    let (rows, formats) =
        (list("ROWS", "1,2,4,8,16,32,64,512"), list("FORMATS", "f32,f16,bf16,fp8"));
    let [n, k] = SPEED_SHAPE;
    let [n, k] = [list("N", &n.to_string()), list("K", &k.to_string())].map(|x| x.parse().unwrap());
    threads::limit_threads(Some(list("THREADS", "1").parse().unwrap()));
    for format in formats.split(',').map(|name| Format::from_name(name).unwrap()) {
        let one = matrix(1, n, k, format, [128, 128]);
        // More than caches hold.
        let count = list("COUNT", "").parse().unwrap_or((160 << 20) / one.bytes().len());
        let bytes = SharedBytes::owned(one.bytes().repeat(count));
        let matrices: Vec<Matrix> = (0..count)
            .map(|i| {
                let bytes = bytes.slice(i * one.bytes().len()..(i + 1) * one.bytes().len());
                let matrix = Matrix::new(format, n, k, bytes).unwrap();
                match one.scales() {
                    Some(scales) => matrix.with_scales(scales.clone()).unwrap(),
                    None => matrix,
                }
            })
            .collect();
        let size = one.bytes().len() as f64 / 1e9;
        for m in rows.split(',').map(|m| m.parse::<usize>().unwrap()) {
            let (x, mut out) = (noise(2, m * k), vec![0.0; m * n]);
            let of = if m > 64 { 40 } else { 100 };
            let mut alone = [f64::MAX; 2];
            if m == 1 {
                alone = seconds(of, |i| {
                    std::hint::black_box(read(matrices[i % count].bytes()));
                });
            }
            let times = seconds(of, |i| matmul(&x, &matrices[i % count], &mut out));
            let work = (2 * m * n * k) as f64 / 1e9;
            println!(
                "{:5} m {m:4}: {:6.1} GF/s (median {:6.1}), {:5.2} GB/s (median {:5.2}); reading {:5.2} ({:5.2})",
                format.name(),
                work / times[0],
                work / times[1],
                size / times[0],
                size / times[1],
                size / alone[0],
                size / alone[1],
            );
        }
    }
    threads::limit_threads(None);
}
