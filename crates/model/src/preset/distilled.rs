//! The distilled models: Qwen2 and Llama 3 bases trained on samples of R1.
//!
//! Source: arXiv:2501.12948, section 2.4, and the public configurations of the bases.

use super::dense::{llm_7b, with_layers};
use crate::config::{Config, Family, RopeScaling};

/// R1's samples in a Qwen2 base; the head is not tied, unlike in the 1.5B base model.
pub fn distill_qwen_1_5b() -> Config {
    let base = Config {
        model_type: Family::Qwen2,
        vocab_size: 151936,
        hidden_size: 1536,
        intermediate_size: 8960,
        num_attention_heads: 12,
        num_key_value_heads: 2,
        attention_bias: true,
        max_position_embeddings: 131072,
        bos_token_id: Some(151643),
        eos_token_id: vec![151643],
        pad_token_id: Some(151643),
        ..llm_7b()
    };
    with_layers(28, base)
}

/// In Qwen2.5-Math-7B.
pub fn distill_qwen_7b() -> Config {
    Config {
        vocab_size: 152064,
        hidden_size: 3584,
        intermediate_size: 18944,
        num_attention_heads: 28,
        num_key_value_heads: 4,
        ..distill_qwen_1_5b()
    }
}

/// In Qwen2.5-14B.
pub fn distill_qwen_14b() -> Config {
    let base = Config {
        hidden_size: 5120,
        intermediate_size: 13824,
        num_attention_heads: 40,
        num_key_value_heads: 8,
        rope_theta: 1e6,
        rms_norm_eps: 1e-5,
        ..distill_qwen_7b()
    };
    with_layers(48, base)
}

/// In Qwen2.5-32B.
pub fn distill_qwen_32b() -> Config {
    with_layers(64, Config { intermediate_size: 27648, ..distill_qwen_14b() })
}

/// R1's samples in Llama 3.1 8B.
pub fn distill_llama_8b() -> Config {
    let base = Config {
        vocab_size: 128256,
        intermediate_size: 14336,
        num_key_value_heads: 8,
        rope_theta: 500000.0,
        rope_scaling: Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        }),
        max_position_embeddings: 131072,
        rms_norm_eps: 1e-5,
        bos_token_id: Some(128000),
        eos_token_id: vec![128001],
        pad_token_id: None,
        ..llm_7b()
    };
    with_layers(32, base)
}

/// In Llama 3.3 70B.
pub fn distill_llama_70b() -> Config {
    let wide = Config {
        hidden_size: 8192,
        intermediate_size: 28672,
        num_attention_heads: 64,
        ..distill_llama_8b()
    };
    with_layers(80, wide)
}
