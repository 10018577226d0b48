//! How row kernels are vectorised: one body compiled per instruction-set level, sums in fixed lanes.
//!
//! A body uses plain `a * b + c`, never fused multiply-add, and sums in [`LANES`] partial sums that
//! are folded in one order. So every level gives the same bits, and the compiler may vectorise.

use std::ops::Range;

/// Partial sums of a reduction: two AVX-512 registers, four AVX2 ones.
pub(crate) const LANES: usize = 32;

/// Elements below which a loop is not worth waking another thread for (about 4 µs of work).
pub(crate) const PARALLEL_ELEMENTS: usize = 16 * 1024;

/// Defines a function whose body is compiled for every [`crate::cpu::Isa`] and picked per call.
macro_rules! per_isa {
    ($(#[$attr:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$attr])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            match $crate::cpu::isa() {
                // SAFETY: `isa` names a level only if this CPU has all its features.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use per_isa;

/// Runs `body` on ranges of rows, in parallel if `n_rows * row_len` is worth it.
/// A row must not depend on the cut.
pub(crate) fn for_rows(n_rows: usize, row_len: usize, body: impl Fn(Range<usize>) + Sync) {
    crate::threads::run_ranges(n_rows, PARALLEL_ELEMENTS.div_ceil(row_len.max(1)), body);
}

/// The elements of `rows`, for rows of `width`.
#[inline(always)]
pub(crate) fn span(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

/// Adds up the lanes, 32 or 16 of them, in a fixed tree: halves onto halves. Each level is an array of
/// its own, so that all of them stay in registers.
#[inline(always)]
pub(crate) fn fold<const N: usize>(acc: [f32; N]) -> f32 {
    const { assert!(N == 16 || N == 32) };
    let (mut sixteen, mut eight, mut four) = ([0.0f32; 16], [0.0f32; 8], [0.0f32; 4]);
    for lane in 0..16 {
        sixteen[lane] = if N == 32 { acc[lane] + acc[(lane + 16) % N] } else { acc[lane] };
    }
    for lane in 0..8 {
        eight[lane] = sixteen[lane] + sixteen[lane + 8];
    }
    for lane in 0..4 {
        four[lane] = eight[lane] + eight[lane + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

// Loops over indices below: iterator adapters are calls of their own inside functions that enable
// features, which short rows feel.

/// Σ a·b in the fixed order.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut acc = [0.0f32; LANES];
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    for i in 0..a_blocks.len().min(b_blocks.len()) {
        for lane in 0..LANES {
            acc[lane] += a_blocks[i][lane] * b_blocks[i][lane];
        }
    }
    if !a_tail.is_empty() && !b_tail.is_empty() {
        let (a, b) = (padded(a_tail), padded(b_tail));
        for lane in 0..LANES {
            acc[lane] += a[lane] * b[lane];
        }
    }
    fold(acc)
}

/// The end of a slice, and zeros. A call of its own: the sums stay in registers, and no sum is -0, so
/// adding a zero changes none.
#[inline(never)]
fn padded(tail: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..tail.len()].copy_from_slice(tail);
    lanes
}

/// Σ a·b·c in the fixed order.
#[inline(always)]
pub(crate) fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let mut acc = [0.0f32; LANES];
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    let (c_blocks, c_tail) = c.as_chunks::<LANES>();
    for i in 0..a_blocks.len().min(b_blocks.len()).min(c_blocks.len()) {
        for lane in 0..LANES {
            acc[lane] += a_blocks[i][lane] * b_blocks[i][lane] * c_blocks[i][lane];
        }
    }
    if !a_tail.is_empty() && !b_tail.is_empty() && !c_tail.is_empty() {
        let (a, b, c) = (padded(a_tail), padded(b_tail), padded(c_tail));
        for lane in 0..LANES {
            acc[lane] += a[lane] * b[lane] * c[lane];
        }
    }
    fold(acc)
}

/// Largest element; −∞ of an empty slice. NaN is passed over.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut acc = [f32::NEG_INFINITY; LANES];
    let (blocks, tail) = x.as_chunks::<LANES>();
    for i in 0..blocks.len() {
        for lane in 0..LANES {
            acc[lane] = if blocks[i][lane] > acc[lane] { blocks[i][lane] } else { acc[lane] };
        }
    }
    let mut best = f32::NEG_INFINITY;
    for i in 0..tail.len() {
        best = if tail[i] > best { tail[i] } else { best };
    }
    for lane in 0..LANES {
        best = if acc[lane] > best { acc[lane] } else { best };
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_equal_their_plain_definition() {
        for n in [0, 1, 7, 31, 32, 33, 130] {
            let a: Vec<f32> = (0..n).map(|i| (i % 11) as f32 - 5.0).collect();
            let b: Vec<f32> = (0..n).map(|i| (i % 7) as f32 - 2.0).collect();
            let plain: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(dot(&a, &b), plain, "{n} elements");
            let plain: f32 = a.iter().zip(&b).map(|(a, b)| a * a * b).sum();
            assert_eq!(dot3(&a, &a, &b), plain, "{n} elements");
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
