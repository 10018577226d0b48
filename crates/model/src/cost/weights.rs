//! Bytes of the weights, by the format that they are stored in.
//!
//! A format is the one asked for, of matrices; what each tensor gets of it is what the loader does:
//! routers stay in bf16, embedding and head keep six bits, rows that are no whole blocks fall back
//! to smaller ones. bf16 and FP8 are as released: FP8 for the matrices of layers, in blocks of
//! 128 x 128 with one f32 scale each, the rest in bf16.

use crate::config::{Config, TorchDtype};
use crate::load::requantized_format;
use crate::names::{Role, TensorSpec, tensors};
use fathom_kernels::quant::Format;

/// The formats that a plan compares, widest first.
pub const COMPARED: [Format; 8] = [
    Format::F32,
    Format::Bf16,
    Format::F8E4M3,
    Format::Q8_0,
    Format::Q6K,
    Format::Q5K,
    Format::Q4K,
    Format::Q4_0,
];

/// Bytes of a matrix of `rows` rows of `columns` elements, in a format that divides its rows.
fn matrix_bytes(format: Format, rows: usize, columns: usize) -> u64 {
    let scales = match format {
        Format::F8E4M3 => 4 * rows.div_ceil(128) * columns.div_ceil(128),
        _ => 0,
    };
    let row_bytes = format.row_bytes(columns).expect("the format was chosen for this row length");
    rows as u64 * row_bytes as u64 + scales as u64
}

/// The format of one tensor in a model whose matrices were asked to be in `wanted`.
fn tensor_format(wanted: Format, role: Role, columns: usize) -> Format {
    match (role, wanted) {
        (Role::RouterBias, _) => Format::F32,
        (Role::Matrix, Format::F8E4M3) | (_, Format::F32 | Format::F16 | Format::Bf16) => wanted,
        (_, Format::F8E4M3) => Format::Bf16,
        (Role::Norm | Role::Bias, _) => Format::F32,
        _ => requantized_format(role, columns, Format::Bf16, wanted),
    }
}

fn tensor_bytes(wanted: Format, spec: &TensorSpec) -> u64 {
    let (rows, columns) = match spec.shape[..] {
        [rows, columns] => (rows, columns),
        _ => (1, spec.n_elements()),
    };
    matrix_bytes(tensor_format(wanted, spec.role, columns), rows, columns)
}

/// Bytes of a model's weights by how they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WeightBytes {
    /// The input embedding, of which a token reads one row; 0 where it is the head as well.
    pub embedding: u64,
    /// What every token reads: attention, dense and shared MLPs, routers, norms, head.
    pub every_token: u64,
    /// The routed experts of all layers.
    pub routed: u64,
    /// The MTP module as stored, with its copies of embedding and head.
    pub mtp: u64,
}

impl WeightBytes {
    /// The main model, without the MTP module.
    pub fn main(&self) -> u64 {
        self.embedding + self.every_token + self.routed
    }

    /// Everything that a checkpoint holds.
    pub fn total(&self) -> u64 {
        self.main() + self.mtp
    }
}

/// Counts the bytes of a checked configuration's weights. Walks the table of tensors.
pub fn weight_bytes(config: &Config, format: Format) -> WeightBytes {
    let mut sums = WeightBytes::default();
    for spec in tensors(config) {
        let part = match () {
            () if spec.mtp => &mut sums.mtp,
            () if spec.expert.is_some() => &mut sums.routed,
            () if spec.role == Role::Embedding && !config.tie_word_embeddings => {
                &mut sums.embedding
            }
            () => &mut sums.every_token,
        };
        *part += tensor_bytes(format, &spec);
    }
    sums
}

/// The format that a configuration says its checkpoint has.
pub fn released_format(config: &Config) -> Format {
    match (config.quantization_config, config.torch_dtype) {
        (Some(_), _) => Format::F8E4M3,
        (None, TorchDtype::Float32) => Format::F32,
        (None, TorchDtype::Bfloat16) => Format::Bf16,
        (None, TorchDtype::Float16) => Format::F16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn matrices_take_the_bytes_of_their_blocks() {
        let all = COMPARED.map(|format| matrix_bytes(format, 2, 512));
        assert_eq!(all, [4096, 2048, 1024 + 16, 1088, 840, 704, 576, 576]);
        assert_eq!(matrix_bytes(Format::F8E4M3, 129, 128), 129 * 128 + 8);
        let spec = |role, columns| TensorSpec {
            name: String::new(),
            shape: vec![1, columns],
            role,
            layer: None,
            expert: None,
            mtp: false,
        };
        let q4_k = |role, columns| tensor_bytes(Format::Q4K, &spec(role, columns));
        assert_eq!(q4_k(Role::Matrix, 256), 144);
        // 1408 is 5.5 blocks of 256 and 44 of 32, which are q5_0; 100 is neither.
        assert_eq!(q4_k(Role::Matrix, 1408), 44 * 22);
        assert_eq!(q4_k(Role::Matrix, 100), 200);
        assert_eq!((q4_k(Role::Head, 256), q4_k(Role::Router, 256)), (210, 512));
        assert_eq!(tensor_bytes(Format::F8E4M3, &spec(Role::Head, 256)), 512);
    }

    #[test]
    fn parts_add_up_to_two_bytes_per_parameter_in_bf16() {
        for preset in preset::PRESETS {
            let config = (preset.config)();
            let bytes = weight_bytes(&config, Format::Bf16);
            let counts = crate::cost::parameters(&config);
            let biases: u64 = tensors(&config)
                .iter()
                .filter(|spec| spec.role == Role::RouterBias && !spec.mtp)
                .map(|spec| spec.n_elements() as u64)
                .sum();
            assert_eq!(bytes.main(), 2 * counts.total + 2 * biases, "{}", preset.name);
            let without_embedding = counts.total - counts.active_without_embedding;
            assert!(bytes.embedding <= 2 * without_embedding);
        }
        let tied = Config { tie_word_embeddings: true, ..preset::distill_qwen_1_5b() };
        assert_eq!(weight_bytes(&tied, Format::Bf16).embedding, 0);
    }
}
