//! Rows turned into lanes: sixteen rows are widened and transposed, chain after chain.

use super::Kind;
use super::weights::{Bf16, F16, F32, Fp8, Fp8Table, Weights, split};
use crate::stored::floats::{BLOCK, CHAINS};
use std::arch::x86_64::*;

/// Rows transposed at a time.
pub(super) const LANES: usize = 16;
/// Rows of a panel of weights.
pub(super) const PANEL: usize = 2 * LANES;

/// Sixteen rows to be packed as `[chain, step, row]`: step `2 b + p` of chain `c` is element `32 b + 2 c + p`.
pub(super) struct Packing {
    pub rows: [*const u8; LANES],
    /// Elements of a row; zeros are packed behind them, to whole blocks.
    pub k: usize,
    /// Distance of steps.
    pub stride: usize,
    /// Distance of chains.
    pub chain_stride: usize,
    /// Rows that are written.
    pub n: usize,
    /// Distance in bytes of what will be read next.
    pub ahead: usize,
}

impl Packing {
    /// Safety: the rows hold `k` elements of the kind; the CPU has its level.
    ///
    /// Panics if the room does not suffice.
    pub(super) unsafe fn run(&self, kind: Kind, out: &mut [f32]) {
        let n_steps = self.k.next_multiple_of(BLOCK) / CHAINS;
        let last = (CHAINS - 1) * self.chain_stride + (n_steps - 1) * self.stride;
        assert!(self.n <= LANES && out.len() >= last + self.n, "room for {} elements", self.k);
        // SAFETY: the caller's promise.
        unsafe {
            match kind {
                Kind::F32 => pack::<F32>(self, out.as_mut_ptr()),
                Kind::F16 => pack::<F16>(self, out.as_mut_ptr()),
                Kind::Bf16 => pack::<Bf16>(self, out.as_mut_ptr()),
                Kind::Fp8 => pack::<Fp8>(self, out.as_mut_ptr()),
                Kind::Fp8Table => pack_by_table(self, out.as_mut_ptr()),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
unsafe fn pack<W: Weights>(packing: &Packing, out: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { pack_rows::<W>(packing, out) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx2,fma,f16c")]
unsafe fn pack_by_table(packing: &Packing, out: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { pack_rows::<Fp8Table>(packing, out) }
}

#[inline(always)]
unsafe fn pack_rows<W: Weights>(packing: &Packing, out: *mut f32) {
    let whole = packing.k / BLOCK;
    // SAFETY: rows hold the whole blocks; of the last one, only what is there is copied.
    unsafe {
        for block in 0..whole {
            pack_block::<W>(&packing.rows, block, packing, out.add(4 * block * packing.stride));
        }
        let rest = packing.k % BLOCK;
        if rest > 0 {
            let mut last = [[0u8; 4 * BLOCK]; LANES];
            let mut rows = packing.rows;
            for (row, last) in rows.iter_mut().zip(&mut last) {
                *row = tail::<W>(*row, whole, rest, last);
            }
            pack_block::<W>(&rows, 0, packing, out.add(4 * whole * packing.stride));
        }
    }
}

/// What follows the whole blocks of a row, with zeros behind it.
///
/// Safety: the row holds that.
#[inline(always)]
pub(super) unsafe fn tail<W: Weights>(
    row: *const u8,
    whole: usize,
    rest: usize,
    room: &mut [u8; 4 * BLOCK],
) -> *const u8 {
    room.fill(0);
    // SAFETY: the caller's promise.
    unsafe {
        let from = row.add(whole * BLOCK * W::BYTES);
        std::ptr::copy_nonoverlapping(from, room.as_mut_ptr(), rest * W::BYTES);
    }
    room.as_ptr()
}

#[inline(always)]
unsafe fn pack_block<W: Weights>(
    rows: &[*const u8; LANES],
    block: usize,
    packing: &Packing,
    out: *mut f32,
) {
    let (stride, mask) = (packing.stride, ((1u32 << packing.n) - 1) as u16);
    // SAFETY: the caller's promise; masked lanes are not written.
    unsafe {
        for u in 0..W::UNITS {
            let mut lanes = [_mm512_setzero_si512(); LANES];
            for j in 0..LANES {
                lanes[j] = W::unit(rows[j], block, u);
                let at = (block * W::BYTES + u * W::BYTES / W::UNITS) * BLOCK + packing.ahead;
                _mm_prefetch::<_MM_HINT_T1>(rows[j].wrapping_add(at).cast());
            }
            transpose(&mut lanes);
            for chain in 0..CHAINS {
                let at = out.add(chain * packing.chain_stride);
                // What the next block writes lies in the second-level cache.
                for step in 0..4 / W::UNITS {
                    let next = at.wrapping_add((4 + u * 4 / W::UNITS + step) * stride);
                    _mm_prefetch::<_MM_HINT_ET0>(next.cast());
                }
                if W::UNITS == 2 {
                    let [even, odd] = split(lanes[chain]);
                    _mm512_mask_storeu_ps(at.add(2 * u * stride), mask, even);
                    _mm512_mask_storeu_ps(at.add((2 * u + 1) * stride), mask, odd);
                } else {
                    let x = _mm512_castsi512_ps(lanes[chain]);
                    _mm512_mask_storeu_ps(at.add(u * stride), mask, x);
                }
            }
        }
    }
}

/// Transposes sixteen rows of sixteen lanes.
#[inline(always)]
unsafe fn transpose(r: &mut [__m512i; LANES]) {
    // SAFETY: the level is at hand.
    unsafe {
        let mut t = [_mm512_setzero_si512(); LANES];
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
        }
        // Now `r[4 i + j]` gets column `4 q + j` of rows `4 i..4 i + 4` in its quarter `q`.
        for i in 0..4 {
            r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
            r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
            r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
        }
        // A transposition of quarters.
        for j in 0..4 {
            let (a, b, c, d) = (r[j], r[4 + j], r[8 + j], r[12 + j]);
            let (ab, cd) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0x44>(c, d));
            t[j] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
            t[4 + j] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
            let (ab, cd) = (_mm512_shuffle_i32x4::<0xee>(a, b), _mm512_shuffle_i32x4::<0xee>(c, d));
            t[8 + j] = _mm512_shuffle_i32x4::<0x88>(ab, cd);
            t[12 + j] = _mm512_shuffle_i32x4::<0xdd>(ab, cd);
        }
        *r = t;
    }
}
