//! Blocks taken apart but not widened: what integer products read.
//!
//! A weight is `(code − middle)·scale + min`. Scales are those that [`super::dequantize`] multiplies
//! with, so both views of a block give the same weight, bit for bit.

use super::{Format, block32, half_at, iq4, k_min, k_sign, pairs, part};

/// Weights that are taken apart at a time: one large block, or eight small ones.
pub(crate) const CHUNK: usize = 256;

/// Up to [`CHUNK`] weights of a row. Places past the end of the row hold anything.
#[derive(Clone)]
pub(crate) struct Codes {
    /// One code per weight.
    pub(crate) codes: [u8; CHUNK],
    /// One scale per sub-block.
    pub(crate) scales: [f32; 16],
    /// What is added to the weights of a sub-block; zeros where the format has no minima.
    pub(crate) mins: [f32; 16],
}

/// How the sub-blocks of a format are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    /// The code that stands for zero.
    pub(crate) middle: i32,
    /// Weights under one scale: 16 or 32.
    pub(crate) group: usize,
    /// Whether sub-blocks have minima.
    pub(crate) has_mins: bool,
}

/// How `format` codes its weights; none of a floating-point format.
pub(crate) const fn coding(format: Format) -> Option<Coding> {
    let (middle, group, has_mins) = match format {
        Format::F32 | Format::F16 | Format::Bf16 | Format::F8E4M3 => return None,
        Format::Q8_0 | Format::Iq4Nl | Format::Iq4Xs => (128, 32, false),
        Format::Q4_0 => (8, 32, false),
        Format::Q5_0 => (16, 32, false),
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => (0, 32, true),
        Format::Q2K => (0, 16, true),
        Format::Q3K => (4, 16, false),
        Format::Q6K => (32, 16, false),
    };
    Some(Coding { middle, group, has_mins })
}

impl Codes {
    /// Room for a chunk.
    pub(crate) const fn new() -> Self {
        Codes { codes: [0; CHUNK], scales: [0.0; 16], mins: [0.0; 16] }
    }

    /// Takes the whole blocks `bytes` apart, at most [`CHUNK`] weights of them.
    ///
    /// Panics if `format` has no codes.
    pub(crate) fn read(&mut self, format: Format, bytes: &[u8]) {
        let read: fn(&mut Codes, &[u8]) = match format {
            Format::Q2K => Codes::read_q2_k,
            Format::Q3K => Codes::read_q3_k,
            Format::Q4K | Format::Q5K => Codes::read_q4_k,
            Format::Q6K => Codes::read_q6_k,
            Format::Iq4Xs => Codes::read_iq4_xs,
            _ => {
                for (i, block) in bytes.chunks_exact(format.block_bytes()).enumerate() {
                    self.read_block32(format, block, i);
                }
                return;
            }
        };
        read(self, bytes);
    }

    /// Small block `i` of the chunk.
    fn read_block32(&mut self, format: Format, block: &[u8], i: usize) {
        let codes = &mut self.codes.as_chunks_mut::<32>().0[i];
        self.scales[i] = half_at(block, 0);
        match format {
            Format::Q8_0 => *codes = part::<32>(block, 2).map(|q| q ^ 0x80),
            Format::Q4_0 => *codes = block32::nibbles(part(block, 2)),
            Format::Q4_1 => *codes = block32::nibbles(part(block, 4)),
            Format::Q5_0 => *codes = block32::with_fifth_bits(part(block, 6), part(block, 2)),
            Format::Q5_1 => *codes = block32::with_fifth_bits(part(block, 8), part(block, 4)),
            Format::Iq4Nl => *codes = iq4::values(part(block, 2)),
            _ => unreachable!("`{}` has no small blocks of codes", format.name()),
        }
        if matches!(format, Format::Q4_1 | Format::Q5_1) {
            self.mins[i] = half_at(block, 2);
        }
    }

    fn read_q2_k(&mut self, block: &[u8]) {
        let (d, dmin) = (half_at(block, 80), half_at(block, 82));
        self.codes = pairs(part(block, 16));
        for i in 0..16 {
            self.scales[i] = d * (block[i] & 15) as f32;
            self.mins[i] = -dmin * (block[i] >> 4) as f32;
        }
    }

    fn read_q3_k(&mut self, block: &[u8]) {
        let d = half_at(block, 108);
        let scales = k_sign::unpack_3_k(part(block, 0));
        for i in 0..16 {
            self.scales[i] = d * (scales[i] as f32 - 32.0);
        }
        self.codes = pairs(part(block, 32));
        for i in 0..8 {
            for j in 0..32 {
                self.codes[32 * i + j] |= (block[j] >> i & 1) << 2;
            }
        }
    }

    /// Also `q5_k`, whose fifth bits lie before the nibbles.
    fn read_q4_k(&mut self, block: &[u8]) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let [scales, mins] = k_min::unpack_6_bit(part(block, 4));
        for i in 0..8 {
            self.scales[i] = d * scales[i] as f32;
            self.mins[i] = -dmin * mins[i] as f32;
        }
        self.codes = k_min::nibbles(part(block, block.len() - 128));
        if block.len() == Format::Q5K.block_bytes() {
            for i in 0..8 {
                for j in 0..32 {
                    self.codes[32 * i + j] |= (block[16 + j] >> i & 1) << 4;
                }
            }
        }
    }

    fn read_q6_k(&mut self, block: &[u8]) {
        let d = half_at(block, 208);
        self.codes = k_sign::six_bits(part(block, 0));
        for i in 0..16 {
            self.scales[i] = d * block[192 + i] as i8 as f32;
        }
    }

    fn read_iq4_xs(&mut self, block: &[u8]) {
        for i in 0..8 {
            self.scales[i] = iq4::scale_of_xs(block, i);
            self.codes.as_chunks_mut::<32>().0[i] = iq4::values(part(block, 8 + 16 * i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{dequantize, quantize};
    use crate::testing::noise;

    #[test]
    fn codes_and_scales_give_the_weights_that_widening_gives() {
        for format in Format::ALL {
            let Some(coding) = coding(format) else { continue };
            let mut bytes = vec![0; format.row_bytes(CHUNK).unwrap()];
            quantize(format, &noise(3, CHUNK), &mut bytes);
            let mut want = [0.0; CHUNK];
            dequantize(format, &bytes, &mut want);
            let mut read = Codes::new();
            read.read(format, &bytes);
            for (j, want) in want.iter().enumerate() {
                let i = j / coding.group;
                let code = (read.codes[j] as i32 - coding.middle) as f32;
                let got = code * read.scales[i] + read.mins[i];
                assert_eq!(got, *want, "weight {j} of `{}`", format.name());
            }
        }
    }
}
