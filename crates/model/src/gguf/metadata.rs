//! A configuration and a vocabulary as the metadata that llama.cpp expects.

use fathom_checkpoint::gguf::{Array, Value};
use fathom_kernels::quant::Format;

use crate::config::{Attention, Config, Family, RopeScaling, ScoringFunc};

/// A tokenizer as plain data, in llama.cpp's terms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vocabulary {
    /// llama.cpp's name of the pre-tokenizer: `deepseek-llm`, `deepseek-coder`, `deepseek-v3`,
    /// `deepseek-r1-qwen`, `llama-bpe`.
    pub pre: String,
    /// By id, in the byte-level alphabet.
    pub tokens: Vec<String>,
    /// By id: 1 normal, 3 control, 4 user defined, 5 unused.
    pub token_types: Vec<i32>,
    /// `left right`, best first.
    pub merges: Vec<String>,
    pub add_bos: bool,
    pub chat_template: Option<String>,
}

/// llama.cpp's token types.
const NORMAL: i32 = 1;
const UNUSED: i32 = 5;

/// The metadata of a model. `format` is that of most matrices.
///
/// llama.cpp gives the vocabulary as many ids as the embedding has rows: those without a token
/// become `[PAD…]`, as its converter does.
pub fn metadata(
    config: &Config,
    name: &str,
    vocabulary: Option<&Vocabulary>,
    format: Format,
) -> Vec<(String, Value)> {
    let mut words = Words { arch: architecture(config), list: Vec::new() };
    words.outer("general.architecture", Value::String(words.arch.to_owned()));
    words.outer("general.type", Value::String("model".to_owned()));
    words.outer("general.name", Value::String(name.to_owned()));
    words.outer("general.file_type", Value::U32(file_type(format)));
    words.outer("general.quantization_version", Value::U32(2));
    put_sizes(&mut words, config);
    put_attention(&mut words, config);
    put_experts(&mut words, config);
    put_scaling(&mut words, config);
    put_ids(&mut words, config);
    if let Some(vocabulary) = vocabulary {
        put_vocabulary(&mut words, config, vocabulary);
    }
    words.list
}

/// llama.cpp's name of the architecture.
fn architecture(config: &Config) -> &'static str {
    match config.model_type {
        Family::Llama => "llama",
        Family::Qwen2 => "qwen2",
        Family::Deepseek => "deepseek",
        Family::DeepseekV2 | Family::DeepseekV3 => "deepseek2",
    }
}

struct Words {
    arch: &'static str,
    list: Vec<(String, Value)>,
}

impl Words {
    fn outer(&mut self, key: &str, value: Value) {
        self.list.push((key.to_owned(), value));
    }

    fn put(&mut self, rest: &str, value: Value) {
        self.outer(&format!("{}.{rest}", self.arch), value);
    }

    /// Sizes are far below 2^32 in a checked configuration.
    fn count(&mut self, rest: &str, n: usize) {
        self.put(rest, Value::U32(n as u32));
    }

    fn number(&mut self, rest: &str, x: f64) {
        self.put(rest, Value::F32(x as f32));
    }
}

fn put_sizes(words: &mut Words, config: &Config) {
    words.count("block_count", config.num_hidden_layers + config.num_nextn_predict_layers);
    words.count("context_length", config.max_position_embeddings);
    words.count("embedding_length", config.hidden_size);
    words.count("feed_forward_length", config.intermediate_size);
    words.count("vocab_size", config.vocab_size);
    words.number("attention.layer_norm_rms_epsilon", config.rms_norm_eps);
    words.number("rope.freq_base", config.rope_theta);
    if config.num_nextn_predict_layers > 0 {
        words.count("nextn_predict_layers", config.num_nextn_predict_layers);
    }
}

fn put_attention(words: &mut Words, config: &Config) {
    words.count("attention.head_count", config.num_attention_heads);
    match config.attention() {
        Attention::Gqa { num_key_value_heads, head_dim, .. } => {
            words.count("attention.head_count_kv", num_key_value_heads);
            words.count("attention.key_length", head_dim);
            words.count("attention.value_length", head_dim);
            words.count("rope.dimension_count", head_dim);
        }
        Attention::Mla {
            q_lora_rank,
            kv_lora_rank,
            qk_nope_head_dim,
            qk_rope_head_dim,
            v_head_dim,
            ..
        } => {
            // The absorbed form: one cached row serves all heads.
            words.count("attention.head_count_kv", 1);
            if let Some(rank) = q_lora_rank {
                words.count("attention.q_lora_rank", rank);
            }
            words.count("attention.kv_lora_rank", kv_lora_rank);
            words.count("attention.key_length", kv_lora_rank + qk_rope_head_dim);
            words.count("attention.value_length", kv_lora_rank);
            words.count("attention.key_length_mla", qk_nope_head_dim + qk_rope_head_dim);
            words.count("attention.value_length_mla", v_head_dim);
            words.count("rope.dimension_count", qk_rope_head_dim);
        }
    }
}

fn put_experts(words: &mut Words, config: &Config) {
    let latent = config.kv_lora_rank.is_some();
    let Some(n_experts) = config.n_routed_experts else {
        if latent {
            // llama.cpp wants these of every deepseek2.
            words.count("leading_dense_block_count", config.num_hidden_layers);
            words.count("expert_feed_forward_length", config.intermediate_size);
            words.count("expert_shared_count", 0);
        }
        return;
    };
    words.count("expert_count", n_experts);
    words.count("expert_used_count", config.num_experts_per_tok);
    words.count("expert_shared_count", config.n_shared_experts);
    words.count("expert_feed_forward_length", config.moe_intermediate_size);
    words.count("leading_dense_block_count", config.first_k_dense_replace);
    words.number("expert_weights_scale", config.routed_scaling_factor);
    words.put("expert_weights_norm", Value::Bool(config.norm_topk_prob));
    if latent {
        let gate = match config.scoring_func {
            ScoringFunc::Softmax => 1,
            ScoringFunc::Sigmoid => 2,
        };
        words.count("expert_gating_func", gate);
        words.count("expert_group_count", config.n_group);
        words.count("expert_group_used_count", config.topk_group);
    }
}

/// llama3 scaling is not here: it is the tensor `rope_freqs.weight`.
fn put_scaling(words: &mut Words, config: &Config) {
    match config.rope_scaling {
        None | Some(RopeScaling::Llama3 { .. }) => {}
        Some(RopeScaling::Linear { factor }) => {
            words.put("rope.scaling.type", Value::String("linear".to_owned()));
            words.number("rope.scaling.factor", factor);
        }
        Some(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            mscale_all_dim,
            ..
        }) => {
            words.put("rope.scaling.type", Value::String("yarn".to_owned()));
            words.number("rope.scaling.factor", factor);
            words.count("rope.scaling.original_context_length", original_max_position_embeddings);
            words.number("rope.scaling.yarn_beta_fast", beta_fast);
            words.number("rope.scaling.yarn_beta_slow", beta_slow);
            if config.kv_lora_rank.is_some() {
                words.number("rope.scaling.yarn_log_multiplier", 0.1 * mscale_all_dim);
            }
        }
    }
}

fn put_ids(words: &mut Words, config: &Config) {
    let ids = [
        ("bos", config.bos_token_id),
        ("eos", config.eos_token_id.first().copied()),
        ("eot", config.eos_token_id.get(1).copied()),
        ("padding", config.pad_token_id),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            words.outer(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id));
        }
    }
}

fn put_vocabulary(words: &mut Words, config: &Config, vocabulary: &Vocabulary) {
    let mut tokens = vocabulary.tokens.clone();
    let mut types = vocabulary.token_types.clone();
    types.resize(tokens.len(), NORMAL);
    for id in tokens.len()..config.vocab_size {
        tokens.push(format!("[PAD{id}]"));
        types.push(UNUSED);
    }
    words.outer("tokenizer.ggml.model", Value::String("gpt2".to_owned()));
    words.outer("tokenizer.ggml.pre", Value::String(vocabulary.pre.clone()));
    words.outer("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    words.outer("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    let merges = vocabulary.merges.clone();
    words.outer("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
    words.outer("tokenizer.ggml.add_bos_token", Value::Bool(vocabulary.add_bos));
    if let Some(template) = &vocabulary.chat_template {
        words.outer("tokenizer.chat_template", Value::String(template.clone()));
    }
}

/// llama.cpp's number of a file whose matrices are mostly of this format (`llama_ftype`).
fn file_type(format: Format) -> u32 {
    match format {
        Format::F32 => 0,
        Format::F16 => 1,
        Format::Q4_0 => 2,
        Format::Q4_1 => 3,
        Format::Q8_0 => 7,
        Format::Q5_0 => 8,
        Format::Q5_1 => 9,
        Format::Q2K => 10,
        Format::Q3K => 11,
        Format::Q4K => 14,
        Format::Q5K => 16,
        Format::Q6K => 18,
        Format::Iq4Nl => 25,
        Format::Iq4Xs => 30,
        Format::Bf16 | Format::F8E4M3 => 32,
    }
}
