//! What this machine does at most, measured in place: the yardstick beside every benchmark.
//!
//! Multiply-adds run on registers only, reads stream through a buffer far larger than the caches.
//! Each figure is the best of several short windows, since other programs can only lower it.

use crate::cpu::{Isa, cpu, isa};
use crate::memory::{advise_large_pages, fetch};
use crate::threads::{self, n_threads};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Multiply-adds per register in one call of a measuring loop.
const ROUNDS: usize = 20_000;
/// Bytes that the read measurement streams through: four times the largest cache of a server, since a
/// guest of one is told all of a cache that it shares. No power of two: stretches that lie one apart are
/// in each other's way.
const READ_BYTES: usize = 500 << 20;

/// The limits of all threads together.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads that took part.
    pub n_threads: usize,
    /// f32 operations per second, a multiply-add counting as two.
    pub f32_flops: f64,
    /// The same for `vdpbf16ps`, where it exists.
    pub bf16_flops: Option<f64>,
    /// Operations per second on signed times unsigned bytes, summed in 32 bits.
    pub int8_ops: f64,
    /// Bytes per second that can be read from memory.
    pub read_bytes_per_s: f64,
}

/// Measures all limits; takes about four times `window` times `n_windows`.
pub fn measure(window: Duration, n_windows: usize) -> Limits {
    Limits {
        n_threads: n_threads(),
        f32_flops: f32_flops(window, n_windows),
        bf16_flops: bf16_flops(window, n_windows),
        int8_ops: int8_ops(window, n_windows),
        read_bytes_per_s: ReadMeter::new().bytes_per_s(window, n_windows),
    }
}

/// f32 operations per second on the level in use.
pub fn f32_flops(window: Duration, n_windows: usize) -> f64 {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => best(window, n_windows, x86::fma_avx512),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => best(window, n_windows, x86::fma_avx2),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => best(window, n_windows, arm::fma),
        _ => best(window, n_windows, plain_round),
    }
}

/// Operations per second of `vdpbf16ps`, where it exists.
pub fn bf16_flops(window: Duration, n_windows: usize) -> Option<f64> {
    cpu().bf16_dot.then(|| best(window, n_windows, bf16_round))
}

/// Operations per second on bytes on the level in use, a multiply-add counting as two.
pub fn int8_ops(window: Duration, n_windows: usize) -> f64 {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if cpu().vnni => best(window, n_windows, x86::int8_vnni),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => best(window, n_windows, x86::int8_avx2),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon if cpu().dotprod => best(window, n_windows, arm::int8_dotprod),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => best(window, n_windows, arm::int8_products),
        _ => best(window, n_windows, plain_int8_round),
    }
}

/// Best rate over the windows of a loop body that returns the operations it did.
fn best(window: Duration, n_windows: usize, body: fn() -> f64) -> f64 {
    let n_tasks = 16 * n_threads();
    let mut best = 0f64;
    for _ in 0..n_windows {
        let (start, mut work) = (Instant::now(), 0.0);
        while work == 0.0 || start.elapsed() < window {
            threads::run(n_tasks, |_| _ = black_box(body()));
            work += n_tasks as f64;
        }
        best = best.max(work * body() / start.elapsed().as_secs_f64());
    }
    best
}

/// Measures reading again and again, for rates that must meet the same moment as what they stand
/// beside.
pub struct ReadMeter {
    buffer: Vec<u64>,
}

impl ReadMeter {
    /// Takes half a gigabyte of memory, in large pages where the system has them.
    pub fn new() -> Self {
        let mut buffer = vec![0u64; READ_BYTES / 8];
        advise_large_pages(buffer.as_mut_ptr().cast(), READ_BYTES);
        // Until they are written, all its pages are one page of zeros.
        threads::run_chunks(&mut buffer, 1 << 19, |_, part| part.fill(1));
        ReadMeter { buffer }
    }

    /// Bytes per second that all threads read together: the best of `n_windows` windows, each of at
    /// least one pass.
    pub fn bytes_per_s(&self, window: Duration, n_windows: usize) -> f64 {
        let n_tasks = 16 * n_threads();
        let part = self.buffer.len().div_ceil(n_tasks);
        let mut best = 0f64;
        for _ in 0..n_windows {
            let (start, mut bytes) = (Instant::now(), 0.0);
            while bytes == 0.0 || start.elapsed() < window {
                let parts: Vec<&[u64]> = self.buffer.chunks(part).collect();
                threads::run(parts.len(), |i| _ = black_box(read(parts[i])));
                bytes += READ_BYTES as f64;
            }
            best = best.max(bytes / start.elapsed().as_secs_f64());
        }
        best
    }
}

impl Default for ReadMeter {
    fn default() -> Self {
        ReadMeter::new()
    }
}

/// Sums the first word of every cache line, of eight stretches side by side, each fetched half a
/// kilobyte ahead: one stretch alone, or what the processor fetches by itself, has too few requests on
/// their way.
fn read(data: &[u64]) -> u64 {
    const STRETCHES: usize = 8;
    const LINE: usize = 8;
    const AHEAD: usize = 8 * LINE;
    let len = data.len() / STRETCHES / LINE * LINE;
    let mut sum = 0u64;
    for at in (0..len).step_by(LINE) {
        for stretch in 0..STRETCHES {
            let from = stretch * len + at;
            fetch(data.as_ptr().wrapping_add(from + AHEAD));
            sum = sum.wrapping_add(data[from]);
        }
    }
    sum
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

/// Products of bytes of plain Rust, in 64 independent sums.
fn plain_int8_round() -> f64 {
    let (a, b) = (black_box([3u8; 64]), black_box([-5i8; 64]));
    let mut sums = [0i32; 64];
    for _ in 0..ROUNDS {
        for lane in 0..64 {
            sums[lane] = sums[lane].wrapping_add(i32::from(a[lane]) * i32::from(b[lane]));
        }
        black_box(&mut sums);
    }
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

    pub(super) fn int8_vnni() -> f64 {
        #[target_feature(enable = "avx512f,avx512vnni")]
        fn run() {
            let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-5)));
            let mut sums = [_mm512_setzero_si512(); CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = _mm512_dpbusd_epi32(*sum, a, b);
                }
            }
            black_box(sums);
        }
        // SAFETY: chosen only where `cpu` found AVX-512 VNNI.
        unsafe { run() }
        (2 * 64 * CHAINS * ROUNDS) as f64
    }

    pub(super) fn int8_avx2() -> f64 {
        #[target_feature(enable = "avx2")]
        fn run() {
            let (a, b) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(-5)));
            let ones = _mm256_set1_epi16(1);
            let mut sums = [_mm256_setzero_si256(); CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    let pairs: __m256i;
                    // SAFETY: registers only. Spelled out, since the compiler would take products that
                    // are all alike out of the loop.
                    unsafe {
                        std::arch::asm!(
                            "vpmaddubsw {pairs}, {a}, {b}",
                            pairs = lateout(ymm_reg) pairs, a = in(ymm_reg) a, b = in(ymm_reg) b,
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                }
            }
            black_box(sums);
        }
        // SAFETY: chosen only where `isa` found AVX2.
        unsafe { run() }
        (2 * 32 * CHAINS * ROUNDS) as f64
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

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::ROUNDS;
    use crate::neon::dot_lane;
    use std::arch::aarch64::*;
    use std::hint::black_box;

    /// Independent chains: enough for four units of four cycles latency, few enough for the registers.
    const CHAINS: usize = 20;

    pub(super) fn fma() -> f64 {
        // SAFETY: NEON is part of every 64-bit ARM CPU.
        unsafe {
            let (factor, term) = (vdupq_n_f32(black_box(0.999)), vdupq_n_f32(black_box(0.001)));
            let mut sums = [term; CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = vfmaq_f32(*sum, factor, term);
                }
            }
            black_box(sums);
        }
        (2 * 4 * CHAINS * ROUNDS) as f64
    }

    pub(super) fn int8_dotprod() -> f64 {
        #[target_feature(enable = "dotprod")]
        fn run() {
            let (a, b) = (vdupq_n_s8(black_box(3)), vdupq_n_s8(black_box(-5)));
            let mut sums = [vdupq_n_s32(0); CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    // SAFETY: `dotprod` is enabled.
                    *sum = unsafe { dot_lane::<0>(*sum, a, b) };
                }
            }
            black_box(sums);
        }
        // SAFETY: chosen only where `cpu` found FEAT_DotProd.
        unsafe { run() }
        (2 * 16 * CHAINS * ROUNDS) as f64
    }

    /// Two products of eight bytes, summed in 16 bits, then in 32: what kernels do without `sdot`.
    pub(super) fn int8_products() -> f64 {
        // SAFETY: registers only. Spelled out, since the compiler would take products that are all alike
        // out of the loop.
        unsafe {
            let (a, b) = (vdup_n_s8(black_box(3)), vdup_n_s8(black_box(-5)));
            let mut sums = [vdupq_n_s32(0); CHAINS];
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    std::arch::asm!(
                        "smull {pairs:v}.8h, {a:v}.8b, {b:v}.8b",
                        "smlal {pairs:v}.8h, {a:v}.8b, {b:v}.8b",
                        "sadalp {sum:v}.4s, {pairs:v}.8h",
                        sum = inout(vreg) *sum, pairs = out(vreg) _, a = in(vreg) a, b = in(vreg) b,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
            black_box(sums);
        }
        (2 * 16 * CHAINS * ROUNDS) as f64
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
            let rates = [f32_flops, int8_ops].map(|rate| rate(Duration::from_millis(2), 1));
            force_isa(None);
            assert!(rates.iter().all(|r| (1e7..1e15).contains(r)), "{level:?}: {rates:?}");
        }
    }
}
