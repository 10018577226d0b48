//! Elementary functions that vectorise: the same bits in every loop they are used in.
//!
//! The standard library's `exp` is a call, which keeps a loop scalar. These are plain arithmetic,
//! inlined into loops that are compiled once per instruction-set level; `FMA` says whether the
//! level has a fused multiply-add (without one, `f32::mul_add` would itself be a slow call).

/// `a * b + c`, rounded once where `FMA`, twice where not.
#[inline(always)]
pub fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Largest argument whose exponential is finite.
const EXP_MAX: f32 = 88.722_83;
/// Below this the result would be denormal; it is flushed to zero.
const EXP_MIN: f32 = -87.336_54;
/// Adding and subtracting 1.5 · 2^23 rounds to an integer, which then sits in the low bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts; the high one has so few bits that `n * LN2_HIGH` is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// e^x with a relative error below 3e-7; `exp(0) = 1` exactly.
///
/// Results below the smallest normal number are 0 (so `exp(-inf) = 0`), results above the largest
/// are infinite, NaN stays NaN.
/// Source: range reduction and polynomial of Cephes `expf`.
#[inline(always)]
pub fn exp_f32<const FMA: bool>(x: f32) -> f32 {
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, x));
    let mut poly = 1.987_569_1e-4;
    poly = mul_add::<FMA>(poly, r, 1.398_199_9e-3);
    poly = mul_add::<FMA>(poly, r, 8.333_452e-3);
    poly = mul_add::<FMA>(poly, r, 4.166_579_6e-2);
    poly = mul_add::<FMA>(poly, r, 1.666_666_5e-1);
    poly = mul_add::<FMA>(poly, r, 5e-1);
    let fraction = mul_add::<FMA>(poly, r * r, r) + 1.0;
    // n is added to the exponent field itself: 2^n alone would overflow before the product does.
    let bits = fraction.to_bits().wrapping_add(shifted.to_bits() << 23);
    let y = f32::from_bits(bits);
    let y = if x < EXP_MIN { 0.0 } else { y };
    let y = if x > EXP_MAX { f32::INFINITY } else { y };
    if x.is_nan() { x } else { y }
}

/// 1 / (1 + e^-x), the same bits at every instruction-set level.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp_f32::<false>(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_3e_7_over_its_whole_range() {
        let mut worst = 0f64;
        let mut x = -87.336f32;
        while x < 88.722 {
            let want = (x as f64).exp();
            for got in [exp_f32::<false>(x), exp_f32::<true>(x)] {
                worst = worst.max((got as f64 / want - 1.0).abs());
            }
            x += 0.001_37;
        }
        assert!(worst < 3e-7, "worst relative error {worst:e}");
    }

    #[test]
    fn exp_is_exact_at_the_special_points() {
        fn check<const FMA: bool>() {
            assert_eq!(exp_f32::<FMA>(0.0), 1.0);
            assert_eq!(exp_f32::<FMA>(-0.0), 1.0);
            assert_eq!(exp_f32::<FMA>(f32::NEG_INFINITY), 0.0);
            assert_eq!(exp_f32::<FMA>(-100.0), 0.0);
            assert_eq!(exp_f32::<FMA>(f32::MIN), 0.0);
            assert_eq!(exp_f32::<FMA>(89.0), f32::INFINITY);
            assert_eq!(exp_f32::<FMA>(f32::INFINITY), f32::INFINITY);
            assert!(exp_f32::<FMA>(f32::NAN).is_nan());
        }
        check::<false>();
        check::<true>();
    }

    #[test]
    fn exp_never_falls_as_its_argument_grows_by_a_step() {
        let mut last = 0.0;
        for i in -87_000..88_000 {
            let y = exp_f32::<true>(i as f32 * 1e-3);
            assert!(y > last, "at {i}e-3");
            last = y;
        }
    }
}
