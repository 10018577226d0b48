//! Speeds, for the reader: `cargo test --release -p fathom-kernels attention::speed -- --ignored --nocapture
//! --test-threads=1`. Timestamps are of one thread; shares are of what this core was seen to do just before.

use super::backward::{Saved, backward_on};
use super::forward::forward_on;
use super::tests::{case, heads, noise};
use super::*;
use crate::cpu::{available_isas, isa};
use crate::threads;
use std::time::Instant;

/// Best of several runs, in seconds.
fn best(n: usize, body: &mut dyn FnMut()) -> f64 {
    body();
    (0..n).fold(f64::MAX, |best, _| {
        let start = Instant::now();
        body();
        best.min(start.elapsed().as_secs_f64())
    })
}

/// f32 multiply-adds of one thread, per second times two: a product of matrices that stay in cache.
fn peak() -> f64 {
    let (m, n, k) = (384, 384, 384);
    let (a, b) = (noise(1, m * k), noise(2, n * k));
    let mut packed = crate::matmul::Packed::new();
    packed.pack_transposed(&b, k, n, crate::matmul::Format::fastest(crate::matmul::Precision::F32));
    let mut out = vec![0.0; m * n];
    let lhs = crate::matmul::Lhs::rows(&a, k);
    let s = best(30, &mut || {
        crate::matmul::matmul(lhs, m, &packed, &mut out, crate::matmul::Write::Set)
    });
    (2 * m * n * k) as f64 / s
}

/// Bytes per second that one thread reads from memory.
fn bandwidth() -> f64 {
    let data = vec![1u64; 1 << 24];
    let mut sum = 0u64;
    let s = best(5, &mut || {
        sum = sum.wrapping_add(data.iter().fold(0u64, |sum, &x| sum.wrapping_add(x)));
    });
    assert!(sum > 0);
    (data.len() * 8) as f64 / s
}

/// Sequences of `past + n` tokens each, in blocks dealt out of order.
fn filled(
    h: &Heads,
    latent: bool,
    kind: CacheType,
    n_seqs: usize,
    n_keys: usize,
) -> (PagedKv, Vec<Vec<u32>>) {
    let empty = if latent {
        PagedKv::latent(h.qk_dim, h.v_dim)
    } else {
        PagedKv::new(h.n_kv_heads, h.qk_dim, h.v_dim)
    };
    let mut cache = empty.with_type(kind);
    let n_blocks = n_keys.div_ceil(BLOCK_TOKENS);
    cache.grow(n_seqs * n_blocks);
    let (k_len, v_len) = (h.n_kv_heads * h.qk_dim, if latent { 0 } else { h.n_kv_heads * h.v_dim });
    let (k, v) = (noise(5, BLOCK_TOKENS * k_len), noise(6, BLOCK_TOKENS * v_len));
    for block in 0..(n_seqs * n_blocks) as u32 {
        let places: Vec<(u32, u32)> = (0..BLOCK_TOKENS as u32).map(|slot| (block, slot)).collect();
        cache.write_rows(&places, &k, &v);
    }
    let table = |seq: usize| {
        (0..n_blocks).map(|b| ((b * 7 + 3) % n_blocks * n_seqs + seq) as u32).collect()
    };
    let tables = (0..n_seqs).map(table).collect();
    (cache, tables)
}

/// One line: `n_rows` rows in each of `n_seqs` sequences, the last of them at key `n_keys`.
fn line(
    name: &str,
    h: &Heads,
    latent: bool,
    kind: CacheType,
    (n_seqs, n_rows, n_keys): (usize, usize, usize),
) {
    let (cache, tables) = filled(h, latent, kind, n_seqs, n_keys);
    let n = n_seqs * n_rows;
    let q = noise(7, n * h.n_heads * h.qk_dim);
    let mut out = vec![0.0; n * h.n_heads * h.v_dim];
    let segments: Vec<CachedSegment> = tables
        .iter()
        .enumerate()
        .map(|(i, blocks)| CachedSegment {
            blocks,
            past: n_keys - n_rows,
            rows: i * n_rows..(i + 1) * n_rows,
        })
        .collect();
    let mut body = || forward_cached(h, &cache, &segments, &q, &mut out);
    let pairs: usize = (0..n_rows).map(|i| n_seqs * (n_keys - i)).sum();
    let flops = (2 * pairs * h.n_heads * (h.qk_dim + h.v_dim)) as f64;
    let bytes = cache.n_bytes() as f64;
    let rounds = ((0.5 / (flops / 5e10 + bytes / 1e10)) as usize).clamp(3, 40);
    let (peak, bandwidth) = (peak(), bandwidth());
    let s = best(rounds, &mut body);
    println!(
        "{name:28} {kind:?}: {:9.3} ms, {:6.1} GF/s = {:3.0} % of {:.0}, {:5.1} GB/s = {:3.0} % of {:.1}",
        s * 1e3,
        flops / s / 1e9,
        100.0 * flops / s / peak,
        peak / 1e9,
        bytes / s / 1e9,
        100.0 * bytes / s / bandwidth,
        bandwidth / 1e9,
    );
}

#[test]
#[ignore = "prints speeds"]
fn speed_over_the_cache() {
    println!("{:?}", isa());
    threads::limit_threads(Some(1));
    let qwen = heads(12, 2, 128, 128);
    let (v2_lite, v3) = (heads(16, 1, 576, 512), heads(128, 1, 576, 512));
    let expanded = heads(16, 16, 192, 128);
    for kind in [CacheType::F32, CacheType::F16] {
        line("GQA 12/2, 1 row at 4K", &qwen, false, kind, (1, 1, 4096));
        line("GQA 12/2, 16 rows at 1K", &qwen, false, kind, (16, 1, 1024));
        line("GQA 12/2, 64 rows at 1K", &qwen, false, kind, (64, 1, 1024));
        line("GQA 12/2, 4 rows at 4K", &qwen, false, kind, (1, 4, 4096));
        line("GQA 12/2, prefill 512", &qwen, false, kind, (1, 512, 512));
        line("GQA 12/2, prefill 512 at 2K", &qwen, false, kind, (1, 512, 2048));
        line("MLA 16, 1 row at 8K", &v2_lite, true, kind, (1, 1, 8192));
        line("MLA 16, 16 rows at 1K", &v2_lite, true, kind, (16, 1, 1024));
        line("MLA 128, 1 row at 8K", &v3, true, kind, (1, 1, 8192));
        line("MLA 16, prefill 512", &v2_lite, true, kind, (1, 512, 512));
        line("MLA 16, prefill 256 at 2K", &v2_lite, true, kind, (1, 256, 2048));
        line("expanded 16, prefill 512", &expanded, false, kind, (1, 512, 512));
    }
    threads::limit_threads(None);
}

#[test]
#[ignore = "prints speeds"]
fn speed_of_whole_sequences() {
    let time = |flops: f64, body: &mut dyn FnMut()| {
        let s = best(7, body);
        format!("{:7.1} GF/s {:8.3} ms", flops / s / 1e9, s * 1e3)
    };
    threads::limit_threads(Some(1));
    for (h, n, docs) in [
        (heads(8, 8, 64, 64), 512, 1),
        (heads(8, 8, 64, 64), 2048, 4),
        (heads(8, 2, 64, 64), 512, 1),
        (heads(4, 4, 48, 32), 2048, 16),
        (heads(16, 16, 192, 128), 512, 1),
        (heads(16, 1, 576, 512), 256, 1),
    ] {
        let case = case(h, n);
        let each = n / docs;
        let segments: Vec<Segment> =
            (0..docs).map(|i| Segment::document(i * each..(i + 1) * each)).collect();
        let pairs = (docs * each * (each + 1) / 2 * h.n_heads) as f64;
        let dout = noise(4, n * h.n_heads * h.v_dim);
        for isa in available_isas() {
            let (mut out, mut lse) = (vec![0.0; dout.len()], vec![0.0; n * h.n_heads]);
            let forward = time(2.0 * pairs * (h.qk_dim + h.v_dim) as f64, &mut || {
                forward_on(isa, &h, &segments, case.inputs(), &mut out, &mut lse)
            });
            let mut grads = [&case.q, &case.k, &case.v].map(|x| vec![0.0; x.len()]);
            let saved = Saved { inputs: case.inputs(), out: &out, lse: &lse, dout: &dout };
            let flops = 2.0 * pairs * (3 * h.qk_dim + 2 * h.v_dim) as f64;
            let backward = time(flops, &mut || {
                backward_on(isa, &h, &segments, saved, grads.each_mut().map(|x| &mut x[..]))
            });
            println!("{h:?} {docs} x {each} {isa:?}: forward {forward}, backward {backward}");
        }
    }
    threads::limit_threads(None);
}

#[test]
#[ignore = "prints speeds"]
fn speed_of_moves_into_the_latent_space() {
    use crate::quant::Format;
    use crate::stored::{Matrix, SharedBytes};
    let (n_heads, d_nope, d_rope, d_v, rank) = (16, 128, 64, 128, 512);
    // More than caches hold.
    let n_matrices = 400;
    for [keys, values] in [[Format::Q5_0, Format::Q4K], [Format::Q8_0, Format::Q8_0]] {
        let part = |seed, rows: usize, columns: usize, format| {
            let values = noise(seed, rows * columns);
            Matrix::from_f32(&values, rows, columns, format).unwrap()
        };
        let of_all = [part(1, n_heads * rank, d_nope, keys), part(2, n_heads * d_v, rank, values)];
        let copy = |part: &Matrix| {
            let bytes = SharedBytes::owned(part.bytes().to_vec());
            Matrix::new(part.format, part.n_out, part.n_in, bytes).unwrap()
        };
        let matrices: Vec<[Matrix; 2]> =
            (0..n_matrices).map(|_| [copy(&of_all[0]), copy(&of_all[1])]).collect();
        let q = noise(8, n_heads * (d_nope + d_rope));
        let mut moved = vec![0.0; n_heads * (rank + d_rope)];
        let context = noise(9, n_heads * rank);
        let mut out = vec![0.0; n_heads * d_v];
        let whole = Matrix::new(
            Format::F32,
            n_heads * (d_nope + d_v),
            rank,
            SharedBytes::owned(vec![0; 4 * n_heads * (d_nope + d_v) * rank]),
        )
        .unwrap();
        for _ in 0..3 {
            let mut seconds = [0.0; 2];
            for [keys, values] in &matrices {
                let matrix = whole.clone().with_parts(keys.clone(), values.clone());
                let weights = absorb::HeadWeights {
                    weights: absorb::Weights::Stored(&matrix),
                    n_heads,
                    d_nope,
                    d_v,
                    rank,
                    bf16: false,
                };
                let start = Instant::now();
                absorb::absorb_queries(&weights, d_rope, &q, &mut moved);
                seconds[0] += start.elapsed().as_secs_f64();
                let start = Instant::now();
                absorb::context_values(&weights, &context, &mut out);
                seconds[1] += start.elapsed().as_secs_f64();
            }
            let [to, from] = seconds.map(|s| s / n_matrices as f64 * 1e6);
            println!(
                "{keys:?} {values:?}: into the latent space {to:.0} µs, out of it {from:.0} µs"
            );
        }
    }
}
