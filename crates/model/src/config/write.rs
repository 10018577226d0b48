//! A `config.json` that `transformers` opens with the class of the architecture.
//!
//! Field names and nesting are those of the releases (`rope_scaling` with `type`, `torch_dtype`),
//! which every version of `transformers` reads. Two limits of its classes: `moe_layer_freq` is
//! ignored by them, and `deepseek` (the first MoE) needs the code that comes with that checkpoint.

use serde_json::{Map, Value, json};

use super::{Config, Family, RopeScaling, ScaleFmt};

impl Config {
    /// The words that this architecture reads; `from_json` gives the same configuration back.
    pub fn to_json(&self) -> Value {
        let mut words = self.skeleton_words();
        if let (None, Family::Qwen2) = (self.kv_lora_rank, self.model_type) {
            put(&mut words, "use_sliding_window", json!(self.use_sliding_window));
            put(&mut words, "sliding_window", json!(self.sliding_window));
        } else {
            put(&mut words, "attention_bias", json!(self.attention_bias));
        }
        match self.kv_lora_rank {
            Some(rank) => self.put_latent_words(&mut words, rank),
            None if self.head_dim * self.num_attention_heads != self.hidden_size => {
                put(&mut words, "head_dim", json!(self.head_dim));
            }
            None => {}
        }
        match self.n_routed_experts {
            Some(n_experts) => self.put_expert_words(&mut words, n_experts),
            // The classes of V2 and V3 always want experts; with all layers dense they build none.
            None if self.kv_lora_rank.is_some() => {
                put(&mut words, "first_k_dense_replace", json!(self.num_hidden_layers));
            }
            None => {}
        }
        if self.kv_lora_rank.is_none() && self.rope_interleave {
            put(&mut words, "rope_interleave", json!(true)); // rows as in a GGUF, which only we read
        }
        if self.model_type == Family::DeepseekV3 {
            put(&mut words, "rope_interleave", json!(self.rope_interleave));
            put(&mut words, "num_nextn_predict_layers", json!(self.num_nextn_predict_layers));
        }
        if let Some(fp8) = self.quantization_config {
            let mut inner = Map::new();
            put(&mut inner, "quant_method", json!("fp8"));
            put(&mut inner, "fmt", json!("e4m3"));
            put(&mut inner, "activation_scheme", json!("dynamic"));
            put(&mut inner, "weight_block_size", json!(fp8.weight_block_size));
            if fp8.scale_fmt == ScaleFmt::Ue8m0 {
                put(&mut inner, "scale_fmt", json!("ue8m0"));
            }
            put(&mut words, "quantization_config", Value::Object(inner));
        }
        Value::Object(words)
    }

    fn skeleton_words(&self) -> Map<String, Value> {
        let eos = match self.eos_token_id.as_slice() {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        };
        let pairs = [
            ("architectures", json!([self.model_type.class()])),
            ("model_type", json!(self.model_type.model_type())),
            ("vocab_size", json!(self.vocab_size)),
            ("hidden_size", json!(self.hidden_size)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("num_hidden_layers", json!(self.num_hidden_layers)),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("hidden_act", json!("silu")),
            ("attention_dropout", json!(0.0)),
            ("rope_theta", json!(self.rope_theta)),
            ("rope_scaling", self.rope_scaling.map_or(Value::Null, scaling_words)),
            ("max_position_embeddings", json!(self.max_position_embeddings)),
            ("rms_norm_eps", json!(self.rms_norm_eps)),
            ("tie_word_embeddings", json!(self.tie_word_embeddings)),
            ("initializer_range", json!(self.initializer_range)),
            ("bos_token_id", json!(self.bos_token_id)),
            ("eos_token_id", eos),
            ("pad_token_id", json!(self.pad_token_id)),
            ("torch_dtype", json!(self.torch_dtype.name())),
        ];
        pairs.into_iter().map(|(word, value)| (word.to_owned(), value)).collect()
    }

    fn put_latent_words(&self, words: &mut Map<String, Value>, kv_lora_rank: usize) {
        put(words, "q_lora_rank", json!(self.q_lora_rank));
        put(words, "kv_lora_rank", json!(kv_lora_rank));
        put(words, "qk_nope_head_dim", json!(self.qk_nope_head_dim));
        put(words, "qk_rope_head_dim", json!(self.qk_rope_head_dim));
        put(words, "v_head_dim", json!(self.v_head_dim));
    }

    fn put_expert_words(&self, words: &mut Map<String, Value>, n_experts: usize) {
        put(words, "n_routed_experts", json!(n_experts));
        put(words, "n_shared_experts", json!(self.n_shared_experts));
        put(words, "moe_intermediate_size", json!(self.moe_intermediate_size));
        put(words, "num_experts_per_tok", json!(self.num_experts_per_tok));
        put(words, "first_k_dense_replace", json!(self.first_k_dense_replace));
        put(words, "moe_layer_freq", json!(self.moe_layer_freq));
        put(words, "norm_topk_prob", json!(self.norm_topk_prob));
        put(words, "scoring_func", json!(self.scoring_func.name()));
        put(words, "aux_loss_alpha", json!(self.aux_loss_alpha));
        put(words, "seq_aux", json!(self.seq_aux));
        if self.model_type != Family::Deepseek {
            put(words, "topk_method", json!(self.topk_method.name()));
            put(words, "n_group", json!(self.n_group));
            put(words, "topk_group", json!(self.topk_group));
            put(words, "routed_scaling_factor", json!(self.routed_scaling_factor));
        }
    }
}

fn put(words: &mut Map<String, Value>, word: &str, value: Value) {
    words.insert(word.to_owned(), value);
}

fn scaling_words(scaling: RopeScaling) -> Value {
    match scaling {
        RopeScaling::Linear { factor } => json!({ "type": "linear", "factor": factor }),
        RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
        } => json!({
            "type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original_max_position_embeddings,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "mscale": mscale,
            "mscale_all_dim": mscale_all_dim,
        }),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::{self, PRESETS};

    #[test]
    fn written_and_read_again_every_preset_is_the_same() {
        for preset in PRESETS {
            let name = preset.name;
            let config = (preset.config)();
            assert_eq!(Config::from_json(&config.to_json()), Ok(config.clone()), "{name}");
            // What we write must also pass as typed by a person: no word without effect.
            assert_eq!(Config::from_recipe(&config.to_json()), Ok(config), "{name}");
        }
    }

    #[test]
    fn a_v3_without_experts_is_written_all_dense() {
        let changes = json!({ "n_routed_experts": null });
        let mut value = preset::v3().to_json();
        value["n_routed_experts"] = changes["n_routed_experts"].clone();
        let dense = Config::from_json(&value).expect("experts may be absent");
        assert_eq!(dense.n_routed_experts, None);
        let written = dense.to_json();
        assert_eq!(written["first_k_dense_replace"], json!(61));
        assert_eq!(Config::from_json(&written), Ok(dense));
    }

    #[test]
    fn several_ends_and_power_of_two_scales_survive() {
        let mut config = preset::v3();
        config.eos_token_id = vec![1, 7];
        if let Some(fp8) = config.quantization_config.as_mut() {
            fp8.scale_fmt = ScaleFmt::Ue8m0;
        }
        assert_eq!(Config::from_json(&config.to_json()), Ok(config));
    }
}
