//! The released models as functions, each derived from a relative by the fields that differ.
//!
//! They serve to build and to cost a model without its checkpoint; where a `config.json` is at
//! hand, that one decides. Sources: the papers and the public configurations of the releases. Ids
//! of the base models are given; instruct models end their texts with ids of their own.

use crate::config::{
    Config, Family, Fp8Quantization, RopeScaling, ScaleFmt, ScoringFunc, TopkMethod, TorchDtype,
};

/// Our name, the repository of the base model, the configuration.
pub type Preset = (&'static str, &'static str, fn() -> Config);

/// Every shape that was released, by age.
pub const PRESETS: &[Preset] = &[
    ("coder-1.3b", "deepseek-ai/deepseek-coder-1.3b-base", coder_1_3b),
    ("coder-5.7b-mqa", "deepseek-ai/deepseek-coder-5.7bmqa-base", coder_5_7b_mqa),
    ("coder-6.7b", "deepseek-ai/deepseek-coder-6.7b-base", coder_6_7b),
    ("coder-33b", "deepseek-ai/deepseek-coder-33b-base", coder_33b),
    ("coder-7b-v1.5", "deepseek-ai/deepseek-coder-7b-base-v1.5", coder_7b_v1_5),
    ("llm-7b", "deepseek-ai/deepseek-llm-7b-base", llm_7b),
    ("llm-67b", "deepseek-ai/deepseek-llm-67b-base", llm_67b),
    ("math-7b", "deepseek-ai/deepseek-math-7b-base", math_7b),
    ("moe-16b", "deepseek-ai/deepseek-moe-16b-base", moe_16b),
    ("v2-lite", "deepseek-ai/DeepSeek-V2-Lite", v2_lite),
    ("v2", "deepseek-ai/DeepSeek-V2", v2),
    ("coder-v2-lite", "deepseek-ai/DeepSeek-Coder-V2-Lite-Base", coder_v2_lite),
    ("coder-v2", "deepseek-ai/DeepSeek-Coder-V2-Base", coder_v2),
    ("v2.5", "deepseek-ai/DeepSeek-V2.5", v2_5),
    ("v3", "deepseek-ai/DeepSeek-V3-Base", v3),
    ("v3.1", "deepseek-ai/DeepSeek-V3.1", v3_1),
    ("r1-zero", "deepseek-ai/DeepSeek-R1-Zero", r1_zero),
    ("r1", "deepseek-ai/DeepSeek-R1", r1),
    ("distill-qwen-1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", distill_qwen_1_5b),
    ("distill-qwen-7b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", distill_qwen_7b),
    ("distill-qwen-14b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", distill_qwen_14b),
    ("distill-qwen-32b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", distill_qwen_32b),
    ("distill-llama-8b", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", distill_llama_8b),
    ("distill-llama-70b", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", distill_llama_70b),
];

/// Other repositories (without `deepseek-ai/`) with exactly the shape of a preset.
pub const ALIASES: &[(&str, &str)] = &[
    ("deepseek-coder-1.3b-instruct", "coder-1.3b"),
    ("deepseek-coder-5.7bmqa-instruct", "coder-5.7b-mqa"),
    ("deepseek-coder-6.7b-instruct", "coder-6.7b"),
    ("deepseek-coder-33b-instruct", "coder-33b"),
    ("deepseek-coder-7b-instruct-v1.5", "coder-7b-v1.5"),
    ("deepseek-llm-7b-chat", "llm-7b"),
    ("deepseek-llm-67b-chat", "llm-67b"),
    ("deepseek-math-7b-instruct", "math-7b"),
    ("deepseek-math-7b-rl", "math-7b"),
    ("deepseek-moe-16b-chat", "moe-16b"),
    ("DeepSeek-V2-Lite-Chat", "v2-lite"),
    ("DeepSeek-V2-Chat", "v2"),
    ("DeepSeek-V2-Chat-0628", "v2"),
    ("DeepSeek-Coder-V2-Lite-Instruct", "coder-v2-lite"),
    ("DeepSeek-Coder-V2-Instruct", "coder-v2"),
    ("DeepSeek-Coder-V2-Instruct-0724", "coder-v2"),
    ("DeepSeek-V2.5-1210", "v2.5"),
    ("DeepSeek-V3", "v3"),
    ("DeepSeek-V3-0324", "v3"),
    ("DeepSeek-R1-0528", "r1"),
];

/// The preset of this name: ours, an alias, or a repository with or without its owner, in any case.
pub fn find(name: &str) -> Option<Config> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("deepseek-ai/").unwrap_or(&name);
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    let name = alias.map_or(name, |(_, preset)| preset);
    let is_named = |preset: &&Preset| {
        let repository = preset.1.trim_start_matches("deepseek-ai/");
        preset.0 == name || repository.eq_ignore_ascii_case(name)
    };
    PRESETS.iter().find(is_named).map(|(_, _, preset)| preset())
}

/// DeepSeek LLM 7B, arXiv:2401.02954, table 2; the root of all others.
pub fn llm_7b() -> Config {
    Config {
        model_type: Family::Llama,
        vocab_size: 102400,
        hidden_size: 4096,
        intermediate_size: 11008,
        num_hidden_layers: 30,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        head_dim: 128,
        attention_bias: false,
        q_lora_rank: None,
        kv_lora_rank: None,
        qk_nope_head_dim: 0,
        qk_rope_head_dim: 0,
        v_head_dim: 0,
        n_routed_experts: None,
        n_shared_experts: 0,
        moe_intermediate_size: 0,
        num_experts_per_tok: 0,
        first_k_dense_replace: 30,
        moe_layer_freq: 1,
        n_group: 1,
        topk_group: 1,
        topk_method: TopkMethod::Greedy,
        scoring_func: ScoringFunc::Softmax,
        norm_topk_prob: false,
        routed_scaling_factor: 1.0,
        aux_loss_alpha: 0.0,
        seq_aux: true,
        rope_theta: 10000.0,
        rope_scaling: None,
        rope_interleave: false,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: false,
        use_sliding_window: false,
        sliding_window: None,
        num_nextn_predict_layers: 0,
        bos_token_id: Some(100000),
        eos_token_id: vec![100001],
        pad_token_id: Some(100001),
        torch_dtype: TorchDtype::Bfloat16,
        initializer_range: 0.02,
        quantization_config: None,
    }
}

/// A dense model keeps all its layers dense; this says so in the one word that counts them.
fn with_layers(num_hidden_layers: usize, base: Config) -> Config {
    Config { num_hidden_layers, first_k_dense_replace: num_hidden_layers, ..base }
}

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

pub fn coder_5_7b_mqa() -> Config {
    Config { num_key_value_heads: 1, ..coder_6_7b() }
}

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

/// DeepSeekMoE 16B, arXiv:2401.06066, section 5.1.
pub fn moe_16b() -> Config {
    Config {
        model_type: Family::Deepseek,
        hidden_size: 2048,
        intermediate_size: 10944,
        num_hidden_layers: 28,
        num_attention_heads: 16,
        num_key_value_heads: 16,
        n_routed_experts: Some(64),
        n_shared_experts: 2,
        moe_intermediate_size: 1408,
        num_experts_per_tok: 6,
        first_k_dense_replace: 1,
        aux_loss_alpha: 0.001,
        ..llm_7b()
    }
}

fn yarn_40(mscale: f64) -> Option<RopeScaling> {
    Some(RopeScaling::Yarn {
        factor: 40.0,
        original_max_position_embeddings: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        mscale,
        mscale_all_dim: mscale,
    })
}

/// DeepSeek-V2-Lite, arXiv:2405.04434, appendix B.
pub fn v2_lite() -> Config {
    Config {
        model_type: Family::DeepseekV2,
        num_hidden_layers: 27,
        head_dim: 64,
        kv_lora_rank: Some(512),
        qk_nope_head_dim: 128,
        qk_rope_head_dim: 64,
        v_head_dim: 128,
        rope_scaling: yarn_40(0.707),
        rope_interleave: true,
        max_position_embeddings: 163840,
        ..moe_16b()
    }
}

pub fn coder_v2_lite() -> Config {
    v2_lite()
}

/// DeepSeek-V2, arXiv:2405.04434, section 3.1.2.
pub fn v2() -> Config {
    Config {
        hidden_size: 5120,
        intermediate_size: 12288,
        num_hidden_layers: 60,
        num_attention_heads: 128,
        num_key_value_heads: 128,
        q_lora_rank: Some(1536),
        n_routed_experts: Some(160),
        moe_intermediate_size: 1536,
        n_group: 8,
        topk_group: 3,
        topk_method: TopkMethod::GroupLimitedGreedy,
        routed_scaling_factor: 16.0,
        ..v2_lite()
    }
}

pub fn v2_5() -> Config {
    Config { rope_scaling: yarn_40(1.0), ..v2() }
}

pub fn coder_v2() -> Config {
    v2_5()
}

/// DeepSeek-V3, arXiv:2412.19437, section 4.2, with its MTP layer and FP8 weights.
pub fn v3() -> Config {
    Config {
        model_type: Family::DeepseekV3,
        vocab_size: 129280,
        hidden_size: 7168,
        intermediate_size: 18432,
        num_hidden_layers: 61,
        n_routed_experts: Some(256),
        n_shared_experts: 1,
        moe_intermediate_size: 2048,
        num_experts_per_tok: 8,
        first_k_dense_replace: 3,
        topk_group: 4,
        topk_method: TopkMethod::NoauxTc,
        scoring_func: ScoringFunc::Sigmoid,
        norm_topk_prob: true,
        routed_scaling_factor: 2.5,
        num_nextn_predict_layers: 1,
        bos_token_id: Some(0),
        eos_token_id: vec![1],
        pad_token_id: Some(1),
        quantization_config: Some(Fp8Quantization {
            weight_block_size: [128, 128],
            scale_fmt: ScaleFmt::Float,
        }),
        ..v2_5()
    }
}

/// V3 with scales that are powers of two.
pub fn v3_1() -> Config {
    let mut config = v3();
    config.quantization_config =
        config.quantization_config.map(|fp8| Fp8Quantization { scale_fmt: ScaleFmt::Ue8m0, ..fp8 });
    config
}

/// DeepSeek-R1, arXiv:2501.12948: V3's shapes.
pub fn r1() -> Config {
    v3()
}

pub fn r1_zero() -> Config {
    v3()
}

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

pub fn distill_llama_70b() -> Config {
    let wide = Config {
        hidden_size: 8192,
        intermediate_size: 28672,
        num_attention_heads: 64,
        ..distill_llama_8b()
    };
    with_layers(80, wide)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_preset_is_sound_and_found_by_its_names() {
        for (name, repository, preset) in PRESETS {
            let config = preset();
            assert_eq!(config.check(), Ok(()), "{name}");
            assert_eq!(find(name).as_ref(), Some(&config));
            assert_eq!(find(repository).as_ref(), Some(&config));
            assert_eq!(find(&repository.to_uppercase()).as_ref(), Some(&config));
        }
        for (alias, _) in ALIASES {
            assert!(find(alias).is_some(), "{alias}");
            assert!(find(&format!("deepseek-ai/{alias}")).is_some(), "{alias}");
        }
        assert_eq!(find("gpt-2"), None);
    }

    #[test]
    fn names_are_given_once() {
        let mut names = BTreeSet::new();
        for (name, repository, _) in PRESETS {
            assert!(names.insert(name.to_lowercase()) && names.insert(repository.to_lowercase()));
        }
        for (alias, _) in ALIASES {
            assert!(names.insert(format!("deepseek-ai/{}", alias.to_lowercase())), "{alias}");
        }
    }

    #[test]
    fn a_dense_model_keeps_every_layer_dense() {
        for (name, _, preset) in PRESETS {
            let config = preset();
            if config.n_routed_experts.is_none() {
                assert_eq!(config.first_k_dense_replace, config.num_hidden_layers, "{name}");
            }
        }
    }
}
