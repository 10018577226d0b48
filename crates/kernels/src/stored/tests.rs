//! Claims about products with stored matrices.

use super::*;
use crate::quant::Format;
use crate::testing::{assert_close, noise, same_bits_everywhere};

fn plain(x: &[f32], w: &[f32], n_in: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| -> f64 {
        x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
    };
    x.chunks_exact(n_in).flat_map(|x| w.chunks_exact(n_in).map(move |w| dot(x, w))).collect()
}

fn product(x: &[f32], matrix: &Matrix) -> Vec<f32> {
    let m = x.len() / matrix.n_in;
    let mut out = vec![f32::NAN; m * matrix.n_out];
    matmul(x, matrix, &mut out);
    out
}

#[test]
fn products_equal_their_definition_at_odd_sizes() {
    for (m, n, k) in [(1, 1, 1), (1, 7, 33), (5, 49, 17), (3, 97, 1025), (67, 5, 2050), (9, 6, 16)]
    {
        let (x, w) = (noise(1, m * k), noise(2, n * k));
        for format in [Format::F32, Format::Bf16, Format::F16] {
            let matrix = Matrix::from_f32(&w, n, k, format).unwrap();
            let want = plain(&x, &matrix.to_f32(), k);
            assert_close(&product(&x, &matrix), &want, 1e-5, &format!("{m} {n} {k} {format:?}"));
        }
    }
}

#[test]
fn every_format_multiplies_what_it_widens_to() {
    let (m, n, k) = (3, 10, 1280);
    let (x, w) = (noise(3, m * k), noise(4, n * k));
    for format in Format::ALL.iter().copied() {
        let matrix = Matrix::from_f32(&w, n, k, format).unwrap();
        let want = plain(&x, &matrix.to_f32(), k);
        assert_close(&product(&x, &matrix), &want, 1e-5, format.name());
    }
}

#[test]
fn every_level_and_number_of_threads_gives_the_same_bits() {
    let (m, n, k) = (6, 101, 1300);
    let (x, matrix) =
        (noise(5, m * k), Matrix::from_f32(&noise(6, n * k), n, k, Format::Bf16).unwrap());
    same_bits_everywhere(|| product(&x, &matrix));
}

#[test]
fn a_row_alone_has_the_bits_it_has_in_a_batch() {
    let (m, n, k) = (133, 50, 1056);
    let x = noise(7, m * k);
    let matrix = Matrix::from_f32(&noise(8, n * k), n, k, Format::Q8_0).unwrap();
    let all = product(&x, &matrix);
    for i in [0, 1, 63, 64, 131, 132] {
        let alone = product(&x[i * k..(i + 1) * k], &matrix);
        assert_eq!(alone, all[i * n..(i + 1) * n], "row {i}");
    }
}

#[test]
fn block_scales_multiply_their_blocks_partial_ones_too() {
    let (n, k) = (130, 200);
    let codes = vec![0x38u8; n * k]; // 1.0 in E4M3
    let values: Vec<f32> = (1..=4).map(|i| i as f32).collect();
    let matrix = Matrix::new(Format::F8E4M3, n, k, SharedBytes::owned(codes)).unwrap();
    let short = matrix.clone().with_scales(Scales { values: [1.0; 3].into(), block: [128, 128] });
    assert_eq!(short.unwrap_err(), MatrixError::ScaleCount { found: 3, expected: 4 });
    let matrix = matrix.with_scales(Scales { values: values.into(), block: [128, 128] }).unwrap();
    let w = matrix.to_f32();
    assert_eq!([w[0], w[128], w[128 * k], w[n * k - 1]], [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(product(&vec![1.0; k], &matrix)[129], 128.0 * 3.0 + 72.0 * 4.0);
    assert_eq!(matrix.rows(128..130).to_f32(), w[128 * k..]);
}

#[test]
fn a_batch_equals_its_products_one_by_one() {
    let (k, n) = (96, 60);
    let matrices: Vec<Matrix> = (0..3)
        .map(|i| Matrix::from_f32(&noise(10 + i, n * k), n, k, Format::F16).unwrap())
        .collect();
    let inputs: Vec<Vec<f32>> = [2, 0, 5].map(|m| noise(20, m * k)).to_vec();
    let mut outs: Vec<Vec<f32>> = inputs.iter().map(|x| vec![0.0; x.len() / k * n]).collect();
    let mut products: Vec<Product> = inputs
        .iter()
        .zip(&matrices)
        .zip(&mut outs)
        .map(|((x, matrix), out)| Product { x: Rows::Exact(x), matrix, out })
        .collect();
    matmul_batch(&mut products);
    for ((x, matrix), out) in inputs.iter().zip(&matrices).zip(&outs) {
        assert_eq!(&product(x, matrix), out);
    }
}

#[test]
fn bytes_that_do_not_fit_the_shape_are_refused() {
    let new = |format, n, k, len| Matrix::new(format, n, k, SharedBytes::owned(vec![0; len]));
    assert_eq!(
        new(Format::Bf16, 2, 3, 11).unwrap_err(),
        MatrixError::Length { found: 11, expected: 12 }
    );
    let error = new(Format::Q8_0, 1, 33, 34).unwrap_err();
    assert_eq!(error, MatrixError::RowLength { format: Format::Q8_0, n_in: 33 });
    assert!(error.to_string().contains("whole blocks of 32"));
}

/// Prints speeds: `cargo test --release -p fathom-kernels stored_speed -- --ignored --nocapture`.
#[test]
#[ignore = "prints speeds"]
fn stored_speed() {
    let (n, k) = (8960, 1536);
    let w = noise(1, n * k);
    for format in Format::ALL.iter().copied() {
        let matrix = Matrix::from_f32(&w, n, k, format).unwrap();
        for m in [1, 4, 16, 128, 512] {
            let (x, mut out) = (noise(2, m * k), vec![0.0; m * n]);
            let mut best = f64::MAX;
            for _ in 0..5 {
                let start = std::time::Instant::now();
                matmul(&x, &matrix, &mut out);
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!(
                "{:8} m {m:4}: {:7.1} GF/s, {:5.1} GB/s of weights",
                format.name(),
                2.0 * (m * n * k) as f64 / best / 1e9,
                matrix.bytes().len() as f64 / best / 1e9
            );
        }
    }
}
