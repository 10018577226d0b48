//! Sixteen f32 lanes on each instruction-set level, and the aligned memory they like.
//!
//! The inner loops are written once over [`Lanes`]. AVX-512, AVX2 and NEON give the same bits, since all
//! fuse multiply-adds and reduce the sixteen lanes in the same order; plain Rust does not fuse.

use crate::convert::f16_to_f32;
use crate::memory::advise_large_pages;

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
    /// # Safety
    /// `at` must be valid for reading sixteen half-precision numbers.
    unsafe fn load_half(at: *const u16) -> Self;
    /// `self * b + c`.
    fn mul_add(self, b: Self, c: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn add(self, b: Self) -> Self;
    fn max(self, b: Self) -> Self;
    /// Transposes a 16 x 16 square: row `i` of the result is column `i` of `rows`.
    fn transpose(rows: [Self; 16]) -> [Self; 16];

    /// The first `n` lanes (0 to 16), and `fill` in the others.
    fn first_or(self, n: usize, fill: Self) -> Self;
    /// In each lane `then` where this lane is above `limit`, else `otherwise`.
    fn above(self, limit: f32, then: Self, otherwise: Self) -> Self;
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

/// A number as memory holds it, widened when it is loaded.
pub(super) trait Element: Copy {
    /// Read from memory rather than from a cache: the next block is fetched meanwhile.
    const FETCH_AHEAD: bool;
    /// # Safety
    /// `at` must be valid for reading sixteen elements.
    unsafe fn load<V: Lanes>(at: *const Self) -> V;
}

impl Element for f32 {
    const FETCH_AHEAD: bool = false;
    #[inline(always)]
    unsafe fn load<V: Lanes>(at: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(at) }
    }
}

/// Half precision, by its bits.
impl Element for u16 {
    const FETCH_AHEAD: bool = true;
    #[inline(always)]
    unsafe fn load<V: Lanes>(at: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_half(at) }
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
    unsafe fn load_half(at: *const u16) -> Self {
        // SAFETY: the caller promises sixteen readable numbers.
        let bits = unsafe { at.cast::<[u16; 16]>().read_unaligned() };
        Plain(bits.map(f16_to_f32))
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
    fn above(self, limit: f32, then: Self, otherwise: Self) -> Self {
        let mut out = otherwise.0;
        for i in 0..16 {
            out[i] = if self.0[i] > limit { then.0[i] } else { out[i] };
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

#[cfg(target_arch = "aarch64")]
pub(super) use super::lanes_neon::Quad;
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
        unsafe fn load_half(at: *const u16) -> Self {
            // `_mm512_cvtph_ps` suppresses exceptions, which no operand from memory can do: twice as slow.
            const CURRENT: i32 = _MM_FROUND_CUR_DIRECTION;
            Zmm(unsafe { _mm512_cvt_roundph_ps::<CURRENT>(_mm256_loadu_si256(at.cast())) })
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
        fn above(self, limit: f32, then: Self, otherwise: Self) -> Self {
            unsafe {
                let is = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, _mm512_set1_ps(limit));
                Zmm(_mm512_mask_blend_ps(is, otherwise.0, then.0))
            }
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

    // SAFETY of all blocks below: as for `Zmm`, under `target_feature(enable = "avx2,fma,f16c")`.
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
        unsafe fn load_half(at: *const u16) -> Self {
            unsafe {
                let (low, high) = (at.cast::<__m128i>(), at.add(8).cast::<__m128i>());
                let low = _mm256_cvtph_ps(_mm_loadu_si128(low));
                Ymm2(low, _mm256_cvtph_ps(_mm_loadu_si128(high)))
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
        fn above(self, limit: f32, then: Self, otherwise: Self) -> Self {
            unsafe {
                let limit = _mm256_set1_ps(limit);
                let low = _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, limit);
                let high = _mm256_cmp_ps::<_CMP_GT_OQ>(self.1, limit);
                let low = _mm256_blendv_ps(otherwise.0, then.0, low);
                Ymm2(low, _mm256_blendv_ps(otherwise.1, then.1, high))
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

/// Buffers of this size ask for large pages.
const LARGE_BYTES: usize = 4 << 20;

/// One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

/// A growing buffer of numbers whose start lies on a cache line, so that loads of sixteen never straddle two.
#[derive(Clone, Default)]
pub(super) struct Lines(Vec<Line>);

/// Numbers that any bytes are valid for.
pub(super) trait Number: Copy {}
impl Number for f32 {}
impl Number for u16 {}
impl Number for u8 {}

impl Lines {
    /// The buffer with room for `n` f32 at least; what it held is kept, what is new is zero.
    pub(super) fn room(&mut self, n: usize) -> &mut [f32] {
        self.room_bytes(4 * n);
        self.as_mut_slice()
    }

    /// Makes room for `n` bytes at least; what was held is kept, what is new is zero.
    pub(super) fn room_bytes(&mut self, n: usize) {
        if self.0.len() * 64 < n {
            let (n_lines, had_room) = (n.div_ceil(64), self.0.capacity());
            self.0.reserve(n_lines - self.0.len());
            if self.0.capacity() > had_room {
                self.want_large_pages();
            }
            self.0.resize(n_lines, Line([0; 64]));
        }
    }

    /// Prepares for `n` bytes in all, so that growing up to there copies nothing. That is address space;
    /// memory is taken as it is grown into. Where there is none, growing copies.
    pub(super) fn expect_bytes(&mut self, n: usize) {
        let _ = self.0.try_reserve_exact(n.div_ceil(64).saturating_sub(self.0.len()));
        self.want_large_pages();
    }

    /// Caches are read from end to end at every step, and would wait for the tables of small pages.
    fn want_large_pages(&mut self) {
        let n_bytes = 64 * self.0.capacity();
        if n_bytes >= LARGE_BYTES {
            advise_large_pages(self.0.as_mut_ptr().cast(), n_bytes);
        }
    }

    /// Where it starts.
    pub(super) fn start<T: Number>(&self) -> *const T {
        self.0.as_ptr().cast()
    }

    /// Where it starts, to be written.
    pub(super) fn start_mut(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// All that the buffer holds.
    pub(super) fn as_slice<T: Number>(&self) -> &[T] {
        // SAFETY: a `Line` is whole numbers without padding, all valid.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.len::<T>()) }
    }

    /// All that the buffer holds, to be written.
    pub(super) fn as_mut_slice<T: Number>(&mut self) -> &mut [T] {
        let n = self.len::<T>();
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), n) }
    }

    fn len<T>(&self) -> usize {
        self.0.len() * 64 / size_of::<T>()
    }
}
