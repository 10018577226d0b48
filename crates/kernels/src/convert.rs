//! Number formats narrower than f32: bfloat16, IEEE half, and FP8 E4M3 ("fn": no infinities).
//!
//! Narrowing rounds to nearest, ties to even. bf16 and f16 values travel as their bits in `u16`,
//! E4M3 values as their bits in `u8`.

use crate::lanes::{for_rows, per_isa};
use crate::threads::Shards;

/// Largest finite E4M3 value; larger magnitudes saturate to it.
pub const E4M3_MAX: f32 = 448.0;

/// The f32 with these bfloat16 bits. Exact.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// Nearest bfloat16, ties to even. NaN stays NaN; too large becomes infinite.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding could carry a NaN payload into infinity; the quiet bit keeps it a NaN.
    let quiet = (bits >> 16) | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

/// The f32 with these half-precision bits. Exact, subnormals included.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = ((bits & 0x8000) as u32) << 16;
    let magnitude = (bits & 0x7fff) as i32;
    let normal = ((magnitude << 13) as u32).wrapping_add((127 - 15) << 23);
    // Counted in units of 2^-24; as f32 bits they would be denormal, which the CPU takes long over.
    let subnormal = (magnitude as f32 * f32::from_bits((127 - 24) << 23)).to_bits();
    let special = (magnitude << 13) as u32 | (0xff << 23); // infinity or NaN
    let value = if magnitude < 1 << 10 { subnormal } else { normal };
    f32::from_bits(sign | if magnitude >= 0x1f << 10 { special } else { value })
}

/// Nearest half-precision number, ties to even. Too large becomes infinite; NaN stays NaN.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let rounded = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= 0x4780_0000 {
        0x7c00 // 65536 and above; 65520..65536 is carried to infinity below
    } else if magnitude < 0x3880_0000 {
        // Below 2^-14: adding 1/2 aligns the sum so that its last bit is worth 2^-24.
        (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits())
    } else {
        magnitude.wrapping_sub((112 << 23) - 0xfff).wrapping_add((magnitude >> 13) & 1) >> 13
    };
    sign | rounded as u16
}

/// The f32 with these E4M3 bits. Exact; 0x7f and 0xff are NaN.
#[inline(always)]
pub fn e4m3_to_f32(bits: u8) -> f32 {
    let sign = ((bits & 0x80) as u32) << 24;
    let magnitude = (bits & 0x7f) as i32;
    let normal = ((magnitude << 20) as u32).wrapping_add((127 - 7) << 23);
    let subnormal = (magnitude as f32 * f32::from_bits((127 - 9) << 23)).to_bits(); // in 2^-9
    let value = if magnitude < 1 << 3 { subnormal } else { normal };
    f32::from_bits(sign | if magnitude == 0x7f { f32::NAN.to_bits() } else { value })
}

/// Nearest E4M3 number, ties to even, saturating at ±448. NaN stays NaN.
#[inline(always)]
pub fn f32_to_e4m3(x: f32) -> u8 {
    let sign = ((x.to_bits() >> 24) & 0x80) as u8;
    let magnitude = x.abs().min(E4M3_MAX).to_bits();
    let rounded = if f32::from_bits(magnitude) < 0.015625 {
        // Below 2^-6: adding 2^14 aligns the sum so that its last bit is worth 2^-9.
        (f32::from_bits(magnitude) + 16384.0).to_bits().wrapping_sub(16384.0f32.to_bits())
    } else {
        magnitude.wrapping_sub((120 << 23) - 0x7ffff).wrapping_add((magnitude >> 20) & 1) >> 20
    };
    let code = if x.is_nan() { 0x7f } else { rounded as u8 };
    sign | code
}

/// Defines a slice conversion from a scalar one: checked, parallel, compiled per level.
macro_rules! slice_conversion {
    ($(#[$attr:meta])* $name:ident, $one:ident, $from:ty, $to:ty) => {
        $(#[$attr])*
        ///
        /// Panics if the lengths differ.
        pub fn $name(src: &[$from], dst: &mut [$to]) {
            per_isa! {
                fn convert(src: &[$from], dst: &mut [$to]) {
                    for (dst, &src) in dst.iter_mut().zip(src) {
                        *dst = $one(src);
                    }
                }
            }
            assert_eq!(src.len(), dst.len(), "conversion between slices of different lengths");
            let shards = Shards::new(dst);
            for_rows(src.len(), 1, |range| {
                // SAFETY: ranges of one loop do not overlap.
                convert(&src[range.clone()], unsafe { shards.slice(range) });
            });
        }
    };
}

slice_conversion!(
    /// Widens bfloat16 to f32.
    bf16_to_f32_slice, bf16_to_f32, u16, f32
);
slice_conversion!(
    /// Narrows f32 to bfloat16.
    f32_to_bf16_slice, f32_to_bf16, f32, u16
);
slice_conversion!(
    /// Widens half precision to f32.
    f16_to_f32_slice, f16_to_f32, u16, f32
);
slice_conversion!(
    /// Narrows f32 to half precision.
    f32_to_f16_slice, f32_to_f16, f32, u16
);
slice_conversion!(
    /// Widens E4M3 to f32.
    e4m3_to_f32_slice, e4m3_to_f32, u8, f32
);
slice_conversion!(
    /// Narrows f32 to E4M3, saturating.
    f32_to_e4m3_slice, f32_to_e4m3, f32, u8
);

per_isa! {
    /// Rounds every value to the nearest bfloat16 number, in place.
    pub fn round_to_bf16(x: &mut [f32]) {
        for x in x {
            *x = bf16_to_f32(f32_to_bf16(*x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{for_each_isa, golden};

    /// The nearest of all finite values of a format, ties to the even code, by search.
    fn nearest(x: f32, decode: impl Fn(u16) -> f32, n_codes: u16) -> u16 {
        let mut best = 0;
        for code in 0..n_codes {
            let (new, old) = ((decode(code) - x).abs(), (decode(best) - x).abs());
            if new < old || (new == old && code % 2 == 0) {
                best = code;
            }
        }
        best
    }

    #[test]
    fn bf16_rounds_to_nearest_even_and_keeps_nan() {
        for (x, bits) in [
            (1.0f32, 0x3f80),
            (f32::from_bits(0x3f80_8000), 0x3f80),
            (f32::from_bits(0x3f81_8000), 0x3f82),
            (f32::from_bits(0x3f80_8001), 0x3f81),
            (-0.0, 0x8000),
            (f32::MAX, 0x7f80),
            (f32::NEG_INFINITY, 0xff80),
            (f32::from_bits(1), 0),
        ] {
            assert_eq!(f32_to_bf16(x), bits, "{x}");
        }
        for nan in [f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff)] {
            assert!(bf16_to_f32(f32_to_bf16(nan)).is_nan());
        }
        for bits in (0..=u16::MAX).filter(|&b| !bf16_to_f32(b).is_nan()) {
            assert_eq!(f32_to_bf16(bf16_to_f32(bits)), bits);
        }
    }

    #[test]
    fn f16_goes_there_and_back() {
        assert_eq!(f16_to_f32(0x3c00), 1.0);
        assert_eq!(f16_to_f32(0x7bff), 65504.0);
        assert_eq!(f16_to_f32(1), 2f32.powi(-24));
        assert_eq!(f16_to_f32(0xfc00), f32::NEG_INFINITY);
        for bits in 0..=u16::MAX {
            let x = f16_to_f32(bits);
            if x.is_nan() {
                assert!(f16_to_f32(f32_to_f16(x)).is_nan());
            } else {
                assert_eq!(f32_to_f16(x), bits, "{x}");
            }
        }
        assert_eq!(f32_to_f16(65519.9), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(1e9), 0x7c00);
        for x in [0.1f32, 3.2e-5, 7.7e-8, 2.98e-8, 2.9e-8, 1.000_488_3, 1.001_464_8] {
            assert_eq!(f32_to_f16(x), nearest(x, f16_to_f32, 0x7c00), "{x}");
        }
    }

    #[test]
    fn e4m3_picks_the_nearest_code() {
        for i in 0..5000 {
            let x = (i as f32 * 0.618 % 28.0 - 19.0).exp2();
            let want = nearest(x, |code| e4m3_to_f32(code as u8), 0x7f);
            assert_eq!(f32_to_e4m3(x), want as u8, "{x}");
            assert_eq!(f32_to_e4m3(-x), want as u8 | 0x80, "-{x}");
        }
        assert_eq!(f32_to_e4m3(f32::INFINITY), 0x7e);
        assert_eq!(f32_to_e4m3(f32::NAN) & 0x7f, 0x7f);
    }

    #[test]
    fn e4m3_matches_the_golden_tables() {
        let Some(golden) = golden("e4m3") else { return };
        for (code, value) in golden["decode"].as_array().unwrap().iter().enumerate() {
            let x = e4m3_to_f32(code as u8);
            match value.as_f64() {
                Some(value) => assert_eq!(x, value as f32, "code {code}"),
                None => assert!(x.is_nan(), "code {code}"),
            }
        }
        for pair in golden["encode"].as_array().unwrap() {
            let x = pair[0].as_f64().unwrap() as f32;
            assert_eq!(f32_to_e4m3(x) as u64, pair[1].as_u64().unwrap(), "{x}");
        }
    }

    #[test]
    fn slices_convert_like_their_elements_at_every_level() {
        for n in [0, 1, 33, 40_001] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 500.0).collect();
            for_each_isa(|isa| {
                let (mut narrow, mut wide, mut byte) = (vec![0; n], vec![0.0; n], vec![0; n]);
                f32_to_bf16_slice(&x, &mut narrow);
                assert!(x.iter().zip(&narrow).all(|(&x, &b)| f32_to_bf16(x) == b), "{isa:?}");
                bf16_to_f32_slice(&narrow, &mut wide);
                assert!(wide.iter().zip(&narrow).all(|(&x, &b)| bf16_to_f32(b) == x), "{isa:?}");
                let mut rounded = x.clone();
                round_to_bf16(&mut rounded);
                assert_eq!(rounded, wide, "{isa:?}");
                f32_to_f16_slice(&x, &mut narrow);
                f16_to_f32_slice(&narrow, &mut wide);
                assert!(wide.iter().zip(&x).all(|(&w, &x)| f16_to_f32(f32_to_f16(x)) == w));
                f32_to_e4m3_slice(&x, &mut byte);
                e4m3_to_f32_slice(&byte, &mut wide);
                assert!(wide.iter().zip(&x).all(|(&w, &x)| e4m3_to_f32(f32_to_e4m3(x)) == w));
            });
        }
    }
}
