//! From words to a `Config`, one function per architecture.
//!
//! Defaults are those of the configuration classes in `transformers`; a size that decides the shape
//! of a tensor has none. Words that change the computation in ways we do not have are refused
//! rather than skipped, unknown words of a release are skipped.

use serde_json::{Map, Value};

use super::error::ConfigError;
use super::field::{Fields, describe, object};
use super::rope::RopeScaling;
use super::{Config, Family, Fp8Quantization, ScaleFmt, ScoringFunc, TopkMethod, TorchDtype};
use crate::registry::{self, Architecture};

impl Config {
    /// Reads a `config.json` of a release. Unknown words are ignored, values are checked.
    ///
    /// Errors: any of `ConfigError`, naming the word, what was expected and what was found.
    pub fn from_json(value: &Value) -> Result<Self, ConfigError> {
        read(object(value)?, None)
    }

    /// Reads the text of a `config.json`.
    pub fn from_text(text: &str) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let reason = error.to_string();
            // The library appends the place, which has fields of its own here.
            let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
            ConfigError::NotJson { line, column, reason }
        })?;
        Self::from_json(&value)
    }

    /// Reads the same words typed by a person: a word that is unknown, or that this architecture
    /// never reads, is refused.
    pub fn from_recipe(value: &Value) -> Result<Self, ConfigError> {
        let words = object(value)?;
        read(words, Some(words))
    }

    /// A preset with some of its words changed; `changes` is held to the rules of `from_recipe`.
    ///
    /// Where the preset has as many key-value heads as heads, changing the heads changes both.
    pub fn from_recipe_over(base: &Config, changes: &Value) -> Result<Self, ConfigError> {
        let changes = object(changes)?;
        let written = base.to_json();
        let mut words = object(&written)?.clone();
        words.remove("architectures"); // follows `model_type`
        if base.num_key_value_heads == base.num_attention_heads {
            words.remove("num_key_value_heads");
        }
        for (word, other) in [("dtype", "torch_dtype"), ("rope_parameters", "rope_scaling")] {
            if changes.contains_key(word) {
                words.remove(other);
            }
        }
        words.extend(changes.iter().map(|(word, value)| (word.clone(), value.clone())));
        read(&words, Some(changes))
    }
}

/// `typed`: the words that must not go unread.
fn read(
    words: &Map<String, Value>,
    typed: Option<&Map<String, Value>>,
) -> Result<Config, ConfigError> {
    let architecture = architecture_of(words)?;
    let fields = Fields::new(words, architecture.model_type, typed);
    fields.get("model_type");
    if let Some(list) = fields.get("architectures") {
        check_class(architecture, list)?;
    }
    let config = (architecture.parse)(&fields)?;
    fields.finish()?;
    config.check()?;
    Ok(config)
}

/// The row named by `model_type`, or by the class in `architectures` where that word is absent.
fn architecture_of(words: &Map<String, Value>) -> Result<&'static Architecture, ConfigError> {
    let fields = Fields::new(words, "", None);
    let Some(name) = fields.text("model_type")? else {
        let class =
            fields.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        let row = registry::ARCHITECTURES.iter().find(|a| Some(a.class) == class);
        return row.ok_or_else(|| ConfigError::UnknownModelType {
            found: class.map_or_else(|| "(absent)".to_owned(), |c| describe(&Value::from(c))),
        });
    };
    if name == "multi_modality" {
        return Err(fields.unsupported(
            "model_type",
            "vision-language checkpoints (`multi_modality`) cannot be opened yet; \
             the text checkpoints can",
        ));
    }
    registry::by_model_type(name)
        .ok_or_else(|| ConfigError::UnknownModelType { found: name.chars().take(60).collect() })
}

/// `architectures` decides which class `transformers` opens; it must tell the same story.
fn check_class(architecture: &Architecture, list: &Value) -> Result<(), ConfigError> {
    let named = list.get(0).and_then(Value::as_str).unwrap_or(architecture.class);
    match registry::ARCHITECTURES.iter().find(|a| a.class == named) {
        Some(other) if other.model_type != architecture.model_type => Err(ConfigError::Disagree {
            field: "architectures",
            value: named.to_owned(),
            other_field: "model_type",
            other: architecture.model_type.to_owned(),
            hint: "leave `architectures` out; `model_type` decides",
        }),
        _ => Ok(()),
    }
}

/// `model_type: llama`.
pub(crate) fn llama(f: &Fields<'_>) -> Result<Config, ConfigError> {
    let mut config = skeleton(f, Family::Llama)?;
    no_bias(f)?;
    grouped_heads(f, &mut config)?;
    Ok(config)
}

/// `model_type: qwen2`: Llama's layers with biases on q, k and v.
pub(crate) fn qwen2(f: &Fields<'_>) -> Result<Config, ConfigError> {
    let mut config = skeleton(f, Family::Qwen2)?;
    f.only("attention_bias", f.flag("attention_bias")?, true, "qwen2 always has q/k/v biases")?;
    config.attention_bias = true;
    config.use_sliding_window = f.flag("use_sliding_window")?.unwrap_or(false);
    if config.use_sliding_window {
        let hint = "full attention is computed; no released distillation slides its window";
        return Err(f.unsupported("use_sliding_window", hint));
    }
    config.sliding_window = f.count("sliding_window")?;
    f.get("max_window_layers"); // acts only where windows slide
    grouped_heads(f, &mut config)?;
    Ok(config)
}

/// `model_type: deepseek`, the MoE of arXiv:2401.06066.
pub(crate) fn deepseek(f: &Fields<'_>) -> Result<Config, ConfigError> {
    let mut config = skeleton(f, Family::Deepseek)?;
    no_bias(f)?;
    grouped_heads(f, &mut config)?;
    experts(f, &mut config)?;
    Ok(config)
}

/// `model_type: deepseek_v2`.
pub(crate) fn deepseek_v2(f: &Fields<'_>) -> Result<Config, ConfigError> {
    let mut config = skeleton(f, Family::DeepseekV2)?;
    no_bias(f)?;
    latent_heads(f, &mut config)?;
    experts(f, &mut config)?;
    Ok(config)
}

/// `model_type: deepseek_v3`: V3, R1 and R1-Zero.
pub(crate) fn deepseek_v3(f: &Fields<'_>) -> Result<Config, ConfigError> {
    let mut config = skeleton(f, Family::DeepseekV3)?;
    no_bias(f)?;
    latent_heads(f, &mut config)?;
    experts(f, &mut config)?;
    // `transformers` 5 writes the second name.
    let words = (f.count("num_nextn_predict_layers")?, f.count("num_mtp_layers")?);
    config.num_nextn_predict_layers = words.0.or(words.1).unwrap_or(0);
    Ok(config)
}

/// The words that every architecture has; attention and experts stay empty.
fn skeleton(f: &Fields<'_>, family: Family) -> Result<Config, ConfigError> {
    let act = "only SwiGLU with `silu` is computed; leave `hidden_act` out or set it to `silu`";
    f.only("hidden_act", f.text("hidden_act")?, "silu", act)?;
    let drop = "no released model was trained with dropout; leave it out or set it to 0";
    f.only("attention_dropout", f.number("attention_dropout")?, 0.0, drop)?;
    let (rope_theta, rope_scaling) = rope(f)?;
    let num_attention_heads = f.needed_count("num_attention_heads")?;
    let num_hidden_layers = f.needed_count("num_hidden_layers")?;
    Ok(Config {
        vocab_size: f.needed_count("vocab_size")?,
        hidden_size: f.needed_count("hidden_size")?,
        intermediate_size: f.needed_count("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: f.count("num_key_value_heads")?.unwrap_or(num_attention_heads),
        first_k_dense_replace: num_hidden_layers,
        rope_theta,
        rope_scaling,
        rope_interleave: false,
        max_position_embeddings: f.needed_count("max_position_embeddings")?,
        rms_norm_eps: f.number("rms_norm_eps")?.unwrap_or(1e-6),
        tie_word_embeddings: f.flag("tie_word_embeddings")?.unwrap_or(false),
        num_nextn_predict_layers: 0,
        bos_token_id: f.token_id("bos_token_id")?,
        eos_token_id: f.token_ids("eos_token_id")?,
        pad_token_id: f.token_id("pad_token_id")?,
        torch_dtype: dtype(f)?,
        initializer_range: f.number("initializer_range")?.unwrap_or(0.02),
        quantization_config: quantization(f)?,
        ..Config::neutral(family)
    })
}

fn no_bias(f: &Fields<'_>) -> Result<(), ConfigError> {
    let hint = "no released model of this architecture has biases; set it to false";
    f.only("attention_bias", f.flag("attention_bias")?, false, hint)?;
    f.only("mlp_bias", f.flag("mlp_bias")?, false, hint)
}

fn grouped_heads(f: &Fields<'_>, config: &mut Config) -> Result<(), ConfigError> {
    let (width, heads) = (config.hidden_size, config.num_attention_heads);
    // Not a word of these releases: the order of rows in a GGUF, kept with a model that has it.
    config.rope_interleave = f.flag("rope_interleave")?.unwrap_or(false);
    config.head_dim = match f.count("head_dim")? {
        Some(dim) => dim,
        None if heads > 0 && width % heads == 0 => width / heads,
        None => {
            return Err(ConfigError::NotDivisible {
                field: "hidden_size",
                value: width,
                divisor_field: "num_attention_heads",
                divisor: heads,
                hint: "change one of them, or give `head_dim`",
            });
        }
    };
    Ok(())
}

fn latent_heads(f: &Fields<'_>, config: &mut Config) -> Result<(), ConfigError> {
    config.q_lora_rank = f.count("q_lora_rank")?;
    config.kv_lora_rank = Some(f.needed_count("kv_lora_rank")?);
    config.qk_nope_head_dim = f.needed_count("qk_nope_head_dim")?;
    config.qk_rope_head_dim = f.needed_count("qk_rope_head_dim")?;
    config.v_head_dim = f.needed_count("v_head_dim")?;
    config.head_dim = config.qk_rope_head_dim;
    config.rope_interleave = true;
    let hint = "rows already permuted to half-split are not read yet; use the released layout";
    f.only("rope_interleave", f.flag("rope_interleave")?, true, hint)
}

/// Without `n_routed_experts` all layers are dense and the other words are not read.
fn experts(f: &Fields<'_>, config: &mut Config) -> Result<(), ConfigError> {
    let Some(n_routed_experts) = f.count("n_routed_experts")? else {
        // What `to_json` writes for such a model, so that `transformers` builds no experts either.
        f.count("first_k_dense_replace")?;
        return Ok(());
    };
    let v3 = config.model_type == Family::DeepseekV3;
    let methods = [
        ("greedy", TopkMethod::Greedy),
        ("group_limited_greedy", TopkMethod::GroupLimitedGreedy),
        ("noaux_tc", TopkMethod::NoauxTc),
    ];
    let scores = [("softmax", ScoringFunc::Softmax), ("sigmoid", ScoringFunc::Sigmoid)];
    config.n_routed_experts = Some(n_routed_experts);
    config.n_shared_experts = f.count("n_shared_experts")?.unwrap_or(0);
    config.moe_intermediate_size = f.needed_count("moe_intermediate_size")?;
    config.num_experts_per_tok = f.needed_count("num_experts_per_tok")?;
    config.first_k_dense_replace = f.count("first_k_dense_replace")?.unwrap_or(0);
    config.moe_layer_freq = f.count("moe_layer_freq")?.unwrap_or(1);
    config.norm_topk_prob = f.flag("norm_topk_prob")?.unwrap_or(v3);
    config.aux_loss_alpha = f.number("aux_loss_alpha")?.unwrap_or(0.001);
    config.seq_aux = f.flag("seq_aux")?.unwrap_or(true);
    config.scoring_func = f.choice(
        "scoring_func",
        &scores,
        "`softmax` or `sigmoid`",
        if v3 { ScoringFunc::Sigmoid } else { ScoringFunc::Softmax },
    )?;
    if config.model_type == Family::Deepseek {
        return Ok(()); // the first MoE knows neither groups nor a factor
    }
    config.topk_method = f.choice(
        "topk_method",
        &methods,
        "`greedy`, `group_limited_greedy` or `noaux_tc`",
        if v3 { TopkMethod::NoauxTc } else { TopkMethod::Greedy },
    )?;
    config.n_group = f.count("n_group")?.unwrap_or(1);
    config.topk_group = f.count("topk_group")?.unwrap_or(1);
    config.routed_scaling_factor =
        f.number("routed_scaling_factor")?.unwrap_or(if v3 { 2.5 } else { 1.0 });
    Ok(())
}

fn dtype(f: &Fields<'_>) -> Result<TorchDtype, ConfigError> {
    let choices = [
        ("float32", TorchDtype::Float32),
        ("bfloat16", TorchDtype::Bfloat16),
        ("float16", TorchDtype::Float16),
    ];
    let expected = "`float32`, `bfloat16` or `float16`";
    let older = f.choice("torch_dtype", &choices, expected, TorchDtype::Float32)?;
    f.choice("dtype", &choices, expected, older)
}

/// Base and scaling from an object with the words of a configuration.
#[cfg(test)]
pub(crate) fn rope_words(value: &Value) -> Result<(f64, Option<RopeScaling>), ConfigError> {
    rope(&Fields::new(object(value)?, "", None))
}

/// Reads `rope_theta` with `rope_scaling`, or both from the newer `rope_parameters`, whose base
/// wins over the outer one as in `transformers`.
fn rope(f: &Fields<'_>) -> Result<(f64, Option<RopeScaling>), ConfigError> {
    let outer_theta = f.number("rope_theta")?.unwrap_or(10000.0);
    let (newer, older) = (f.nested("rope_parameters")?, f.nested("rope_scaling")?);
    let Some(words) = newer.or(older) else { return Ok((outer_theta, None)) };
    let theta = words.number("rope_theta")?.unwrap_or(outer_theta);
    let whole = "a partly rotated head is not computed; leave the word out";
    if f.get("kv_lora_rank").is_none() {
        let share = words.number("partial_rotary_factor")?;
        words.only("partial_rotary_factor", share, 1.0, whole)?;
    } else {
        words.get("partial_rotary_factor"); // MLA rotates exactly `qk_rope_head_dim`
    }
    let older_name = words.text("type")?;
    let name = words.text("rope_type")?.or(older_name);
    let scaling = match name {
        None | Some("default") => None,
        Some("linear") => Some(RopeScaling::Linear { factor: words.needed_number("factor")? }),
        Some("yarn") => Some(yarn(&words)?),
        Some("llama3") => Some(RopeScaling::Llama3 {
            factor: words.needed_number("factor")?,
            low_freq_factor: words.needed_number("low_freq_factor")?,
            high_freq_factor: words.needed_number("high_freq_factor")?,
            original_max_position_embeddings: words
                .needed_count("original_max_position_embeddings")?,
        }),
        Some(_) => {
            let word = if words.get("rope_type").is_some() { "rope_type" } else { "type" };
            let hint = "known are `default`, `linear`, `yarn` and `llama3`";
            return Err(words.unsupported(word, hint));
        }
    };
    words.finish()?;
    Ok((theta, scaling))
}

fn yarn(words: &Fields<'_>) -> Result<RopeScaling, ConfigError> {
    let hint = "give `mscale` and `mscale_all_dim` instead, as the releases do";
    if words.get("attention_factor").is_some() {
        return Err(words.unsupported("attention_factor", hint));
    }
    let rounded = "the ramp always has whole ends here; leave the word out";
    words.only("truncate", words.flag("truncate")?, true, rounded)?;
    Ok(RopeScaling::Yarn {
        factor: words.needed_number("factor")?,
        original_max_position_embeddings: words.needed_count("original_max_position_embeddings")?,
        beta_fast: words.number("beta_fast")?.unwrap_or(32.0),
        beta_slow: words.number("beta_slow")?.unwrap_or(1.0),
        mscale: words.number("mscale")?.unwrap_or(1.0),
        mscale_all_dim: words.number("mscale_all_dim")?.unwrap_or(0.0),
    })
}

fn quantization(f: &Fields<'_>) -> Result<Option<Fp8Quantization>, ConfigError> {
    let Some(words) = f.nested("quantization_config")? else { return Ok(None) };
    let method = words.text("quant_method")?.ok_or_else(|| words.missing("quant_method"))?;
    let hint = "of quantised checkpoints only FP8 blocks (e4m3, dynamic activations) are read";
    words.only("quant_method", Some(method), "fp8", hint)?;
    words.only("fmt", words.text("fmt")?, "e4m3", hint)?;
    words.only("activation_scheme", words.text("activation_scheme")?, "dynamic", hint)?;
    let block = words.get("weight_block_size").ok_or_else(|| words.missing("weight_block_size"))?;
    let side = |i: usize| {
        let n = block.get(i).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        n.filter(|n| (1..=1 << 20).contains(n))
    };
    let sides = block.as_array().filter(|list| list.len() == 2).and(side(0).zip(side(1)));
    let (rows, columns) = sides
        .ok_or_else(|| words.wrong("weight_block_size", "a list of two sizes from 1 on", block))?;
    let formats = [("float", ScaleFmt::Float), ("ue8m0", ScaleFmt::Ue8m0)];
    let scale_fmt = words.choice("scale_fmt", &formats, "`ue8m0` or absent", ScaleFmt::Float)?;
    words.finish()?;
    Ok(Some(Fp8Quantization { weight_block_size: [rows, columns], scale_fmt }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::preset;

    /// V3's words with some changed; `null` removes one.
    fn v3_with(changes: Value) -> Value {
        let mut value = preset::v3().to_json();
        for (word, change) in changes.as_object().expect("changes are an object") {
            value[word] = change.clone();
        }
        value
    }

    fn refused(result: Result<Config, ConfigError>, expected: &str) {
        let text = result.expect_err("must be refused").to_string();
        assert!(text.contains(expected), "{text:?} lacks {expected:?}");
    }

    #[test]
    fn words_of_the_wrong_kind_are_named_with_what_was_found() {
        let read = |changes| Config::from_json(&v3_with(changes));
        refused(read(json!({"hidden_size": "big"})), "`hidden_size` must be a whole number");
        refused(read(json!({"hidden_size": -1})), "found -1");
        refused(read(json!({"hidden_size": 7168.5})), "found 7168.5");
        refused(
            read(json!({"hidden_size": null})),
            "`hidden_size` is missing, and a `deepseek_v3`",
        );
        refused(read(json!({"tie_word_embeddings": 1})), "must be true or false, found 1");
        refused(read(json!({"rope_scaling": 4})), "`rope_scaling` must be an object");
        refused(read(json!({"eos_token_id": [1, "x"]})), "`eos_token_id`");
        refused(read(json!({"topk_method": "best"})), "`noaux_tc`, found \"best\"");
        refused(read(json!({"torch_dtype": "int4"})), "`bfloat16`");
        refused(read(json!({"hidden_act": "gelu"})), "`hidden_act` = \"gelu\" is not supported");
        refused(read(json!({"attention_bias": true})), "`attention_bias` = true");
        refused(read(json!({"attention_dropout": 0.1})), "`attention_dropout` = 0.1");
        refused(read(json!({"rope_interleave": false})), "`rope_interleave` = false");
        refused(Config::from_json(&json!([1, 2])), "must be an object");
        refused(Config::from_text("{\"hidden_size\": 1e999}"), "not JSON at line 1, column");
        refused(Config::from_text(""), "not JSON");
    }

    #[test]
    fn unknown_architectures_are_listed_and_vision_is_announced() {
        let read = |changes| Config::from_json(&v3_with(changes));
        refused(read(json!({"model_type": "gpt2"})), "`gpt2`\nhint: known are llama, qwen2");
        refused(read(json!({"model_type": "multi_modality"})), "cannot be opened yet");
        refused(read(json!({"architectures": ["LlamaForCausalLM"]})), "does not go with");
        refused(Config::from_json(&json!({})), "(absent)");
        let by_class = read(json!({"model_type": null}));
        assert_eq!(by_class, Ok(preset::v3()));
    }

    #[test]
    fn unknown_words_pass_in_a_release_and_are_refused_in_a_recipe() {
        let release =
            v3_with(json!({"auto_map": {}, "ep_size": 1, "transformers_version": "4.33"}));
        assert_eq!(Config::from_json(&release), Ok(preset::v3()));
        let recipe = |changes| Config::from_recipe(&v3_with(changes));
        refused(
            recipe(json!({"hiden_size": 8})),
            "`hiden_size`\nhint: did you mean `hidden_size`?",
        );
        refused(recipe(json!({"colour": 8})), "unknown word `colour`");
        refused(recipe(json!({"sliding_window": 8})), "no effect in a `deepseek_v3` model");
        let scaling = json!({"rope_scaling": {"type": "linear", "factor": 2, "beta_slow": 1}});
        refused(recipe(scaling), "`rope_scaling.beta_slow` has no effect");
        let scaling = json!({"rope_scaling": {"type": "linear", "facto": 2, "factor": 2}});
        refused(recipe(scaling), "did you mean `factor`?");
    }

    #[test]
    fn a_recipe_changes_a_preset_word_by_word() {
        let over = |base: &Config, changes: Value| Config::from_recipe_over(base, &changes);
        let small = over(&preset::v3(), json!({"num_attention_heads": 4, "hidden_size": 64}));
        let small = small.expect("heads and key-value heads change together");
        assert_eq!((small.num_key_value_heads, small.hidden_size), (4, 64));
        assert_eq!(small.kv_lora_rank, preset::v3().kv_lora_rank);
        // Words of the base that the new architecture lacks are dropped, typed ones refused.
        let dense = over(&preset::v3(), json!({"model_type": "llama"})).expect("a llama");
        assert_eq!((dense.model_type, dense.kv_lora_rank), (Family::Llama, None));
        refused(over(&preset::llm_7b(), json!({"q_lora_rank": 8})), "`q_lora_rank` has no effect");
        refused(over(&preset::llm_7b(), json!({"num_layers": 8})), "unknown word `num_layers`");
        refused(over(&preset::llm_7b(), json!(3)), "must be an object");
    }

    #[test]
    fn newer_spellings_mean_the_same() {
        let yarn = preset::v3().to_json()["rope_scaling"].clone();
        let mut nested = yarn.clone();
        nested["rope_type"] = nested["type"].take();
        nested["rope_theta"] = json!(10000.0);
        let newer = v3_with(json!({
            "rope_parameters": nested, "rope_scaling": null, "rope_theta": null,
            "torch_dtype": null, "dtype": "bfloat16",
            "num_nextn_predict_layers": null, "num_mtp_layers": 1, "head_dim": 64,
        }));
        assert_eq!(Config::from_json(&newer), Ok(preset::v3()));
        let mut llama = preset::llm_7b().to_json();
        llama["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5e5});
        let config = Config::from_json(&llama).expect("a llama");
        assert_eq!((config.rope_theta, config.rope_scaling), (5e5, None));
    }

    #[test]
    fn scalings_and_quantisations_we_lack_are_refused() {
        let read = |changes| Config::from_json(&v3_with(changes));
        let hint = "known are `default`, `linear`, `yarn` and `llama3`";
        refused(read(json!({"rope_scaling": {"type": "dynamic", "factor": 2}})), hint);
        refused(
            read(json!({"rope_scaling": {"type": "yarn"}})),
            "`rope_scaling.factor` is missing",
        );
        let quant = |value: Value| read(json!({"quantization_config": value}));
        refused(quant(json!({"quant_method": "gptq"})), "`quantization_config.quant_method`");
        let block = json!({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [0, 128]});
        refused(quant(block), "a list of two sizes");
        let qwen = |word: &str| {
            let mut value = preset::distill_qwen_7b().to_json();
            value[word] = json!(true);
            Config::from_json(&value)
        };
        refused(qwen("use_sliding_window"), "`use_sliding_window` = true is not supported");
    }

    #[test]
    fn heads_that_do_not_divide_the_width_need_a_head_dim() {
        let mut value = preset::llm_7b().to_json();
        value["hidden_size"] = json!(4095);
        refused(Config::from_json(&value), "or give `head_dim`");
        value["head_dim"] = json!(128);
        let config = Config::from_json(&value).expect("a head size of its own");
        assert_eq!(config.to_json()["head_dim"], json!(128));
        value["head_dim"] = Value::Null;
        value["num_attention_heads"] = json!(0);
        assert!(Config::from_json(&value).is_err());
    }
}
