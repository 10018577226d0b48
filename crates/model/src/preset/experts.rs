//! The releases with experts: MoE-16B, then latent attention from V2 on, then V3 and R1.
//!
//! Sources: arXiv:2401.06066 (MoE), arXiv:2405.04434 (V2), arXiv:2406.11931 (Coder-V2),
//! arXiv:2412.19437 (V3), arXiv:2501.12948 (R1).

use super::dense::llm_7b;
use crate::config::{
    Config, Family, Fp8Quantization, RopeScaling, ScaleFmt, ScoringFunc, TopkMethod,
};

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

/// From 4096 to 163840 positions; the two `mscale` words are equal in every release.
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

/// Coder-V2-Lite: V2-Lite trained on.
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

/// V2.5, the merger of V2-Chat and Coder-V2; attention is scaled by a larger `mscale`.
pub fn v2_5() -> Config {
    Config { rope_scaling: yarn_40(1.0), ..v2() }
}

/// Coder-V2, with the `mscale` of V2.5.
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

/// V3.1: V3 whose FP8 scales are powers of two.
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

/// R1-Zero: V3-Base after reinforcement learning alone.
pub fn r1_zero() -> Config {
    v3()
}
