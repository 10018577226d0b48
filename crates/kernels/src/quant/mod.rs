//! Weights in few bits: the stored formats, what their blocks hold, and both ways between them and f32.
//!
//! A row of a matrix is laid out in blocks of 1, 32 or 256 weights; blocks and rows stand end to
//! end, at any alignment. The layouts of the block formats are those of GGUF, and dequantizing
//! follows ggml's order of f32 operations, so the bits are the same. Both directions run on the
//! calling thread; rows are independent, so a caller may share them out.
//!
//! A new format is one file (or one function pair) and one row of [`FORMATS`].

mod activations;
mod block32;
mod codes;
mod fp8;
mod iq4;
mod k_min;
mod k_sign;
mod plain;
mod search;
#[cfg(test)]
mod tests;
mod widen;

pub use activations::{ACTIVATION_GROUP, round_activations};
pub(crate) use codes::{CHUNK, Codes, Coding, coding};
pub use fp8::{ScaleKind, fp8_blocks};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use iq4::VALUE_BYTES as IQ4_VALUES;
#[cfg(target_arch = "aarch64")]
pub(crate) use iq4::scale_codes_of_xs;
#[cfg(target_arch = "aarch64")]
pub(crate) use k_min::unpack_6_bit;
#[cfg(target_arch = "aarch64")]
pub(crate) use k_sign::unpack_3_k;

/// A way to store weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// 32-bit floats, little-endian.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// E4M3 codes; the scales of their blocks are stored elsewhere (see [`fp8_blocks`]).
    F8E4M3,
    /// 32 signed bytes under one scale.
    Q8_0,
    /// 32 4-bit numbers −8..=7 under one scale.
    Q4_0,
    /// 32 4-bit numbers under one scale and one minimum.
    Q4_1,
    /// 32 5-bit numbers −16..=15 under one scale.
    Q5_0,
    /// 32 5-bit numbers under one scale and one minimum.
    Q5_1,
    /// 16 × 16 2-bit numbers; 4-bit scales and minima under two halves.
    Q2K,
    /// 16 × 16 3-bit numbers −4..=3; 6-bit scales under one half.
    Q3K,
    /// 8 × 32 4-bit numbers; 6-bit scales and minima under two halves.
    Q4K,
    /// 8 × 32 5-bit numbers; 6-bit scales and minima under two halves.
    Q5K,
    /// 16 × 16 6-bit numbers −32..=31; 8-bit scales under one half.
    Q6K,
    /// 32 indices into sixteen unevenly spaced values, one scale.
    Iq4Nl,
    /// 8 × 32 indices into the same sixteen values; 6-bit scales under one half.
    Iq4Xs,
}

/// What the crate knows of one format.
struct Row {
    format: Format,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
    ggml_type: Option<u32>,
    dequantize: fn(&[u8], &mut [f32]),
    quantize: fn(&[f32], &mut [u8]),
}

/// Every format, in the order of [`Format`].
#[rustfmt::skip]
const FORMATS: [Row; 16] = [
    row(Format::F32,    "f32",    1,   4,   Some(0),  plain::from_f32,  plain::to_f32),
    row(Format::F16,    "f16",    1,   2,   Some(1),  plain::from_f16,  plain::to_f16),
    row(Format::Bf16,   "bf16",   1,   2,   Some(30), plain::from_bf16, plain::to_bf16),
    row(Format::F8E4M3, "fp8",    1,   1,   None,     plain::from_e4m3, plain::to_e4m3),
    row(Format::Q8_0,   "q8_0",   32,  34,  Some(8),  block32::from_q8_0, block32::to_q8_0),
    row(Format::Q4_0,   "q4_0",   32,  18,  Some(2),  block32::from_q4_0, block32::to_q4_0),
    row(Format::Q4_1,   "q4_1",   32,  20,  Some(3),  block32::from_q4_1, block32::to_q4_1),
    row(Format::Q5_0,   "q5_0",   32,  22,  Some(6),  block32::from_q5_0, block32::to_q5_0),
    row(Format::Q5_1,   "q5_1",   32,  24,  Some(7),  block32::from_q5_1, block32::to_q5_1),
    row(Format::Q2K,    "q2_k",   256, 84,  Some(10), k_min::from_q2_k,  k_min::to_q2_k),
    row(Format::Q3K,    "q3_k",   256, 110, Some(11), k_sign::from_q3_k, k_sign::to_q3_k),
    row(Format::Q4K,    "q4_k",   256, 144, Some(12), k_min::from_q4_k,  k_min::to_q4_k),
    row(Format::Q5K,    "q5_k",   256, 176, Some(13), k_min::from_q5_k,  k_min::to_q5_k),
    row(Format::Q6K,    "q6_k",   256, 210, Some(14), k_sign::from_q6_k, k_sign::to_q6_k),
    row(Format::Iq4Nl,  "iq4_nl", 32,  18,  Some(20), iq4::from_iq4_nl,  iq4::to_iq4_nl),
    row(Format::Iq4Xs,  "iq4_xs", 256, 136, Some(23), iq4::from_iq4_xs,  iq4::to_iq4_xs),
];

const fn row(
    format: Format,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
    ggml_type: Option<u32>,
    dequantize: fn(&[u8], &mut [f32]),
    quantize: fn(&[f32], &mut [u8]),
) -> Row {
    Row { format, name, block_len, block_bytes, ggml_type, dequantize, quantize }
}

const _: () = {
    let mut i = 0;
    while i < FORMATS.len() {
        assert!(FORMATS[i].format as usize == i, "a row stands in the place of another format");
        assert!(Format::ALL[i] as usize == i, "ALL is in the order of the formats");
        i += 1;
    }
};

impl Format {
    /// Every format.
    pub const ALL: [Format; 16] = {
        let mut all = [Format::F32; 16];
        let mut i = 0;
        while i < all.len() {
            all[i] = FORMATS[i].format;
            i += 1;
        }
        all
    };

    const fn row(self) -> &'static Row {
        &FORMATS[self as usize]
    }

    /// Its name in lower case, as typed after `--quant`: `q4_k`, `bf16`, `fp8`.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The format of this name, in either case.
    pub fn from_name(name: &str) -> Option<Format> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// Weights of a block: 1, 32 or 256.
    pub const fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// Bytes of a row of `k` weights; `None` unless `k` is whole blocks and the product fits.
    pub const fn row_bytes(self, k: usize) -> Option<usize> {
        if !k.is_multiple_of(self.block_len()) {
            return None;
        }
        (k / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Bits a weight takes, its share of the scales included.
    pub const fn bits_per_weight(self) -> f64 {
        (self.block_bytes() * 8) as f64 / self.block_len() as f64
    }

    /// The number of this format in a GGUF file; `None` for FP8, which GGUF has not.
    pub const fn ggml_type(self) -> Option<u32> {
        self.row().ggml_type
    }

    /// The format of this number in a GGUF file.
    pub fn from_ggml_type(ggml_type: u32) -> Option<Format> {
        Self::ALL.into_iter().find(|format| format.ggml_type() == Some(ggml_type))
    }
}

/// Turns whole blocks into f32. FP8 codes are widened without their scales.
///
/// Panics unless `bytes` are the blocks of exactly `out.len()` weights.
pub fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) {
    check_lengths(format, out.len(), bytes.len());
    (format.row().dequantize)(bytes, out);
}

/// Turns whole rows into blocks. The same input always gives the same bytes, on every CPU.
///
/// A weight that is not finite cannot be held by a block format: its block may come back as
/// anything, NaN included, but no other block is touched.
///
/// Panics unless `out` has room for exactly the blocks of `x.len()` weights.
pub fn quantize(format: Format, x: &[f32], out: &mut [u8]) {
    check_lengths(format, x.len(), out.len());
    (format.row().quantize)(x, out);
}

fn check_lengths(format: Format, n_weights: usize, n_bytes: usize) {
    assert_eq!(
        format.row_bytes(n_weights),
        Some(n_bytes),
        "bytes of {n_weights} weights in `{}`, blocks of {}",
        format.name(),
        format.block_len()
    );
}

/// The half-precision number stored at byte `at`.
#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    crate::convert::f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Stores `x` in half precision at byte `at`; returns what was stored.
#[inline(always)]
fn put_half(block: &mut [u8], at: usize, x: f32) -> f32 {
    let bits = crate::convert::f32_to_f16(x);
    block[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    crate::convert::f16_to_f32(bits)
}

/// The `N` bytes of a block that begin at `at`.
#[inline(always)]
fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..at + N].first_chunk().expect("the slice is as long as the array")
}

/// The inverse of [`put_pairs`].
#[inline(always)]
fn pairs(packed: &[u8; 64]) -> [u8; 256] {
    let mut q = [0; 256];
    for i in 0..2 {
        let q = &mut q.as_chunks_mut::<128>().0[i];
        for j in 0..32 {
            let four = packed[32 * i + j];
            q[j] = four & 3;
            q[32 + j] = four >> 2 & 3;
            q[64 + j] = four >> 4 & 3;
            q[96 + j] = four >> 6;
        }
    }
    q
}

/// Stores 256 2-bit codes: four in a byte, 32 codes apart, as `q2_k` and `q3_k` have them.
#[inline(always)]
fn put_pairs(q: &[u8; 256], out: &mut [u8]) {
    for (q, out) in q.as_chunks::<128>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for j in 0..32 {
            out[j] = q[j] | q[32 + j] << 2 | q[64 + j] << 4 | q[96 + j] << 6;
        }
    }
}
