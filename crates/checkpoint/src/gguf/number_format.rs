//! The number formats that GGUF files name by id, with the bytes each takes.
//!
//! Those we compute with are `fathom_kernels::quant::Format`. This table is wider so that a file with an exotic tensor can
//! still be opened, listed and checked. Source: `ggml_type` and the block structs of ggml.

use fathom_kernels::quant::Format;

/// A number format by its id in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgmlType {
    pub id: u32,
    pub name: &'static str,
    /// Elements in a block.
    pub block_len: u32,
    pub block_bytes: u32,
}

/// The format of an id, if it is known.
pub fn ggml_type(id: u32) -> Option<GgmlType> {
    TABLE.iter().find(|row| row.0 == id).map(|&(id, name, block_len, block_bytes)| GgmlType {
        id,
        name,
        block_len,
        block_bytes,
    })
}

/// Id, name, elements of a block, bytes of a block.
const TABLE: &[(u32, &str, u32, u32)] = &[
    (0, "f32", 1, 4),
    (1, "f16", 1, 2),
    (2, "q4_0", 32, 18),
    (3, "q4_1", 32, 20),
    (6, "q5_0", 32, 22),
    (7, "q5_1", 32, 24),
    (8, "q8_0", 32, 34),
    (9, "q8_1", 32, 40),
    (10, "q2_k", 256, 84),
    (11, "q3_k", 256, 110),
    (12, "q4_k", 256, 144),
    (13, "q5_k", 256, 176),
    (14, "q6_k", 256, 210),
    (15, "q8_k", 256, 292),
    (16, "iq2_xxs", 256, 66),
    (17, "iq2_xs", 256, 74),
    (18, "iq3_xxs", 256, 98),
    (19, "iq1_s", 256, 50),
    (20, "iq4_nl", 32, 18),
    (21, "iq3_s", 256, 110),
    (22, "iq2_s", 256, 82),
    (23, "iq4_xs", 256, 136),
    (24, "i8", 1, 1),
    (25, "i16", 1, 2),
    (26, "i32", 1, 4),
    (27, "i64", 1, 8),
    (28, "f64", 1, 8),
    (29, "iq1_m", 256, 56),
    (30, "bf16", 1, 2),
    (34, "tq1_0", 256, 54),
    (35, "tq2_0", 256, 66),
    (39, "mxfp4", 32, 17),
    (40, "nvfp4", 64, 36),
];

/// The formats whose numbers can be read, for people.
pub(super) fn readable_names() -> String {
    let readable = Format::ALL.into_iter().filter(|format| format.ggml_type().is_some());
    readable.map(Format::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_formats_that_are_computed_with() {
        for format in Format::ALL {
            let Some(id) = format.ggml_type() else { continue };
            let row = ggml_type(id).expect("every readable format has a row");
            assert_eq!(row.name, format.name());
            assert_eq!(row.block_len as usize, format.block_len());
            assert_eq!(row.block_bytes as usize, format.block_bytes());
        }
    }
}
