//! Claims about products in integers.

use super::rounded::GROUP;
use super::*;
use crate::quant::CHUNK;
use crate::stored::{Product, Rows, SharedBytes, matmul_batch};
use crate::swiglu;
use crate::testing::{assert_close, noise, same_bits_everywhere};

fn quantised() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| can(*format))
}

fn product(x: &Rounded, xs: Range<usize>, matrix: &Matrix) -> Vec<f32> {
    let mut out = vec![f32::NAN; xs.len() * matrix.n_out];
    matmul_batch(&mut [Product { x: Rows::Rounded(x, xs), matrix, out: &mut out }]);
    out
}

fn plain(x: &[f32], matrix: &Matrix) -> Vec<f64> {
    let w = matrix.to_f32();
    let dot = |x: &[f32], w: &[f32]| -> f64 {
        x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
    };
    let rows = x.chunks_exact(matrix.n_in);
    rows.flat_map(|x| w.chunks_exact(matrix.n_in).map(move |w| dot(x, w))).collect()
}

#[test]
fn products_equal_those_of_the_rounded_rows_in_every_format() {
    for format in quantised() {
        for (m, n, k) in [(1, 1, 256), (3, 33, 1280), (7, 50, 512), (13, 16, 256)] {
            let matrix = Matrix::from_f32(&noise(2, n * k), n, k, format).unwrap();
            let x = Rounded::new(&noise(1, m * k), k);
            let want = plain(&x.to_f32(), &matrix);
            let got = product(&x, 0..m, &matrix);
            assert_close(&got, &want, 1e-5, &format!("{m} {n} {k} {}", format.name()));
        }
    }
}

#[test]
fn columns_need_not_fill_a_chunk() {
    for format in quantised().filter(|format| format.block_len() == 32) {
        for k in [32, 224, 288, 1408] {
            let matrix = Matrix::from_f32(&noise(2, 40 * k), 40, k, format).unwrap();
            let x = Rounded::new(&noise(1, 5 * k), k);
            let want = plain(&x.to_f32(), &matrix);
            assert_close(&product(&x, 0..5, &matrix), &want, 1e-5, &format!("{k} {format:?}"));
        }
    }
}

#[test]
fn every_level_and_number_of_threads_gives_the_same_bits() {
    for format in quantised() {
        // Small blocks need not fill the last chunk.
        let (n, k) = (77, if format.block_len() == 32 { 640 } else { 768 });
        let matrix = Matrix::from_f32(&noise(6, n * k), n, k, format).unwrap();
        for m in [1, 2, 3, 4, 5, 7, 9] {
            let x = Rounded::new(&noise(5, m * k), k);
            same_bits_everywhere(|| product(&x, 0..m, &matrix));
        }
    }
}

#[test]
#[cfg(target_arch = "aarch64")]
fn kernels_without_sdot_give_the_same_bits() {
    let (n, k) = (77, 768);
    crate::threads::limit_threads(Some(1));
    for format in quantised() {
        let matrix = Matrix::from_f32(&noise(6, n * k), n, k, format).unwrap();
        for m in [1, 2, 3, 4, 7, 9] {
            let x = Rounded::new(&noise(5, m * k), k);
            let [want, got] = [false, true].map(|without| {
                neon::WITHOUT_DOTPROD.set(without);
                product(&x, 0..m, &matrix)
            });
            assert_eq!(got, want, "{format:?}, {m} rows");
        }
    }
    neon::WITHOUT_DOTPROD.set(false);
    crate::threads::limit_threads(None);
}

#[test]
fn a_row_alone_has_the_bits_it_has_in_a_crowd() {
    for format in [Format::Q8_0, Format::Q4K, Format::Q6K, Format::Q2K] {
        let (m, n, k) = (M_BLOCK + 7, 35, 512);
        let (x, w) = (noise(7, m * k), noise(8, n * k));
        let matrix = Matrix::from_f32(&w, n, k, format).unwrap();
        let all = product(&Rounded::new(&x, k), 0..m, &matrix);
        for i in [0, 1, 5, 6, M_BLOCK - 1, M_BLOCK, m - 1] {
            let alone = Rounded::new(&x[i * k..(i + 1) * k], k);
            assert_eq!(product(&alone, 0..1, &matrix), all[i * n..(i + 1) * n], "row {i}");
            let among = product(&Rounded::new(&x, k), i..m.min(i + 3), &matrix);
            assert_eq!(among[..n], all[i * n..(i + 1) * n], "row {i} of a range");
        }
    }
}

#[test]
fn few_rows_have_the_bits_they_have_among_more_in_every_format() {
    for format in quantised() {
        for k in [32, 128, 160, 384, 768].into_iter().filter(|k| k % format.block_len() == 0) {
            let (m, n) = (9, 77);
            let matrix = Matrix::from_f32(&noise(8, n * k), n, k, format).unwrap();
            let x = Rounded::new(&noise(7, m * k), k);
            let all = product(&x, 0..m, &matrix);
            for few in 1..6 {
                for first in [0, 1, m - few] {
                    let got = product(&x, first..first + few, &matrix);
                    assert_eq!(got, all[first * n..(first + few) * n], "{few} of {k} {format:?}");
                }
            }
        }
    }
}

#[test]
fn gated_blocks_have_the_bits_of_their_parts() {
    let formats = [(Format::Q8_0, Format::Q8_0), (Format::Q4K, Format::Q6K)];
    for (gate_format, up_format) in formats {
        for (m, f, k) in [(1, 32, 256), (7, 352, 512), (M_BLOCK + 3, 288, 256)] {
            let gate = Matrix::from_f32(&noise(3, f * k), f, k, gate_format).unwrap();
            let up = Matrix::from_f32(&noise(4, f * k), f, k, up_format).unwrap();
            let x = Rounded::new(&noise(5, m * k), k);
            let mut active = vec![0.0; m * f];
            swiglu::forward(&product(&x, 0..m, &gate), &product(&x, 0..m, &up), &mut active);
            let want = Rounded::new(&active, f).to_f32();
            let first = m / 2;
            same_bits_everywhere(|| {
                let mut out = Rounded::stale(m, f);
                // Two blocks, so that rows of x and of the result do not begin at the first.
                let block =
                    |xs: Range<usize>| Gated { x: &x, to: xs.start, xs, gate: &gate, up: &up };
                gated_batch(&[block(0..first), block(first..m)], &mut out);
                assert!(out.to_f32() == want, "{m} rows of {k}, {f}");
                out.to_f32()
            });
        }
    }
}

#[test]
fn the_widest_codes_do_not_saturate() {
    let k = 64;
    let mut bytes = Vec::new();
    for row in 0..32 {
        for _ in 0..k / 32 {
            bytes.extend(0x3c00u16.to_le_bytes()); // 1.0
            bytes.extend([if row % 2 == 0 { 0x80u8 } else { 0x7f }; 32]); // −128, 127
        }
    }
    let matrix = Matrix::new(Format::Q8_0, 32, k, SharedBytes::owned(bytes)).unwrap();
    let x: Vec<f32> = (0..2 * k).map(|i| if i < k { 127.0 } else { -127.0 }).collect();
    let x = Rounded::new(&x, k);
    same_bits_everywhere(|| product(&x, 0..2, &matrix));
    let sum = product(&x, 0..2, &matrix);
    let largest = (127 * k) as f32;
    assert_eq!(sum[..2], [-128.0 * largest, 127.0 * largest]);
    assert_eq!(sum[32..34], [128.0 * largest, -127.0 * largest]);
}

#[test]
#[ignore = "a measurement: run it in a release build, alone"]
fn tile_speed() {
    use std::time::Instant;
    let (m, k) = (510, DEPTH * CHUNK);
    let variant = variant();
    let x = Rounded::new(&noise(1, m * k), k);
    for format in quantised() {
        let matrix = Matrix::from_f32(&noise(2, N_STEP * k), N_STEP, k, format).unwrap();
        let coding = quant::coding(format).unwrap();
        let mut panels = [const { [const { Opened::new() }; PANELS] }; DEPTH];
        let mut sums = vec![0.0f32; (m + 6) * N_STEP];
        let open = |panels: &mut [Panels; DEPTH]| {
            for (at, opened) in panels.as_flattened_mut().iter_mut().enumerate() {
                let (c, p) = (at / PANELS, at % PANELS);
                let at = p * PANEL * matrix.row_bytes() + c * matrix.row_bytes() / DEPTH;
                let bytes = matrix.bytes()[at..].as_ptr();
                let rows = PanelRows {
                    bytes,
                    ahead: bytes,
                    ahead_row_bytes: matrix.row_bytes(),
                    row_bytes: matrix.row_bytes(),
                    n_rows: PANEL,
                    len: CHUNK,
                };
                unsafe { (variant.open)(opened, format, coding, &rows) };
            }
        };
        let place = Place { start: sums.as_mut_ptr(), stride: N_STEP };
        let (mut best, mut best_open) = (f64::MAX, f64::MAX);
        for _ in 0..200 {
            let start = Instant::now();
            open(&mut panels);
            best_open = best_open.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let piece = x.piece(0..k, &(0..m));
            for i in (0..m).step_by(variant.m) {
                let tile = Tile {
                    x: unsafe { piece.row(i) },
                    m: variant.m.min(m - i),
                    panels: &panels,
                    coding,
                    from: place.row(i),
                    first: false,
                    to: place.row(i),
                };
                unsafe { (variant.tile)(&tile) };
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        let rate = 2.0 * (m * N_STEP * k) as f64 / best / 1e9;
        println!(
            "{:7} tile {rate:6.0} GOP/s of one thread, opening {:5.2} weights/ns",
            format.name(),
            (N_STEP * k) as f64 / best_open / 1e9
        );
    }
}

#[test]
#[ignore = "a measurement: run it in a release build, alone"]
fn rounding_speed() {
    use std::time::Instant;
    let (m, k) = (128, 1536);
    let x = noise(1, m * k);
    let mut best = [f64::MAX; 2];
    let (gate, up) = (noise(2, m * GROUP), noise(3, m * GROUP));
    for _ in 0..200 {
        let start = Instant::now();
        let mut rounded = Rounded::new(&x, k);
        best[0] = best[0].min(start.elapsed().as_secs_f64() / (m * k) as f64);
        let places = rounded.places();
        let start = Instant::now();
        for _ in 0..40 {
            unsafe { groups::round_gated(gate.as_chunks().0, up.as_chunks().0, &places.of(0, 32)) };
        }
        best[1] = best[1].min(start.elapsed().as_secs_f64() / (40 * m * GROUP) as f64);
    }
    println!("rounding {:.3} ns, gated {:.3} ns an element", best[0] * 1e9, best[1] * 1e9);
}

#[test]
#[ignore = "a measurement: run it in a release build, alone"]
fn speed() {
    use std::time::Instant;
    let (n, k) = (8960, 1536);
    let only = std::env::var("FORMAT").ok();
    for format in quantised() {
        if only.as_ref().is_some_and(|only| only != format.name()) {
            continue;
        }
        let matrix = Matrix::from_f32(&noise(2, n * k), n, k, format).unwrap();
        // Few rows meet a matrix that is in no cache, 512 rows one that is.
        let n_times = (512 << 20) / matrix.bytes().len();
        let bytes = SharedBytes::owned(matrix.bytes().repeat(n_times));
        let large = Matrix::new(format, n_times * n, k, bytes).unwrap();
        let mut line = format!("{:7}", format.name());
        for m in [1, 2, 4, 8, 16, 512] {
            let matrix = if m == 512 { &matrix } else { &large };
            let x = Rounded::new(&noise(1, m * k), k);
            let mut out = vec![0.0; m * matrix.n_out];
            let mut best = f64::MAX;
            for _ in 0..5 {
                let start = Instant::now();
                matmul_batch(&mut [Product { x: Rows::Rounded(&x, 0..m), matrix, out: &mut out }]);
                best = best.min(start.elapsed().as_secs_f64());
            }
            let gb = matrix.bytes().len() as f64 / best / 1e9;
            line += &match m {
                512 => format!("  m {m}: {:6.0} GOP/s", 2.0 * (m * n * k) as f64 / best / 1e9),
                _ => format!("  m {m}: {gb:5.1} GB/s"),
            };
        }
        println!("{line}");
    }
}
