//! Counts of parameters, cache elements and floating-point operations, per token where said so.
//!
//! Parameters are summed over the table of tensors, so they are those of a checkpoint. A multiply
//! and an add count as two operations; norms, rotations and softmax count as nothing, as usual.

use crate::config::{Attention, Config};
use crate::names::{Role, TensorSpec, tensors};

/// Parameters of a model. The MTP module is never part of `total` and `active`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parameters {
    pub total: u64,
    /// What one token meets: all but the routed experts it is not sent to.
    pub active: u64,
    /// `active` less the embedding, of which a token reads one row. A tied embedding stays: it is
    /// the head.
    pub active_without_embedding: u64,
    /// The MTP module without its copies of embedding and head.
    pub mtp: u64,
    /// The MTP module as stored.
    pub mtp_with_copies: u64,
    /// What one token meets in the MTP module, embedding and head included.
    pub mtp_active: u64,
}

/// Counts the parameters of a checked configuration. Walks the table of tensors: call it once, not
/// per step.
pub fn parameters(config: &Config) -> Parameters {
    let mut sums = Parameters::default();
    let mut embedding = 0;
    for spec in tensors(config) {
        let n = spec.n_elements() as u64;
        let met = if is_met(config, &spec) { n } else { 0 };
        if spec.mtp {
            sums.mtp_with_copies += n;
            sums.mtp += if spec.role.is_copy() { 0 } else { n };
            sums.mtp_active += met;
            continue;
        }
        sums.total += n;
        sums.active += met;
        if spec.role == Role::Embedding && !config.tie_word_embeddings {
            embedding = n;
        }
    }
    sums.active_without_embedding = sums.active - embedding;
    sums
}

/// Whether a token meets this tensor, taking the first experts for the chosen ones: all are alike.
fn is_met(config: &Config, spec: &TensorSpec) -> bool {
    spec.expert.is_none_or(|expert| expert < config.num_experts_per_tok)
}

/// Values kept per token over all main layers: keys and values, or latent and rotary key.
///
/// Source: DeepSeek-V2, arXiv:2405.04434, table 1.
pub fn cache_elements_per_token(config: &Config) -> u64 {
    let per_layer = match config.attention() {
        Attention::Gqa { num_key_value_heads, head_dim, .. } => 2 * num_key_value_heads * head_dim,
        Attention::Mla { kv_lora_rank, qk_rope_head_dim, .. } => kv_lora_rank + qk_rope_head_dim,
    };
    per_layer as u64 * config.num_hidden_layers as u64
}

/// The same in bytes.
pub fn cache_bytes_per_token(config: &Config, bytes_per_element: u64) -> u64 {
    cache_elements_per_token(config) * bytes_per_element
}

/// The two equal ways to compute latent attention; grouped attention knows only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionForm {
    /// Keys and values are rebuilt per head: prefill and training.
    Expanded,
    /// Scores are taken with the cached latent itself: decoding.
    Absorbed,
}

/// Operations of all matrices that a token of the main model meets, head included.
pub fn linear_flops_per_token(config: &Config) -> u64 {
    let is_product = |spec: &TensorSpec| match spec.role {
        Role::Matrix | Role::Router | Role::Head => true,
        Role::Embedding => config.tie_word_embeddings,
        _ => false,
    };
    let met = tensors(config);
    let met = met.iter().filter(|spec| !spec.mtp && is_product(spec) && is_met(config, spec));
    met.map(|spec| 2 * spec.n_elements() as u64).sum()
}

/// Operations of scores and weighted sums for a token that sees `context_tokens` positions.
///
/// In the absorbed form the two halves of `kv_b_proj` act on query and context instead of on the
/// latent; that costs what it costs in the expanded form and is part of the linear share.
pub fn attention_flops_per_token(config: &Config, context_tokens: u64, form: AttentionForm) -> u64 {
    let per_position = match (config.attention(), form) {
        (Attention::Mla { kv_lora_rank, qk_rope_head_dim, .. }, AttentionForm::Absorbed) => {
            2 * kv_lora_rank + qk_rope_head_dim
        }
        _ => config.qk_head_dim() + config.v_dim(),
    };
    let heads = config.num_attention_heads as u64;
    let per_position = 2 * per_position as u64 * heads * config.num_hidden_layers as u64;
    per_position.saturating_mul(context_tokens) // the one product that sizes alone do not bound
}

/// Operations of a forward pass for a token that sees `context_tokens` positions.
pub fn forward_flops_per_token(config: &Config, context_tokens: u64, form: AttentionForm) -> u64 {
    let attention = attention_flops_per_token(config, context_tokens, form);
    linear_flops_per_token(config).saturating_add(attention)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn the_text_part_of_vl_1_3b_has_its_size() {
        let base = preset::coder_1_3b();
        let vl = Config { vocab_size: 102400, intermediate_size: 5632, ..base };
        assert_eq!(parameters(&vl).total, 1_652_656_128);
    }

    /// Training costs three forward passes. The published figures (arXiv:2401.06066, table 3, per
    /// 4096 tokens) do not state how they were counted, so they are met to a few percent only.
    #[test]
    fn training_operations_are_near_the_published_ones() {
        for (config, published, tolerance) in
            [(preset::llm_7b(), 183.5e12, 0.006), (preset::moe_16b(), 74.4e12, 0.025)]
        {
            let forward = forward_flops_per_token(&config, 4096, AttentionForm::Expanded);
            let counted = 3.0 * forward as f64 * 4096.0;
            let off = (counted / published - 1.0).abs();
            assert!(off < tolerance, "{counted:e} against {published:e}");
        }
    }

    #[test]
    fn operations_of_a_small_model_can_be_counted_by_hand() {
        let config = Config {
            vocab_size: 10,
            hidden_size: 4,
            intermediate_size: 6,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 2,
            ..preset::llm_7b()
        };
        // Per layer q 16, k 8, v 8, o 16, three MLP matrices of 24; head 40.
        assert_eq!(linear_flops_per_token(&config), 2 * (2 * (48 + 72) + 40));
        // Two heads, scores and sums over 2 elements each, 2 layers, 5 positions.
        let form = AttentionForm::Expanded;
        assert_eq!(attention_flops_per_token(&config, 5, form), 2 * 2 * 4 * 2 * 5);
        let tied = Config { tie_word_embeddings: true, ..config.clone() };
        assert_eq!(linear_flops_per_token(&tied), linear_flops_per_token(&config));
    }

    #[test]
    fn absorbed_scores_cost_more_arithmetic_per_position() {
        let v3 = preset::v3();
        let per_position = |form| attention_flops_per_token(&v3, 1, form) / (2 * 128 * 61);
        assert_eq!(per_position(AttentionForm::Expanded), 192 + 128);
        assert_eq!(per_position(AttentionForm::Absorbed), 576 + 512);
    }
}
