//! The dense releases: LLM, Coder, Math. `llm_7b` is the root of all presets.
//!
//! Sources: arXiv:2401.02954 (LLM), arXiv:2401.14196 (Coder), arXiv:2402.03300 (Math).

use crate::config::{Config, Family, RopeScaling, TorchDtype};

/// DeepSeek LLM 7B, arXiv:2401.02954, table 2; the root of all others.
pub fn llm_7b() -> Config {
    Config {
        vocab_size: 102400,
        hidden_size: 4096,
        intermediate_size: 11008,
        num_hidden_layers: 30,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        head_dim: 128,
        first_k_dense_replace: 30,
        rope_theta: 10000.0,
        rope_scaling: None,
        rope_interleave: false,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: false,
        num_nextn_predict_layers: 0,
        bos_token_id: Some(100000),
        eos_token_id: vec![100001],
        pad_token_id: Some(100001),
        torch_dtype: TorchDtype::Bfloat16,
        initializer_range: 0.02,
        ..Config::neutral(Family::Llama)
    }
}

/// A dense model keeps all its layers dense; this says so in the one word that counts them.
pub(super) fn with_layers(num_hidden_layers: usize, base: Config) -> Config {
    Config { num_hidden_layers, first_k_dense_replace: num_hidden_layers, ..base }
}

/// DeepSeek LLM 67B: grouped attention, deeper rather than wider.
pub fn llm_67b() -> Config {
    let wide = Config {
        hidden_size: 8192,
        intermediate_size: 22016,
        num_attention_heads: 64,
        num_key_value_heads: 8,
        ..llm_7b()
    };
    with_layers(95, wide)
}

/// DeepSeekMath, arXiv:2402.03300: continued from Coder v1.5.
pub fn math_7b() -> Config {
    llm_7b()
}

/// Coder v1.5: continued from LLM 7B, with its vocabulary and short context.
pub fn coder_7b_v1_5() -> Config {
    llm_7b()
}

/// DeepSeek-Coder, arXiv:2401.14196, table 2, with the long context of section 3.6.
pub fn coder_6_7b() -> Config {
    let base = Config {
        vocab_size: 32256,
        max_position_embeddings: 16384,
        rope_theta: 100000.0,
        rope_scaling: Some(RopeScaling::Linear { factor: 4.0 }),
        bos_token_id: Some(32013),
        eos_token_id: vec![32014],
        pad_token_id: Some(32014),
        ..llm_7b()
    };
    with_layers(32, base)
}

/// The smallest Coder.
pub fn coder_1_3b() -> Config {
    let narrow = Config {
        hidden_size: 2048,
        intermediate_size: 5504,
        num_attention_heads: 16,
        num_key_value_heads: 16,
        ..coder_6_7b()
    };
    with_layers(24, narrow)
}

/// Coder 6.7B with one key-value head for all queries.
pub fn coder_5_7b_mqa() -> Config {
    Config { num_key_value_heads: 1, ..coder_6_7b() }
}

/// The largest Coder: 7 queries share a key-value head.
pub fn coder_33b() -> Config {
    let wide = Config {
        hidden_size: 7168,
        intermediate_size: 19200,
        num_attention_heads: 56,
        num_key_value_heads: 8,
        ..coder_6_7b()
    };
    with_layers(62, wide)
}

/// An instruct Coder ends its answers with `<|EOT|>`, which its base never writes.
fn ends_with(eot: u32, base: Config) -> Config {
    Config { eos_token_id: vec![eot], ..base }
}

/// Coder 1.3B Instruct.
pub fn coder_1_3b_instruct() -> Config {
    ends_with(32021, coder_1_3b())
}

/// Coder 5.7B MQA Instruct.
pub fn coder_5_7b_mqa_instruct() -> Config {
    ends_with(32021, coder_5_7b_mqa())
}

/// Coder 6.7B Instruct.
pub fn coder_6_7b_instruct() -> Config {
    ends_with(32021, coder_6_7b())
}

/// Coder 33B Instruct.
pub fn coder_33b_instruct() -> Config {
    ends_with(32021, coder_33b())
}

/// Coder v1.5 Instruct.
pub fn coder_7b_v1_5_instruct() -> Config {
    ends_with(100015, coder_7b_v1_5())
}
