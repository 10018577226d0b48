//! The metadata of a GGUF as a configuration.
//!
//! Four architectures: `llama` and `qwen2` are dense, `deepseek` is the first MoE, `deepseek2` is
//! everything with latent attention, V2 and V3 told apart by the gate. What older converters left
//! out is filled in and reported as an [`Assumption`].

use fathom_checkpoint::gguf::{Gguf, Problem, Value};
use fathom_kernels::quant::dequantize;

use super::assumption::Assumption;
use crate::config::{
    Config, ConfigError, Family, RopeLayout, RopeScaling, RopeSpec, ScoringFunc, TopkMethod,
    TorchDtype,
};
use crate::error::Error;

/// Per-frequency divisors of llama3 scaling, `[head_dim / 2]`.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// The configuration of the model in this file. Errors name the key, what it holds and what is needed.
pub fn config(gguf: &Gguf) -> Result<Config, Error> {
    config_with_assumptions(gguf).map(|(config, _)| config)
}

/// [`config`], with what the file does not say and was filled in.
pub fn config_with_assumptions(gguf: &Gguf) -> Result<(Config, Vec<Assumption>), Error> {
    let name = gguf.needed("general.architecture", gguf.text("general.architecture")?)?;
    let (family, arch) = match name {
        "llama" => (Family::Llama, "llama"),
        "qwen2" => (Family::Qwen2, "qwen2"),
        "deepseek" => (Family::Deepseek, "deepseek"),
        "deepseek2" => (Family::DeepseekV2, "deepseek2"), // or V3: the gate decides
        _ => {
            let found = name.chars().take(60).collect();
            let hint = "known are llama, qwen2, deepseek and deepseek2";
            return Err(unsupported(gguf, "general.architecture", found, hint));
        }
    };
    let mut keys = Keys { gguf, arch, assumptions: Vec::new() };
    let mut config = skeleton(&mut keys, family)?;
    match family {
        Family::Llama | Family::Qwen2 => dense(&keys, &mut config)?,
        Family::Deepseek => {
            grouped_heads(&keys, &mut config)?;
            experts(&mut keys, &mut config)?;
        }
        Family::DeepseekV2 | Family::DeepseekV3 => {
            latent_heads(&keys, &mut config)?;
            experts(&mut keys, &mut config)?;
            mtp(&mut keys, &mut config)?;
        }
    }
    config.rope_scaling = rope_scaling(&mut keys, &config)?;
    config.check().map_err(|error| config_file(gguf, error))?;
    Ok((config, keys.assumptions))
}

/// The metadata under the prefix of one architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    arch: &'static str,
    assumptions: Vec<Assumption>,
}

impl Keys<'_> {
    fn key(&self, rest: &str) -> String {
        format!("{}.{rest}", self.arch)
    }

    fn count(&self, rest: &str) -> Result<Option<usize>, Error> {
        let key = self.key(rest);
        // Some converters give one number per layer; here all layers are alike.
        if let Some(Value::Array(list)) = self.gguf.value(&key) {
            let same = list.integers().and_then(|list| {
                let first = *list.first()?;
                list.iter().all(|x| *x == first).then_some(first)
            });
            if let Some(n) = same.and_then(|n| usize::try_from(n).ok()) {
                return Ok(Some(n));
            }
        }
        Ok(self.gguf.count(&key)?)
    }

    fn needed_count(&self, rest: &str) -> Result<usize, Error> {
        Ok(self.gguf.needed(&self.key(rest), self.count(rest)?)?)
    }

    fn number(&self, rest: &str) -> Result<Option<f64>, Error> {
        Ok(self.gguf.number(&self.key(rest))?)
    }

    fn flag(&self, rest: &str) -> Result<Option<bool>, Error> {
        Ok(self.gguf.flag(&self.key(rest))?)
    }

    fn text(&self, rest: &str) -> Result<Option<&str>, Error> {
        Ok(self.gguf.text(&self.key(rest))?)
    }

    /// A file without tensors is a vocabulary: nothing follows from a name it lacks.
    fn has_tensors(&self) -> bool {
        self.gguf.tensors().len() > 0
    }

    fn unsupported(&self, rest: &str, found: impl ToString, hint: &'static str) -> Error {
        unsupported(self.gguf, &self.key(rest), found.to_string(), hint)
    }
}

fn unsupported(gguf: &Gguf, field: &str, found: String, hint: &'static str) -> Error {
    let field = field.to_owned();
    config_file(gguf, ConfigError::Unsupported { field, found, hint })
}

fn config_file(gguf: &Gguf, error: ConfigError) -> Error {
    Error::ConfigFile { path: gguf.path().to_owned(), error }
}

/// What every architecture has; attention and experts stay empty.
fn skeleton(keys: &mut Keys<'_>, family: Family) -> Result<Config, Error> {
    let gguf = keys.gguf;
    let num_nextn_predict_layers = keys.count("nextn_predict_layers")?.unwrap_or(0);
    let block_count = keys.needed_count("block_count")?;
    let Some(num_hidden_layers) = block_count.checked_sub(num_nextn_predict_layers) else {
        let hint = "MTP layers are counted among the blocks";
        return Err(keys.unsupported("nextn_predict_layers", num_nextn_predict_layers, hint));
    };
    // A number without tensors behind it would only cost memory, for names that are not there.
    if keys.has_tensors() && block_count > gguf.tensors().len() {
        let hint = "the file holds fewer tensors than that";
        return Err(keys.unsupported("block_count", block_count, hint));
    }
    let num_attention_heads = keys.needed_count("attention.head_count")?;
    let vocab_size = vocab_size(keys)?;
    let id = |name: &str| -> Result<Option<u32>, Error> {
        let id = gguf.count(&format!("tokenizer.ggml.{name}_token_id"))?;
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    };
    let mut eos_token_id: Vec<u32> = id("eos")?.into_iter().collect();
    eos_token_id.extend(id("eot")?.filter(|eot| !eos_token_id.contains(eot)));
    Ok(Config {
        vocab_size,
        hidden_size: keys.needed_count("embedding_length")?,
        intermediate_size: keys.needed_count("feed_forward_length")?,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: keys.count("attention.head_count_kv")?.unwrap_or(num_attention_heads),
        first_k_dense_replace: num_hidden_layers,
        rope_theta: keys.number("rope.freq_base")?.unwrap_or(10000.0),
        rope_scaling: None,
        // Rows of q and k are interleaved in all but one architecture.
        rope_interleave: family != Family::Qwen2,
        max_position_embeddings: keys.needed_count("context_length")?,
        rms_norm_eps: {
            let word = "attention.layer_norm_rms_epsilon";
            gguf.needed(&keys.key(word), keys.number(word)?)?
        },
        tie_word_embeddings: keys.has_tensors() && !gguf.contains("output.weight"),
        num_nextn_predict_layers,
        bos_token_id: id("bos")?,
        eos_token_id,
        // Converters write -1 or the like where there is none.
        pad_token_id: id("padding")?.filter(|id| (*id as usize) < vocab_size),
        torch_dtype: match gguf.count("general.file_type")? {
            Some(0) => TorchDtype::Float32,
            Some(1) => TorchDtype::Float16,
            _ => TorchDtype::Bfloat16,
        },
        initializer_range: 0.02,
        ..Config::neutral(family)
    })
}

/// Rows of the embedding, else the key, else the number of tokens.
fn vocab_size(keys: &Keys<'_>) -> Result<usize, Error> {
    if let Ok(embedding) = keys.gguf.tensor("token_embd.weight")
        && let [rows, _] = embedding.shape()
    {
        return Ok(*rows);
    }
    if let Some(n) = keys.count("vocab_size")? {
        return Ok(n);
    }
    let key = "tokenizer.ggml.tokens";
    Ok(keys.gguf.needed(key, keys.gguf.texts(key)?)?.len())
}

fn dense(keys: &Keys<'_>, config: &mut Config) -> Result<(), Error> {
    if let Some(n) = keys.count("expert_count")?.filter(|n| *n > 0) {
        let hint = "experts are read in the architectures deepseek and deepseek2";
        return Err(keys.unsupported("expert_count", n, hint));
    }
    config.attention_bias = config.model_type == Family::Qwen2;
    grouped_heads(keys, config)
}

fn grouped_heads(keys: &Keys<'_>, config: &mut Config) -> Result<(), Error> {
    let (width, heads) = (config.hidden_size, config.num_attention_heads);
    let rotated = keys.count("rope.dimension_count")?;
    config.head_dim = match keys.count("attention.key_length")?.or(rotated) {
        Some(dim) => dim,
        None if heads > 0 && width % heads == 0 => width / heads,
        None => return Err(keys.unsupported("attention.head_count", heads, "heads of equal size")),
    };
    let hint = "keys, values and the rotated part must have one size";
    for word in ["rope.dimension_count", "attention.value_length"] {
        if let Some(n) = keys.count(word)?.filter(|n| *n != config.head_dim) {
            return Err(keys.unsupported(word, n, hint));
        }
    }
    Ok(())
}

/// Sizes of latent attention. Since April 2025 `key_length` is that of the cached row and
/// `key_length_mla` that of a head; before, `key_length` was the head's.
fn latent_heads(keys: &Keys<'_>, config: &mut Config) -> Result<(), Error> {
    let rank = keys.needed_count("attention.kv_lora_rank")?;
    let rope = keys.needed_count("rope.dimension_count")?;
    let qk = match keys.count("attention.key_length_mla")?.filter(|n| *n > 0) {
        Some(n) => n,
        None => keys.needed_count("attention.key_length")?,
    };
    let v_head_dim = match keys.count("attention.value_length_mla")?.filter(|n| *n > 0) {
        Some(n) => n,
        None => keys.needed_count("attention.value_length")?,
    };
    let Some(nope) = qk.checked_sub(rope) else {
        let hint = "a head holds the rotated part and another";
        return Err(keys.unsupported("rope.dimension_count", rope, hint));
    };
    // Lite models have none; some of their files give a rank all the same.
    let without = keys.has_tensors() && keys.gguf.contains("blk.0.attn_q.weight");
    config.q_lora_rank = keys.count("attention.q_lora_rank")?.filter(|n| *n > 0 && !without);
    config.kv_lora_rank = Some(rank);
    config.qk_nope_head_dim = nope;
    config.qk_rope_head_dim = rope;
    config.v_head_dim = v_head_dim;
    config.head_dim = rope;
    // Files say 1: the latent row is shared. The releases count one per head.
    config.num_key_value_heads = config.num_attention_heads;
    Ok(())
}

fn experts(keys: &mut Keys<'_>, config: &mut Config) -> Result<(), Error> {
    let Some(n_experts) = keys.count("expert_count")?.filter(|n| *n > 0) else { return Ok(()) };
    if keys.has_tensors() && n_experts > most_experts(keys.gguf) {
        let hint = "the file holds fewer experts than that";
        return Err(keys.unsupported("expert_count", n_experts, hint));
    }
    config.n_routed_experts = Some(n_experts);
    config.num_experts_per_tok = keys.needed_count("expert_used_count")?;
    config.n_shared_experts = keys.count("expert_shared_count")?.unwrap_or(0);
    config.moe_intermediate_size = keys.needed_count("expert_feed_forward_length")?;
    config.first_k_dense_replace = keys.count("leading_dense_block_count")?.unwrap_or(0);
    config.aux_loss_alpha = 0.001; // as in the releases
    // Zero stands for a factor that was never written.
    let factor = keys.number("expert_weights_scale")?.filter(|x| *x != 0.0).unwrap_or(1.0);
    let normalised = keys.flag("expert_weights_norm")?;
    if config.model_type == Family::Deepseek {
        if factor != 1.0 {
            let hint = "the first MoE does not scale its experts";
            return Err(keys.unsupported("expert_weights_scale", factor, hint));
        }
        config.norm_topk_prob = normalised.unwrap_or(false);
        return Ok(());
    }
    config.routed_scaling_factor = factor;
    let named = keys.count("expert_gating_func")?.filter(|n| *n > 0);
    config.scoring_func = match named {
        Some(1) => ScoringFunc::Softmax,
        Some(2) => ScoringFunc::Sigmoid,
        Some(n) => {
            let hint = "known are 1 (softmax) and 2 (sigmoid)";
            return Err(keys.unsupported("expert_gating_func", n, hint));
        }
        None => gate_of_tensors(keys),
    };
    let sigmoid = config.scoring_func == ScoringFunc::Sigmoid;
    config.norm_topk_prob = match normalised {
        None if named.is_none() && sigmoid => {
            keys.assumptions.push(Assumption::NormalisedWeights);
            true
        }
        said => said.unwrap_or(false),
    };
    groups(keys, config, n_experts)?;
    if sigmoid {
        config.model_type = Family::DeepseekV3;
        config.topk_method = TopkMethod::NoauxTc;
    } else if config.n_group > 1 {
        config.topk_method = TopkMethod::GroupLimitedGreedy;
    }
    Ok(())
}

/// Experts that a layer of this file can have: those of a tensor of all, or one per tensor.
fn most_experts(gguf: &Gguf) -> usize {
    let routers = gguf.tensors().filter(|tensor| tensor.name().ends_with(".ffn_gate_inp.weight"));
    let rows = routers.filter_map(|tensor| tensor.shape().first().copied()).max();
    rows.unwrap_or(gguf.tensors().len())
}

/// Files made before V3 do not name the gate; only V3's has correction biases.
fn gate_of_tensors(keys: &mut Keys<'_>) -> ScoringFunc {
    let biased = keys.gguf.tensors().any(|tensor| tensor.name().contains(".exp_probs_b"));
    let (gate, said) = match biased {
        true => (ScoringFunc::Sigmoid, Assumption::SigmoidGate),
        false => (ScoringFunc::Softmax, Assumption::SoftmaxGate),
    };
    keys.assumptions.push(said);
    gate
}

/// Groups were not written before late 2025: then they follow from the released sizes.
fn groups(keys: &mut Keys<'_>, config: &mut Config, n_experts: usize) -> Result<(), Error> {
    let kept = keys.count("expert_group_used_count")?.filter(|n| *n > 0);
    let (n_group, topk_group) = match (keys.count("expert_group_count")?, kept) {
        (Some(n), kept) if n > 0 => (n, kept.unwrap_or(n)),
        _ => {
            let known = match n_experts {
                160 => Some((8, 3)),
                256 => Some((8, 4)),
                _ => None,
            };
            if let Some((n_group, topk_group)) = known {
                keys.assumptions.push(Assumption::Groups { n_experts, n_group, topk_group });
            }
            known.unwrap_or((1, 1))
        }
    };
    (config.n_group, config.topk_group) = (n_group, topk_group);
    Ok(())
}

/// MTP layers stand after the main ones; many files announce them and leave them out.
fn mtp(keys: &mut Keys<'_>, config: &mut Config) -> Result<(), Error> {
    let announced = config.num_nextn_predict_layers;
    let name = format!("blk.{}.nextn.eh_proj.weight", config.num_hidden_layers);
    if announced > 0 && keys.has_tensors() && !keys.gguf.contains(&name) {
        keys.assumptions.push(Assumption::NoMtp { announced });
        config.num_nextn_predict_layers = 0;
    }
    if config.n_routed_experts.is_none() {
        config.first_k_dense_replace = config.num_hidden_layers;
    }
    Ok(())
}

fn rope_scaling(keys: &mut Keys<'_>, config: &Config) -> Result<Option<RopeScaling>, Error> {
    if let Some(x) = keys.number("rope.scaling.attn_factor")?.filter(|x| *x != 1.0) {
        return Err(keys.unsupported("rope.scaling.attn_factor", x, "no release has it"));
    }
    let older = keys.number("rope.scale_linear")?;
    let factor = keys.number("rope.scaling.factor")?.or(older).filter(|x| *x != 0.0);
    let kind = keys.text("rope.scaling.type")?.map(str::to_owned);
    let scaling = match (kind.as_deref(), factor) {
        (None, Some(factor)) if factor != 1.0 => Some(RopeScaling::Linear { factor }),
        (None | Some("none"), _) => None,
        (Some("linear"), Some(factor)) => Some(RopeScaling::Linear { factor }),
        (Some("yarn"), Some(factor)) => Some(yarn(keys, factor)?),
        (Some("linear" | "yarn"), None) => {
            let key = keys.key("rope.scaling.factor");
            return Err(keys.gguf.fail(Problem::MissingKey { key }).into());
        }
        (Some(other), _) => {
            let hint = "known are `none`, `linear` and `yarn`";
            return Err(keys.unsupported("rope.scaling.type", other, hint));
        }
    };
    match (keys.gguf.contains(ROPE_FREQS), scaling) {
        (false, scaling) => Ok(scaling),
        (true, None) => llama3(keys.gguf, config),
        (true, Some(_)) => {
            let hint = "frequencies are scaled by metadata or by a table, not by both";
            Err(unsupported(keys.gguf, ROPE_FREQS, "a second scaling".to_owned(), hint))
        }
    }
}

fn yarn(keys: &mut Keys<'_>, factor: f64) -> Result<RopeScaling, Error> {
    let word = "rope.scaling.original_context_length";
    // Files keep a tenth of `mscale_all_dim`; `mscale` they leave out.
    let tenth = keys.number("rope.scaling.yarn_log_multiplier")?.filter(|x| *x != 0.0);
    let (mscale, mscale_all_dim) = match tenth {
        None => (1.0, 0.0),
        Some(x) => {
            keys.assumptions.push(Assumption::EqualMscale);
            let m = (x * 1e7).round() / 1e6;
            (m, m)
        }
    };
    Ok(RopeScaling::Yarn {
        factor,
        original_max_position_embeddings: keys.needed_count(word)?,
        beta_fast: keys.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        mscale,
        mscale_all_dim,
    })
}

/// Divisors of the frequencies, as the converter writes them for llama3 scaling. They show the
/// factor (of the lowest frequency) and, between the ends 1 and 4 of every release, the original length.
fn llama3(gguf: &Gguf, config: &Config) -> Result<Option<RopeScaling>, Error> {
    let tensor = gguf.tensor(ROPE_FREQS)?;
    tensor.expect_shape(&[config.head_dim / 2])?;
    // Only a known format bounds the elements by the bytes that are there.
    let (format, bytes) = (tensor.format()?, tensor.bytes()?);
    let mut divisors = vec![0.0; tensor.n_elements()];
    dequantize(format, bytes, &mut divisors);
    if divisors.iter().all(|x| *x == 1.0) {
        return Ok(None);
    }
    let factor = divisors.last().copied().map_or(1.0, f64::from);
    let scaling = |original: f64| RopeScaling::Llama3 {
        factor,
        low_freq_factor: LLAMA3_ENDS[0],
        high_freq_factor: LLAMA3_ENDS[1],
        original_max_position_embeddings: original as usize, // refused by the check if absurd
    };
    let close = |(found, expected): (&f32, f32)| ((found - expected) / expected).abs() < 1e-4;
    let fits = |scaling: &RopeScaling| {
        let expected = llama3_divisors(config, *scaling);
        factor.is_finite() && divisors.iter().zip(expected).all(close)
    };
    let lengths = original_lengths(config, &divisors, factor);
    if let Some(scaling) = lengths.into_iter().map(scaling).find(fits) {
        return Ok(Some(scaling));
    }
    let found = format!("{:?}", &divisors[..divisors.len().min(6)]);
    let hint = "only llama3 scaling between 1 and 4 turns of its original length is recognised";
    Err(unsupported(gguf, ROPE_FREQS, found, hint))
}

/// Turns between which frequencies are blended, in every release with this scaling.
const LLAMA3_ENDS: [f64; 2] = [1.0, 4.0];

/// Original lengths that the divisors allow, the likeliest first. One between 1 and the factor
/// tells the length; without any, several lengths mean the same.
fn original_lengths(config: &Config, divisors: &[f32], factor: f64) -> Vec<f64> {
    let Some(i) = divisors.iter().position(|d| *d > 1.0 && f64::from(*d) < factor) else {
        return [13].into_iter().chain(1..24).map(|bits| f64::from(1u32 << bits)).collect();
    };
    // The inverse of the ramp: 1/d = (1 - t)/factor + t, over turns of the original length.
    let kept = 1.0 / f64::from(divisors[i]);
    let t = (kept - 1.0 / factor) / (1.0 - 1.0 / factor);
    let turns = LLAMA3_ENDS[0] + t * (LLAMA3_ENDS[1] - LLAMA3_ENDS[0]);
    let frequency = config.rope_theta.powf(-2.0 * i as f64 / config.head_dim as f64);
    vec![(turns * 2.0 * std::f64::consts::PI / frequency).round()]
}

/// What `scaling` divides each frequency by.
pub(super) fn llama3_divisors(config: &Config, scaling: RopeScaling) -> Vec<f32> {
    let spec = |scaling| RopeSpec {
        dim: config.head_dim,
        theta: config.rope_theta,
        layout: RopeLayout::Interleaved,
        scaling,
        max_position_embeddings: config.max_position_embeddings,
    };
    let (plain, scaled) =
        (spec(None).inverse_frequencies(), spec(Some(scaling)).inverse_frequencies());
    plain.iter().zip(scaled).map(|(plain, scaled)| (plain / scaled) as f32).collect()
}
