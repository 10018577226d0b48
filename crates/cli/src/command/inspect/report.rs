//! A description as facts: lines for people, one JSON object for programs.

use super::description::Description;
use crate::sizes::{format_bytes, format_count, grouped};
use crate::terminal::harmless;
use fathom_kernels::quant::Format;
use fathom_model::config::{Attention, Gate, RopeScaling, ScaleFmt};
use fathom_model::cost::plan::CACHE_ELEMENT_BYTES;
use fathom_model::cost::{
    AttentionForm, Parameters, WeightBytes, cache_bytes_per_token, forward_flops_per_token,
    parameters, released_format, weight_bytes,
};
use fathom_model::survey::{Survey, survey};
use fathom_model::{Config, cost};
use serde_json::{Map, Value, json};

/// Names listed before the rest is only counted.
const MAX_NAMES: usize = 8;

/// Everything that is shown, computed once.
pub(crate) struct Report<'a> {
    description: &'a Description,
    counts: Parameters,
    /// As the configuration says they were released.
    weights: WeightBytes,
    survey: Option<Survey>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(description: &'a Description) -> Report<'a> {
        let config = &description.config;
        Report {
            description,
            counts: parameters(config),
            weights: weight_bytes(config, released_format(config)),
            survey: description.tensors.as_ref().map(|tensors| survey(config, tensors)),
        }
    }

    /// One fact per line, names to the left.
    pub(crate) fn text(&self) -> String {
        let facts = self.facts();
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, fact): &(&str, String)| format!("{name:width$}  {}\n", harmless(fact));
        facts.iter().map(line).collect()
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Description { config, .. } = self.description;
        let mut facts = vec![(self.description.kind, self.description.name.clone())];
        if !self.description.hub_ids.is_empty() {
            facts.push(("repositories", self.description.hub_ids.join(", ")));
        }
        let family = config.model_type;
        facts.push(("architecture", format!("{} ({})", family.class(), family.model_type())));
        facts.push(("parameters", grouped(self.counts.total)));
        facts.push(("active", self.active()));
        if self.counts.mtp_with_copies > 0 {
            facts.push(("mtp module", self.mtp()));
        }
        facts.push(("layers", layers(config)));
        facts.push(("attention", attention(config)));
        if config.n_routed_experts.is_some() {
            facts.push(("gate", gate(config)));
        }
        facts.push(("vocabulary", format!("{} tokens{}", config.vocab_size, tied(config))));
        facts.push(("context", self.context()));
        facts.push(("rope", rope(config)));
        facts.push(("quantisation", quantisation(config, self.survey.as_ref())));
        facts.push(("cache", cache(config)));
        let flops = format!("{:.1} MFLOP per token after 1024 others", flops(config) as f64 / 1e6);
        facts.push(("arithmetic", flops));
        let released = format_bytes(self.weights.total());
        facts.push(("weights", format!("{released} as {}", released_format(config).name())));
        if self.description.kind != "preset" {
            self.add_files(&mut facts);
        }
        facts
    }

    /// What is on the disk.
    fn add_files(&self, facts: &mut Vec<(&'static str, String)>) {
        let files = &self.description.files;
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        let found = match (files.is_empty(), &self.description.weights_error) {
            (true, _) => "no weights here".to_owned(),
            (false, Some(error)) => error.lines().next().unwrap_or_default().to_owned(),
            (false, None) => format!("{} with {}", n_files(files.len()), format_bytes(bytes)),
        };
        facts.push(("files", found));
        if let Some(survey) = &self.survey {
            let share = |share: &fathom_model::survey::DtypeShare| {
                format!("{} {} ({})", share.n_tensors, share.dtype, format_bytes(share.bytes))
            };
            let dtypes: Vec<String> = survey.dtypes.iter().map(share).collect();
            facts.push(("tensors", format!("{}: {}", survey.n_tensors, dtypes.join(", "))));
            facts.push(("check", verdict(survey)));
        }
        let tokenizer = self.description.tokenizer.as_ref().map_or("none".to_owned(), |found| {
            format!("{}, {} tokens, {} of them added", found.kind, found.n_tokens, found.n_added)
        });
        facts.push(("tokenizer", tokenizer));
        facts.push(("template", self.template().to_owned()));
        let generation = &self.description.generation;
        let words: Vec<String> =
            generation.iter().map(|(word, value)| format!("{word} {value}")).collect();
        let none = "no defaults".to_owned();
        facts.push(("generation", if words.is_empty() { none } else { words.join(", ") }));
    }

    fn active(&self) -> String {
        let Parameters { total, active, active_without_embedding, .. } = self.counts;
        let without = format!("{} without the embedding", grouped(active_without_embedding));
        match active == total {
            true => format!("all of them; {without}"),
            false => format!("{} per token; {without}", grouped(active)),
        }
    }

    fn mtp(&self) -> String {
        let Parameters { mtp, mtp_with_copies, mtp_active, .. } = self.counts;
        format!(
            "{} more, {} with its copies of embedding and head, {} active",
            grouped(mtp),
            format_count(mtp_with_copies),
            format_count(mtp_active)
        )
    }

    fn context(&self) -> String {
        let positions = self.description.config.max_position_embeddings;
        match self.description.published_context_tokens.filter(|n| *n != positions as u64) {
            Some(published) => format!("{published} tokens published, {positions} positions"),
            None => format!("{positions} tokens"),
        }
    }

    fn template(&self) -> &str {
        self.description.template.as_deref().unwrap_or("none")
    }

    /// Names carry their units; what is not known is null.
    pub(crate) fn json(&self) -> Value {
        let Description { config, .. } = self.description;
        let counts = &self.counts;
        let layers = config.num_hidden_layers as u64;
        let cache = |bytes: u64| cache_bytes_per_token(config, bytes);
        let mut object = json!({
            "architecture": config.model_type.class(),
            "model_type": config.model_type.model_type(),
            "hub_ids": self.description.hub_ids,
            "parameters": counts.total,
            "parameters_active": counts.active,
            "parameters_active_without_embedding": counts.active_without_embedding,
            "parameters_mtp": counts.mtp,
            "parameters_mtp_with_copies": counts.mtp_with_copies,
            "parameters_mtp_active": counts.mtp_active,
            "layers": config.num_hidden_layers,
            "layers_moe": n_moe_layers(config),
            "hidden_size": config.hidden_size,
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.max_position_embeddings,
            "published_context_tokens": self.description.published_context_tokens,
            "rope_scaling": config.to_json()["rope_scaling"],
            "gate": config.n_routed_experts.is_some().then(|| gate(config)),
            "dtype": config.torch_dtype.name(),
            "quantization": config.quantization_config.is_some().then_some("fp8"),
            "quantization_block_elements": config.quantization_config.map(|q| q.weight_block_size),
            "quantization_scale_fmt": config.quantization_config.map(|q| scale_name(q.scale_fmt)),
            "released_weight_bytes": self.weights.total(),
            "cache_bytes_per_token": cache(CACHE_ELEMENT_BYTES),
            "cache_bytes_per_token_and_layer": cache(CACHE_ELEMENT_BYTES) / layers.max(1),
            "cache_bytes_per_token_bf16": cache(2),
            "cache_bytes_per_token_and_layer_bf16": cache(2) / layers.max(1),
            "cache_elements_per_token": cost::cache_elements_per_token(config),
            "forward_flops_per_token_at_1024": flops(config),
        });
        if let Some(object) = object.as_object_mut() {
            let name = self.description.name.clone();
            object.insert(self.description.kind.to_owned(), Value::String(name));
            if self.description.kind != "preset" {
                self.insert_files(object);
            }
        }
        object
    }

    fn insert_files(&self, object: &mut Map<String, Value>) {
        let files = &self.description.files;
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        let listed: Vec<Value> =
            files.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
        let tokenizer = self.description.tokenizer.as_ref().map(|found| {
            json!({"kind": found.kind, "tokens": found.n_tokens, "added_tokens": found.n_added})
        });
        let generation: Map<String, Value> = self.description.generation.iter().cloned().collect();
        let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
        put("files", listed.into());
        put("weight_bytes", bytes.into());
        put("weights_error", json!(self.description.weights_error));
        put("tokenizer", json!(tokenizer));
        put("template", self.template().into());
        put("generation", generation.into());
        let Some(survey) = &self.survey else { return };
        let dtypes: Vec<Value> = survey
            .dtypes
            .iter()
            .map(|share| {
                json!({"dtype": share.dtype, "tensors": share.n_tensors, "bytes": share.bytes})
            })
            .collect();
        let misshapen: Vec<Value> = survey
            .misshapen
            .iter()
            .map(|one| json!({"name": one.name, "expected": one.expected, "found": one.found}))
            .collect();
        put("tensors", survey.n_tensors.into());
        put("tensor_bytes", survey.bytes.into());
        put("dtypes", dtypes.into());
        put("missing", json!(survey.missing));
        put("missing_mtp", json!(survey.missing_mtp));
        put("misshapen", misshapen.into());
        put("unknown", json!(survey.unknown));
    }
}

fn n_files(n: usize) -> String {
    if n == 1 { "1 file".to_owned() } else { format!("{n} files") }
}

/// What the headers lack or have too much of.
fn verdict(survey: &Survey) -> String {
    let mut parts = Vec::new();
    if !survey.missing.is_empty() {
        parts.push(format!("{} missing: {}", survey.missing.len(), names(&survey.missing)));
    }
    if !survey.misshapen.is_empty() {
        let shapes = survey.misshapen.iter();
        let shapes: Vec<String> = shapes
            .map(|one| format!("{} is {:?}, not {:?}", one.name, one.found, one.expected))
            .collect();
        parts.push(format!("{} misshapen: {}", shapes.len(), names(&shapes)));
    }
    if !survey.missing_mtp.is_empty() {
        parts.push(format!("{} of the mtp module are not here", survey.missing_mtp.len()));
    }
    if !survey.unknown.is_empty() {
        parts.push(format!("{} unknown: {}", survey.unknown.len(), names(&survey.unknown)));
    }
    match parts.is_empty() {
        true => "every tensor is there, in its shape".to_owned(),
        false => parts.join("; "),
    }
}

/// The first names, and how many follow.
fn names(all: &[String]) -> String {
    let shown = all.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn flops(config: &Config) -> u64 {
    forward_flops_per_token(config, 1024, AttentionForm::Absorbed)
}

fn n_moe_layers(config: &Config) -> usize {
    (0..config.num_hidden_layers).filter(|layer| config.is_moe_layer(*layer)).count()
}

fn layers(config: &Config) -> String {
    let n = config.num_hidden_layers;
    let n_moe = n_moe_layers(config);
    match config.n_routed_experts.filter(|_| n_moe > 0) {
        None => format!(
            "{n}, all dense, width {}, inner width {}",
            config.hidden_size, config.intermediate_size
        ),
        Some(n_experts) => format!(
            "{n}, {n_moe} with {n_experts} experts of {} ({} per token, {} shared), width {}",
            config.moe_intermediate_size,
            config.num_experts_per_tok,
            config.n_shared_experts,
            config.hidden_size
        ),
    }
}

fn attention(config: &Config) -> String {
    match config.attention() {
        Attention::Mla { num_attention_heads, kv_lora_rank, qk_rope_head_dim, .. } => format!(
            "latent (MLA), {num_attention_heads} heads over {kv_lora_rank} + {qk_rope_head_dim} values per token"
        ),
        Attention::Gqa { num_attention_heads, num_key_value_heads, head_dim, .. } => format!(
            "{num_attention_heads} heads of {head_dim}, {num_key_value_heads} for keys and values"
        ),
    }
}

fn gate(config: &Config) -> String {
    let scores = match config.gate() {
        Gate::SoftmaxGreedy => "softmax",
        Gate::SoftmaxGroupLimited => "softmax",
        Gate::SigmoidNoAuxTc => "sigmoid and correction bias",
    };
    let groups = match config.gate() {
        Gate::SoftmaxGreedy => String::new(),
        _ => format!(" in the {} best of {} groups", config.topk_group, config.n_group),
    };
    let normed = if config.norm_topk_prob { "normed weights" } else { "weights as scored" };
    format!(
        "{scores}, top {}{groups}, {normed} times {}",
        config.num_experts_per_tok, config.routed_scaling_factor
    )
}

fn tied(config: &Config) -> &'static str {
    if config.tie_word_embeddings { ", embedding and head tied" } else { "" }
}

fn rope(config: &Config) -> String {
    let theta = config.rope_theta;
    match config.rope_scaling {
        None => format!("theta {theta}, not scaled"),
        Some(RopeScaling::Linear { factor }) => format!("theta {theta}, linear x {factor}"),
        Some(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            mscale,
            mscale_all_dim,
            ..
        }) => format!(
            "theta {theta}, yarn x {factor} from {original}, mscale {mscale} and {mscale_all_dim}"
        ),
        Some(RopeScaling::Llama3 {
            factor, original_max_position_embeddings: original, ..
        }) => {
            format!("theta {theta}, llama3 x {factor} from {original}")
        }
    }
}

/// What the configuration says; of a file of block formats, the one that holds most bytes.
fn quantisation(config: &Config, survey: Option<&Survey>) -> String {
    let most = survey.and_then(|survey| Format::from_name(survey.dtypes.first()?.dtype));
    if let Some(format) = most.filter(|format| format.block_len() > 1) {
        let name = format.name();
        return format!("{name} ({:.2} bits per weight)", format.bits_per_weight());
    }
    match config.quantization_config {
        None => format!("none ({})", config.torch_dtype.name()),
        Some(fp8) => {
            let [rows, columns] = fp8.weight_block_size;
            format!(
                "fp8 e4m3 in blocks of {rows} x {columns}, scales {}",
                scale_name(fp8.scale_fmt)
            )
        }
    }
}

fn scale_name(format: ScaleFmt) -> &'static str {
    match format {
        ScaleFmt::Float => "float",
        ScaleFmt::Ue8m0 => "ue8m0",
    }
}

fn cache(config: &Config) -> String {
    let layers = (config.num_hidden_layers as u64).max(1);
    let held = cache_bytes_per_token(config, CACHE_ELEMENT_BYTES);
    format!("{held} bytes per token in f16 ({} per layer), twice that in f32", held / layers)
}

#[cfg(test)]
mod tests {
    use super::super::description::of_preset;
    use super::*;
    use fathom_model::preset::{self, PRESETS};

    #[test]
    fn the_report_of_v3_has_its_figures() {
        let description = of_preset(preset::find("v3").unwrap());
        let report = Report::new(&description);
        let text = report.text();
        for words in [
            "671,026,419,200",
            "70272 bytes per token in f16 (1152 per layer)",
            "yarn x 40 from 4096, mscale 1 and 1",
            "top 8 in the 4 best of 8 groups, normed weights times 2.5",
            "fp8 e4m3 in blocks of 128 x 128, scales float",
            "131072 tokens published, 163840 positions",
            "deepseek-ai/DeepSeek-V3-0324",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        let json = report.json();
        assert_eq!(json["preset"], "v3");
        assert_eq!(json["cache_bytes_per_token_bf16"], 70272);
        assert_eq!(json["rope_scaling"]["factor"], 40.0);
    }

    #[test]
    fn every_preset_has_a_report() {
        for preset in PRESETS {
            let description = of_preset(preset);
            let report = Report::new(&description);
            assert!(report.text().lines().count() > 10);
            assert!(report.json()["released_weight_bytes"].as_u64() > Some(1_000_000_000));
        }
    }

    #[test]
    fn long_lists_are_cut() {
        let all: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        assert_eq!(names(&all), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
        assert_eq!(names(&all[..2]), "0, 1");
    }
}
