//! Models that tests make in a moment.

use fathom_model::Config;

/// What a tiny model is like. Few tokens make guesses of untrained weights often right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tiny {
    /// Grouped queries, no module.
    Grouped { vocab_size: usize, positions: usize },
    /// Latent attention, experts and an MTP module.
    Latent { vocab_size: usize, positions: usize },
}

impl Tiny {
    /// Its configuration.
    pub(crate) fn config(self) -> Config {
        let (words, vocab_size, positions) = match self {
            Tiny::Grouped { vocab_size, positions } => (GROUPED, vocab_size, positions),
            Tiny::Latent { vocab_size, positions } => (LATENT, vocab_size, positions),
        };
        let config = Config::from_text(words).unwrap();
        Config { vocab_size, max_position_embeddings: positions, ..config }
    }
}

const GROUPED: &str = r#"{
    "model_type": "qwen2", "vocab_size": 37, "hidden_size": 24, "intermediate_size": 36,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "max_position_embeddings": 512,
    "initializer_range": 0.3, "tie_word_embeddings": true
}"#;

const LATENT: &str = r#"{
    "model_type": "deepseek_v3", "vocab_size": 11, "hidden_size": 24, "intermediate_size": 36,
    "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512,
    "q_lora_rank": 12, "kv_lora_rank": 8, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4,
    "v_head_dim": 6, "n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 10,
    "num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": true,
    "routed_scaling_factor": 1.5, "num_nextn_predict_layers": 1, "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6, "initializer_range": 0.3, "tie_word_embeddings": false
}"#;
