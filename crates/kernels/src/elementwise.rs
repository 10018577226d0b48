//! Arithmetic on slices of equal length, element by element, and sums over a slice.
//!
//! Long slices run on all threads. Sums use f64 and fixed blocks of [`SUM_BLOCK`] elements, so
//! their bits depend on the data only.

use crate::lanes::{for_rows, per_isa, span};
use crate::threads::{self, Shards};

/// Elements per partial sum.
const SUM_BLOCK: usize = 16 * 1024;
/// Rows per partial sum of columns.
const SUM_ROWS: usize = 64;
/// Partial sums in f64: two AVX-512 registers.
const SUM_LANES: usize = 16;

/// Defines `out = f(a, b)` over slices.
macro_rules! binary {
    ($(#[$attr:meta])* $name:ident, |$a:ident, $b:ident| $value:expr) => {
        $(#[$attr])*
        ///
        /// Panics if the lengths differ.
        pub fn $name(a: &[f32], b: &[f32], out: &mut [f32]) {
            per_isa! {
                fn combine(a: &[f32], b: &[f32], out: &mut [f32]) {
                    for ((out, &$a), &$b) in out.iter_mut().zip(a).zip(b) {
                        *out = $value;
                    }
                }
            }
            assert!(a.len() == b.len() && b.len() == out.len(), "lengths {}, {}, {}", a.len(), b.len(), out.len());
            let shards = Shards::new(out);
            for_rows(a.len(), 1, |range| {
                // SAFETY: ranges of one loop do not overlap.
                combine(&a[range.clone()], &b[range.clone()], unsafe { shards.slice(range) });
            });
        }
    };
}

binary!(
    /// `out = a + b`
    add, |a, b| a + b
);
binary!(
    /// `out = a · b`
    mul, |a, b| a * b
);

/// Defines `acc = f(acc, x, s)` over slices.
macro_rules! update {
    ($(#[$attr:meta])* $name:ident($($scalar:ident)?), |$acc:ident, $x:ident| $value:expr) => {
        $(#[$attr])*
        ///
        /// Panics if the lengths differ.
        pub fn $name($($scalar: f32,)? x: &[f32], acc: &mut [f32]) {
            per_isa! {
                fn update($($scalar: f32,)? x: &[f32], acc: &mut [f32]) {
                    for (acc, &$x) in acc.iter_mut().zip(x) {
                        let $acc = *acc;
                        *acc = $value;
                    }
                }
            }
            assert_eq!(x.len(), acc.len(), "slices of different lengths");
            let shards = Shards::new(acc);
            for_rows(x.len(), 1, |range| {
                // SAFETY: ranges of one loop do not overlap.
                update($($scalar,)? &x[range.clone()], unsafe { shards.slice(range) });
            });
        }
    };
}

update!(
    /// `acc += x`
    accumulate(), |acc, x| acc + x
);
update!(
    /// `acc ·= x`
    multiply_into(), |acc, x| acc * x
);
update!(
    /// `acc += scale · x`
    axpy(scale), |acc, x| acc + scale * x
);

/// `acc += x`. Panics if the lengths differ.
pub fn add_assign(acc: &mut [f32], x: &[f32]) {
    accumulate(x, acc);
}

/// `acc ·= x`. Panics if the lengths differ.
pub fn mul_assign(acc: &mut [f32], x: &[f32]) {
    multiply_into(x, acc);
}

/// `x ·= factor`
pub fn scale(x: &mut [f32], factor: f32) {
    per_isa! {
        fn scale_part(x: &mut [f32], factor: f32) {
            for x in x {
                *x *= factor;
            }
        }
    }
    let len = x.len();
    let shards = Shards::new(x);
    for_rows(len, 1, |range| {
        // SAFETY: ranges of one loop do not overlap.
        scale_part(unsafe { shards.slice(range) }, factor);
    });
}

/// `x = value`
pub fn fill(x: &mut [f32], value: f32) {
    let len = x.len();
    let shards = Shards::new(x);
    for_rows(len, 1, |range| {
        // SAFETY: ranges of one loop do not overlap.
        unsafe { shards.slice(range) }.fill(value);
    });
}

/// `out = x`. Panics if the lengths differ.
pub fn copy(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "slices of different lengths");
    let out = Shards::new(out);
    for_rows(x.len(), 1, |range| {
        // SAFETY: ranges of one loop do not overlap.
        unsafe { out.slice(range.clone()) }.copy_from_slice(&x[range]);
    });
}

/// `x[i] += row` for every row i: x [N, D], row [D].
///
/// Panics if `x` is not made of whole rows.
pub fn add_row(row: &[f32], x: &mut [f32]) {
    per_isa! {
        fn add_to_rows(row: &[f32], x: &mut [f32]) {
            for x in x.chunks_exact_mut(row.len()) {
                for (x, &row) in x.iter_mut().zip(row) {
                    *x += row;
                }
            }
        }
    }
    let (d, n) = (row.len(), whole_rows(x.len(), row.len()));
    let x = Shards::new(x);
    for_rows(n, d, |rows| {
        // SAFETY: row ranges of one loop do not overlap.
        add_to_rows(row, unsafe { x.slice(span(&rows, d)) });
    });
}

/// `sums += Σ_i x[i]`, in the order of the rows within blocks of [`SUM_ROWS`], then over the blocks:
/// x [N, D], sums [D].
///
/// Panics if `x` is not made of whole rows.
pub fn sum_rows(x: &[f32], sums: &mut [f32]) {
    per_isa! {
        fn add_rows(x: &[f32], sums: &mut [f32]) {
            for x in x.chunks_exact(sums.len()) {
                for (sum, &x) in sums.iter_mut().zip(x) {
                    *sum += x;
                }
            }
        }
    }
    let (d, n) = (sums.len(), whole_rows(x.len(), sums.len()));
    let mut partial = vec![0.0; n.div_ceil(SUM_ROWS) * d];
    threads::run_chunks(&mut partial, d, |block, sums| {
        let rows = block * SUM_ROWS..((block + 1) * SUM_ROWS).min(n);
        add_rows(&x[span(&rows, d)], sums);
    });
    add_rows(&partial, sums);
}

fn whole_rows(len: usize, width: usize) -> usize {
    assert!(width > 0 && len.is_multiple_of(width), "{len} elements in rows of {width}");
    len / width
}

/// Σ x, in f64.
pub fn sum(x: &[f32]) -> f64 {
    per_isa! {
        fn sum_block(x: &[f32], _y: &[f32]) -> f64 {
            let mut acc = [0.0f64; SUM_LANES];
            let (blocks, tail) = x.as_chunks::<SUM_LANES>();
            for block in blocks {
                for lane in 0..SUM_LANES {
                    acc[lane] += block[lane] as f64;
                }
            }
            acc.iter_mut().zip(tail).for_each(|(acc, &x)| *acc += x as f64);
            acc.iter().sum()
        }
    }
    sum_blocks(x, x, sum_block)
}

/// Σ a·b, in f64. Panics if the lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    per_isa! {
        fn dot_block(a: &[f32], b: &[f32]) -> f64 {
            let mut acc = [0.0f64; SUM_LANES];
            let (a_blocks, a_tail) = a.as_chunks::<SUM_LANES>();
            let (b_blocks, b_tail) = b.as_chunks::<SUM_LANES>();
            for (a, b) in a_blocks.iter().zip(b_blocks) {
                for lane in 0..SUM_LANES {
                    acc[lane] += a[lane] as f64 * b[lane] as f64;
                }
            }
            for ((acc, &a), &b) in acc.iter_mut().zip(a_tail).zip(b_tail) {
                *acc += a as f64 * b as f64;
            }
            acc.iter().sum()
        }
    }
    assert_eq!(a.len(), b.len(), "slices of different lengths");
    sum_blocks(a, b, dot_block)
}

/// Σ x², in f64.
pub fn sum_squares(x: &[f32]) -> f64 {
    dot(x, x)
}

/// Sums every block in parallel, then the blocks in order.
fn sum_blocks(a: &[f32], b: &[f32], block_sum: fn(&[f32], &[f32]) -> f64) -> f64 {
    if a.len() <= SUM_BLOCK {
        return block_sum(a, b);
    }
    let mut partial = vec![0.0f64; a.len().div_ceil(SUM_BLOCK)];
    threads::run_chunks(&mut partial, 1, |i, slot| {
        let range = i * SUM_BLOCK..((i + 1) * SUM_BLOCK).min(a.len());
        slot[0] = block_sum(&a[range.clone()], &b[range]);
    });
    partial.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, same_bits_everywhere};

    const SIZES: [usize; 6] = [0, 1, 7, 33, 130, 50_003];

    #[test]
    fn elementwise_kernels_equal_their_definition() {
        for n in SIZES {
            let (a, b) = (noise(1, n), noise(2, n));
            let check = |got: Vec<f32>, want: fn(f32, f32) -> f32| {
                assert!(got.iter().zip(a.iter().zip(&b)).all(|(&g, (&a, &b))| g == want(a, b)));
            };
            let mut out = vec![0.0; n];
            add(&a, &b, &mut out);
            check(out.clone(), |a, b| a + b);
            mul(&a, &b, &mut out);
            check(out.clone(), |a, b| a * b);
            copy(&b, &mut out);
            check(out.clone(), |_, b| b);
            let updated = |apply: &dyn Fn(&mut [f32])| {
                let mut acc = a.clone();
                apply(&mut acc);
                acc
            };
            check(updated(&|acc| add_assign(acc, &b)), |a, b| a + b);
            check(updated(&|acc| mul_assign(acc, &b)), |a, b| a * b);
            check(updated(&|acc| axpy(0.3, &b, acc)), |a, b| a + 0.3 * b);
            check(updated(&|acc| scale(acc, -2.5)), |a, _| a * -2.5);
            check(updated(&|acc| fill(acc, 4.0)), |_, _| 4.0);
        }
    }

    #[test]
    fn sums_equal_their_definition() {
        for n in SIZES {
            let (a, b) = (noise(1, n), noise(2, n));
            let close = |got: f64, want: f64| (got - want).abs() <= 1e-11 * (1.0 + n as f64);
            assert!(close(sum(&a), a.iter().map(|&v| v as f64).sum()));
            assert!(close(dot(&a, &b), a.iter().zip(&b).map(|(&a, &b)| a as f64 * b as f64).sum()));
            assert_eq!(sum_squares(&a), dot(&a, &a));
        }
    }

    #[test]
    fn a_row_is_added_to_all_rows_and_gathers_their_sum() {
        for (n, d) in [(0, 3), (1, 1), (63, 7), (64, 33), (1000, 33)] {
            let (row, x) = (noise(1, d), noise(2, n * d));
            let mut out = x.clone();
            add_row(&row, &mut out);
            assert!((0..n * d).all(|i| out[i] == x[i] + row[i % d]));
            let mut sums = row.clone();
            sum_rows(&x, &mut sums);
            for j in 0..d {
                let want = (0..n).fold(row[j] as f64, |sum, i| sum + x[i * d + j] as f64);
                assert!((sums[j] as f64 - want).abs() < 1e-4, "[{n}, {d}]: {} {want}", sums[j]);
            }
            same_bits_everywhere(|| {
                let mut sums = row.clone();
                sum_rows(&x, &mut sums);
                sums
            });
        }
    }

    #[test]
    fn sums_have_the_same_bits_on_every_level_and_thread_count() {
        let (a, b) = (noise(3, 100_001), noise(4, 100_001));
        same_bits_everywhere(|| {
            let mut acc = a.clone();
            axpy(0.7, &b, &mut acc);
            let sums = [sum(&acc), dot(&a, &acc)];
            acc.extend(
                sums.iter().flat_map(|s| [f32::from_bits((s.to_bits() >> 32) as u32), *s as f32]),
            );
            acc
        });
    }
}
