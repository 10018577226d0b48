//! A model's configuration, in the words of `config.json`, and what follows from it.
//!
//! One flat struct for all architectures: where an architecture lacks a word, the field holds the
//! value that makes the mechanism vanish (`None`, 0 or 1, as noted). Shapes are decided by
//! `attention()`, `gate()`, `rope()` and `is_moe_layer()`, so that no other file asks for a
//! `model_type`.

mod check;
mod error;
mod field;
pub(crate) mod parse;
mod rope;
mod write;

pub use check::{MAX_LAYERS, MAX_POSITIONS, MAX_SIZE};
pub use error::ConfigError;
pub(crate) use field::edits;
pub use field::{Fields, WORDS};
pub use rope::{RopeLayout, RopeScaling, RopeSpec};

/// The architectures, one per `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Llama,
    Qwen2,
    Deepseek,
    DeepseekV2,
    DeepseekV3,
}

/// Everything `config.json` says about a model, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub model_type: Family,
    pub vocab_size: usize,
    pub hidden_size: usize,
    /// Width of the dense layers' MLP.
    pub intermediate_size: usize,
    /// Without the MTP layers.
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    /// Grouped attention: elements of a head. MLA: `qk_rope_head_dim`, as `transformers` has it.
    pub head_dim: usize,
    /// Biases on q, k and v; the output projection has none in any architecture here.
    pub attention_bias: bool,
    /// MLA only; `None` projects queries in one step.
    pub q_lora_rank: Option<usize>,
    /// `Some` if and only if attention is MLA.
    pub kv_lora_rank: Option<usize>,
    /// MLA only, else 0.
    pub qk_nope_head_dim: usize,
    /// MLA only, else 0.
    pub qk_rope_head_dim: usize,
    /// MLA only, else 0.
    pub v_head_dim: usize,
    /// `None`: every layer is dense.
    pub n_routed_experts: Option<usize>,
    /// 0: no shared MLP.
    pub n_shared_experts: usize,
    /// Width of one expert; 0 without experts.
    pub moe_intermediate_size: usize,
    /// 0 without experts.
    pub num_experts_per_tok: usize,
    /// `num_hidden_layers` without experts.
    pub first_k_dense_replace: usize,
    pub moe_layer_freq: usize,
    /// 1 where routing knows no groups.
    pub n_group: usize,
    pub topk_group: usize,
    pub topk_method: TopkMethod,
    pub scoring_func: ScoringFunc,
    pub norm_topk_prob: bool,
    pub routed_scaling_factor: f64,
    /// Weight of the balance loss in training.
    pub aux_loss_alpha: f64,
    /// Whether that loss is taken per sequence.
    pub seq_aux: bool,
    pub rope_theta: f64,
    pub rope_scaling: Option<RopeScaling>,
    /// True for MLA. With grouped attention true only for rows in the order of a GGUF file.
    pub rope_interleave: bool,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub tie_word_embeddings: bool,
    /// Always false: other configurations are refused.
    pub use_sliding_window: bool,
    pub sliding_window: Option<usize>,
    /// MTP layers, stored after the main ones.
    pub num_nextn_predict_layers: usize,
    pub bos_token_id: Option<u32>,
    /// Any of these ends a text; may be empty.
    pub eos_token_id: Vec<u32>,
    pub pad_token_id: Option<u32>,
    /// What the checkpoint says its weights are; each tensor's own type decides.
    pub torch_dtype: TorchDtype,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    pub quantization_config: Option<Fp8Quantization>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TorchDtype {
    Float32,
    Bfloat16,
    Float16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopkMethod {
    Greedy,
    GroupLimitedGreedy,
    NoauxTc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoringFunc {
    Softmax,
    Sigmoid,
}

/// FP8 weights (e4m3) in blocks, activations quantised as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fp8Quantization {
    /// Rows and columns that share one scale.
    pub weight_block_size: [usize; 2],
    pub scale_fmt: ScaleFmt,
}

/// Scales of quantised activations: any f32, or powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleFmt {
    Float,
    Ue8m0,
}

/// The two attention mechanisms with the sizes each needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Every `num_attention_heads / num_key_value_heads` queries share a key and a value.
    Gqa { num_attention_heads: usize, num_key_value_heads: usize, head_dim: usize, bias: bool },
    /// Multi-head latent attention, arXiv:2405.04434, section 2.1.
    Mla {
        num_attention_heads: usize,
        q_lora_rank: Option<usize>,
        kv_lora_rank: usize,
        qk_nope_head_dim: usize,
        qk_rope_head_dim: usize,
        v_head_dim: usize,
    },
}

/// How a token finds its experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Top-k of the softmax.
    SoftmaxGreedy,
    /// The same inside the `topk_group` groups whose best expert scores highest.
    SoftmaxGroupLimited,
    /// Sigmoid scores plus a bias that steers the choice; groups by the sum of their two best.
    SigmoidNoAuxTc,
}

impl Config {
    /// Every field at the value that makes its mechanism vanish; sizes are 0, for the caller to set.
    pub(crate) fn neutral(model_type: Family) -> Config {
        Config {
            model_type,
            vocab_size: 0,
            hidden_size: 0,
            intermediate_size: 0,
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: 0,
            head_dim: 0,
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
            first_k_dense_replace: 0,
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
            max_position_embeddings: 0,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            use_sliding_window: false,
            sliding_window: None,
            num_nextn_predict_layers: 0,
            bos_token_id: None,
            eos_token_id: Vec::new(),
            pad_token_id: None,
            torch_dtype: TorchDtype::Bfloat16,
            initializer_range: 0.02,
            quantization_config: None,
        }
    }
}

impl Family {
    /// The value of `model_type`.
    pub fn model_type(self) -> &'static str {
        crate::registry::by_family(self).model_type
    }

    /// The class that `transformers` opens, as written in `architectures`.
    pub fn class(self) -> &'static str {
        crate::registry::by_family(self).class
    }
}

impl TorchDtype {
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        }
    }
}

impl TopkMethod {
    pub fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::GroupLimitedGreedy => "group_limited_greedy",
            Self::NoauxTc => "noaux_tc",
        }
    }
}

impl ScoringFunc {
    pub fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
        }
    }
}

impl Config {
    pub fn attention(&self) -> Attention {
        let num_attention_heads = self.num_attention_heads;
        match self.kv_lora_rank {
            Some(kv_lora_rank) => Attention::Mla {
                num_attention_heads,
                q_lora_rank: self.q_lora_rank,
                kv_lora_rank,
                qk_nope_head_dim: self.qk_nope_head_dim,
                qk_rope_head_dim: self.qk_rope_head_dim,
                v_head_dim: self.v_head_dim,
            },
            None => Attention::Gqa {
                num_attention_heads,
                num_key_value_heads: self.num_key_value_heads,
                head_dim: self.head_dim,
                bias: self.attention_bias,
            },
        }
    }

    /// The gate of the MoE layers; without meaning if there are none.
    pub fn gate(&self) -> Gate {
        match (self.topk_method, self.scoring_func) {
            (TopkMethod::NoauxTc, _) => Gate::SigmoidNoAuxTc,
            (TopkMethod::GroupLimitedGreedy, _) => Gate::SoftmaxGroupLimited,
            (TopkMethod::Greedy, _) => Gate::SoftmaxGreedy,
        }
    }

    /// Whether layer `layer_idx` has experts. MTP layers follow the same rule with their own index.
    pub fn is_moe_layer(&self, layer_idx: usize) -> bool {
        self.n_routed_experts.is_some()
            && layer_idx >= self.first_k_dense_replace
            && layer_idx.is_multiple_of(self.moe_layer_freq)
    }

    /// Elements of a query or key that enter a score.
    pub fn qk_head_dim(&self) -> usize {
        match self.attention() {
            Attention::Gqa { head_dim, .. } => head_dim,
            Attention::Mla { qk_nope_head_dim, qk_rope_head_dim, .. } => {
                qk_nope_head_dim + qk_rope_head_dim
            }
        }
    }

    /// Elements of a value head.
    pub fn v_dim(&self) -> usize {
        match self.attention() {
            Attention::Gqa { head_dim, .. } => head_dim,
            Attention::Mla { v_head_dim, .. } => v_head_dim,
        }
    }

    /// What scores are multiplied by before the softmax.
    ///
    /// MLA with YaRN squares `0.1 * mscale_all_dim * ln(factor) + 1` into it, at every length:
    /// squared because the paper's factor belongs to queries and keys alike. Grouped attention
    /// never does. Source: `DeepseekV3Attention` in `transformers`, checked against golden logits.
    pub fn softmax_scale(&self) -> f64 {
        let scale = (self.qk_head_dim() as f64).powf(-0.5);
        match (self.kv_lora_rank, self.rope_scaling) {
            (Some(_), Some(RopeScaling::Yarn { factor, mscale_all_dim, .. })) => {
                scale * rope::yarn_mscale(factor, mscale_all_dim).powi(2)
            }
            _ => scale,
        }
    }

    pub fn rope(&self) -> RopeSpec {
        let mla = self.kv_lora_rank.is_some();
        let interleaved = self.rope_interleave;
        RopeSpec {
            dim: if mla { self.qk_rope_head_dim } else { self.head_dim },
            theta: self.rope_theta,
            layout: if interleaved { RopeLayout::Interleaved } else { RopeLayout::HalfSplit },
            scaling: self.rope_scaling,
            max_position_embeddings: self.max_position_embeddings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn softmax_scales_are_the_published_ones() {
        let cases = [
            (preset::v3(), 0.1352338),
            (preset::v2_lite(), 0.1147214),
            (preset::llm_7b(), 128f64.powf(-0.5)),
            (Config { rope_scaling: None, ..preset::v3() }, 192f64.powf(-0.5)),
            (
                Config { rope_scaling: preset::v3().rope_scaling, ..preset::llm_7b() },
                128f64.powf(-0.5),
            ),
        ];
        for (config, expected) in cases {
            assert!((config.softmax_scale() - expected).abs() < 5e-8, "{config:?}");
        }
    }

    #[test]
    fn layers_with_experts_follow_the_three_words() {
        let config = Config { first_k_dense_replace: 3, moe_layer_freq: 2, ..preset::v3() };
        let moe: Vec<usize> = (0..9).filter(|l| config.is_moe_layer(*l)).collect();
        assert_eq!(moe, [4, 6, 8]);
        assert!(!preset::llm_7b().is_moe_layer(29));
        assert!(preset::v3().is_moe_layer(61));
    }
}
