//! Turning a stored matrix into another format while a model is read, or a checkpoint converted.

use crate::names::Role;
use fathom_kernels::quant::{self, Format, ScaleKind};
use fathom_kernels::stored::{Matrix, Scales, SharedBytes};
use fathom_kernels::threads::run_chunks;

/// Blocks of weights stored as FP8, as DeepSeek publishes them.
pub(crate) const FP8_BLOCK: [usize; 2] = [128, 128];

/// The format that a matrix of this role and row length gets where `wanted` is asked for.
///
/// Routers keep theirs: they are small, and a wrong choice of expert costs much. The embedding and the
/// head get at least six bits, and no FP8, which checkpoints have in linear layers only. A row that is
/// no whole blocks of a format falls back to one of smaller blocks.
pub fn requantized_format(role: Role, n_in: usize, stored: Format, wanted: Format) -> Format {
    let fits = |format: Format| format.row_bytes(n_in).is_some();
    let wide = [Format::F32, Format::F16, Format::Bf16];
    let wanted = match role {
        Role::Router => return stored,
        Role::Embedding | Role::Head | Role::EmbeddingCopy | Role::HeadCopy => match wanted {
            Format::F8E4M3 => return stored,
            wanted => six_bits_at_least(wanted),
        },
        _ => wanted,
    };
    if fits(wanted) {
        return wanted;
    }
    let smaller = with_smaller_blocks(wanted);
    match (fits(smaller), wide.contains(&stored)) {
        (true, _) => smaller,
        (false, true) => stored,
        (false, false) => Format::Bf16,
    }
}

/// What every token goes through is worth six bits, as in llama.cpp's mixtures.
pub(crate) fn six_bits_at_least(wanted: Format) -> Format {
    if wanted.bits_per_weight() < 6.0 { Format::Q6K } else { wanted }
}

/// The format of blocks of 32, with as many bits or more, that rows get which are no whole blocks of
/// `wanted`, as in llama.cpp.
pub(crate) fn with_smaller_blocks(wanted: Format) -> Format {
    match wanted {
        Format::Q2K | Format::Q3K | Format::Iq4Xs => Format::Iq4Nl,
        Format::Q4K => Format::Q5_0,
        Format::Q5K => Format::Q5_1,
        _ => Format::Q8_0,
    }
}

/// The matrix in the format that `wanted` means for its role; itself if it is in that already.
pub(crate) fn requantize(matrix: Matrix, role: Role, wanted: Format) -> Matrix {
    let format = requantized_format(role, matrix.n_in, matrix.format, wanted);
    if format == matrix.format {
        return matrix;
    }
    let made = if format == Format::F8E4M3 { to_fp8(&matrix) } else { to_blocks(&matrix, format) };
    matrix.bytes().release();
    made
}

/// Row by row, so that no more than a row per thread is ever widened.
fn to_blocks(matrix: &Matrix, format: Format) -> Matrix {
    let (n_out, n_in) = (matrix.n_out, matrix.n_in);
    let row_bytes = format.row_bytes(n_in).expect("the format was chosen for this row length");
    let mut bytes = vec![0u8; n_out * row_bytes];
    run_chunks(&mut bytes, row_bytes, |row, out| {
        let mut values = vec![0.0; n_in];
        matrix.row(row, &mut values);
        quant::quantize(format, &values, out);
    });
    Matrix::new(format, n_out, n_in, SharedBytes::owned(bytes)).expect("as many bytes as rows take")
}

fn to_fp8(matrix: &Matrix) -> Matrix {
    let (n_out, n_in) = (matrix.n_out, matrix.n_in);
    let (codes, scales) =
        quant::fp8_blocks(&matrix.to_f32(), n_out, n_in, FP8_BLOCK, ScaleKind::F32);
    Matrix::new(Format::F8E4M3, n_out, n_in, SharedBytes::owned(codes))
        .and_then(|m| m.with_scales(Scales { values: scales.into(), block: FP8_BLOCK }))
        .expect("blocks cover the matrix")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_row_lengths_decide_what_a_wish_means() {
        let check = |role, n_in, wanted, expected| {
            assert_eq!(requantized_format(role, n_in, Format::Bf16, wanted), expected);
        };
        check(Role::Matrix, 1536, Format::Q4K, Format::Q4K);
        check(Role::Matrix, 1408, Format::Q4K, Format::Q5_0);
        check(Role::Head, 1408, Format::Q4K, Format::Q8_0);
        check(Role::Matrix, 100, Format::Q4K, Format::Bf16);
        check(Role::Router, 1536, Format::Q4K, Format::Bf16);
        check(Role::Head, 1536, Format::Q4_0, Format::Q6K);
        check(Role::Embedding, 1536, Format::Q8_0, Format::Q8_0);
        check(Role::Embedding, 1536, Format::F8E4M3, Format::Bf16);
        check(Role::Matrix, 100, Format::F8E4M3, Format::F8E4M3);
    }
}
