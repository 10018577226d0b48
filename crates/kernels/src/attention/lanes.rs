//! Sixteen f32 lanes on each instruction-set level, and the aligned memory they like.
//!
//! The inner loops are written once over [`Lanes`]. AVX-512 and AVX2 give the same bits, since both
//! fuse multiply-adds and reduce the sixteen lanes in the same order; plain Rust does not fuse.

/// Sixteen f32. Loads and stores need no alignment.
pub(super) trait Lanes: Copy {
    /// Multiply-adds are fused.
    const FMA: bool;
    /// Groups of sixteen columns that a tile of rows keeps in registers.
    const COLS: usize;

    fn splat(x: f32) -> Self;
    /// # Safety
    /// `at` must be valid for reading sixteen f32.
    unsafe fn load(at: *const f32) -> Self;
    /// # Safety
    /// `at` must be valid for writing sixteen f32.
    unsafe fn store(self, at: *mut f32);
    /// `self * b + c`.
    fn mul_add(self, b: Self, c: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn add(self, b: Self) -> Self;
    fn max(self, b: Self) -> Self;
    /// Transposes a 16 x 16 square: row `i` of the result is column `i` of `rows`.
    fn transpose(rows: [Self; 16]) -> [Self; 16];

    /// The first `n` lanes (0 to 16), and `fill` in the others.
    fn first_or(self, n: usize, fill: Self) -> Self;
    /// Sum of the lanes, halves first: the same tree on every level.
    fn sum(self) -> f32;
    /// Largest lane.
    fn largest(self) -> f32;

    #[inline(always)]
    fn array(self) -> [f32; 16] {
        let mut a = [0.0; 16];
        // SAFETY: `a` holds sixteen f32.
        unsafe { self.store(a.as_mut_ptr()) };
        a
    }
}

/// Plain Rust: the definition.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 16]);

impl Plain {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for i in 0..16 {
            out[i] = f(out[i], b.0[i]);
        }
        Plain(out)
    }
}

impl Lanes for Plain {
    const FMA: bool = false;
    const COLS: usize = 1;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Plain([x; 16])
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: the caller promises sixteen readable f32.
        Plain(unsafe { at.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: the caller promises sixteen writable f32.
        unsafe { at.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self.zip(b, |x, y| x * y).zip(c, |x, y| x + y)
    }
    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |x, y| x * y)
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |x, y| x + y)
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    fn first_or(self, n: usize, fill: Self) -> Self {
        let mut out = self.0;
        for i in 0..16 {
            out[i] = if i < n { out[i] } else { fill.0[i] };
        }
        Plain(out)
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut a = self.0;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        let mut a = self.0;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] = if a[i] > a[i + half] { a[i] } else { a[i + half] };
            }
        }
        a[0]
    }
    #[inline(always)]
    fn transpose(rows: [Self; 16]) -> [Self; 16] {
        let mut out = rows;
        for i in 0..16 {
            for j in 0..16 {
                out[i].0[j] = rows[j].0[i];
            }
        }
        out
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Ymm2, Zmm};

/// The x86 levels. Every method is inlined into a function that enables the features it needs:
/// these types are named nowhere else.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// One AVX-512 register.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Zmm(__m512);

    impl Zmm {
        #[inline(always)]
        fn halves(self) -> (__m256, __m256) {
            // SAFETY: as below.
            unsafe {
                let high = _mm512_extractf32x8_ps::<1>(self.0);
                (_mm512_castps512_ps256(self.0), high)
            }
        }
    }

    /// Sum of eight lanes, halves first.
    ///
    /// # Safety
    /// The CPU must have AVX.
    #[inline(always)]
    unsafe fn sum_of_eight(v: __m256) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    /// Largest of eight lanes.
    ///
    /// # Safety
    /// The CPU must have AVX.
    #[inline(always)]
    unsafe fn largest_of_eight(v: __m256) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    // SAFETY of all blocks below: the type is used under `target_feature(enable = "avx512f,…")` only;
    // pointers are the caller's promise.
    impl Lanes for Zmm {
        const FMA: bool = true;
        const COLS: usize = 4;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            Zmm(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            Zmm(unsafe { _mm512_loadu_ps(at) })
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe { _mm512_storeu_ps(at, self.0) }
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            Zmm(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        fn mul(self, b: Self) -> Self {
            Zmm(unsafe { _mm512_mul_ps(self.0, b.0) })
        }
        #[inline(always)]
        fn add(self, b: Self) -> Self {
            Zmm(unsafe { _mm512_add_ps(self.0, b.0) })
        }
        #[inline(always)]
        fn max(self, b: Self) -> Self {
            Zmm(unsafe { _mm512_max_ps(self.0, b.0) })
        }
        #[inline(always)]
        fn first_or(self, n: usize, fill: Self) -> Self {
            let kept = ((1u32 << n) - 1) as __mmask16;
            Zmm(unsafe { _mm512_mask_blend_ps(kept, fill.0, self.0) })
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            let (low, high) = self.halves();
            unsafe { sum_of_eight(_mm256_add_ps(low, high)) }
        }
        #[inline(always)]
        fn largest(self) -> f32 {
            let (low, high) = self.halves();
            unsafe { largest_of_eight(_mm256_max_ps(low, high)) }
        }
        #[inline(always)]
        fn transpose(rows: [Self; 16]) -> [Self; 16] {
            unsafe {
                // Pairs, then fours, within each 128-bit quarter; then the quarters change places.
                let mut t = rows;
                for i in 0..8 {
                    let (a, b) = (rows[2 * i].0, rows[2 * i + 1].0);
                    t[2 * i].0 = _mm512_unpacklo_ps(a, b);
                    t[2 * i + 1].0 = _mm512_unpackhi_ps(a, b);
                }
                let mut f = t;
                for i in 0..4 {
                    for half in 0..2 {
                        let a = _mm512_castps_pd(t[4 * i + half].0);
                        let b = _mm512_castps_pd(t[4 * i + half + 2].0);
                        f[4 * i + 2 * half].0 = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                        f[4 * i + 2 * half + 1].0 = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                    }
                }
                // f[4 i + c] holds, in quarter q, column 4 q + c of rows 4 i .. 4 i + 4.
                let mut out = f;
                for c in 0..4 {
                    let (r0, r1, r2, r3) = (f[c].0, f[4 + c].0, f[8 + c].0, f[12 + c].0);
                    let even01 = _mm512_shuffle_f32x4::<0b10_00_10_00>(r0, r1);
                    let odd01 = _mm512_shuffle_f32x4::<0b11_01_11_01>(r0, r1);
                    let even23 = _mm512_shuffle_f32x4::<0b10_00_10_00>(r2, r3);
                    let odd23 = _mm512_shuffle_f32x4::<0b11_01_11_01>(r2, r3);
                    out[c].0 = _mm512_shuffle_f32x4::<0b10_00_10_00>(even01, even23);
                    out[4 + c].0 = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd01, odd23);
                    out[8 + c].0 = _mm512_shuffle_f32x4::<0b11_01_11_01>(even01, even23);
                    out[12 + c].0 = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd01, odd23);
                }
                out
            }
        }
    }

    /// Two AVX2 registers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Ymm2(__m256, __m256);

    // SAFETY of all blocks below: as for `Zmm`, under `target_feature(enable = "avx2,fma")`.
    impl Lanes for Ymm2 {
        const FMA: bool = true;
        const COLS: usize = 1;

        #[inline(always)]
        fn splat(x: f32) -> Self {
            let v = unsafe { _mm256_set1_ps(x) };
            Ymm2(v, v)
        }
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            unsafe { Ymm2(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            unsafe {
                _mm256_storeu_ps(at, self.0);
                _mm256_storeu_ps(at.add(8), self.1);
            }
        }
        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            unsafe { Ymm2(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1)) }
        }
        #[inline(always)]
        fn mul(self, b: Self) -> Self {
            unsafe { Ymm2(_mm256_mul_ps(self.0, b.0), _mm256_mul_ps(self.1, b.1)) }
        }
        #[inline(always)]
        fn add(self, b: Self) -> Self {
            unsafe { Ymm2(_mm256_add_ps(self.0, b.0), _mm256_add_ps(self.1, b.1)) }
        }
        #[inline(always)]
        fn max(self, b: Self) -> Self {
            unsafe { Ymm2(_mm256_max_ps(self.0, b.0), _mm256_max_ps(self.1, b.1)) }
        }
        #[inline(always)]
        fn first_or(self, n: usize, fill: Self) -> Self {
            unsafe {
                let n = _mm256_set1_epi32(n as i32);
                let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
                let low = _mm256_castsi256_ps(_mm256_cmpgt_epi32(n, low));
                let high = _mm256_castsi256_ps(_mm256_cmpgt_epi32(n, high));
                let low = _mm256_blendv_ps(fill.0, self.0, low);
                Ymm2(low, _mm256_blendv_ps(fill.1, self.1, high))
            }
        }
        #[inline(always)]
        fn sum(self) -> f32 {
            unsafe { sum_of_eight(_mm256_add_ps(self.0, self.1)) }
        }
        #[inline(always)]
        fn largest(self) -> f32 {
            unsafe { largest_of_eight(_mm256_max_ps(self.0, self.1)) }
        }
        #[inline(always)]
        fn transpose(rows: [Self; 16]) -> [Self; 16] {
            let mut out = rows;
            let mut flat = [[0.0; 16]; 16];
            for i in 0..16 {
                flat[i] = rows[i].array();
            }
            for i in 0..16 {
                let mut column = [0.0; 16];
                for j in 0..16 {
                    column[j] = flat[j][i];
                }
                // SAFETY: `column` holds sixteen f32.
                out[i] = unsafe { Self::load(column.as_ptr()) };
            }
            out
        }
    }
}

/// One cache line of f32.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; 16]);

/// A growing buffer of f32 whose start lies on a cache line, so that loads of sixteen never straddle two.
#[derive(Clone, Default)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// The buffer with room for `n` f32 at least; what it held is kept, what is new is zero.
    pub(super) fn room(&mut self, n: usize) -> &mut [f32] {
        if self.0.len() * 16 < n {
            self.0.resize(n.div_ceil(16), Line([0.0; 16]));
        }
        // SAFETY: `Line` is sixteen f32 without padding.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }

    /// All that the buffer holds.
    pub(super) fn as_slice(&self) -> &[f32] {
        // SAFETY: `Line` is sixteen f32 without padding.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }

    /// All that the buffer holds, to be written.
    pub(super) fn as_mut_slice(&mut self) -> &mut [f32] {
        self.room(0)
    }
}
