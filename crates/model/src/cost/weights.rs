//! Bytes of the weights, by the format that they are stored in.
//!
//! A format is that of the matrices. The k-quants take blocks of 256 elements along a row, the
//! others of 32; a row that does not divide is kept in `q8_0`, else in bf16. FP8 is as released:
//! matrices of layers in blocks of 128 x 128 with one f32 scale each, the rest in bf16.

use crate::config::Config;
use crate::names::{Role, TensorSpec, tensors};

/// How matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    F32,
    Bf16,
    Fp8,
    Q8_0,
    Q6K,
    Q5K,
    Q4K,
    Q4_0,
}

impl Stored {
    /// All of them, widest first.
    pub const ALL: [Stored; 8] =
        [Self::F32, Self::Bf16, Self::Fp8, Self::Q8_0, Self::Q6K, Self::Q5K, Self::Q4K, Self::Q4_0];

    /// The name as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_k",
            Self::Q5K => "q5_k",
            Self::Q4K => "q4_k",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Stored> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Elements of a row that are stored together, and their bytes.
    ///
    /// Source: the block structures of ggml: q8_0 is 32 bytes and an f16 scale; the k-quants are
    /// 256 values with their scales in 210, 176 and 144 bytes; q4_0 is 16 bytes and an f16 scale.
    fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::Bf16 => (1, 2),
            Self::Fp8 => (1, 1),
            Self::Q8_0 => (32, 34),
            Self::Q6K => (256, 210),
            Self::Q5K => (256, 176),
            Self::Q4K => (256, 144),
            Self::Q4_0 => (32, 18),
        }
    }

    /// Bytes of a matrix of `rows` rows of `columns` elements.
    pub fn matrix_bytes(self, rows: u64, columns: u64) -> u64 {
        let (len, bytes) = self.block();
        match self {
            Self::Fp8 => rows * columns + 4 * rows.div_ceil(128) * columns.div_ceil(128),
            _ if columns.is_multiple_of(len) => rows * (columns / len) * bytes,
            Self::Q8_0 => Self::Bf16.matrix_bytes(rows, columns),
            _ => Self::Q8_0.matrix_bytes(rows, columns),
        }
    }

    /// Bytes of one tensor of a checkpoint in this format.
    fn tensor_bytes(self, spec: &TensorSpec) -> u64 {
        let n = spec.n_elements() as u64;
        let (rows, columns) = match spec.shape[..] {
            [rows, columns] => (rows as u64, columns as u64),
            _ => (1, n),
        };
        match (spec.role, self) {
            (Role::RouterBias, _) => n * 4,
            (Role::Matrix, _) | (_, Self::F32 | Self::Bf16) => self.matrix_bytes(rows, columns),
            (_, Self::Fp8) => n * 2,
            (Role::Norm | Role::Bias | Role::Router, _) => n * 4,
            _ => self.matrix_bytes(rows, columns),
        }
    }
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
pub fn weight_bytes(config: &Config, stored: Stored) -> WeightBytes {
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
        *part += stored.tensor_bytes(&spec);
    }
    sums
}

/// The format that a configuration says its checkpoint has.
pub fn stored_as_released(config: &Config) -> Stored {
    use crate::config::TorchDtype;
    match (config.quantization_config, config.torch_dtype) {
        (Some(_), _) => Stored::Fp8,
        (None, TorchDtype::Float32) => Stored::F32,
        (None, TorchDtype::Bfloat16 | TorchDtype::Float16) => Stored::Bf16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn matrices_take_the_bytes_of_their_blocks() {
        let bytes = |format: Stored| format.matrix_bytes(2, 512);
        let all: Vec<u64> = Stored::ALL.into_iter().map(bytes).collect();
        assert_eq!(all, [4096, 2048, 1024 + 16, 1088, 840, 704, 576, 576]);
        // 1408 is 5.5 blocks of 256 and 44 of 32; 100 is neither.
        assert_eq!(Stored::Q4K.matrix_bytes(1, 1408), 44 * 34);
        assert_eq!(Stored::Q4K.matrix_bytes(1, 100), 200);
        assert_eq!(Stored::Q4_0.matrix_bytes(1, 100), 200);
        assert_eq!(Stored::Fp8.matrix_bytes(129, 128), 129 * 128 + 8);
    }

    #[test]
    fn parts_add_up_to_two_bytes_per_parameter_in_bf16() {
        for preset in preset::PRESETS {
            let config = (preset.config)();
            let bytes = weight_bytes(&config, Stored::Bf16);
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
        assert_eq!(weight_bytes(&tied, Stored::Bf16).embedding, 0);
    }

    #[test]
    fn names_are_read_back() {
        for format in Stored::ALL {
            assert_eq!(Stored::from_name(format.name()), Some(format));
        }
        assert_eq!(Stored::from_name("q9"), None);
    }
}
