//! What this machine does at most, measured in place: the yardstick beside every benchmark.
//!
//! Multiply-adds run on registers only, reads stream through a buffer far larger than the caches.
//! Each figure is the best of several short windows, since other programs can only lower it.

use crate::cpu::{Isa, cpu, isa};
use crate::threads::{self, n_threads};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Multiply-adds per register in one call of a measuring loop.
const ROUNDS: usize = 20_000;
/// Bytes that the read measurement streams through.
const READ_BYTES: usize = 256 << 20;

/// The limits of all threads together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that took part.
    pub n_threads: usize,
    /// f32 operations per second, a multiply-add counting as two.
    pub f32_flops: f64,
    /// The same for `vdpbf16ps`, where it exists.
    pub bf16_flops: Option<f64>,
    /// Bytes per second that can be read from memory.
    pub read_bytes_per_s: f64,
}

/// Measures all limits; takes about three times `window` times `n_windows`.
pub fn measure(window: Duration, n_windows: usize) -> Limits {
    Limits {
        n_threads: n_threads(),
        f32_flops: f32_flops(window, n_windows),
        bf16_flops: cpu().bf16_dot.then(|| best(window, n_windows, bf16_round)),
        read_bytes_per_s: read_bytes_per_s(window, n_windows),
    }
}

/// f32 operations per second on the level in use.
pub fn f32_flops(window: Duration, n_windows: usize) -> f64 {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => best(window, n_windows, x86::fma_avx512),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => best(window, n_windows, x86::fma_avx2),
        _ => best(window, n_windows, plain_round),
    }
}

/// Best rate over the windows of a loop body that returns the operations it did.
fn best(window: Duration, n_windows: usize, body: fn() -> f64) -> f64 {
    let n_tasks = 16 * n_threads();
    let mut best = 0f64;
    for _ in 0..n_windows {
        let (start, mut work) = (Instant::now(), 0.0);
        while start.elapsed() < window {
            threads::run(n_tasks, |_| _ = black_box(body()));
            work += n_tasks as f64;
        }
        best = best.max(work * body() / start.elapsed().as_secs_f64());
    }
    best
}

fn read_bytes_per_s(window: Duration, n_windows: usize) -> f64 {
    let buffer = vec![1u64; READ_BYTES / 8];
    let n_tasks = 16 * n_threads();
    let mut best = 0f64;
    for _ in 0..n_windows {
        let (start, mut bytes) = (Instant::now(), 0.0);
        while start.elapsed() < window {
            threads::run(n_tasks, |i| {
                let part = &buffer[i * buffer.len() / n_tasks..(i + 1) * buffer.len() / n_tasks];
                black_box(read(part));
            });
            bytes += READ_BYTES as f64;
        }
        best = best.max(bytes / start.elapsed().as_secs_f64());
    }
    best
}

crate::lanes::per_isa! {
    fn read(data: &[u64]) -> u64 {
        let mut sums = [0u64; 32];
        for block in data.as_chunks::<32>().0 {
            for lane in 0..32 {
                sums[lane] = sums[lane].wrapping_add(block[lane]);
            }
        }
        sums.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
    }
}

/// Multiplications and additions of plain Rust, in 32 independent chains.
fn plain_round() -> f64 {
    let (factor, term) = (black_box(0.999f32), black_box(0.001f32));
    let mut sums = [1.0f32; 32];
    for _ in 0..ROUNDS {
        sums.iter_mut().for_each(|sum| *sum = *sum * factor + term);
    }
    black_box(sums);
    (2 * sums.len() * ROUNDS) as f64
}

fn bf16_round() -> f64 {
    #[cfg(target_arch = "x86_64")]
    return x86::dot_bf16();
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("no other CPU reports `bf16_dot`")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::ROUNDS;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Independent chains: enough for two units of four cycles latency, few enough for the registers.
    const CHAINS: usize = 12;

    pub(super) fn fma_avx512() -> f64 {
        #[target_feature(enable = "avx512f")]
        fn run() {
            let (factor, term) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(0.001));
            let mut sums = [term; CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, factor, term);
                }
            }
            black_box(sums);
        }
        // SAFETY: chosen only where `isa` found AVX-512.
        unsafe { run() }
        (2 * 16 * CHAINS * ROUNDS) as f64
    }

    pub(super) fn fma_avx2() -> f64 {
        #[target_feature(enable = "avx2,fma")]
        fn run() {
            let (factor, term) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(0.001));
            let mut sums = [term; CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, factor, term);
                }
            }
            black_box(sums);
        }
        // SAFETY: chosen only where `isa` found AVX2 with FMA.
        unsafe { run() }
        (2 * 8 * CHAINS * ROUNDS) as f64
    }

    pub(super) fn dot_bf16() -> f64 {
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn run() {
            let pair = _mm512_set1_epi32(black_box(0x3f80_3f80));
            // SAFETY: both are 64 bytes; any bits are valid bf16.
            let pair: __m512bh = unsafe { std::mem::transmute(pair) };
            let mut sums = [_mm512_setzero_ps(); CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = _mm512_dpbf16_ps(*sum, pair, pair);
                }
            }
            black_box(sums);
        }
        // SAFETY: chosen only where `cpu` found AVX-512 BF16.
        unsafe { run() }
        (2 * 32 * CHAINS * ROUNDS) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{available_isas, force_isa};

    #[test]
    fn every_level_measures_something_plausible() {
        for level in available_isas() {
            force_isa(Some(level));
            let flops = f32_flops(Duration::from_millis(2), 1);
            force_isa(None);
            assert!(flops > 1e7 && flops < 1e14, "{level:?}: {flops:e}");
        }
    }
}
