//! `fathom inspect`: what a model is and what it costs, from its files alone.

use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use crate::talk::source;
use crate::talk::speaker::Layout;
use fathom_model::config::Attention;
use fathom_model::cost::{
    AttentionForm, cache_bytes_per_token, forward_flops_per_token, parameters,
};
use fathom_model::{Config, read_config};
use serde_json::{Value, json};
use std::path::Path;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A directory with `config.json`, or a run directory
    #[arg(value_name = "MODEL")]
    model: String,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  fathom inspect runs/r1-tiny
  fathom inspect golden/deepseek_v3 --json";

/// Bytes of a cached value here: caches are kept in f32.
const CACHE_BYTES: u64 = 4;

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let source = source::find(Some(&args.model))?;
    let config = read_config(&source.dir)?;
    if args.json {
        return json_to_stdout(&as_json(&source.dir, &config));
    }
    let facts = facts(&source.dir, &config);
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        facts.iter().map(|(name, fact)| format!("{name:width$}  {fact}\n")).collect();
    to_stdout(&lines.concat())
}

fn facts(dir: &Path, config: &Config) -> Vec<(&'static str, String)> {
    let counts = parameters(config);
    let millions = |n: u64| match n {
        0..100_000 => format!("{:.1} k", n as f64 / 1e3),
        _ => format!("{:.2} M", n as f64 / 1e6),
    };
    let mut facts = vec![
        ("directory", dir.display().to_string()),
        (
            "architecture",
            format!("{} ({})", config.model_type.class(), config.model_type.model_type()),
        ),
        (
            "parameters",
            format!("{}, {} active per token", millions(counts.total), millions(counts.active)),
        ),
        ("layers", layers(config)),
        ("attention", attention(config)),
        ("vocabulary", format!("{} tokens", config.vocab_size)),
        ("positions", config.max_position_embeddings.to_string()),
        (
            "weights",
            format!("{:.1} MB, {}", weight_bytes(dir) as f64 / 1e6, config.torch_dtype.name()),
        ),
        ("cache", format!("{} bytes per token", cache_bytes_per_token(config, CACHE_BYTES))),
        (
            "arithmetic",
            format!("{:.1} MFLOP per token after 1024 others", flops(config) as f64 / 1e6),
        ),
        ("template", template(dir).to_owned()),
    ];
    if counts.mtp > 0 {
        facts.insert(3, ("mtp module", format!("{} more", millions(counts.mtp))));
    }
    facts
}

fn as_json(dir: &Path, config: &Config) -> Value {
    let counts = parameters(config);
    json!({
        "directory": dir.display().to_string(),
        "architecture": config.model_type.class(),
        "model_type": config.model_type.model_type(),
        "parameters": counts.total,
        "parameters_active": counts.active,
        "parameters_mtp": counts.mtp,
        "layers": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_position_embeddings,
        "weight_bytes": weight_bytes(dir),
        "dtype": config.torch_dtype.name(),
        "quantization": config.quantization_config.is_some().then_some("fp8"),
        "cache_bytes_per_token": cache_bytes_per_token(config, CACHE_BYTES),
        "forward_flops_per_token_at_1024": flops(config),
        "template": template(dir),
    })
}

fn flops(config: &Config) -> u64 {
    forward_flops_per_token(config, 1024, AttentionForm::Absorbed)
}

fn layers(config: &Config) -> String {
    let n = config.num_hidden_layers;
    let n_moe = (0..n).filter(|layer| config.is_moe_layer(*layer)).count();
    match config.n_routed_experts.filter(|_| n_moe > 0) {
        None => format!("{n}, all dense, width {}", config.hidden_size),
        Some(n_experts) => format!(
            "{n}, {n_moe} with {n_experts} experts ({} per token, {} shared), width {}",
            config.num_experts_per_tok, config.n_shared_experts, config.hidden_size
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

/// Bytes of the weight files on the disk.
fn weight_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let weights =
        entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "safetensors"));
    weights.filter_map(|entry| entry.path().metadata().ok()).map(|meta| meta.len()).sum()
}

fn template(dir: &Path) -> &'static str {
    use fathom_text::ChatFormat::{R1, R1Zero, V3};
    match Layout::of(dir) {
        Ok(Layout::Chat(V3)) => "DeepSeek-V3",
        Ok(Layout::Chat(R1)) => "DeepSeek-R1",
        Ok(Layout::Chat(R1Zero)) => "R1-Zero",
        Ok(Layout::Plain) => "none",
        Err(_) => "unknown",
    }
}
