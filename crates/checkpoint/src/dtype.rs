//! Element types of stored tensors, and the conversions between stored bits and f32.

use fathom_kernels::convert::{bf16_to_f32, f16_to_f32};

/// How one element is stored. Names and sizes are those of the safetensors format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8E5M2,
    F8E4M3,
    F8E8M0,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
}

impl Dtype {
    /// Every type with its name in the file and the bytes of one element.
    pub const TABLE: &'static [(Dtype, &'static str, usize)] = &[
        (Dtype::Bool, "BOOL", 1),
        (Dtype::U8, "U8", 1),
        (Dtype::I8, "I8", 1),
        (Dtype::F8E5M2, "F8_E5M2", 1),
        (Dtype::F8E4M3, "F8_E4M3", 1),
        (Dtype::F8E8M0, "F8_E8M0", 1),
        (Dtype::I16, "I16", 2),
        (Dtype::U16, "U16", 2),
        (Dtype::F16, "F16", 2),
        (Dtype::BF16, "BF16", 2),
        (Dtype::I32, "I32", 4),
        (Dtype::U32, "U32", 4),
        (Dtype::F32, "F32", 4),
        (Dtype::F64, "F64", 8),
        (Dtype::I64, "I64", 8),
        (Dtype::U64, "U64", 8),
    ];

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        Self::TABLE[self as usize].2
    }

    /// Name in a safetensors header, such as `BF16`.
    pub fn name(self) -> &'static str {
        Self::TABLE[self as usize].1
    }

    /// The type with this header name.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Whether [`to_f32`] can widen this type without further information.
    pub fn is_plain_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Widens little-endian stored floats to f32 (F64 is rounded to nearest).
///
/// Returns `None` for a type that is no plain float: integers would lose bits in silence, and
/// 8-bit floats mean nothing without their scales. Bytes past the last whole element are ignored.
pub fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::BF16 => {
            bytes.as_chunks().0.iter().map(|b| bf16_to_f32(u16::from_le_bytes(*b))).collect()
        }
        Dtype::F16 => {
            bytes.as_chunks().0.iter().map(|b| f16_to_f32(u16::from_le_bytes(*b))).collect()
        }
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fathom_kernels::convert::f32_to_bf16;

    #[test]
    fn table_rows_stand_at_their_own_index() {
        for (i, (dtype, name, _)) in Dtype::TABLE.iter().enumerate() {
            assert_eq!(*dtype as usize, i);
            assert_eq!(Dtype::from_name(name), Some(*dtype));
        }
        assert_eq!(Dtype::from_name("bf16"), None);
    }

    #[test]
    fn bf16_rounds_to_nearest_even_and_keeps_specials() {
        let check = |x: f32, bits: u16| assert_eq!(f32_to_bf16(x), bits, "{x}");
        check(1.0, 0x3f80);
        check(-0.0, 0x8000);
        check(f32::from_bits(0x3f80_8000), 0x3f80);
        check(f32::from_bits(0x3f81_8000), 0x3f82);
        check(f32::from_bits(0x3f80_8001), 0x3f81);
        check(f32::MAX, 0x7f80);
        check(f32::NEG_INFINITY, 0xff80);
        assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7fff_ffff))).is_nan());
        assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7f80_0001))).is_nan());
        for bits in 0..=u16::MAX {
            let x = bf16_to_f32(bits);
            assert!(x.is_nan() || f32_to_bf16(x) == bits);
        }
    }

    #[test]
    fn f16_widens_every_class() {
        let check = |bits: u16, x: f32| assert_eq!(f16_to_f32(bits).to_bits(), x.to_bits());
        check(0x3c00, 1.0);
        check(0xc000, -2.0);
        check(0x7bff, 65504.0);
        check(0x0001, 5.960_464_5e-8);
        check(0x8000, -0.0);
        check(0x0400, 6.103_515_6e-5);
        check(0xfc00, f32::NEG_INFINITY);
        assert!(f16_to_f32(0x7e01).is_nan());
    }

    #[test]
    fn integers_and_scaled_floats_are_not_widened() {
        assert_eq!(to_f32(Dtype::I32, &[0; 4]), None);
        assert_eq!(to_f32(Dtype::F8E4M3, &[0; 4]), None);
        assert_eq!(to_f32(Dtype::F64, &1.5f64.to_le_bytes()), Some(vec![1.5]));
    }
}
