//! The released models as functions, each derived from a relative by the fields that differ.
//!
//! They serve to build and to cost a model without its checkpoint; where a `config.json` is at
//! hand, that one decides. Sources: the papers and the public configurations of the releases.
//! Releases of equal shapes and equal words share a row; the first repository of a row names it.

mod dense;
mod distilled;
mod experts;
mod find;

pub use dense::{
    coder_1_3b, coder_1_3b_instruct, coder_5_7b_mqa, coder_5_7b_mqa_instruct, coder_6_7b,
    coder_6_7b_instruct, coder_7b_v1_5, coder_7b_v1_5_instruct, coder_33b, coder_33b_instruct,
    llm_7b, llm_67b, math_7b,
};
pub use distilled::{
    distill_llama_8b, distill_llama_70b, distill_qwen_1_5b, distill_qwen_7b, distill_qwen_14b,
    distill_qwen_32b,
};
pub use experts::{coder_v2, coder_v2_lite, moe_16b, r1, r1_zero, v2, v2_5, v2_lite, v3, v3_1};
pub use find::{UnknownPreset, find};

use crate::config::Config;

/// The owner of every repository in the table.
pub const OWNER: &str = "deepseek-ai";

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Our name.
    pub name: &'static str,
    /// Repositories with exactly this configuration, without their owner.
    pub hub_ids: &'static [&'static str],
    /// Positions that the release is published for; the configuration may allow more.
    pub context_tokens: u64,
    /// Builds the configuration.
    pub config: fn() -> Config,
}

const fn row(
    name: &'static str,
    context_tokens: u64,
    config: fn() -> Config,
    hub_ids: &'static [&'static str],
) -> Preset {
    Preset { name, hub_ids, context_tokens, config }
}

/// Positions of the releases that are published for "128K".
const LONG: u64 = 128 * 1024;

/// Every shape that was released, by age.
pub const PRESETS: &[Preset] = &[
    row("coder-1.3b", 16384, coder_1_3b, &["deepseek-coder-1.3b-base"]),
    row("coder-1.3b-instruct", 16384, coder_1_3b_instruct, &["deepseek-coder-1.3b-instruct"]),
    row("coder-5.7b-mqa", 16384, coder_5_7b_mqa, &["deepseek-coder-5.7bmqa-base"]),
    row(
        "coder-5.7b-mqa-instruct",
        16384,
        coder_5_7b_mqa_instruct,
        &["deepseek-coder-5.7bmqa-instruct"],
    ),
    row("coder-6.7b", 16384, coder_6_7b, &["deepseek-coder-6.7b-base"]),
    row("coder-6.7b-instruct", 16384, coder_6_7b_instruct, &["deepseek-coder-6.7b-instruct"]),
    row("coder-33b", 16384, coder_33b, &["deepseek-coder-33b-base"]),
    row("coder-33b-instruct", 16384, coder_33b_instruct, &["deepseek-coder-33b-instruct"]),
    row("llm-7b", 4096, llm_7b, &["deepseek-llm-7b-base", "deepseek-llm-7b-chat"]),
    row("llm-67b", 4096, llm_67b, &["deepseek-llm-67b-base", "deepseek-llm-67b-chat"]),
    row("moe-16b", 4096, moe_16b, &["deepseek-moe-16b-base", "deepseek-moe-16b-chat"]),
    row("coder-7b-v1.5", 4096, coder_7b_v1_5, &["deepseek-coder-7b-base-v1.5"]),
    row(
        "coder-7b-v1.5-instruct",
        4096,
        coder_7b_v1_5_instruct,
        &["deepseek-coder-7b-instruct-v1.5"],
    ),
    row(
        "math-7b",
        4096,
        math_7b,
        &["deepseek-math-7b-base", "deepseek-math-7b-instruct", "deepseek-math-7b-rl"],
    ),
    row("v2", LONG, v2, &["DeepSeek-V2", "DeepSeek-V2-Chat", "DeepSeek-V2-Chat-0628"]),
    row("v2-lite", 32768, v2_lite, &["DeepSeek-V2-Lite", "DeepSeek-V2-Lite-Chat"]),
    row(
        "coder-v2-lite",
        LONG,
        coder_v2_lite,
        &["DeepSeek-Coder-V2-Lite-Base", "DeepSeek-Coder-V2-Lite-Instruct"],
    ),
    row(
        "coder-v2",
        LONG,
        coder_v2,
        &[
            "DeepSeek-Coder-V2-Base",
            "DeepSeek-Coder-V2-Instruct",
            "DeepSeek-Coder-V2-Instruct-0724",
        ],
    ),
    row("v2.5", LONG, v2_5, &["DeepSeek-V2.5", "DeepSeek-V2.5-1210"]),
    row("v3", LONG, v3, &["DeepSeek-V3-Base", "DeepSeek-V3", "DeepSeek-V3-0324"]),
    row("r1-zero", LONG, r1_zero, &["DeepSeek-R1-Zero"]),
    row("r1", LONG, r1, &["DeepSeek-R1", "DeepSeek-R1-0528"]),
    row("distill-qwen-1.5b", LONG, distill_qwen_1_5b, &["DeepSeek-R1-Distill-Qwen-1.5B"]),
    row("distill-qwen-7b", LONG, distill_qwen_7b, &["DeepSeek-R1-Distill-Qwen-7B"]),
    row("distill-qwen-14b", LONG, distill_qwen_14b, &["DeepSeek-R1-Distill-Qwen-14B"]),
    row("distill-qwen-32b", LONG, distill_qwen_32b, &["DeepSeek-R1-Distill-Qwen-32B"]),
    row("distill-llama-8b", LONG, distill_llama_8b, &["DeepSeek-R1-Distill-Llama-8B"]),
    row("distill-llama-70b", LONG, distill_llama_70b, &["DeepSeek-R1-Distill-Llama-70B"]),
    row("v3.1", LONG, v3_1, &["DeepSeek-V3.1-Base", "DeepSeek-V3.1", "DeepSeek-V3.1-Terminus"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dense_model_keeps_every_layer_dense() {
        for preset in PRESETS {
            let config = (preset.config)();
            if config.n_routed_experts.is_none() {
                assert_eq!(config.first_k_dense_replace, config.num_hidden_layers, "{preset:?}");
            }
        }
    }
}
