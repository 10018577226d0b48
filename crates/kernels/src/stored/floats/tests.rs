//! Claims about products with floating weights.

use super::*;
use crate::cpu::{self, force_isa};
use crate::lanes::fold;
use crate::stored::{Product, Rows, Scales, SharedBytes, matmul, matmul_batch};
use crate::testing::{for_each_isa, noise, same_bits_everywhere};
use crate::{quant, threads};
use std::time::Instant;

const FORMATS: [Format; 4] = [Format::F32, Format::F16, Format::Bf16, Format::F8E4M3];

/// The definition, spelled out.
fn by_definition(x: &[f32], matrix: &Matrix) -> Vec<f32> {
    let (n_in, w) = (matrix.n_in, matrix.to_f32());
    let mut out = Vec::new();
    for x in x.chunks_exact(n_in) {
        for w in w.chunks_exact(n_in) {
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
    for block in [[128, 128], [1, 128], [3, 128], [64, 64], [7, 100], [500, 3]] {
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
    let values: Vec<f32> = vec![0.75; 256];
    let new = |codes: Vec<u8>| Matrix::new(Format::F8E4M3, 256, 64, SharedBytes::owned(codes));
    let spread = codes.iter().flat_map(|&code| {
        let mut row = [0u8; 64];
        row[usize::from(code) % 64] = code;
        row
    });
    let scales = Scales { values: values.into(), block: [1, 128] };
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

/// Prints speeds of one thread and of all, at the level in use and below:
/// `cargo test --release -p fathom-kernels floats_speed -- --ignored --nocapture`.
#[test]
#[ignore = "prints speeds"]
fn floats_speed() {
    let (n, k) = (8960, 1536);
    for format in FORMATS {
        // More than the caches hold.
        let matrices: Vec<Matrix> = (0..12)
            .map(|i| {
                let mut codes = vec![0u8; format.row_bytes(n * k).unwrap()];
                quant::quantize(format, &noise(i, n * k), &mut codes);
                let matrix = Matrix::new(format, n, k, SharedBytes::owned(codes)).unwrap();
                let values = vec![0.5; n.div_ceil(128) * k.div_ceil(128)].into();
                match format {
                    Format::F8E4M3 => {
                        matrix.with_scales(Scales { values, block: [128, 128] }).unwrap()
                    }
                    _ => matrix,
                }
            })
            .collect();
        for n_threads in [Some(1), None] {
            threads::limit_threads(n_threads);
            let line = |m: usize| {
                let x = noise(2, m * k);
                let mut out = vec![0.0; m * n];
                let mut times: Vec<f64> = (0..if m > 64 { 3 } else { 36 })
                    .map(|i| {
                        let start = Instant::now();
                        matmul(&x, &matrices[i % matrices.len()], &mut out);
                        start.elapsed().as_secs_f64()
                    })
                    .collect();
                times.sort_by(f64::total_cmp);
                let of = |time: f64, amount: usize| amount as f64 / time / 1e9;
                let bytes = matrices[0].bytes().len();
                println!(
                    "{:5} {} m {m:4}: {:6.1} GF/s ({:6.1} best), {:5.1} GB/s ({:5.1} best)",
                    format.name(),
                    if n_threads.is_some() { "1 thread " } else { "threads  " },
                    of(times[times.len() / 2], 2 * m * n * k),
                    of(times[0], 2 * m * n * k),
                    of(times[times.len() / 2], bytes),
                    of(times[0], bytes),
                );
            };
            [1, 2, 4, 8, 16, 17, 32, 64, 512].into_iter().for_each(line);
            threads::limit_threads(None);
        }
    }
    let _ = (cpu::isa(), force_isa as fn(_));
}
