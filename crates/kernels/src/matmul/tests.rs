//! Claims about the matrix products.

use super::*;
use crate::cpu::{available_isas, cpu, force_isa};
use std::sync::Mutex;

/// `force_isa` is process-wide: tests that use it take turns.
static ISA: Mutex<()> = Mutex::new(());

fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Definition in f64: `a [m, k] · b [k, n]`.
fn plain(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for i in 0..m {
        for p in 0..k {
            for j in 0..n {
                out[i * n + j] += f64::from(a[i * k + p]) * f64::from(b[p * n + j]);
            }
        }
    }
    out
}

fn transpose(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|j| (0..rows).map(move |i| x[i * cols + j])).collect()
}

fn worst(got: &[f32], want: &[f64]) -> f64 {
    got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max)
}

/// (m, k, n): tails in every direction, more than one block of each.
const SIZES: &[(usize, usize, usize)] = &[
    (1, 1, 1),
    (1, 300, 33),
    (3, 7, 31),
    (14, 64, 32),
    (15, 65, 64),
    (29, 257, 100),
    (85, 31, 65),
    (200, 513, 47),
];

#[test]
fn every_level_and_layout_equals_the_definition() {
    let _turn = ISA.lock().unwrap_or_else(|e| e.into_inner());
    for level in available_isas() {
        force_isa(Some(level));
        for &(m, k, n) in SIZES {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let want = plain(&a, &b, m, k, n);
            let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
            let (mut nn, mut nt) = (Packed::new(), Packed::new());
            nn.pack_rows(&b, k, n, Format::F32);
            nt.pack_transposed(&bt, k, n, Format::F32);
            for rhs in [&nn, &nt] {
                for lhs in [Lhs::rows(&a, k), Lhs::transposed(&at, m)] {
                    let mut out = vec![f32::NAN; m * n];
                    matmul(lhs, m, rhs, &mut out, Write::Set);
                    let error = worst(&out, &want);
                    assert!(error < 4e-5, "{level:?} {m}x{k}x{n}: {error}");
                    matmul(lhs, m, rhs, &mut out, Write::Add);
                    let twice: Vec<f64> = want.iter().map(|w| 2.0 * w).collect();
                    assert!(worst(&out, &twice) < 8e-5, "{level:?} {m}x{k}x{n} added");
                }
            }
        }
    }
    force_isa(None);
}

/// Levels that fuse agree with each other, those of other architectures included: each is compared with the chain
/// that defines it.
#[test]
fn levels_that_fuse_have_the_bits_of_one_chain() {
    let _turn = ISA.lock().unwrap_or_else(|e| e.into_inner());
    for level in available_isas().into_iter().filter(|level| *level != Isa::Scalar) {
        force_isa(Some(level));
        for (m, k, n) in (1..15).map(|m| (m, 23, 45)).chain([(200, 513, 47), (33, 4, 64)]) {
            let (a, b) = (noise(m * k, 1), noise(k * n, 2));
            let chain = |i: usize, j: usize, from: f32| {
                (0..k).fold(from, |sum, p| a[i * k + p].mul_add(b[p * n + j], sum))
            };
            let places = (0..m).flat_map(|i| (0..n).map(move |j| (i, j)));
            let want: Vec<f32> = places.clone().map(|(i, j)| chain(i, j, 0.0)).collect();
            let twice: Vec<f32> =
                places.zip(&want).map(|((i, j), once)| chain(i, j, *once)).collect();
            let at = transpose(&a, m, k);
            let mut rhs = Packed::new();
            rhs.pack_rows(&b, k, n, Format::F32);
            for lhs in [Lhs::rows(&a, k), Lhs::transposed(&at, m)] {
                let mut out = vec![f32::NAN; m * n];
                matmul(lhs, m, &rhs, &mut out, Write::Set);
                assert_eq!(out, want, "{level:?} {m}x{k}x{n}");
                matmul(lhs, m, &rhs, &mut out, Write::Add);
                assert_eq!(out, twice, "{level:?} {m}x{k}x{n} added");
            }
        }
    }
    force_isa(None);
}

#[test]
fn bf16_formats_equal_the_product_of_rounded_operands() {
    let round = |v: &[f32]| -> Vec<f32> { v.iter().map(|x| pack::round_bf16(*x)).collect() };
    let mut formats = vec![Format::RoundedF32];
    if cpu().bf16_dot {
        formats.push(Format::Bf16Pairs);
    } else {
        eprintln!("skipped: vdpbf16ps is missing here");
    }
    for &(m, k, n) in SIZES {
        let (a, b) = (noise(m * k, 3), noise(k * n, 4));
        let want = plain(&round(&a), &round(&b), m, k, n);
        let at = transpose(&a, m, k);
        for &format in &formats {
            let mut rhs = Packed::new();
            rhs.pack_rows(&b, k, n, format);
            for lhs in [Lhs::rows(&a, k), Lhs::transposed(&at, m)] {
                let mut out = vec![0.0; m * n];
                matmul(lhs, m, &rhs, &mut out, Write::Set);
                assert!(worst(&out, &want) < 3e-5, "{format:?} {m}x{k}x{n}");
            }
        }
    }
}

#[test]
fn a_row_alone_has_the_bits_it_has_in_a_batch() {
    let _turn = ISA.lock().unwrap_or_else(|e| e.into_inner());
    let (m, k, n) = (97, 300, 70);
    let (a, b) = (noise(m * k, 5), noise(k * n, 6));
    for level in available_isas() {
        force_isa(Some(level));
        for format in [Format::F32, Format::fastest(Precision::Bf16)] {
            let mut rhs = Packed::new();
            rhs.pack_rows(&b, k, n, format);
            let mut all = vec![0.0; m * n];
            matmul(Lhs::rows(&a, k), m, &rhs, &mut all, Write::Set);
            for i in 0..m {
                let mut one = vec![0.0; n];
                matmul(Lhs::rows(&a[i * k..(i + 1) * k], k), 1, &rhs, &mut one, Write::Set);
                assert_eq!(one, all[i * n..(i + 1) * n], "{level:?} {format:?} row {i}");
            }
        }
    }
    force_isa(None);
}

#[test]
fn grouped_product_equals_its_parts() {
    let (k, n) = (40, 50);
    let groups = [3usize, 0, 20, 1];
    let total: usize = groups.iter().sum();
    let x = noise(total * k, 7);
    let weights: Vec<Packed> = (0..groups.len())
        .map(|e| {
            let mut packed = Packed::new();
            packed.pack_rows(&noise(k * n, 10 + e as u32), k, n, Format::F32);
            packed
        })
        .collect();
    let mut products = Vec::new();
    let mut row = 0;
    for (e, &m) in groups.iter().enumerate() {
        let lhs = Lhs::rows(&x[row * k..(row + m) * k], k);
        products.push(Product { lhs, m, rhs: &weights[e], k_range: 0..k, out_start: row * n });
        row += m;
    }
    let mut out = vec![0.0; total * n];
    matmul_batch(&products, &mut out, Write::Set);
    for p in &products {
        let mut alone = vec![0.0; p.m * n];
        matmul(p.lhs, p.m, p.rhs, &mut alone, Write::Set);
        assert_eq!(alone, out[p.out_start..p.out_start + p.m * n]);
    }
}

#[test]
fn a_range_of_k_equals_the_product_of_that_range() {
    let (m, k, n) = (9, 100, 40);
    let (a, b) = (noise(m * k, 8), noise(k * n, 9));
    let mut rhs = Packed::new();
    rhs.pack_rows(&b, k, n, Format::F32);
    let lhs = Lhs { data: &a[20..], row_stride: k, col_stride: 1 };
    let mut out = vec![0.0; m * n];
    matmul_batch(
        &[Product { lhs, m, rhs: &rhs, k_range: 20..77, out_start: 0 }],
        &mut out,
        Write::Set,
    );
    let part: Vec<f32> = (0..m).flat_map(|i| a[i * k + 20..i * k + 77].to_vec()).collect();
    assert!(worst(&out, &plain(&part, &b[20 * n..77 * n], m, 57, n)) < 1e-5);
}

#[test]
#[ignore = "prints speed"]
fn speed() {
    for (m, k, n) in
        [(2048, 512, 1408), (2048, 512, 512), (4096, 128, 128), (512, 192, 96), (8, 512, 512)]
    {
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let at = transpose(&a, m, k);
        for format in [Format::F32, Format::RoundedF32, Format::Bf16Pairs] {
            let mut rhs = Packed::new();
            let mut out = vec![0.0; m * n];
            let flops = 2.0 * (m * k * n) as f64;
            let reps = (2e10 / flops) as usize + 1;
            let time = |f: &mut dyn FnMut()| {
                f();
                let start = std::time::Instant::now();
                (0..reps).for_each(|_| f());
                flops * reps as f64 / start.elapsed().as_secs_f64() / 1e9
            };
            let packing = time(&mut || rhs.pack_transposed(&b, k, n, format));
            let rows = time(&mut || matmul(Lhs::rows(&a, k), m, &rhs, &mut out, Write::Set));
            let cols = time(&mut || matmul(Lhs::transposed(&at, m), m, &rhs, &mut out, Write::Set));
            println!(
                "{m}x{k}x{n} {format:?}: {rows:.0} GF/s, transposed {cols:.0}, pack as {packing:.0}"
            );
        }
    }
}

/// The products of a small model's step, over rows that come from the third cache or from memory:
/// `cargo test --release -p fathom-kernels small_step_speed -- --ignored --nocapture`.
#[test]
#[ignore = "prints speed"]
fn small_step_speed() {
    let time = |flops: f64, f: &mut dyn FnMut(usize)| {
        (0..8).for_each(&mut *f);
        let reps = (4e9 / flops) as usize + 8;
        let start = std::time::Instant::now();
        (0..reps).for_each(f);
        flops * reps as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    let shapes = [(4096, 128, 128), (4096, 128, 352), (4096, 352, 128), (4096, 128, 256)];
    let more =
        [(2048, 256, 96), (2048, 64, 256), (2048, 128, 256), (512, 256, 192), (512, 192, 256)];
    for (n, n_in, n_out) in shapes.into_iter().chain(more) {
        let copies = 8;
        let (x, dy) = (noise(copies * n * n_in, 1), noise(copies * n * n_out, 2));
        let (mut y, mut dx) = (vec![0.0; n * n_out * copies], vec![0.0; n * n_in * copies]);
        let mut dw = vec![0.0; n_in * n_out];
        let (mut forward, mut back, mut rows) = (Packed::new(), Packed::new(), Packed::new());
        let w = noise(n_in * n_out, 3);
        pack_both_ways(&w, n_out, n_in, Format::F32, &mut forward, &mut back);
        rows.pack_rows(&x[..n * n_in], n, n_in, Format::F32);
        let flops = 2.0 * (n * n_in * n_out) as f64;
        for limit in [Some(1), None] {
            crate::threads::limit_threads(limit);
            let f = time(flops, &mut |i| {
                let (x, y) = (&x[i % copies * n * n_in..], &mut y[i % copies * n * n_out..]);
                multiply_shared(x, n, &[&forward], &mut [y]);
            });
            let b = time(flops, &mut |i| {
                let (dy, dx) = (&dy[i % copies * n * n_out..], &mut dx[i % copies * n * n_in..]);
                multiply_sum(&[(&dy[..n * n_out], &back)], n, dx, Write::Set);
            });
            let g = time(flops, &mut |i| {
                let dy = &dy[i % copies * n * n_out..][..n * n_out];
                matmul(Lhs::transposed(dy, n_out), n_out, &rows, &mut dw, Write::Set);
            });
            println!(
                "{n} x {n_in} -> {n_out}, threads {limit:?}: y {f:.0}, dx {b:.0}, dw {g:.0} GF/s"
            );
        }
        crate::threads::limit_threads(None);
    }
}

#[test]
fn one_loop_over_rows_gives_the_bits_of_separate_products() {
    let k = 40;
    let cases = [1000, 64, 57].map(|n| [(n, Format::F32), (n, Format::RoundedF32)]);
    for (n, format) in cases.into_iter().flatten() {
        let x = noise(n * k, 1);
        let weights: Vec<Packed> = [(5, 33), (6, 64)]
            .map(|(seed, m)| {
                let mut packed = Packed::new();
                packed.pack_rows(&noise(k * m, seed), k, m, format);
                packed
            })
            .into();
        let (mut a, mut b) = (vec![0.0; n * 33], vec![0.0; n * 64]);
        multiply_shared(&x, n, &[&weights[0], &weights[1]], &mut [&mut a, &mut b]);
        for (out, weight) in [(&a, &weights[0]), (&b, &weights[1])] {
            let mut want = vec![0.0; n * weight.n];
            matmul(Lhs::rows(&x, k), n, weight, &mut want, Write::Set);
            assert_eq!(*out, want);
        }
        let back: Vec<Packed> = [(7, 33), (8, 64)]
            .map(|(seed, m)| {
                let mut packed = Packed::new();
                packed.pack_rows(&noise(k * m, seed), m, k, format);
                packed
            })
            .into();
        let (mut sum, mut want) = (vec![9.0; n * k], vec![9.0; n * k]);
        multiply_sum(&[(&a, &back[0]), (&b, &back[1])], n, &mut sum, Write::Set);
        matmul(Lhs::rows(&a, 33), n, &back[0], &mut want, Write::Set);
        matmul(Lhs::rows(&b, 64), n, &back[1], &mut want, Write::Add);
        assert_eq!(sum, want);
    }
}

#[test]
fn a_weight_packed_both_ways_at_once_equals_two_packings() {
    let _turn = ISA.lock().unwrap_or_else(|e| e.into_inner());
    for level in available_isas() {
        force_isa(Some(level));
        for (n_out, n_in) in [(1, 1), (33, 70), (64, 96), (100, 15), (17, 300)] {
            let w = noise(n_out * n_in, 3);
            for format in [Format::F32, Format::RoundedF32, Format::Bf16Pairs] {
                let (mut forward, mut gradient) = (Packed::new(), Packed::new());
                pack_both_ways(&w, n_out, n_in, format, &mut forward, &mut gradient);
                let (mut turned, mut plain) = (Packed::new(), Packed::new());
                turned.pack_transposed(&w, n_in, n_out, format);
                plain.pack_rows(&w, n_out, n_in, format);
                for (got, want) in [(forward, turned), (gradient, plain)] {
                    for panel in 0..got.n.div_ceil(PANEL) {
                        let bits = |p: &Packed| -> Vec<u32> {
                            p.panel(panel, 0, p.k).iter().map(|x| x.to_bits()).collect()
                        };
                        assert_eq!(bits(&got), bits(&want), "{level:?} {n_out} {n_in} {format:?}");
                    }
                }
            }
        }
    }
    force_isa(None);
}
