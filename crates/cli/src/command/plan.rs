//! `fathom plan`: memory, time and money of running or training a model on given hardware.

mod machine;
mod serving;
mod training;

use crate::command::inspect::find_preset;
use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use crate::sizes::{parse_bytes, parse_count, parse_rate};
use crate::talk::source::{Found, Missing, locate};
use fathom_checkpoint::gguf::Gguf;
use fathom_kernels::quant::Format;
use fathom_model::{Config, read_config};
use serde_json::json;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["model", "preset"])))]
pub(crate) struct Args {
    /// A directory with `config.json`, a GGUF file, a downloaded repository, or a run directory
    #[arg(value_name = "MODEL")]
    model: Option<String>,

    /// A released model by name, without its files
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,

    /// A known device instead of this machine: h800, h100, a100
    #[arg(long, value_name = "NAME")]
    hardware: Option<String>,

    /// Devices that share the work evenly
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    devices: u64,

    /// Memory of one device, such as 24GiB [default: what is available here]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory: Option<u64>,

    /// What one device reads from its memory, in GB/s [default: measured here]
    #[arg(long, value_name = "GB/S", value_parser = parse_rate)]
    bandwidth: Option<f64>,

    /// What the disk with the weights gives, in GB/s [default: 2, an assumption]
    #[arg(long, value_name = "GB/S", value_parser = parse_rate, conflicts_with = "train")]
    disk: Option<f64>,

    /// Arithmetic of one device, in GFLOP/s [default: measured here]
    #[arg(long, value_name = "GFLOP/S", value_parser = parse_rate)]
    compute: Option<f64>,

    /// Positions of a sequence [default: 4096, or what the model has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    context: Option<u64>,

    /// Sequences at a time, on one device when training
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    batch: u64,

    /// Only this format of the weights, such as q4_k
    #[arg(long, value_name = "FORMAT", value_parser = parse_format, conflicts_with = "train")]
    quant: Option<Format>,

    /// Plan the training instead
    #[arg(long, requires = "tokens")]
    train: bool,

    /// Tokens to train on, such as 14.8T
    #[arg(long, value_name = "N", value_parser = parse_count, requires = "train")]
    tokens: Option<u64>,

    /// Dollars for an hour of one device
    #[arg(long, value_name = "DOLLARS", value_parser = parse_rate, requires = "train")]
    price: Option<f64>,

    /// Share of the arithmetic that training reaches, in percent
    #[arg(long, value_name = "PERCENT", value_parser = parse_rate, requires = "train")]
    utilisation: Option<f64>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  fathom plan --preset distill-qwen-1.5b
  fathom plan --preset v3 --memory 24GiB --quant q4_k
  fathom plan runs/r1-tiny --context 2048 --batch 8
  fathom plan --preset v3 --train --tokens 14.8T --hardware h800 --devices 2048

Speeds are upper bounds: bytes read over bandwidth, operations over peak.";

/// What is planned for.
struct Subject {
    label: String,
    /// The name of the preset, if it is one.
    preset: Option<&'static str>,
    config: Config,
}

/// Positions planned for where nothing is asked.
const USUAL_CONTEXT_TOKENS: u64 = 4096;

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let subject = subject(&args)?;
    let longest = subject.config.max_position_embeddings as u64;
    let context = args.context.unwrap_or(USUAL_CONTEXT_TOKENS.min(longest));
    if context > longest {
        return Err(Failure::hinted(
            format!("`{}` has {longest} positions, not {context}", subject.label),
            format!("ask for `--context {longest}` or less"),
        ));
    }
    let machine = machine::meant(&args)?;
    let mut text = machine.text();
    let mut object = json!({
        "model": subject.label,
        "context_tokens": context,
        "batch": args.batch,
        "machine": machine.json(),
    });
    let (part, value) = match args.tokens {
        Some(tokens) => training::plan(&subject, &machine, &args, context, tokens),
        None => serving::plan(&subject, &machine, &args, context),
    };
    text.push_str(&part);
    object[if args.train { "training" } else { "serving" }] = value;
    if args.json { json_to_stdout(&object) } else { to_stdout(&text) }
}

fn subject(args: &Args) -> Result<Subject, Failure> {
    if let Some(name) = &args.preset {
        let preset = find_preset(name)?;
        let label = preset.name.to_owned();
        return Ok(Subject { label, preset: Some(preset.name), config: (preset.config)() });
    }
    let found = locate(args.model.as_deref(), Missing::Refuse)?;
    let config = match &found {
        Found::Directory(source) => read_config(&source.dir)?,
        Found::Gguf { file, .. } => fathom_model::gguf::config(&Gguf::open(file)?)?,
    };
    Ok(Subject { label: found.label().to_owned(), preset: None, config })
}

fn parse_format(text: &str) -> Result<Format, String> {
    Format::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.into_iter().map(Format::name).collect();
        format!("there is no format `{text}`; it is one of {}", names.join(", "))
    })
}
